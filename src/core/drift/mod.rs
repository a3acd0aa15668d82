//! The drift detector: beside each leader, once a second, a bounded number of balances of its shard
//! is compared: the row in PostgreSQL with its last journal entry, the leader's memory and Redis
//! with the row. What two looks find, and what a trigger noted, becomes a row of table `drift`, an
//! alarm, and a BLOCK_ACCOUNT for the account; a value of Redis alone is written again.
//!
//! `plan` says what to look at and what a look means; `watch` carries that out for a shard; `block`
//! submits commands. It changes no balance, and a leader never waits for it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::core::{
    cache::Cache,
    engine::Balance,
    leader::Leader,
    log::Log,
    registry::Registry,
    store::{Store, postgres},
    types::{AccountId, Epoch, ShardId},
};

mod block;
pub mod plan;
mod watch;

use block::Blocker;
use watch::Watch;

pub use block::SOURCE;

/// Commits that wait to be told; more are not, their accounts change again.
const CHANGES_QUEUE_MAX: usize = 64;

/// The detector of a process. Cheap to clone.
#[derive(Clone)]
pub struct Detector {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    postgres: postgres::Store,
    cache: Option<Cache>,
    registry: Registry,
    blocker: Blocker,
    accounts_max: usize,
}

/// The driver's end of a detector: what changed goes in, questions come out.
pub struct Post {
    changes: mpsc::Sender<Vec<AccountId>>,
    questions: mpsc::Receiver<Question>,
}

/// Asks what a leader has flushed of some accounts.
pub struct Question {
    accounts: Vec<AccountId>,
    answer: oneshot::Sender<Option<(Epoch, Vec<Balance>)>>,
}

impl Question {
    /// Reads the leader's memory and changes nothing.
    pub fn answer(self, leader: &Leader) {
        // Whoever asked may be gone.
        let _ = self.answer.send(leader.flushed_balances(&self.accounts));
    }
}

impl Post {
    /// A commit changed these accounts. Told as long as there is room.
    pub fn changed(&self, accounts: Vec<AccountId>) {
        let _ = self.changes.try_send(accounts);
    }

    /// The next question; never, once the detector is gone.
    pub async fn question(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}

impl Detector {
    /// Looks at `accounts_max` accounts of each shard a second. `None`: it is switched off, or the
    /// tables are in memory, where there is nothing to compare.
    pub fn new(
        store: &Store,
        log: &Log,
        cache: Option<&Cache>,
        registry: &Registry,
        accounts_max: usize,
    ) -> Option<Self> {
        let Store::Postgres(postgres) = store else {
            return None;
        };
        (accounts_max > 0).then(|| Self {
            inner: Arc::new(Inner {
                store: store.clone(),
                postgres: postgres.clone(),
                cache: cache.cloned(),
                registry: registry.clone(),
                blocker: Blocker::new(store.clone(), log.clone()),
                accounts_max,
            }),
        })
    }

    /// Starts to look at a shard, whenever this process leads it; until the post is dropped.
    pub fn watch(&self, shard: ShardId) -> Post {
        let (changes, changed) = mpsc::channel(CHANGES_QUEUE_MAX);
        let (asks, questions) = mpsc::channel(1);
        tokio::spawn(Watch::new(shard, self.inner.clone(), asks).run(changed));
        Post { changes, questions }
    }

    /// Ends what it submits with.
    pub async fn stop(&self) {
        self.inner.blocker.stop().await;
    }
}
