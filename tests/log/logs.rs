//! A log of its own for each test, and what the suites append.

use std::{path::Path, time::Duration};

use axs::core::{
    assets::Assets,
    clock::Clock,
    command::record::Registry,
    log::{Log, NewRecord, Reader, Record, file},
    types::{AccountId, CommandId, ContentHash, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;

/// Of each log.
pub const SHARDS: u16 = 3;
/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Without a file.
pub fn memory() -> Log {
    Log::File(file::Log::memory(SHARDS, Clock::System))
}

/// What a new file begins with.
pub fn registry() -> Registry {
    Registry {
        shards: SHARDS,
        assets: Assets::default(),
    }
}

/// Over the file of a directory.
pub fn in_file(directory: &Path) -> Log {
    let recovered = file::recover(directory).expect("the directory can be used");
    Log::File(recovered.start(&registry(), Clock::System))
}

/// Record `number` of a shard: a command if it is even, else a control record.
pub fn record(shard: u16, number: u64) -> NewRecord {
    let is_command = number.is_multiple_of(2);
    let command = || {
        let id = CommandId::new(ShardId(shard), Sequence(number + 1));
        (
            id,
            ContentHash([u8::try_from(number % 251).expect("below 251"); 16]),
        )
    };
    NewRecord {
        shard: ShardId(shard),
        account: is_command.then_some(AccountId(1_000 + number)),
        value: Bytes::from(format!("record {number} of shard {shard}")),
        command: is_command.then(command),
        source: "/test/orders".into(),
        time: Timestamp(1_700_000_000_123_456),
    }
}

/// Records of one shard.
pub fn records(shard: u16, numbers: std::ops::Range<u64>) -> Vec<NewRecord> {
    numbers.map(|number| record(shard, number)).collect()
}

/// Appends what nothing speaks against.
pub async fn append(log: &Log, records: Vec<NewRecord>) {
    let count = records.len();
    let answers = log.append(records).await;
    assert_eq!(answers, vec![Ok(()); count]);
}

/// Opens a shard where nothing speaks against it.
pub async fn open(log: &Log, shard: u16, from: i64) -> Reader {
    let opened = log.open(ShardId(shard), Position::new(0, from), None).await;
    opened.expect("the log goes there")
}

/// Reads until so many records are there.
pub async fn read(reader: &mut Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let left = count - records.len();
        let more = reader.fetch(left, usize::MAX, PATIENCE).await;
        let more = more.expect("the log can be read");
        assert!(
            !more.is_empty(),
            "{} of {count} records came",
            records.len()
        );
        records.extend(more);
    }
    records
}

/// Everything in a shard.
pub async fn all(log: &Log, shard: u16) -> Vec<Record> {
    let ends = log.ends().await.expect("the log answers");
    let end = usize::try_from(ends[usize::from(shard)].offset()).expect("not below 0");
    let records = read(&mut open(log, shard, 0).await, end).await;
    assert_eq!(records.len(), end);
    records
}

/// Whether the record is what was appended under this number.
pub fn assert_is(record: &Record, new: &NewRecord) {
    let key = new
        .account
        .map_or(String::new(), |account| account.to_string());
    assert_eq!(record.key, key);
    assert_eq!(record.value, new.value);
    assert_eq!(record.command_id, new.command.map(|(id, _)| id));
    assert_eq!(record.content_hash, new.command.map(|(_, hash)| hash));
}
