//! The log: one ordered, append-only sequence of records per shard, and the results behind it.
//! Kafka, or the log file of `axs dev` (or no file at all, in memory).

use std::time::Duration;

use bytes::Bytes;

use crate::core::{
    proto::CommandResult,
    result::{Encoded, Published},
    store::DeadLetter,
    types::{AccountId, Anchor, CommandId, ContentHash, Position, ShardId, Timestamp},
};

pub mod file;
pub mod kafka;

/// Largest value of a log record; larger commands are refused at the API.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// Why the log did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not reachable, or too slow: whether a record was written is unknown.
    #[error("the log is not reachable: {0}")]
    Unavailable(String),
    /// Our own queue is full; nothing was sent.
    #[error("the log's queue is full")]
    QueueFull,
    /// Will never work as it is (no topic, record too large, partition missing).
    #[error("the log refused it: {0}")]
    Refused(String),
    /// The log is not the one whose position we hold. Says which command to run.
    #[error("{0}")]
    Diverged(String),
}

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Partition.
    pub shard: ShardId,
    /// Key; control records have none.
    pub account: Option<AccountId>,
    /// An encoded `LogRecord`.
    pub value: Bytes,
    /// For the headers `ce_id` and `axs-content-hash`; control records have none.
    pub command: Option<(CommandId, ContentHash)>,
    /// For the header `ce_source`.
    pub source: String,
    /// For the header `ce_time`.
    pub time: Timestamp,
}

/// A record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// By the log's clock.
    pub log_time: Timestamp,
    /// Raw key.
    pub key: Bytes,
    /// Raw value.
    pub value: Bytes,
    /// Header `ce_id`, where it parses.
    pub command_id: Option<CommandId>,
    /// Header `axs-content-hash`, where it parses.
    pub content_hash: Option<ContentHash>,
}

/// A record that is still where it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Where it stands.
    pub position: Position,
    /// By the log's clock.
    pub log_time: Timestamp,
    /// Raw key.
    pub key: &'a [u8],
    /// Raw value.
    pub value: &'a [u8],
}

impl Raw<'_> {
    /// A copy of it, without what headers say.
    pub fn record(&self) -> Record {
        Record {
            position: self.position,
            log_time: self.log_time,
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            command_id: None,
            content_hash: None,
        }
    }
}

impl Record {
    /// Without what headers say.
    pub fn raw(&self) -> Raw<'_> {
        Raw {
            position: self.position,
            log_time: self.log_time,
            key: &self.key,
            value: &self.value,
        }
    }

    /// Hash of the record (position, log time, key and value), kept beside the position. The time
    /// too, because it decides `applied_at`: the same command produced again is another record.
    pub fn anchor(&self) -> Anchor {
        self.hash(Some(self.log_time))
    }

    /// Whether this is the record that the anchor is of. Version 0.1 left the time out: its anchors
    /// stand until the next flush of their shard.
    pub fn is_anchored_by(&self, anchor: Anchor) -> bool {
        self.anchor() == anchor || self.hash(None) == anchor
    }

    fn hash(&self, log_time: Option<Timestamp>) -> Anchor {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.position.0.to_le_bytes());
        if let Some(log_time) = log_time {
            hasher.update(&log_time.0.to_le_bytes());
        }
        hasher.update(&(self.key.len() as u64).to_le_bytes());
        hasher.update(&self.key);
        hasher.update(&self.value);
        Anchor(hasher.digest128().to_le_bytes())
    }

    /// What it counts against byte limits.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + 64
    }
}

/// The log of this process. Cheap to clone.
#[derive(Clone)]
pub enum Log {
    /// The log file, or memory: it is the ledger too.
    File(file::Log),
    /// Kafka.
    Kafka(kafka::Log),
}

/// Reads one shard's records in order.
pub enum Reader {
    /// Of the log file.
    File(file::Reader),
    /// Of a partition.
    Kafka(kafka::Reader),
}

/// Follows the results of all shards from now on; may skip or repeat after an outage: a hint only.
pub enum ResultTail {
    /// In this process.
    File(file::ResultTail),
    /// Of the results topic.
    Kafka(kafka::ResultTail),
}

impl Log {
    /// The log is also the ledger: nothing is accepted before `append` has answered.
    pub fn is_ledger(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Appends records in their order (per shard) and answers for each, once it is known. An error
    /// means unknown, unless it is `QueueFull` or `Refused`.
    pub async fn append(&self, records: Vec<NewRecord>) -> Vec<Result<(), Error>> {
        match self {
            Self::File(log) => log.append(records).await,
            Self::Kafka(log) => log.append(records).await,
        }
    }

    /// Starts to read a shard at `from`. Refuses (`Diverged`) when `from` is past the end or before
    /// the beginning, or when the record before it does not hash to `anchor` (unless retention
    /// removed exactly that record).
    pub async fn open(
        &self,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Reader, Error> {
        match self {
            Self::File(log) => log.open(shard, from, anchor).await.map(Reader::File),
            Self::Kafka(log) => log.open(shard, from, anchor).await.map(Reader::Kafka),
        }
    }

    /// The first position behind the last record of each shard, by shard number.
    pub async fn ends(&self) -> Result<Vec<Position>, Error> {
        match self {
            Self::File(log) => log.ends().await,
            Self::Kafka(log) => log.ends().await,
        }
    }

    /// The offset of a shard's first record, and the one behind its last.
    pub async fn range(&self, shard: ShardId) -> Result<(i64, i64), Error> {
        match self {
            Self::File(log) => log.range(shard),
            Self::Kafka(log) => log.range(shard).await,
        }
    }

    /// Publishes results of one shard in their order; answers for each, in order.
    pub async fn publish(&self, results: Vec<Encoded>) -> Vec<Result<(), Error>> {
        match self {
            Self::File(log) => log.publish(results).await,
            Self::Kafka(log) => log.publish(results).await,
        }
    }

    /// Copies dead letters of one shard to the dead-letter topic; for the log file: keeps which
    /// positions are parked.
    pub async fn publish_dead_letters(
        &self,
        shard: ShardId,
        letters: &[DeadLetter],
    ) -> Vec<Result<(), Error>> {
        match self {
            Self::File(log) => log.publish_dead_letters(shard, letters).await,
            Self::Kafka(log) => log.publish_dead_letters(shard, letters).await,
        }
    }

    /// Follows results from now on.
    pub async fn tail_results(&self) -> Result<ResultTail, Error> {
        match self {
            Self::File(log) => Ok(ResultTail::File(log.tail_results())),
            Self::Kafka(log) => log.tail_results().await.map(ResultTail::Kafka),
        }
    }

    /// The last result that each shard has published, by shard number; none for the log file, whose
    /// store is rebuilt from it.
    pub async fn last_results(&self) -> Result<Vec<Option<CommandResult>>, Error> {
        match self {
            Self::File(_) => Ok(Vec::new()),
            Self::Kafka(log) => log.last_results().await,
        }
    }

    /// Whether the log answers.
    pub async fn ping(&self) -> Result<(), Error> {
        match self {
            Self::File(_) => Ok(()),
            Self::Kafka(log) => log.ping().await,
        }
    }
}

impl Reader {
    /// Waits up to `wait` for a first record, then takes what is there, to the limits (at least one
    /// record if there is one). Empty: nothing came. Cancel-safe.
    pub async fn fetch(
        &mut self,
        count_max: usize,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        match self {
            Self::File(reader) => reader.fetch(count_max, bytes_max, wait).await,
            Self::Kafka(reader) => reader.fetch(count_max, bytes_max, wait).await,
        }
    }
}

impl ResultTail {
    /// The next results, at least one. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Published>, Error> {
        match self {
            Self::File(tail) => tail.next().await,
            Self::Kafka(tail) => tail.next().await,
        }
    }
}
