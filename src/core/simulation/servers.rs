//! PostgreSQL, Kafka and Redis as the simulation has them: the in-memory store with its clock and
//! earlier states, a log that can lose its end, a cache that can fall back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{Micros, SECOND, profile::Profile};
use crate::core::{
    assets::{Asset, Assets},
    cache::{self, Pulse, Snapshot, Written},
    canary::{self, Guard},
    log::{self, NewRecord, Record},
    proto::CommandResult,
    store::memory::Tables,
    types::{AccountId, Anchor, AssetId, CommandId, Epoch, Position, ShardId, Timestamp},
};

/// The store's clock at the beginning.
const BASE: i64 = 1_700_000_000_000_000;
/// Earlier states of the store that are kept.
const CHECKPOINTS_MAX: usize = 8;

/// The assets of every run.
pub(super) fn assets() -> Assets {
    let asset = |id, code: &str, scale| Asset {
        id: AssetId(id),
        code: code.into(),
        scale,
    };
    [asset(1, "USD", 2), asset(2, "XBT", 8)]
        .into_iter()
        .collect()
}

/// PostgreSQL.
pub(super) struct StoreServer {
    pub tables: Tables,
    pub away_until: Micros,
    /// Rises when all connections are cut: what was on its way is lost.
    pub connections: u32,
    /// How far its clock went ahead of time.
    pub jumped: Micros,
    /// How often it came back from an earlier state.
    pub restores: u32,
    /// It is being brought back: nothing may be started.
    pub is_down: bool,
    pub checkpoints: VecDeque<(Micros, Tables)>,
}

impl StoreServer {
    pub fn new(profile: &Profile) -> Self {
        Self {
            tables: Tables::new(profile.shards, assets()),
            away_until: 0,
            connections: 0,
            jumped: 0,
            restores: 0,
            is_down: false,
            checkpoints: VecDeque::new(),
        }
    }

    pub fn clock(&self, now: Micros) -> Timestamp {
        Timestamp(BASE + i64::try_from(now + self.jumped).expect("a short run"))
    }

    pub fn keep_checkpoint(&mut self, now: Micros) {
        self.checkpoints.push_back((now, self.tables.clone()));
        if self.checkpoints.len() > CHECKPOINTS_MAX {
            self.checkpoints.pop_front();
        }
    }
}

/// Where a consumer reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub next: i64,
    truncations: usize,
}

/// One partition of the commands, and of the results.
#[derive(Default)]
pub(super) struct Partition {
    /// By offset; `None`: a marker of the log, which nobody sees.
    pub records: Vec<Option<Record>>,
    pub generation: u16,
    /// Where the current generation begins.
    pub begins: i64,
    /// The offset of each cut.
    pub truncations: Vec<i64>,
    pub results: Vec<CommandResult>,
    pub letters: BTreeSet<Position>,
    /// How often each command was appended.
    pub copies: BTreeMap<CommandId, u64>,
}

/// Kafka.
pub(super) struct LogServer {
    pub partitions: Vec<Partition>,
    pub away_until: Micros,
    /// Of the broker's clock, in microseconds; changes with each leader of a partition.
    pub skew: i64,
}

impl LogServer {
    pub fn new(profile: &Profile) -> Self {
        Self {
            partitions: (0..profile.shards).map(|_| Partition::default()).collect(),
            away_until: 0,
            skew: 0,
        }
    }

    pub fn of(&mut self, shard: ShardId) -> &mut Partition {
        &mut self.partitions[usize::from(shard.0)]
    }

    pub fn append(&mut self, now: Micros, record: &NewRecord) {
        let now = i64::try_from(now).expect("a short run");
        let log_time = Timestamp(BASE + now + self.skew);
        let partition = self.of(record.shard);
        let offset = i64::try_from(partition.records.len()).expect("a short log");
        if let Some((id, _)) = record.command {
            *partition.copies.entry(id).or_default() += 1;
        }
        partition.records.push(Some(Record {
            position: Position::new(partition.generation, offset),
            log_time,
            key: record.account.map_or_else(Bytes::new, |account| {
                Bytes::copy_from_slice(&account.0.to_be_bytes())
            }),
            value: record.value.clone(),
            command_id: record.command.map(|(id, _)| id),
            content_hash: record.command.map(|(_, hash)| hash),
        }));
    }

    /// The broker's clock of another leader: up to an hour off.
    pub fn set_skew(&mut self, to: i64) {
        self.skew = to.clamp(-3_600 * SECOND as i64, 3_600 * SECOND as i64);
    }
}

impl Partition {
    pub fn end(&self) -> i64 {
        i64::try_from(self.records.len()).expect("a short log")
    }

    /// The first offset behind the last record that a consumer can see.
    pub fn visible_end(&self) -> i64 {
        let last = self.records.iter().rposition(Option::is_some);
        last.map_or(0, |last| i64::try_from(last + 1).expect("a short log"))
    }

    pub fn open(&self, from: Position, anchor: Option<Anchor>) -> Result<Cursor, log::Error> {
        let diverged = |why: &str| Err(log::Error::Diverged(why.into()));
        if from.generation() != self.generation {
            return diverged("the position is of another generation");
        }
        if from.offset() > self.end() {
            return diverged("the log ends before the position");
        }
        if let Some(anchor) = anchor
            && !canary::is_off(Guard::Anchor)
        {
            let before = usize::try_from(from.offset() - 1).ok();
            let before = before.and_then(|offset| self.records[offset].as_ref());
            if !before.is_some_and(|record| record.is_anchored_by(anchor)) {
                return diverged("the record before the position is another one");
            }
        }
        Ok(Cursor {
            next: from.offset(),
            truncations: self.truncations.len(),
        })
    }

    /// Records from the cursor on. A reader whose records were cut off learns of it, as brokers
    /// tell consumers (KIP-320).
    pub fn read(&self, cursor: &mut Cursor, count_max: usize) -> Result<Vec<Record>, log::Error> {
        let cuts = &self.truncations[cursor.truncations..];
        if cuts.iter().any(|cut| *cut < cursor.next) {
            return Err(log::Error::Diverged("the log was cut off".into()));
        }
        cursor.truncations = self.truncations.len();
        let mut records = Vec::new();
        while cursor.next < self.end() && records.len() < count_max {
            let record = &self.records[usize::try_from(cursor.next).expect("an offset")];
            records.extend(record.clone());
            cursor.next += 1;
        }
        Ok(records)
    }

    /// An unclean election: the last records are gone.
    pub fn truncate(&mut self, count: usize) {
        let begins = usize::try_from(self.begins).expect("an offset");
        let keep = self.records.len().saturating_sub(count).max(begins);
        for record in self.records.drain(keep..).flatten() {
            if let Some(id) = record.command_id {
                let copies = self.copies.get_mut(&id);
                *copies.expect("it was appended") -= 1;
            }
        }
        self.truncations
            .push(i64::try_from(keep).expect("a short log"));
    }
}

/// Redis: the in-memory cache, kept as a plain value so that it can fall back to an earlier one.
#[derive(Default)]
pub(super) struct CacheServer {
    pub cache: cache::memory::Cache,
    pub away_until: Micros,
    /// What was written, in order: an earlier state is made by writing less of it.
    writes: Vec<CacheWrite>,
    /// The greatest epoch that it has seen, as an operator reads it.
    pub epochs: BTreeMap<ShardId, u64>,
}

/// What somebody writes to the cache.
#[derive(Clone, Debug)]
pub(super) struct CacheWrite {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub pulse: Option<Pulse>,
    pub snapshots: Vec<Snapshot>,
}

impl CacheWrite {
    fn to(&self, cache: &cache::memory::Cache) -> Written {
        cache.write(self.shard, self.epoch, self.pulse, &self.snapshots)
    }
}

impl CacheServer {
    pub fn write(&mut self, write: CacheWrite) -> Written {
        let written = write.to(&self.cache);
        let seen = self.epochs.entry(write.shard).or_default();
        *seen = write.epoch.0.max(*seen);
        self.writes.push(write);
        written
    }

    pub fn read(&self, shard: ShardId, account: AccountId) -> Option<Snapshot> {
        self.cache.read(&[(shard, account)]).swap_remove(0)
    }

    /// Memory is short: what a former leader wrote, and a later one after it, is forgotten; then the
    /// former one's write comes once more, and finds nothing that is newer. If it is refused, what
    /// was forgotten is filled in again at once: a reader that stood still could fill in an older
    /// value, which nobody notices before the next pass.
    pub fn evict(&mut self, which: u64) {
        let is_old = |write: &&CacheWrite| {
            write.snapshots.iter().any(|old| {
                let now = self.read(write.shard, old.account);
                now.is_some_and(|now| now.epoch > write.epoch && now.balances != old.balances)
            })
        };
        let old: Vec<_> = self.writes.iter().filter(is_old).collect();
        let Some(which) = which.checked_rem(old.len() as u64) else {
            return;
        };
        let late = old[usize::try_from(which).expect("it is one of them")].clone();
        let accounts: Vec<_> = late.snapshots.iter().map(|it| it.account).collect();
        let (shard, mut fills) = (late.shard, Vec::new());
        for account in &accounts {
            fills.extend(self.read(shard, *account));
            self.cache.forget(shard, *account);
        }
        self.write(late);
        fills.retain(|fill| self.read(shard, fill.account).is_none());
        for fill in fills {
            let (epoch, pulse) = (fill.epoch, None);
            self.write(CacheWrite {
                shard,
                epoch,
                pulse,
                snapshots: vec![fill],
            });
        }
    }

    /// A replica that had not seen the last writes takes over; all of them: it was flushed.
    pub fn fall_back(&mut self, lost: usize) {
        let keep = self.writes.len().saturating_sub(lost);
        self.writes.truncate(keep);
        self.cache = cache::memory::Cache::new();
        for write in &self.writes {
            write.to(&self.cache);
        }
    }
}
