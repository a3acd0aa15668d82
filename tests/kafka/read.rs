//! Reading from a position: exactly there, or not at all where the log is another.

use std::time::{Duration, Instant};

use axs::core::{
    log::{Error, NewRecord, kafka},
    types::{Position, ShardId},
};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{
    all_ok, diverged,
    fixture::{PATIENCE, Topics, at, command, commands, offsets, read},
};

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_before_they_were_read_are_noticed() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..10)).await);
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut reader, 10).await;
    drop(reader);
    topics.delete_records(ShardId(0), 6).await;

    let why = diverged(log.open(ShardId(0), at(5), Some(records[4].anchor())).await);
    assert!(
        why.contains("begins at 6") && why.contains("axs shards rebase"),
        "{why}"
    );
    // Exactly the record before is gone: there is nothing to compare with, and nothing is missing.
    let mut reader = log
        .open(ShardId(0), at(6), Some(records[5].anchor()))
        .await
        .expect("opened");
    assert_eq!(read(&mut reader, 4).await, records[6..]);
}

/// A broker that starts does not know its topics yet and answers as if there were none: a shard
/// that is opened then is opened later, and does not stop for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_may_come() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    topics.delete_topics().await;
    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        assert!(Instant::now() < deadline, "not noticed");
        match log.open(ShardId(0), at(0), None).await {
            // The deletion is on its way.
            Ok(_) => {}
            Err(Error::Unavailable(why)) => break why,
            Err(error) => panic!("not for a moment, but: {error}"),
        }
    };
    assert!(why.contains("topic"), "{why}");
    topics.ensure().await;
    while let Err(error) = log.open(ShardId(0), at(0), None).await {
        assert!(Instant::now() < deadline, "it does not come: {error}");
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_under_a_reader_are_noticed() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    // More than is read ahead, and nothing that compresses: the reader must still have to ask.
    for _ in 0..4 {
        let mut noise = vec![0; 1024 * 1024];
        getrandom::fill(&mut noise).expect("random bytes");
        let large = NewRecord {
            value: Bytes::from(noise),
            ..command(0, 0)
        };
        all_ok(&log.append(vec![large; 16]).await);
    }
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    assert_eq!(offsets(&read(&mut reader, 1).await), [0]);
    topics.delete_records(ShardId(0), 64).await;

    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        assert!(Instant::now() < deadline, "not noticed");
        match reader.fetch(1, usize::MAX, Duration::from_secs(1)).await {
            Ok(_) => {}
            answer => break diverged(answer),
        }
    };
    assert!(
        why.contains("begins at 64") && why.contains("axs shards rebase"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_noticed_and_written_to() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..5)).await);
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut reader, 5).await;
    topics.delete_topics().await;
    let deadline = Instant::now() + PATIENCE;
    // The name is free again a moment after the deletion was acknowledged.
    while kafka::admin::ensure_topics(&topics.settings, 1)
        .await
        .is_err()
    {
        assert!(Instant::now() < deadline, "the topics cannot be made again");
    }
    let why = loop {
        assert!(Instant::now() < deadline, "not noticed");
        match reader
            .fetch(1, usize::MAX, Duration::from_millis(500))
            .await
        {
            Ok(records) => assert!(records.is_empty()),
            Err(Error::Unavailable(_)) => {}
            answer => break diverged(answer),
        }
    };
    assert!(
        why.contains("offset 5") && why.contains("ends at 0"),
        "{why}"
    );

    // The idempotent session ended with the old topic; writing goes on by itself.
    let mut written = 0;
    while written < 5 {
        assert!(Instant::now() < deadline, "nothing can be written");
        written += log
            .append(commands(0, 9..10))
            .await
            .iter()
            .filter(|ok| ok.is_ok())
            .count();
    }
    let anchor = Some(records[4].anchor());
    let why = diverged(log.open(ShardId(0), at(5), anchor).await);
    assert!(why.contains("is not the one that was applied"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_read_apart_in_one_process() {
    let topics = Topics::create(3).await;
    let log = topics.log().await;
    let mut zero = log.open(ShardId(0), at(0), None).await.expect("opened");
    let mut two = log.open(ShardId(2), at(0), None).await.expect("opened");
    let mixed: Vec<NewRecord> = (0..300)
        .map(|number| command(u16::try_from(number % 3).expect("small"), number))
        .collect();
    all_ok(&log.append(mixed).await);
    let (from_zero, from_two) = tokio::join!(read(&mut zero, 100), read(&mut two, 100));
    for (records, shard) in [(from_zero, 0), (from_two, 2)] {
        for (index, record) in (0..).zip(&records) {
            let sent = command(shard, u64::from(shard) + 3 * index);
            assert_eq!(record.position, at(i64::try_from(index).expect("small")));
            assert_eq!(record.value, sent.value);
            assert_eq!(
                (record.command_id, record.content_hash),
                sent.command
                    .map(|(id, hash)| (Some(id), Some(hash)))
                    .expect("a command")
            );
        }
    }
    // One goes, the other reads on.
    drop(zero);
    all_ok(&log.append(vec![command(0, 1), command(2, 1)]).await);
    assert_eq!(offsets(&read(&mut two, 1).await), [100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_again_starts_exactly_there() {
    const COUNT: i64 = 20_000;
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    let sent = commands(0, 0..COUNT.unsigned_abs());
    for chunk in sent.chunks(5_000) {
        all_ok(&log.append(chunk.to_vec()).await);
    }
    let mut before = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut before, sent.len()).await;
    // The queue is full of what was read ahead when the next reader comes, at another place.
    for round in 0..60 {
        let from = (round * 7_919) % COUNT;
        let anchor = (round % 2 == 0 && from > 0)
            .then(|| records[usize::try_from(from - 1).expect("positive")].anchor());
        let mut reader = log
            .open(ShardId(0), at(from), anchor)
            .await
            .expect("opened");
        let count = (COUNT - from).min(50);
        let expected: Vec<i64> = (from..from + count).collect();
        let found = read(&mut reader, expected.len()).await;
        assert_eq!(offsets(&found), expected, "round {round}");
        let lost = before.fetch(1, 1, Duration::ZERO).await;
        assert!(
            matches!(lost, Err(Error::Unavailable(_))),
            "the former reader is told"
        );
        before = reader;
    }
}

/// The end of a transaction takes an offset and is no record. We use none, but a topic that another
/// tool wrote to, or compacted, has such holes: positions are never computed from counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_holes_is_read_whole() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    for number in 0..2 {
        all_ok(&log.append(commands(0, number * 2..number * 2 + 2)).await);
        append_in_transaction(&topics);
        // Two records, another one, and its end, which is written when that was answered already.
        let end = at(i64::try_from(number).expect("small") * 4 + 4);
        let written = async { while log.ends().await.expect("an answer") != [end] {} };
        let written = tokio::time::timeout(PATIENCE, written).await;
        written.expect("the transaction ends");
    }
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut reader, 6).await;
    assert_eq!(offsets(&records), [0, 1, 2, 4, 5, 6]);
    let behind = reader.fetch(1, usize::MAX, Duration::ZERO).await;
    assert_eq!(behind.expect("the end is no gap"), []);
    drop(reader);
    // Behind each of them, which may be a hole, or the hole at the end.
    for (record, rest) in records.iter().zip(1..) {
        let from = record.position.next();
        let opened = log.open(ShardId(0), from, Some(record.anchor())).await;
        let mut reader = opened.expect("it is the record before");
        let found = read(&mut reader, records.len() - rest).await;
        assert_eq!(found, records[rest..], "from {from}");
    }
}

/// One record, by a tool that is not ours.
fn append_in_transaction(topics: &Topics) {
    let mut client = ClientConfig::new();
    let brokers = topics.settings.brokers.as_deref().expect("set");
    client
        .set("bootstrap.servers", brokers)
        .set("transactional.id", &topics.settings.topic_prefix);
    let producer: BaseProducer = client.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("a session");
    producer.begin_transaction().expect("begun");
    let record = BaseRecord::<(), str>::to(&topics.names.commands).partition(0);
    let sent = producer.send(record.payload("by another tool"));
    sent.map_err(|(error, _)| error).expect("queued");
    producer.commit_transaction(PATIENCE).expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_of_the_position_stays() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..2)).await);
    let mut reader = log
        .open(ShardId(0), Position::new(4, 0), None)
        .await
        .expect("opened");
    let records = read(&mut reader, 2).await;
    assert_eq!(records[1].position, Position::new(4, 1));
    // The anchor covers the position: the same bytes in another generation are another record.
    let anchor = Some(records[0].anchor());
    log.open(ShardId(0), Position::new(4, 1), anchor)
        .await
        .map(drop)
        .expect("the same record");
    diverged(log.open(ShardId(0), Position::new(3, 1), anchor).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_former_reader_takes_nothing_from_the_next_one() {
    const COUNT: u64 = 2_000;
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..COUNT)).await);
    let expected: Vec<i64> = (0..).take(usize::try_from(COUNT).expect("small")).collect();
    for round in 0..20 {
        let mut former = log.open(ShardId(0), at(0), None).await.expect("opened");
        // It goes on taking whatever it gets, until it is told.
        let former = tokio::spawn(async move {
            loop {
                if let Err(error) = former.fetch(7, usize::MAX, Duration::ZERO).await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        });
        let mut next = log
            .open(ShardId(0), at(0), None)
            .await
            .expect("opened again");
        let found = read(&mut next, expected.len()).await;
        assert_eq!(offsets(&found), expected, "round {round}");
        let told = former.await.expect("it ends");
        assert!(matches!(told, Error::Unavailable(_)), "{told}");
    }
}
