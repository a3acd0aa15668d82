//! The log of a shard once more, into a fresh engine: what `axs replay` shows, and what others
//! compare with. Reads only; takes part in nothing, and may run beside live traffic.
//!
//! - `source`: records of Kafka or of the log file, decoded on a thread of their own;
//! - `begin`: the state at the log's beginning: nothing, or the journal's;
//! - `machine`: applies, as a leader does; `targets`: what a REVERSE needs, kept small;
//! - [`diff`]: beside what is stored.
//!
//! Memory: every account and balance of the shard, packed entries of what was applied lately
//! ([`TARGETS_BYTES_MAX`]; what a REVERSE names beyond comes from the journal), 16 bytes and some
//! for each REVERSE, and a few batches of records.

use std::collections::BTreeSet;

use crate::core::{
    engine::{Account, Balance},
    interval_set::IntervalSet,
    log::{
        self, Log, Record,
        file::{OpenError, Peek},
    },
    store::{self, LoadRequest, ShardRow, Store},
    types::{AccountId, Anchor, AssetId, Position, ShardId, Timestamp},
};

mod begin;
pub mod diff;
mod machine;
mod source;
mod targets;
#[cfg(test)]
mod tests;
mod values;

use machine::Machine;
use source::Feed;
pub use values::{Batch, Began, Counts, Decision, Item, Letter, Until};

/// Packed entries that are kept for REVERSE, where the journal can be asked for the others.
pub const TARGETS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Dead letters read at a time; each may have a record of the greatest size.
const LETTERS_PAGE: usize = 64;

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log file.
    #[error(transparent)]
    File(#[from] OpenError),
    /// Neither log nor journal reach back far enough.
    #[error("{0}")]
    OutOfReach(String),
    /// What was asked for lies beyond what there is.
    #[error("{0}")]
    Beyond(String),
    /// Log and store do not belong together, or the journal is damaged where it is needed.
    #[error("{0}")]
    Differs(String),
}

/// Where the records are.
#[derive(Clone)]
pub enum Source {
    /// Kafka, or the log of this process.
    Log(Log),
    /// The log file of `axs dev`, which may be running.
    File(Peek),
}

/// What a shard is replayed from.
#[derive(Clone)]
pub struct Sources {
    /// Its records.
    pub source: Source,
    /// Journal and dead letters; the log file has its own.
    pub store: Option<Store>,
}

/// A replay under way, and its state so far.
pub struct Replay {
    sources: Sources,
    shard: ShardId,
    machine: Machine,
    began: Began,
    /// The state at the beginning is behind what was asked for already.
    is_over: bool,
    feed: Option<Feed>,
    /// Read, not applied.
    left: Vec<Item>,
    batch: Batch,
    /// The last record that was applied, if a part of the log ended with it.
    last: Option<Record>,
}

/// The dead letters stored from a position on.
async fn letters(
    store: &Store,
    shard: ShardId,
    from: Position,
) -> Result<BTreeSet<Position>, Error> {
    let (mut found, mut next) = (BTreeSet::new(), from);
    loop {
        let page = store.dead_letters(shard, next, LETTERS_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        next = last.position.next();
        found.extend(page.iter().map(|letter| letter.position));
    }
}

/// The row of a shard.
///
/// # Errors
///
/// PostgreSQL did not answer, or there is no such shard.
pub async fn row(store: &Store, shard: ShardId) -> Result<ShardRow, Error> {
    let rows = store.shard_rows().await?;
    let row = rows.into_iter().find(|row| row.shard == shard);
    row.ok_or_else(|| Error::OutOfReach(format!("shard {shard} has no row in `shard_position`")))
}

/// Replays a shard from its beginning up to a position, and compares nothing.
///
/// # Errors
///
/// See [`Error`].
pub async fn shard(
    sources: &Sources,
    shard: ShardId,
    until: Until,
    mut on_batch: impl FnMut(&Batch),
) -> Result<Replay, Error> {
    let mut replay = Replay::open(sources, shard, until).await?;
    while let Some(batch) = replay.step(until).await? {
        on_batch(batch);
    }
    Ok(replay)
}

impl Replay {
    /// Builds the state at the beginning of the log, or where it ends already.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn open(sources: &Sources, shard: ShardId, until: Until) -> Result<Self, Error> {
        let begin = begin::begin(sources, shard, until).await?;
        let bytes_max = match sources.store {
            Some(_) => TARGETS_BYTES_MAX,
            // Packed they are smaller than the file that they are from.
            None => usize::MAX,
        };
        let began = Began {
            at: begin.next,
            from_journal: begin.from_journal,
        };
        let machine = Machine::new(begin.engine, begin.next, begin.last_result, bytes_max);
        Ok(Self {
            sources: sources.clone(),
            shard,
            machine,
            began,
            is_over: begin.is_over,
            feed: None,
            left: Vec::new(),
            batch: Batch::default(),
            last: None,
        })
    }

    /// Reads and applies more; `None`: it stands where `until` says. Called again with a later one,
    /// it goes on.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn step(&mut self, until: Until) -> Result<Option<&Batch>, Error> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.decisions.clear();
        batch.entries.clear();
        batch.letters.clear();
        batch.items.clear();
        if self.is_over || self.stands_at(until) {
            return Ok(None);
        }
        if self.left.is_empty() && !self.read(until).await? {
            return Ok(None);
        }
        let missing = self.machine.needs(&self.left);
        if let (Some(store), false) = (&self.sources.store, missing.is_empty()) {
            let request = LoadRequest {
                targets: missing,
                ..LoadRequest::default()
            };
            let loaded = store.load(self.shard, &request).await?;
            self.machine.bring(loaded.targets);
        }
        let items = std::mem::take(&mut self.left);
        let taken = self.machine.apply(&items, until, &mut batch);
        batch.items = items;
        self.left = batch.items.split_off(taken);
        if taken == 0 {
            self.is_over = matches!(until, Until::Time(_));
            return Ok(None);
        }
        self.batch = batch;
        Ok(Some(&self.batch))
    }

    fn stands_at(&self, until: Until) -> bool {
        matches!(until, Until::Position(end) if self.machine.next >= end)
    }

    /// Reads the next records; false: there are none.
    async fn read(&mut self, until: Until) -> Result<bool, Error> {
        loop {
            let next = self.machine.next;
            if let Some(feed) = &mut self.feed {
                if let Some(fed) = feed.next().await? {
                    self.left = fed.items;
                    self.last = Some(fed.last);
                    return Ok(true);
                }
                if next < feed.end {
                    let (shard, end) = (self.shard, feed.end);
                    return Err(Error::Differs(format!(
                        "the log of shard {shard} has no records between {next} and {end}"
                    )));
                }
                self.feed = None;
            }
            let end = match until {
                Until::Position(end) => end,
                Until::Time(_) => self.end().await?,
            };
            if next >= end {
                return Ok(false);
            }
            // A dead letter is stored with the flush that moves the row beyond it, so that those
            // below a position of the row are there by now.
            self.read_letters().await?;
            self.feed = Some(self.sources.source.feed(self.shard, next, end));
        }
    }

    async fn read_letters(&mut self) -> Result<(), Error> {
        let next = self.machine.next;
        let found = match (&self.sources.source, &self.sources.store) {
            (Source::File(peek), _) => peek.parked(self.shard),
            (Source::Log(_), Some(store)) => letters(store, self.shard, next).await?,
            (Source::Log(_), None) => BTreeSet::new(),
        };
        self.machine.add_letters(found);
        Ok(())
    }

    /// Behind the last record of the log.
    ///
    /// # Errors
    ///
    /// The log did not answer.
    pub async fn end(&self) -> Result<Position, Error> {
        let (_, end) = self.sources.source.range(self.shard).await?;
        Ok(Position::new(self.machine.next.generation(), end))
    }

    /// Where it began.
    pub fn began(&self) -> &Began {
        &self.began
    }

    /// First position not applied.
    pub fn next_position(&self) -> Position {
        self.machine.next
    }

    /// What was read and applied.
    pub fn counts(&self) -> &Counts {
        &self.machine.counts
    }

    /// Of all balances and accounts.
    pub fn state_hash(&self) -> u128 {
        self.machine.engine.state_hash()
    }

    /// Sequence numbers applied. What was sealed before a beginning by the journal is not in it:
    /// the journal does not know.
    pub fn applied(&self) -> &IntervalSet {
        self.machine.engine.applied()
    }

    /// `applied_at` of the last outcome.
    pub fn applied_at(&self) -> Timestamp {
        self.machine.engine.applied_at()
    }

    /// The greatest TICK applied, since the beginning.
    pub fn passed_at(&self) -> Timestamp {
        self.machine.engine.passed_at()
    }

    /// Position of the last outcome, or [`Position::NONE`].
    pub fn last_result(&self) -> Position {
        self.machine.last_result
    }

    /// Whether the last record applied is the one of this anchor; `None`: no record was applied, or
    /// it ended within what was read.
    pub fn is_anchored_by(&self, anchor: Anchor) -> Option<bool> {
        let last = self.last.as_ref()?;
        (self.left.is_empty() && last.position.next() == self.machine.next)
            .then(|| last.is_anchored_by(anchor))
    }

    /// Every account, by id; clearing accounts only with a balance.
    pub fn accounts(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = self.machine.engine.accounts().collect();
        accounts.sort_unstable_by_key(|account| account.id);
        accounts
    }

    /// An account.
    pub fn account(&self, id: AccountId) -> Option<Account> {
        self.machine.engine.account(id)
    }

    /// The balances of an account, by asset.
    pub fn balances_of(&self, account: AccountId) -> impl Iterator<Item = Balance> + use<> {
        self.machine.engine.balances_of(account)
    }

    /// A balance.
    pub fn balance(&self, account: AccountId, asset: AssetId) -> Option<Balance> {
        self.machine.engine.balance(account, asset)
    }
}
