//! Records of one shard on their way to the engine: read and decoded on a thread of their own, a
//! few parts ahead.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Error, Item, Source};
use crate::core::{
    leader::Content,
    log::{self, Log, Record},
    types::{Position, ShardId},
};

/// Records of one part.
const PART_COUNT_MAX: usize = 8_192;
/// Bytes of one part.
const PART_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Parts that wait for the engine.
const PARTS_MAX: usize = 4;
/// The log must give its next record within this.
const FETCH_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// The parts of a stretch of the log.
pub(super) struct Feed {
    /// Behind the stretch.
    pub end: Position,
    parts: mpsc::Receiver<Result<Part, Error>>,
}

/// Some records, in their order.
pub(super) struct Part {
    pub items: Vec<Item>,
    /// The last of them, as it was read.
    pub last: Record,
}

impl Feed {
    /// The next part; `None`: the stretch ends.
    pub async fn next(&mut self) -> Result<Option<Part>, Error> {
        self.parts.recv().await.transpose()
    }
}

/// Gathers one part.
struct Gather {
    shard: ShardId,
    embedded: bool,
    items: Vec<Item>,
    bytes: usize,
    parts: mpsc::Sender<Result<Part, Error>>,
}

impl Gather {
    fn new(shard: ShardId, embedded: bool, parts: mpsc::Sender<Result<Part, Error>>) -> Self {
        Self {
            shard,
            embedded,
            items: Vec::new(),
            bytes: 0,
            parts,
        }
    }

    /// Takes a record; a part when it is full, or this is the last one.
    fn take(&mut self, raw: &log::Raw<'_>, is_last: bool) -> Option<Part> {
        if self.items.capacity() == 0 {
            self.items.reserve_exact(PART_COUNT_MAX);
        }
        self.items.push(Item {
            position: raw.position,
            log_time: raw.log_time,
            content: Content::decode(
                self.shard,
                self.embedded,
                &Bytes::copy_from_slice(raw.value),
            ),
        });
        self.bytes += raw.value.len();
        let is_full = self.items.len() >= PART_COUNT_MAX || self.bytes >= PART_BYTES_MAX;
        (is_full || is_last).then(|| {
            self.bytes = 0;
            Part {
                items: std::mem::take(&mut self.items),
                last: raw.record(),
            }
        })
    }

    /// Takes a record, and waits until there is room for a part; false: nobody wants more.
    fn push(&mut self, raw: &log::Raw<'_>, end: Position) -> bool {
        match self.take(raw, raw.position.next() >= end) {
            Some(part) => self.parts.blocking_send(Ok(part)).is_ok(),
            None => true,
        }
    }
}

impl Source {
    /// The shard's first offset, and the one behind its last.
    pub(super) async fn range(&self, shard: ShardId) -> Result<(i64, i64), Error> {
        Ok(match self {
            Self::Log(log) => log.range(shard).await?,
            Self::File(peek) => (0, peek.end(shard).offset()),
        })
    }

    /// Reads from a position up to another one, which is not behind the log's end.
    pub(super) fn feed(&self, shard: ShardId, from: Position, end: Position) -> Feed {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        let failed = sender.clone();
        match self.clone() {
            Self::Log(Log::Kafka(log)) => {
                tokio::spawn(async move {
                    let mut gather = Gather::new(shard, false, sender);
                    let each = move |raw: &log::Raw<'_>| gather.push(raw, end);
                    if let Err(error) = log.sweep(shard, from, end, each).await {
                        // Who waited may have gone.
                        let _ = failed.send(Err(error.into())).await;
                    }
                });
            }
            Self::Log(log @ Log::File(_)) => {
                tokio::spawn(async move {
                    let gather = Gather::new(shard, true, sender);
                    if let Err(error) = follow(&log, gather, from, end).await {
                        let _ = failed.send(Err(error)).await;
                    }
                });
            }
            Self::File(peek) => {
                tokio::task::spawn_blocking(move || {
                    let mut gather = Gather::new(shard, true, sender);
                    let each = |raw: &log::Raw<'_>| gather.push(raw, end);
                    if let Err(error) = peek.sweep(shard, from, end, each) {
                        let _ = failed.blocking_send(Err(error.into()));
                    }
                });
            }
        }
        Feed { end, parts }
    }
}

/// Reads the log of this process.
async fn follow(log: &Log, mut gather: Gather, from: Position, end: Position) -> Result<(), Error> {
    let mut reader = log.open(gather.shard, from, None).await?;
    let mut next = from;
    while next < end {
        let records = reader
            .fetch(PART_COUNT_MAX, PART_BYTES_MAX, FETCH_MAX)
            .await?;
        if records.is_empty() {
            return Err(Error::Beyond(format!(
                "the log of shard {} does not go on behind {next}",
                gather.shard
            )));
        }
        for record in records.iter().filter(|record| record.position < end) {
            next = record.position.next();
            if let Some(part) = gather.take(&record.raw(), next >= end)
                && gather.parts.send(Ok(part)).await.is_err()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}
