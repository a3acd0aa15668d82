//! What keeps the cache true, sans-I/O: the snapshots of each commit are written; those that could
//! not be are owed; after a take-over, when the cache lost something, and now and then, all accounts
//! of the shard are passed over. Without that pass an idle account would stay stale for ever once a
//! cache lost or kept an old value: a leader that died between commit and cache, a cache that failed
//! over to an older state, a late write to one that was emptied.
//!
//! Each write carries a pulse, and an idle leader writes one all the same: so it learns soon that the
//! cache was emptied or fell back.

use std::{collections::BTreeSet, time::Duration};

use crate::core::{
    cache::{Pulse, Snapshot, Written},
    canary::{self, Guard},
    leader::Mono,
    types::{AccountId, Epoch},
};

/// Accounts of one statement and one script call.
const PAGE: usize = 500;
/// Accounts owed by name; above, all are passed over.
const OWED_MAX: usize = 50_000;
/// A pass over all accounts takes a page so often.
const PAGE_INTERVAL: Duration = Duration::from_millis(100);
/// After a failure the cache is left alone for so long.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A pass begins at least so often.
const PASS_INTERVAL: Duration = Duration::from_secs(600);
/// What the cache lost is noticed so soon.
const PULSE_INTERVAL: Duration = Duration::from_secs(1);

/// What the driver tells.
#[derive(Debug)]
pub(in crate::core) enum Told {
    /// This process leads now: what a former leader left out is ours to write.
    Leads(Epoch),
    /// It does not any more.
    SteppedDown,
    /// Committed.
    Committed(Epoch, Vec<Snapshot>),
    /// Committed too slowly to be sent as they were then.
    Changed(Vec<AccountId>),
}

/// What happened. All but `Told` and `Due` answer an output.
#[derive(Debug)]
pub(in crate::core) enum Input {
    /// By the driver; only while nothing is under way.
    Told(Told),
    /// The moment of [`Refresh::due`]; only while nothing is under way.
    Due,
    /// The cache took the snapshots.
    Written(Written),
    /// Accounts of the shard, by id.
    Listed(Vec<AccountId>),
    /// As the store has them; no epoch: none of them exists.
    Read {
        epoch: Option<Epoch>,
        snapshots: Vec<Snapshot>,
    },
    /// What was asked for could not be done.
    Failed(String),
}

/// What to do; answered before anything else may be told.
#[derive(Debug)]
pub(in crate::core) enum Output {
    /// Write to the cache.
    Write {
        epoch: Epoch,
        pulse: Option<Pulse>,
        snapshots: Vec<Snapshot>,
    },
    /// List accounts of the shard with ids above `behind`.
    List { behind: AccountId, limit: usize },
    /// Read accounts from the store, with the shard's epoch of the same statement.
    Read { accounts: Vec<AccountId> },
}

/// What is under way.
#[derive(Clone, Debug)]
enum Work {
    /// The snapshots of a commit.
    Commit(Vec<AccountId>),
    /// Accounts that are owed.
    Owed(Vec<AccountId>),
    /// A page of the pass, and the account that the next one starts behind.
    Pass(Option<AccountId>),
    /// A pulse alone.
    Pulse,
}

/// Keeps the cache true for one shard, while this process leads it.
pub(in crate::core) struct Refresh {
    /// Of the lease, while we lead.
    epoch: Option<Epoch>,
    /// The last one of this epoch.
    pulse: u64,
    /// The last one that the cache took and has not lost.
    acknowledged: Option<u64>,
    /// That of the write under way, if it has one.
    carried: Option<u64>,
    /// Their latest snapshot was not written.
    owed: BTreeSet<AccountId>,
    /// A pass is under way: the accounts behind this one are still to do.
    pass: Option<AccountId>,
    /// When the next one begins, if nothing asks for it before.
    pass_at: Mono,
    due: Mono,
    work: Option<Work>,
}

impl Refresh {
    /// One that leads nothing.
    pub fn new(now: Mono) -> Self {
        Self {
            epoch: None,
            pulse: 0,
            acknowledged: None,
            carried: None,
            owed: BTreeSet::new(),
            pass: None,
            pass_at: now + PASS_INTERVAL,
            due: now + PASS_INTERVAL,
            work: None,
        }
    }

    /// When [`Input::Due`] is wanted.
    pub fn due(&self) -> Mono {
        self.due
    }

    /// Takes an input and says what to do, if anything.
    pub fn step(&mut self, now: Mono, input: Input) -> Option<Output> {
        match input {
            Input::Told(told) => self.on_told(now, told),
            Input::Due => self.on_due(now),
            Input::Listed(page) => {
                let next = page.last().copied().filter(|_| page.len() == PAGE);
                self.work = Some(Work::Pass(next));
                if page.is_empty() {
                    self.finish(now);
                    return None;
                }
                Some(Output::Read { accounts: page })
            }
            Input::Read {
                epoch: Some(epoch),
                snapshots,
            } => Some(self.write(epoch, snapshots)),
            Input::Written(written) => {
                self.acknowledged = self.carried.or(self.acknowledged);
                self.finish(now);
                if written.is_lost {
                    self.acknowledged = None;
                    self.pass = Some(AccountId(0));
                    self.due = now;
                }
                None
            }
            Input::Read { epoch: None, .. } => {
                self.finish(now);
                None
            }
            Input::Failed(_) => {
                self.due = now + RETRY_INTERVAL;
                if let Some(Work::Commit(accounts)) = self.work.take() {
                    self.owe(accounts);
                }
                None
            }
        }
    }

    fn on_told(&mut self, now: Mono, told: Told) -> Option<Output> {
        match told {
            Told::Leads(epoch) => {
                if self.epoch.replace(epoch) != Some(epoch) {
                    (self.pulse, self.acknowledged) = (0, None);
                }
                self.pass_at = now + PASS_INTERVAL;
                self.due = now + PULSE_INTERVAL;
                if !canary::is_off(Guard::CachePass) {
                    self.pass = Some(AccountId(0));
                    self.due = now;
                }
                None
            }
            Told::SteppedDown => {
                self.epoch = None;
                self.owed.clear();
                self.pass = None;
                self.due = now + PASS_INTERVAL;
                None
            }
            Told::Changed(accounts) => {
                self.owe(accounts);
                self.due = now;
                None
            }
            Told::Committed(epoch, snapshots) => {
                let accounts = snapshots.iter().map(|snapshot| snapshot.account);
                self.work = Some(Work::Commit(accounts.collect()));
                Some(self.write(epoch, snapshots))
            }
        }
    }

    /// What is read while somebody else leads already is theirs to keep the pulse of.
    fn write(&mut self, epoch: Epoch, snapshots: Vec<Snapshot>) -> Output {
        let is_ours = self.epoch == Some(epoch);
        self.pulse += u64::from(is_ours);
        self.carried = is_ours.then_some(self.pulse);
        Output::Write {
            epoch,
            pulse: self.carried.map(|number| Pulse {
                number,
                acknowledged: self.acknowledged,
            }),
            snapshots,
        }
    }

    /// One page of what is owed, else of the pass, else a pulse.
    fn on_due(&mut self, now: Mono) -> Option<Output> {
        let Some(epoch) = self.epoch else {
            self.due = now + PASS_INTERVAL;
            return None;
        };
        let owed: Vec<AccountId> = self.owed.iter().take(PAGE).copied().collect();
        if !owed.is_empty() {
            self.work = Some(Work::Owed(owed.clone()));
            return Some(Output::Read { accounts: owed });
        }
        if self.pass.is_none() && now < self.pass_at {
            self.work = Some(Work::Pulse);
            return Some(self.write(epoch, Vec::new()));
        }
        let behind = *self.pass.get_or_insert(AccountId(0));
        self.work = Some(Work::Pass(None));
        Some(Output::List {
            behind,
            limit: PAGE,
        })
    }

    /// What was under way is done.
    fn finish(&mut self, now: Mono) {
        match self.work.take() {
            None => {}
            // The next retry or pass stays due when it was.
            Some(Work::Commit(_)) => return,
            Some(Work::Owed(accounts)) => {
                for account in accounts {
                    self.owed.remove(&account);
                }
            }
            Some(Work::Pass(next)) => {
                self.pass = next;
                self.pass_at = now + PASS_INTERVAL;
            }
            Some(Work::Pulse) => {}
        }
        self.due = match (self.owed.is_empty(), self.pass) {
            (false, _) => now,
            (true, Some(_)) => now + PAGE_INTERVAL,
            (true, None) => now + PULSE_INTERVAL,
        };
    }

    fn owe(&mut self, accounts: Vec<AccountId>) {
        self.owed.extend(accounts);
        if self.owed.len() > OWED_MAX {
            self.owed.clear();
            self.pass = Some(AccountId(0));
        }
    }
}
