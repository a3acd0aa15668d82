//! What the log file alone does: it survives its process, and knows a torn end from damage.

use std::{fs, path::Path, process::Command};

use axs::core::{
    assets::{Asset, Assets},
    clock::Clock,
    command::record::Registry,
    log::{
        Error, Log, RECORD_BYTES_MAX,
        file::{self, FILE, OpenError, Recovered, TornTail, recover},
    },
    store::{DeadLetter, DeadLetterReason},
    types::{AssetId, CommandId, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;

use crate::logs::{SHARDS, all, append, assert_is, in_file, memory, record, records, registry};

/// The values in a recovered file, by shard.
fn values(recovered: &Recovered) -> Vec<(u16, Bytes)> {
    let records = recovered.records();
    records
        .map(|(shard, record)| (shard.0, record.value))
        .collect()
}

/// A file of some frames; answers its bytes and where each frame ends.
async fn frames(directory: &Path) -> (Vec<u8>, Vec<usize>) {
    let path = directory.join(FILE);
    let length = || usize::try_from(fs::metadata(&path).expect("it is there").len());
    let log = in_file(directory);
    let mut ends = vec![length().expect("small")];
    for number in 0..4 {
        append(&log, vec![record(0, number), record(2, number)]).await;
        ends.push(length().expect("small"));
    }
    drop(log);
    (fs::read(&path).expect("it can be read"), ends)
}

#[tokio::test]
async fn a_file_opened_again_has_every_acknowledged_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = in_file(directory.path());
    append(&log, records(1, 0..50)).await;
    append(&log, vec![record(0, 0), record(1, 50)]).await;
    let before = [all(&log, 0).await, all(&log, 1).await];
    drop(log);
    for _ in 0..2 {
        let log = in_file(directory.path());
        assert_eq!([all(&log, 0).await, all(&log, 1).await], before);
    }
    let log = in_file(directory.path());
    append(&log, records(1, 51..53)).await;
    drop(log);
    let found = all(&in_file(directory.path()), 1).await;
    assert_eq!(found.len(), 53);
    assert_eq!(found[..51], before[1]);
    assert_is(&found[52], &record(1, 52));
}

#[tokio::test]
async fn the_log_time_never_runs_backwards_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |at| {
        let recovered = recover(directory.path()).expect("the directory can be used");
        Log::File(recovered.start(&registry(), Clock::manual(Timestamp(at))))
    };
    let log = start(2_000);
    append(&log, records(0, 0..1)).await;
    drop(log);
    let log = start(1_000);
    append(&log, records(0, 1..2)).await;
    let times: Vec<_> = all(&log, 0)
        .await
        .iter()
        .map(|record| record.log_time)
        .collect();
    assert_eq!(times, [Timestamp(2_000), Timestamp(2_000)]);
}

#[tokio::test]
async fn a_torn_end_is_cut_wherever_it_was_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (bytes, ends) = frames(directory.path()).await;
    let path = directory.path().join(FILE);
    let [.., last_start, end] = ends[..] else {
        panic!("there are frames");
    };
    assert_eq!(end, bytes.len());
    for length in last_start + 1..end {
        fs::write(&path, &bytes[..length]).expect("it can be written");
        let recovered = recover(directory.path()).expect("a torn end is no damage");
        let torn = TornTail {
            offset: last_start as u64,
            bytes: (length - last_start) as u64,
        };
        assert_eq!(recovered.torn, Some(torn), "{length} bytes");
        assert_eq!(values(&recovered).len(), 6);
        drop(recovered);
        assert_eq!(
            fs::metadata(&path).expect("it is there").len(),
            last_start as u64
        );
    }
    // Not all of the blocks of the last write reached the disk.
    for damaged in last_start..end {
        let mut torn = bytes.clone();
        torn[damaged] ^= 0x40;
        fs::write(&path, &torn).expect("it can be written");
        let recovered = recover(directory.path()).expect("a torn end is no damage");
        assert!(recovered.torn.is_some(), "byte {damaged}");
        assert_eq!(values(&recovered).len(), 6);
    }
    // What comes next stands where the torn end stood.
    let log = in_file(directory.path());
    append(&log, vec![record(0, 3), record(2, 3)]).await;
    assert_eq!(all(&log, 2).await.len(), 4);
    drop(log);
    let recovered = recover(directory.path()).expect("the directory can be used");
    assert_eq!(
        (recovered.torn.clone(), values(&recovered).len()),
        (None, 8)
    );
}

#[tokio::test]
async fn a_file_torn_before_its_first_record_is_a_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let (bytes, ends) = frames(directory.path()).await;
    for length in 0..ends[0] {
        fs::write(directory.path().join(FILE), &bytes[..length]).expect("it can be written");
        let recovered = recover(directory.path()).expect("a torn end is no damage");
        assert_eq!(recovered.registry, None);
        assert_eq!(recovered.torn.is_some(), length > 0);
        drop(recovered);
        append(&in_file(directory.path()), records(0, 0..1)).await;
        assert_eq!(all(&in_file(directory.path()), 0).await.len(), 1);
    }
}

#[tokio::test]
async fn damage_before_good_records_is_refused_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let (bytes, ends) = frames(directory.path()).await;
    let path = directory.path().join(FILE);
    let starts = [0, ends[0], ends[1], ends[2]];
    for (start, end) in starts.into_iter().zip(&ends) {
        for damaged in start..*end {
            let mut spoilt = bytes.clone();
            spoilt[damaged] ^= 0x01;
            fs::write(&path, &spoilt).expect("it can be written");
            let refused = recover(directory.path()).expect_err("it is damaged");
            assert!(
                matches!(&refused, OpenError::Corrupt { offset, .. } if *offset == start as u64),
                "byte {damaged}: {refused}"
            );
            let text = refused.to_string();
            assert!(text.contains(&format!("at byte {start}")), "{text}");
            assert_eq!(
                fs::read(&path).expect("it is there"),
                spoilt,
                "nothing is changed"
            );
        }
    }
    // A frame left out, or there twice.
    for (first, second) in [(ends[1], ends[2]), (ends[1], ends[0])] {
        let spoilt = [&bytes[..first], &bytes[second..]].concat();
        fs::write(&path, spoilt).expect("it can be written");
        let refused = recover(directory.path()).expect_err("it is damaged");
        let at = first as u64;
        assert!(
            matches!(refused, OpenError::Corrupt { offset, .. } if offset == at),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_good_record_is_found_behind_large_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = in_file(directory.path());
    for number in 0..3 {
        let mut large = record(0, number);
        large.value = Bytes::from(vec![0xFF; RECORD_BYTES_MAX]);
        append(&log, vec![large.clone(), large]).await;
    }
    drop(log);
    let path = directory.path().join(FILE);
    let mut bytes = fs::read(&path).expect("it can be read");
    bytes[300] ^= 1;
    fs::write(&path, bytes).expect("it can be written");
    let refused = recover(directory.path()).expect_err("it is damaged");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_directory_has_one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = in_file(directory.path());
    let other = log.clone();
    let refused = recover(directory.path()).expect_err("it is in use");
    assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
    drop(log);
    assert!(recover(directory.path()).is_err(), "a clone still has it");
    drop(other);
    assert!(recover(directory.path()).is_ok());
    let not_a_directory = directory.path().join(FILE);
    let refused = recover(&not_a_directory).expect_err("it is a file");
    assert!(matches!(refused, OpenError::Io(..)), "{refused}");
}

#[tokio::test]
async fn what_was_appended_is_written_although_nobody_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = in_file(directory.path());
    let append = tokio::spawn({
        let log = log.clone();
        async move { log.append(records(1, 0..5)).await }
    });
    // The answer is dropped as soon as the records are queued.
    tokio::task::yield_now().await;
    append.abort();
    drop(log);
    let ended = append.await;
    let recovered = recover(directory.path()).expect("nobody has it any more");
    assert_eq!(values(&recovered).len(), 5, "{ended:?}");
}

#[tokio::test]
async fn settings_and_parked_positions_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let letter = |position, parks| DeadLetter {
        position: Position::new(0, position),
        reason: DeadLetterReason::FlushRefused,
        message: "refused".into(),
        parks,
        log_time: Timestamp(0),
        key: vec![],
        value: vec![],
    };
    let log = in_file(directory.path());
    append(&log, records(1, 0..3)).await;
    let parks = Some(CommandId::new(ShardId(1), Sequence(1)));
    let letters = [letter(0, parks), letter(2, None)];
    log.publish_dead_letters(ShardId(1), &letters).await;
    drop(log);

    let recovered = recover(directory.path()).expect("the directory can be used");
    assert_eq!(recovered.registry, Some(registry()));
    let parked = (
        (ShardId(1), Position::new(0, 0)),
        DeadLetterReason::FlushRefused,
    );
    assert_eq!(
        recovered.parked.clone().into_iter().collect::<Vec<_>>(),
        [parked]
    );
    let asset = Asset {
        id: AssetId(1),
        code: "EUR".into(),
        scale: 2,
    };
    let more = Registry {
        shards: SHARDS,
        assets: Assets::from_iter([asset]),
    };
    let log = Log::File(recovered.start(&more, Clock::System));
    let size = || {
        fs::metadata(directory.path().join(FILE))
            .expect("it is there")
            .len()
    };
    let before = size();
    log.publish_dead_letters(ShardId(1), &letters).await;
    assert_eq!(size(), before, "a position is parked once");
    drop(log);
    let recovered = recover(directory.path()).expect("the directory can be used");
    assert_eq!(recovered.registry, Some(more));
}

#[tokio::test]
async fn a_full_queue_and_too_large_an_append_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = in_file(directory.path());
    let mut large = record(0, 0);
    large.value = Bytes::from(vec![b'x'; RECORD_BYTES_MAX]);
    let answers = log.append(vec![large.clone(); 65]).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Err(Error::Refused(_))))
    );
    // Without a wait between them, so that all are queued before one can be durable.
    let appends = (0..40).map(|_| log.append(vec![large.clone(); 32]));
    let answers = futures::future::join_all(appends).await;
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    let full = answers
        .iter()
        .filter(|answer| **answer == Err(Error::QueueFull))
        .count();
    let written = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(
        full > 0 && written >= 64,
        "{full} refused, {written} written"
    );
    assert_eq!(full + written, 40 * 32);
    assert_eq!(all(&log, 0).await.len(), written);
    append(&memory(), vec![large; 65]).await;
}

/// The process that dies in [`a_write_that_fails_ends_the_process`].
const CHILD: &str = "AXS_TEST_LOG_CHILD";

#[tokio::test]
async fn a_write_that_fails_ends_the_process() {
    if let Ok(directory) = std::env::var(CHILD) {
        let log = in_file(Path::new(&directory));
        for number in 0.. {
            append(&log, records(0, number..number + 1)).await;
            println!("durable {number}");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    // No file may grow beyond so many blocks, and the signal that says so is ignored: the write
    // fails, as it does on a full disk.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "file::a_write_that_fails_ends_the_process",
            "--nocapture",
        ])
        .env(CHILD, directory.path())
        .output()
        .expect("it can be run");
    let errors = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{errors}");
    assert!(errors.contains("failed to write the log file"), "{errors}");
    let told = String::from_utf8_lossy(&child.stdout);
    let durable = told
        .lines()
        .filter(|line| line.starts_with("durable "))
        .count();
    assert!(durable > 10, "{told}");
    let recovered = recover(directory.path()).expect("the directory can be used");
    assert!(recovered.torn.is_some(), "part of the write fitted");
    assert_eq!(
        values(&recovered).len(),
        durable,
        "every acknowledged record, and no other"
    );
    assert_eq!(file::LOCK_FILE, "axs.lock");
}
