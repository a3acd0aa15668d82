//! What readers see of the log: the durable records of each shard, and the tails of its results.
//!
//! Every record stays in memory: its bytes and 40 more. A process with the log file is bounded by
//! its memory, as the tables beside it are.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{broadcast, watch},
    time,
};

use super::frame::Item;
use crate::core::{
    log::{Error, Record},
    result::Published,
    types::{Anchor, Position, ShardId, Timestamp},
};

/// Batches of results that a slow tail may fall behind before it misses some.
const RESULT_BATCHES_MAX: usize = 1_024;

/// Shared by writer, readers and tails.
pub struct Index {
    shards: Vec<Shard>,
    pub results: broadcast::Sender<Arc<[Published]>>,
    /// Positions whose PARKED record is durable.
    pub parked: Mutex<BTreeSet<(ShardId, Position)>>,
}

struct Shard {
    slots: Mutex<Vec<Slot>>,
    /// How many slots readers may see.
    end: watch::Sender<usize>,
}

/// One durable record; its place is its offset.
#[derive(Debug)]
pub struct Slot {
    pub log_time: Timestamp,
    pub item: Item,
}

impl Index {
    /// Of the records found in the file, by shard.
    pub fn new(found: Vec<Vec<Slot>>, parked: BTreeSet<(ShardId, Position)>) -> Self {
        let shard = |slots: Vec<Slot>| Shard {
            end: watch::Sender::new(slots.len()),
            slots: Mutex::new(slots),
        };
        Self {
            shards: found.into_iter().map(shard).collect(),
            results: broadcast::Sender::new(RESULT_BATCHES_MAX),
            parked: Mutex::new(parked),
        }
    }

    /// Whether there is such a shard.
    pub fn has(&self, shard: ShardId) -> bool {
        usize::from(shard.0) < self.shards.len()
    }

    /// Shows durable records to the readers.
    pub fn publish(&self, log_time: Timestamp, items: Vec<Item>) {
        let mut touched = BTreeSet::new();
        for item in items {
            let shard = usize::from(item.shard().0);
            lock(&self.shards[shard].slots).push(Slot { log_time, item });
            touched.insert(shard);
        }
        for shard in touched {
            let end = lock(&self.shards[shard].slots).len();
            self.shards[shard].end.send_replace(end);
        }
    }

    /// The first position behind the last record of each shard.
    pub fn ends(&self) -> Vec<Position> {
        let end = |shard: &Shard| position(*shard.end.borrow());
        self.shards.iter().map(end).collect()
    }

    /// At least one record, if there is one.
    fn read(&self, from: &Place, count_max: usize, bytes_max: usize) -> Vec<Record> {
        let shard = &self.shards[usize::from(from.shard.0)];
        let end = *shard.end.borrow();
        let slots = lock(&shard.slots);
        let mut bytes = 0_usize;
        let mut records = Vec::new();
        for (index, slot) in slots.iter().enumerate().take(end).skip(from.next) {
            bytes = bytes.saturating_add(slot.item.bytes());
            if records.len() >= count_max || (bytes > bytes_max && !records.is_empty()) {
                break;
            }
            let position = Position::new(from.generation, position(index).offset());
            records.push(slot.item.record(position, slot.log_time));
        }
        records
    }
}

/// Reads one shard's records in order.
pub struct Reader {
    index: Arc<Index>,
    place: Place,
    end: watch::Receiver<usize>,
}

/// Where the reading stands.
struct Place {
    shard: ShardId,
    /// Of the position that it began at: as in Kafka the log does not know it.
    generation: u16,
    next: usize,
}

impl Reader {
    /// See [`super::super::Log::open`].
    pub fn open(
        index: &Arc<Index>,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Self, Error> {
        if !index.has(shard) {
            return Err(Error::Refused(format!("the log has no shard {shard}")));
        }
        let end = index.shards[usize::from(shard.0)].end.subscribe();
        let last = position(*end.borrow());
        if from < Position::ZERO || from.offset() > last.offset() {
            return Err(Error::Diverged(format!(
                "shard {shard} was applied up to position {from}, but its log goes from 0 to \
                 {last}: put the log file back that belongs to it"
            )));
        }
        let next = usize::try_from(from.offset()).expect("not above the number of records");
        let mut place = Place {
            shard,
            generation: from.generation(),
            next,
        };
        // Where the log begins nothing is left to compare with.
        if let (Some(anchor), Some(before)) = (anchor, next.checked_sub(1)) {
            place.next = before;
            let found = index.read(&place, 1, usize::MAX);
            if !found.iter().any(|record| record.is_anchored_by(anchor)) {
                return Err(Error::Diverged(format!(
                    "the record of shard {shard} before position {from} is not the one that was \
                     applied: put the log file back that belongs to it"
                )));
            }
            place.next = next;
        }
        Ok(Self {
            index: index.clone(),
            place,
            end,
        })
    }

    /// See [`super::super::Reader::fetch`].
    pub async fn fetch(
        &mut self,
        count_max: usize,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        let next = self.place.next;
        if *self.end.borrow() <= next {
            // The index, which this reader holds, keeps the sender: it cannot be closed, and what
            // else ends the wait shows below.
            let _ = time::timeout(wait, self.end.wait_for(|&end| end > next)).await;
        }
        let records = self.index.read(&self.place, count_max, bytes_max);
        self.place.next += records.len();
        Ok(records)
    }
}

/// Follows the results of all shards; one that lags skips.
pub struct ResultTail {
    /// Keeps the sender.
    _index: Arc<Index>,
    results: broadcast::Receiver<Arc<[Published]>>,
}

impl ResultTail {
    /// From now on.
    pub fn new(index: &Arc<Index>) -> Self {
        Self {
            _index: index.clone(),
            results: index.results.subscribe(),
        }
    }

    /// See [`super::super::ResultTail::next`].
    pub async fn next(&mut self) -> Result<Vec<Published>, Error> {
        loop {
            match self.results.recv().await {
                Ok(results) => return Ok(results.to_vec()),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(Error::Unavailable("it was closed".into()));
                }
            }
        }
    }
}

/// The position of the record at this index of its shard.
pub fn position(index: usize) -> Position {
    Position::new(
        0,
        i64::try_from(index).expect("fewer records than bytes of memory"),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
