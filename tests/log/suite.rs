//! The functions that run on every log.

use std::time::{Duration, Instant};

use axs::core::{
    log::{Error, Log, RECORD_BYTES_MAX},
    proto::CommandResult,
    result::Encoded,
    store::{DeadLetter, DeadLetterReason},
    types::{Anchor, CommandId, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;

use crate::logs::{PATIENCE, SHARDS, all, append, assert_is, open, read, record, records};

fn ends(offsets: [i64; SHARDS as usize]) -> Vec<Position> {
    offsets.map(|offset| Position::new(0, offset)).to_vec()
}

pub async fn records_of_a_shard_stand_in_the_order_of_their_append(log: &Log) {
    assert_eq!(log.ends().await.expect("an answer"), ends([0, 0, 0]));
    append(log, vec![]).await;
    append(log, records(2, 0..3)).await;
    let mixed = vec![record(0, 0), record(2, 3), record(0, 1), record(2, 4)];
    append(log, mixed).await;
    append(log, records(2, 5..9)).await;
    assert_eq!(log.ends().await.expect("an answer"), ends([2, 0, 9]));
    for (shard, count) in [(0, 2), (1, 0), (2, 9)] {
        let found = all(log, shard).await;
        for (index, found) in found.iter().enumerate() {
            let number = index as u64;
            assert_is(found, &record(shard, number));
            assert_eq!(
                found.position,
                Position(i64::try_from(number).expect("small"))
            );
            assert!(found.log_time > Timestamp(1_700_000_000_000_000));
        }
        let times: Vec<_> = found.iter().map(|record| record.log_time).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert_eq!(found.len(), count);
    }
}

pub async fn a_reader_begins_where_it_is_told(log: &Log) {
    append(log, records(1, 0..10)).await;
    let before = all(log, 1).await;
    for from in [0, 4, 9] {
        let anchor = usize::try_from(from - 1)
            .ok()
            .map(|last| before[last].anchor());
        let reader = log.open(ShardId(1), Position::new(0, from), anchor).await;
        let found = read(&mut reader.expect("it goes there"), 1).await;
        assert_eq!(found[0], before[usize::try_from(from).expect("small")]);
    }
    // At the end: what comes next.
    let mut reader = open(log, 1, 10).await;
    append(log, records(1, 10..12)).await;
    let found = read(&mut reader, 2).await;
    assert_is(&found[0], &record(1, 10));
    assert_eq!(found[1].position, Position::new(0, 11));
}

pub async fn a_reader_refuses_a_log_that_is_not_the_one_applied(log: &Log) {
    append(log, records(1, 0..4)).await;
    let found = all(log, 1).await;
    let rows = [
        ("past the end", 5, None),
        ("another record before it", 3, Some(found[1].anchor())),
        ("nothing like it", 3, Some(Anchor([7; 16]))),
    ];
    for (what, from, anchor) in rows {
        let opened = log.open(ShardId(1), Position::new(0, from), anchor).await;
        assert!(matches!(opened, Err(Error::Diverged(_))), "{what}");
    }
    let opened = log.open(ShardId(0), Position::new(0, 1), None).await;
    assert!(matches!(opened, Err(Error::Diverged(_))), "an empty shard");
    let opened = log
        .open(ShardId(1), Position::new(0, 4), Some(found[3].anchor()))
        .await;
    assert!(opened.is_ok(), "the end itself");
}

pub async fn a_fetch_keeps_to_its_limits(log: &Log) {
    append(log, records(0, 0..20)).await;
    let each = all(log, 0).await[0].bytes();
    let mut reader = open(log, 0, 0).await;
    let mut next = 0;
    for (count_max, bytes_max, most) in [(3, usize::MAX, 3), (100, 1, 1), (100, each * 4, 5)] {
        let found = reader.fetch(count_max, bytes_max, PATIENCE).await;
        let found = found.expect("the log can be read");
        assert!(
            (1..=most).contains(&found.len()),
            "{} of {most}",
            found.len()
        );
        for found in found {
            assert_eq!(found.position, Position::new(0, next), "none is left out");
            next += 1;
        }
    }
    let left = usize::try_from(20 - next).expect("not more than there are");
    let rest = read(&mut reader, left).await;
    assert_eq!(rest[0].position, Position::new(0, next));
}

pub async fn a_fetch_waits_for_a_first_record(log: &Log) {
    let mut reader = open(log, 0, 0).await;
    let begun = Instant::now();
    let nothing = reader
        .fetch(10, usize::MAX, Duration::from_millis(60))
        .await;
    assert_eq!(nothing.expect("the log can be read"), []);
    assert!(
        begun.elapsed() >= Duration::from_millis(60),
        "{:?}",
        begun.elapsed()
    );
    append(log, records(1, 0..5)).await;
    let nothing = reader.fetch(10, usize::MAX, Duration::ZERO).await;
    assert_eq!(nothing.expect("the log can be read"), [], "another shard's");

    let (found, ()) = tokio::join!(read(&mut reader, 2), append(log, records(0, 0..2)));
    assert_is(&found[1], &record(0, 1));
}

pub async fn a_fetch_that_is_dropped_loses_nothing(log: &Log) {
    let mut reader = open(log, 0, 0).await;
    for number in 0..20 {
        let fetch = reader.fetch(10, usize::MAX, PATIENCE);
        // Whichever is first; the fetch is dropped when it is not.
        let fetched = tokio::select! {
            fetched = fetch => Some(fetched.expect("the log can be read")),
            () = append(log, records(0, number..number + 1)) => None,
        };
        let found = match fetched {
            Some(found) => {
                append(log, records(2, 0..1)).await;
                found
            }
            None => read(&mut reader, 1).await,
        };
        assert_eq!(found.len(), 1);
        assert_is(&found[0], &record(0, number));
    }
}

pub async fn many_appends_at_once_are_all_answered(log: &Log) {
    let tasks = (0..SHARDS).flat_map(|shard| (0..40).map(move |number| (shard, number)));
    let appends = tasks.map(|(shard, number)| async move {
        append(log, records(shard, number * 10..number * 10 + 10)).await;
    });
    futures::future::join_all(appends).await;
    for shard in 0..SHARDS {
        let found = all(log, shard).await;
        assert_eq!(found.len(), 400);
        // Appends may change places, but stay whole and in order inside.
        let mut firsts = Vec::new();
        for group in found.chunks(10) {
            let first: u64 = (0..40)
                .map(|number| number * 10)
                .find(|&number| group[0].value == record(shard, number).value)
                .expect("a group begins with its first record");
            for (found, number) in group.iter().zip(first..) {
                assert_is(found, &record(shard, number));
            }
            firsts.push(first);
        }
        firsts.sort_unstable();
        assert_eq!(
            firsts,
            (0..40).map(|number| number * 10).collect::<Vec<_>>()
        );
    }
}

pub async fn what_can_never_be_written_is_refused_alone(log: &Log) {
    let mut large = record(0, 1);
    large.value = Bytes::from(vec![b'x'; RECORD_BYTES_MAX + 1]);
    let mut elsewhere = record(0, 2);
    elsewhere.shard = ShardId(SHARDS);
    let mut largest = record(0, 4);
    largest.value = Bytes::from(vec![b'y'; RECORD_BYTES_MAX]);
    let sent = vec![
        record(0, 0),
        large,
        elsewhere,
        record(0, 3),
        largest.clone(),
    ];
    let answers = log.append(sent).await;
    let ok: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, false, true, true]);
    for answer in &answers[1..3] {
        assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}");
    }
    let found = all(log, 0).await;
    assert_eq!(found.len(), 3);
    assert_is(&found[1], &record(0, 3));
    assert_is(&found[2], &largest);
}

fn result(shard: u16, number: u64) -> CommandResult {
    CommandResult {
        command_id: CommandId::new(ShardId(shard), Sequence(number)).0,
        account_id: 1_000 + number,
        shard_id: u32::from(shard),
        ..CommandResult::default()
    }
}

pub async fn results_reach_who_follows(log: &Log) {
    assert_eq!(
        log.publish(vec![Encoded::of(&result(1, 1))]).await,
        [Ok(())],
        "nobody follows"
    );
    let mut first = log.tail_results().await.expect("results can be followed");
    let mut second = log.tail_results().await.expect("results can be followed");
    for shard in [1, 2] {
        let encoded = |number| Encoded::of(&result(shard, number));
        let results = (10..15).map(encoded).collect();
        assert_eq!(log.publish(results).await, vec![Ok(()); 5]);
    }
    for tail in [&mut first, &mut second] {
        let mut heard = Vec::new();
        while heard.len() < 10 {
            let more = tokio::time::timeout(PATIENCE, tail.next()).await;
            let more = more.expect("results come").expect("the log can be read");
            assert!(!more.is_empty());
            heard.extend(more.iter().map(|result| result.decode().expect("a result")));
        }
        for shard in [1, 2] {
            let of_shard = |result: &&CommandResult| result.shard_id == u32::from(shard);
            let heard: Vec<_> = heard.iter().filter(of_shard).cloned().collect();
            let expected: Vec<_> = (10..15).map(|number| result(shard, number)).collect();
            assert_eq!(heard, expected, "in the order of the shard");
        }
    }
}

pub async fn dead_letters_are_answered_one_by_one(log: &Log) {
    let letter = |position, parks| DeadLetter {
        position: Position::new(0, position),
        reason: DeadLetterReason::EnginePanic,
        message: "a panic".into(),
        parks,
        log_time: Timestamp(1_700_000_000_000_000),
        key: b"1001".to_vec(),
        value: vec![1, 2, 255],
    };
    append(log, records(1, 0..3)).await;
    let parks = Some(CommandId::new(ShardId(1), Sequence(1)));
    let letters = [letter(0, parks), letter(1, None)];
    for _ in 0..2 {
        let answers = log.publish_dead_letters(ShardId(1), &letters).await;
        assert_eq!(answers, [Ok(()), Ok(())]);
    }
    assert_eq!(log.publish_dead_letters(ShardId(1), &[]).await, []);
    let end = log.ends().await.expect("an answer")[1];
    assert_eq!(
        end,
        Position::new(0, 3),
        "they take no position of the shard"
    );
}
