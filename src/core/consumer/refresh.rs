//! Keeps the cache true for one led shard: writes the snapshots of each commit, owes those that it
//! could not write, and passes over all accounts of the shard after a take-over and now and then.
//! Without that pass an idle account would stay stale for ever once a cache lost or kept an old
//! value: a leader that died between commit and cache, a cache that failed over to an older state.

use std::{collections::BTreeSet, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use crate::core::{
    cache::{Cache, Snapshot},
    store::Store,
    types::{AccountId, Epoch, ShardId},
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

/// What the driver tells.
pub(super) enum Told {
    /// This process leads now: what a former leader left out is ours to write.
    Leads,
    /// It does not any more.
    SteppedDown,
    /// Committed.
    Committed(Epoch, Vec<Snapshot>),
}

/// Runs until the driver hangs up.
pub(super) async fn run(
    shard: ShardId,
    store: Store,
    cache: Cache,
    mut told: mpsc::Receiver<Told>,
) {
    let mut refresh = Refresh::new(shard, store, cache);
    loop {
        let due = refresh.due;
        tokio::select! {
            biased;
            told = told.recv() => match told {
                Some(told) => refresh.on_told(told).await,
                None => return,
            },
            () = tokio::time::sleep_until(due) => refresh.step().await,
        }
    }
}

struct Refresh {
    shard: ShardId,
    store: Store,
    cache: Cache,
    is_leader: bool,
    /// Their latest snapshot was not written.
    owed: BTreeSet<AccountId>,
    /// A pass is under way: the accounts behind this one are still to do.
    pass: Option<AccountId>,
    due: Instant,
}

impl Refresh {
    fn new(shard: ShardId, store: Store, cache: Cache) -> Self {
        let due = Instant::now() + PASS_INTERVAL;
        Self {
            shard,
            store,
            cache,
            is_leader: false,
            owed: BTreeSet::new(),
            pass: None,
            due,
        }
    }

    async fn on_told(&mut self, told: Told) {
        match told {
            Told::Leads => {
                self.is_leader = true;
                self.start_pass(Instant::now());
            }
            Told::SteppedDown => {
                self.is_leader = false;
                self.owed.clear();
                self.pass = None;
                self.due = Instant::now() + PASS_INTERVAL;
            }
            Told::Committed(epoch, snapshots) => self.write(epoch, snapshots).await,
        }
    }

    async fn write(&mut self, epoch: Epoch, snapshots: Vec<Snapshot>) {
        if let Err(error) = self.cache.write(self.shard, epoch, &snapshots).await {
            self.failed(&error.to_string());
            self.owe(snapshots.into_iter().map(|snapshot| snapshot.account));
        }
    }

    fn owe(&mut self, accounts: impl Iterator<Item = AccountId>) {
        self.owed.extend(accounts);
        if self.owed.len() > OWED_MAX {
            self.owed.clear();
            self.pass = Some(AccountId(0));
        }
    }

    fn start_pass(&mut self, at: Instant) {
        self.pass = Some(AccountId(0));
        self.due = at;
    }

    fn failed(&mut self, error: &str) {
        tracing::debug!(shard = %self.shard, error, "the cache was not written");
        metrics::counter!("axs_cache_write_failures_total").increment(1);
        self.due = Instant::now() + RETRY_INTERVAL;
    }

    /// One page of what is owed, else of the pass, else the next pass begins.
    async fn step(&mut self) {
        if !self.is_leader {
            self.due = Instant::now() + PASS_INTERVAL;
            return;
        }
        let owed: Vec<AccountId> = self.owed.iter().take(PAGE).copied().collect();
        let outcome = match (owed.is_empty(), self.pass) {
            (false, _) => self.fill(&owed).await.map(|()| {
                owed.iter().for_each(|account| {
                    self.owed.remove(account);
                });
            }),
            (true, Some(behind)) => self.pass_page(behind).await,
            (true, None) => {
                self.start_pass(Instant::now());
                return;
            }
        };
        match outcome {
            Err(error) => self.failed(&error),
            Ok(()) if !self.owed.is_empty() => self.due = Instant::now(),
            Ok(()) if self.pass.is_some() => self.due = Instant::now() + PAGE_INTERVAL,
            Ok(()) => self.due = Instant::now() + PASS_INTERVAL,
        }
    }

    async fn pass_page(&mut self, behind: AccountId) -> Result<(), String> {
        let page = self.store.accounts_behind(self.shard, behind, PAGE).await;
        let page = page.map_err(|error| error.to_string())?;
        self.fill(&page).await?;
        self.pass = page.last().copied().filter(|_| page.len() == PAGE);
        Ok(())
    }

    /// From the store, with the shard's epoch of the same statement: a newer value stays.
    async fn fill(&self, accounts: &[AccountId]) -> Result<(), String> {
        let stored = self
            .store
            .balances(accounts)
            .await
            .map_err(|error| error.to_string())?;
        let stored: Vec<_> = stored.into_iter().flatten().collect();
        let Some(epoch) = stored.first().map(|balances| balances.epoch) else {
            return Ok(());
        };
        let snapshots: Vec<Snapshot> = stored.iter().map(Snapshot::from).collect();
        let written = self.cache.write(self.shard, epoch, &snapshots).await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }
}
