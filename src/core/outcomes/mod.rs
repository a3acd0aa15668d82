//! Waiting for outcomes: recent ones in a bounded cache, fed by the tail of the results; who waits
//! long is looked up in the journal, in batches at a bounded rate. The tail is a hint only: while
//! it is away, lookups carry on.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::core::{
    log::Log,
    proto::CommandResult,
    registry::Registry,
    result::{self, Published},
    store::{Store, StoredResult},
    types::{CommandId, Position, ShardId},
};

mod lookup;
mod waiters;

use waiters::{Registered, Waiters};

/// A command that was accepted just now is looked up in the journal when the tail was silent for so
/// long.
pub const LOOKUP_AFTER: Duration = Duration::from_millis(500);

/// What ended a wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Waited {
    /// It was applied or rejected.
    Outcome(Arc<CommandResult>),
    /// It is a dead letter, for this reason.
    Parked(String),
}

/// How a command came to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Accepted just now: the journal cannot have it yet.
    New,
    /// Accepted before: the journal is asked at once.
    Before,
}

/// The outcomes that this process has seen and the calls that wait for others. Cheap to clone.
#[derive(Clone)]
pub struct Outcomes {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    registry: Registry,
    waiters: Mutex<Waiters>,
    /// A lookup may be due earlier than it was.
    due: Notify,
    slots: Arc<Semaphore>,
    /// Counts the batches that the tail brought.
    moved: watch::Sender<u64>,
    /// The greatest position of a result that the tail brought, by shard.
    latest: Vec<AtomicI64>,
    stop: CancellationToken,
}

/// Places for commands that wait; dropping it gives them back.
#[derive(Debug)]
pub struct Slots(OwnedSemaphorePermit);

impl Slots {
    /// One of them.
    pub fn take_one(&mut self) -> Option<Self> {
        self.0.split(1).map(Self)
    }
}

impl Outcomes {
    /// Starts to follow the results. At most `waiters_max` commands are waited for at a time.
    pub fn start(
        store: Store,
        log: Log,
        registry: Registry,
        shards: u16,
        waiters_max: usize,
    ) -> Self {
        // Of a counter that begins at 1 nobody sees the rise.
        for name in [
            "axs_results_tail_failures_total",
            "axs_outcome_lookups_total",
        ] {
            metrics::counter!(name).increment(0);
        }
        let inner = Arc::new(Inner {
            store,
            registry,
            waiters: Mutex::new(Waiters::default()),
            due: Notify::new(),
            slots: Arc::new(Semaphore::new(waiters_max.min(Semaphore::MAX_PERMITS))),
            moved: watch::Sender::new(0),
            latest: (0..shards)
                .map(|_| AtomicI64::new(Position::NONE.0))
                .collect(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(lookup::follow_tail(inner.clone(), log));
        tokio::spawn(lookup::look_up(inner.clone()));
        Self { inner }
    }

    /// Ends its tasks; waits end at their deadlines.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// Places for `count` commands to wait, or `None` when too many wait already.
    pub fn reserve(&self, count: usize) -> Option<Slots> {
        let count = u32::try_from(count).ok()?;
        let permit = self.inner.slots.clone().try_acquire_many_owned(count);
        permit.ok().map(Slots)
    }

    /// The outcome of a command, if it is a recent one.
    pub fn recent(&self, id: CommandId) -> Option<Arc<CommandResult>> {
        self.inner.waiters().recent(id)
    }

    /// Waits for the outcome of an accepted command; `None` at the deadline.
    pub async fn wait(&self, id: CommandId, known: Known, deadline: Instant) -> Option<Waited> {
        let look_up_at = match known {
            Known::New => Instant::now() + LOOKUP_AFTER,
            Known::Before => Instant::now(),
        };
        // Registering and looking into the cache are one step: no outcome slips through between.
        let (registered, is_next) = {
            let mut waiters = self.inner.waiters();
            let registered = waiters.register(id, look_up_at);
            (registered, waiters.next_due() == Some(look_up_at))
        };
        let (number, receiver) = match registered {
            Registered::Recent(outcome) => return Some(Waited::Outcome(outcome)),
            Registered::Waiter(number, receiver) => (number, receiver),
        };
        if is_next {
            self.inner.due.notify_one();
        }
        let _leave = Leave {
            inner: &self.inner,
            id,
            number,
        };
        timeout_at(deadline, receiver).await.ok()?.ok()
    }

    /// Changes whenever results became known that were not known before.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.inner.moved.subscribe()
    }

    /// The greatest position of a result of this shard that became known since the start.
    pub fn latest(&self, shard: ShardId) -> Position {
        let latest = self.inner.latest.get(usize::from(shard.0));
        Position(latest.map_or(Position::NONE.0, |at| at.load(Ordering::Relaxed)))
    }

    /// An outcome from the journal, as the API shows it.
    pub async fn render(&self, stored: &StoredResult) -> CommandResult {
        self.inner.render(stored).await
    }
}

/// Ends a registration, whether or not it was answered.
struct Leave<'a> {
    inner: &'a Inner,
    id: CommandId,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.inner.waiters().leave(self.id, self.number);
    }
}

impl Inner {
    /// The tail brought this result.
    fn tail_brought(&self, result: &Published) {
        if let Some(latest) = self.latest.get(usize::from(result.shard().0)) {
            latest.fetch_max(result.position().0, Ordering::Relaxed);
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters
            .lock()
            .expect("nothing panics while it is held")
    }

    async fn render(&self, stored: &StoredResult) -> CommandResult {
        let mut assets = self.registry.assets();
        let named = stored.entries.iter().map(|entry| entry.asset);
        let rejected = stored
            .outcome
            .reject
            .as_ref()
            .and_then(|reject| reject.asset);
        if named
            .chain(rejected)
            .any(|asset| assets.by_id(asset).is_none())
        {
            assets = self.registry.refresh().await;
        }
        result::render(
            stored.epoch,
            &stored.outcome,
            &stored.entries,
            &stored.label,
            stored.previous_position,
            &assets,
        )
    }
}
