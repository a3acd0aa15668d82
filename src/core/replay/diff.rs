//! A replay beside what is stored: the journal command by command, then, where the shard's row
//! stands at the replay's end, balances, accounts, hash and applied set, and the cache. Reads only.

use std::collections::{BTreeSet, VecDeque};

use super::{Batch, Decision, Error, Replay};
use crate::core::{
    assets::Assets,
    cache::Cache,
    command::{Command, hash},
    engine::{Account, Entry, Outcome},
    interval_set::IntervalSet,
    leader::Content,
    reconcile::{self, Finding, Kind, balance_of},
    store::{Store, StoredResult},
    types::{AccountId, CommandId, Position, ShardId},
};

mod state;

pub use state::Stand;

/// Differences that are kept; the others are counted.
pub const LISTED_MAX: usize = 50;
/// Results, commands or accounts read at a time.
const PAGE: usize = 1_000;

/// What differs between a replay and what is stored.
pub struct Diff {
    shard: ShardId,
    store: Store,
    assets: Assets,
    /// Positions below are not compared.
    from: Position,
    /// Nor are those from here on: what is in the log may not be applied yet.
    pub below: Position,
    journal: Journal,
    /// Differences found.
    pub total: u64,
    /// The first of them.
    pub listed: Vec<Finding>,
    /// Commands compared with the journal.
    pub commands: u64,
    /// What was compared at the end; `None`: the row does not stand there.
    pub state: Option<StateCounts>,
    /// What was compared with the cache.
    pub cache: Option<CacheCounts>,
}

/// What was compared with rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Balances.
    pub balances: u64,
    /// Accounts.
    pub accounts: u64,
}

/// What was compared with the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Balances of the same version.
    pub same: u64,
    /// Balances of another version: traffic, or what was not refreshed yet.
    pub other: u64,
    /// Accounts that the cache does not have.
    pub missing: u64,
}

/// The results of a shard in order, page by page.
struct Journal {
    page: VecDeque<StoredResult>,
    next: Position,
}

impl Diff {
    /// Compares from a position on, up to where the shard's row is known to have been.
    pub fn new(
        (store, assets): (Store, Assets),
        shard: ShardId,
        (from, below): (Position, Position),
    ) -> Self {
        Self {
            below,
            shard,
            store,
            assets,
            from,
            journal: Journal {
                page: VecDeque::new(),
                next: from,
            },
            total: 0,
            listed: Vec::new(),
            commands: 0,
            state: None,
            cache: None,
        }
    }

    fn found(&mut self, finding: Finding) {
        self.total += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(finding);
        }
    }

    fn compares(&self, position: Position) -> bool {
        (self.from..self.below).contains(&position)
    }

    fn at(&self, position: Position, stored: String, expected: String) -> Finding {
        Finding::new(Kind::Log, self.shard, stored, expected).position(position.0)
    }

    /// Compares what a step of the replay decided with the journal, and its commands with those
    /// that were accepted.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub async fn batch(&mut self, batch: &Batch) -> Result<(), Error> {
        for letter in &batch.letters {
            if self.compares(letter.position) {
                let expected = format!("{}: {}", letter.reason.code(), letter.message);
                let finding = self.at(letter.position, "no dead letter".into(), expected);
                self.found(finding);
            }
        }
        for (decision, entries) in batch.decided() {
            if self.compares(decision.outcome.position) {
                self.decision(decision, entries).await?;
            }
        }
        let commands = batch.items.iter().filter_map(|item| match &item.content {
            Content::Command(command) if self.compares(item.position) => {
                Some((item.position, command))
            }
            _ => None,
        });
        let commands: Vec<(Position, &Command)> = commands.collect();
        for page in commands.chunks(PAGE) {
            self.commands_of(page).await?;
        }
        Ok(())
    }

    async fn decision(&mut self, decision: &Decision, entries: &[Entry]) -> Result<(), Error> {
        let outcome = &decision.outcome;
        self.commands += 1;
        loop {
            let stored = self.peek().await?.map(|stored| stored.outcome.position);
            match stored {
                Some(at) if at < outcome.position => self.surplus(),
                Some(at) if at == outcome.position => break,
                _ => {
                    let finding = self
                        .at(
                            outcome.position,
                            "nothing in the journal".into(),
                            describe(outcome),
                        )
                        .command(outcome.id);
                    self.found(finding);
                    return Ok(());
                }
            }
        }
        let stored = self.journal.page.pop_front().expect("it was looked at");
        if let Some((stored, expected)) = difference(&self.assets, &stored, decision, entries) {
            let finding = self.at(outcome.position, stored, expected);
            self.found(finding.command(outcome.id));
        }
        Ok(())
    }

    /// The journal has a command that the log decides nothing of.
    fn surplus(&mut self) {
        let stored = self.journal.page.pop_front().expect("it was looked at");
        let outcome = &stored.outcome;
        let finding = self.at(
            outcome.position,
            describe(outcome),
            "nothing is decided there".into(),
        );
        self.found(finding.command(outcome.id));
    }

    async fn peek(&mut self) -> Result<Option<&StoredResult>, Error> {
        if self.journal.page.is_empty() {
            let results = self.store.results(self.shard, self.journal.next, PAGE);
            let page = results.await?;
            if let Some(last) = page.last() {
                self.journal.next = last.outcome.position.next();
            }
            self.journal.page = page.into();
        }
        Ok(self.journal.page.front())
    }

    /// Nothing more is decided below this position: what the journal has more is too much.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub async fn end(&mut self, next: Position) -> Result<(), Error> {
        let below = self.below;
        while let Some(stored) = self.peek().await?
            && stored.outcome.position < next.min(below)
        {
            self.surplus();
        }
        Ok(())
    }

    /// A record whose command nobody accepted is forged, or its row is gone.
    async fn commands_of(&mut self, page: &[(Position, &Command)]) -> Result<(), Error> {
        let ids: Vec<CommandId> = page.iter().filter_map(|(_, command)| command.id).collect();
        let stored = self.store.commands(&ids).await?;
        for (&(at, command), stored) in page.iter().zip(stored) {
            let (stored, expected) = match stored {
                _ if !hash::verify_hash(command) => (
                    "a record whose content hash is not that of its content",
                    "its hash",
                ),
                None => ("no command was accepted", "the record's command"),
                Some(stored) if stored.command.content_hash != command.content_hash => {
                    ("an accepted command with other content", "the record's")
                }
                Some(_) => continue,
            };
            let finding = self.at(at, stored.into(), expected.into());
            self.found(finding.command(command.id.expect("decoded with one")));
        }
        Ok(())
    }

    /// Compares the cache's balances of the same version.
    ///
    /// # Errors
    ///
    /// The cache did not answer.
    pub async fn cache(&mut self, replay: &Replay, cache: &Cache) -> Result<(), reconcile::Error> {
        let mut counts = CacheCounts::default();
        let accounts = replay.accounts();
        for page in accounts.chunks(PAGE) {
            let keys: Vec<_> = page
                .iter()
                .map(|account| (self.shard, account.id))
                .collect();
            let read = cache.read(&keys).await;
            let read = read.map_err(|error| reconcile::Error::Unavailable(error.to_string()))?;
            for snapshot in read {
                let Some(snapshot) = snapshot else {
                    counts.missing += 1;
                    continue;
                };
                for cached in &snapshot.balances {
                    let replayed = replay.balance(cached.account, cached.asset);
                    let Some(replayed) = replayed.filter(|it| it.version == cached.version) else {
                        counts.other += 1;
                        continue;
                    };
                    counts.same += 1;
                    let amounts = (replayed.available, replayed.frozen);
                    if amounts != (cached.available, cached.frozen) {
                        let (stored, expected) = (
                            balance_of(&self.assets, cached),
                            balance_of(&self.assets, &replayed),
                        );
                        let finding = Finding::new(Kind::Redis, self.shard, stored, expected)
                            .balance(cached.account.0, cached.asset.0)
                            .version(cached.version);
                        self.found(finding);
                    }
                }
            }
        }
        self.cache = Some(counts);
        Ok(())
    }
}

/// What became of a command, in a few words.
pub fn describe(outcome: &Outcome) -> String {
    match &outcome.reject {
        None => format!("command {} applied", outcome.id),
        Some(reject) => format!("command {} rejected: {:?}", outcome.id, reject.code),
    }
}

/// The first thing that is not the same: as stored, and as replayed.
fn difference(
    assets: &Assets,
    stored: &StoredResult,
    decision: &Decision,
    entries: &[Entry],
) -> Option<(String, String)> {
    let (was, is) = (&stored.outcome, &decision.outcome);
    let both = |stored: String, expected: String| Some((stored, expected));
    if was.id != is.id || was.reject != is.reject {
        let numbers = |outcome: &Outcome| match &outcome.reject {
            Some(reject) => {
                let (had, needed) = (reject.had.minor_units(), reject.needed.minor_units());
                let (leg, account) = (reject.leg, reject.account);
                format!(
                    "{}, leg {leg}, account {account}, had {had}, needed {needed}",
                    describe(outcome)
                )
            }
            None => describe(outcome),
        };
        return both(numbers(was), numbers(is));
    }
    let hex = |outcome: &Outcome| {
        let hash = outcome.content_hash.0;
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("content hash {digits}")
    };
    if was.content_hash != is.content_hash {
        return both(hex(was), hex(is));
    }
    if was.applied_at != is.applied_at {
        let (was, is) = (was.applied_at, is.applied_at);
        return both(format!("applied at {was}"), format!("applied at {is}"));
    }
    if (was.account, was.kind) != (is.account, is.kind) {
        let text = |outcome: &Outcome| format!("account {}, {:?}", outcome.account, outcome.kind);
        return both(text(was), text(is));
    }
    if stored.previous_position != decision.previous {
        let text = |at: Position| format!("the result before it at {at}");
        return both(text(stored.previous_position), text(decision.previous));
    }
    if stored.entries.len() != entries.len() {
        let text = |count: usize| format!("{count} entries");
        return both(text(stored.entries.len()), text(entries.len()));
    }
    let mut pairs = stored.entries.iter().zip(entries);
    let (was, is) = pairs.find(|(was, is)| was != is)?;
    both(entry(assets, was), entry(assets, is))
}

fn entry(assets: &Assets, entry: &Entry) -> String {
    let amount = |money: crate::core::types::Money| {
        reconcile::amount_of(assets, entry.asset.0, money.minor_units())
    };
    format!(
        "entry of leg {}, account {}, asset {}{}: available {} to {}, frozen {} to {}, version {}, \
         before it {}",
        entry.leg,
        entry.account,
        entry.asset,
        if entry.fallback { ", fallback" } else { "" },
        amount(entry.available_delta),
        amount(entry.available_after),
        amount(entry.frozen_delta),
        amount(entry.frozen_after),
        entry.version,
        entry.previous_position
    )
}
