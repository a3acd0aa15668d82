//! The leader of one shard, sans-I/O: a plain struct that is told what happened ([`Input`]) and says
//! what to do ([`Output`]). The driver ([`crate::core::consumer`]) connects it to log, store and
//! cache; the simulation drives the same struct. Every decision of leadership, batching, loading,
//! flushing and publishing is made in here, and none reads a clock: time is the `now` of a step.
//!
//! - `lease`: taking over, renewing, giving up; `tenure`: what is in memory meanwhile; `intake`: from records to items, and what they need
//!   loaded; `batch`: applying items; `flush`: the pipeline to the store; `publish`: what follows a
//!   commit.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "simulation")]
use crate::core::canary;
use crate::core::{
    cache::Snapshot,
    log::{self, Record},
    store::{self, DeadLetterReason, Flush, Flushed, LoadRequest, Loaded, ShardState},
    types::{AccountId, Anchor, Epoch, Nonce, Position, ShardId},
};

mod batch;
mod flush;
mod intake;
mod lease;
mod publish;
mod tenure;

pub(in crate::core) use intake::Content;
use tenure::Tenure;

/// A moment of the driver's monotonic clock, since any fixed start.
pub type Mono = Duration;

/// First pause before something that failed is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Without one good fetch or publication for so long, the shard is given up for another process.
const LOG_AWAY_MAX: Duration = Duration::from_secs(10);
/// Flushes whose results wait for publication; above, no further flush starts.
const UNPUBLISHED_FLUSHES_MAX: usize = 8;
/// `published_to` is stored by itself once nothing else stores it for so long.
const MARK_PUBLISHED_AFTER: Duration = Duration::from_millis(500);
/// A flush that takes longer than this part of the lease halves the batches: its leader must neither
/// lose the lease nor be late to renew it while the store is busy.
const SLOW_FLUSH_PART: u32 = 4;
/// One that takes less than this part lets them grow again.
const QUICK_FLUSH_PART: u32 = 8;
/// Batches are not made smaller than this.
const BATCH_COUNT_MIN: usize = 16;
/// Content hashes of outcomes kept to compare duplicates with.
const RECENT_HASHES_MAX: usize = 16_384;
/// Content hashes of older outcomes looked up in one load.
const HASH_CHECKS_MAX: usize = 256;
/// So many dead letters ...
const DEAD_LETTERS_MAX: usize = 100;
/// ... among so many records stop the shard: a broken program must not empty the log into them.
const DEAD_LETTERS_WINDOW: i64 = 10_000;

const _: () = assert!(RETRY_MIN.as_millis() < RETRY_MAX.as_millis());
const _: () = assert!((DEAD_LETTERS_MAX as i64) < DEAD_LETTERS_WINDOW);

/// Limits of a leader; see [`crate::core::config::Consume`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Most records of one flush.
    pub batch_count_max: usize,
    /// Most bytes of records of one flush.
    pub batch_bytes_max: usize,
    /// A batch gathers for so long from its first record.
    pub batch_age_max: Duration,
    /// Flushes start at least so far apart.
    pub flush_interval_min: Duration,
    /// A lease runs for so long without a renewal.
    pub lease_ttl: Duration,
    /// Most accounts resident; dirty ones stay.
    pub accounts_max: usize,
    /// The log is the file of `axs dev`, which carries records that stand for tables.
    pub embedded: bool,
}

/// Names one request of a leader; an answer to a request it gave up is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// This process should lead the shard.
    Lead,
    /// This process should hand the shard over: finish, publish, release.
    Drain,
    /// Time passed.
    Tick,
    /// `None`: another leader's lease runs.
    Acquired(RequestId, Result<Option<ShardState>, store::Error>),
    /// The lease was prolonged, or not.
    Renewed(RequestId, Result<(), store::Error>),
    /// The lease was ended, or not.
    Released(RequestId, Result<(), store::Error>),
    /// The log stands at the position, or refuses to.
    Opened(RequestId, Result<(), log::Error>),
    /// The next records; none: nothing came for a while.
    Fetched(RequestId, Result<Vec<Record>, log::Error>),
    /// What was asked for.
    Loaded(RequestId, Result<Loaded, store::Error>),
    /// Committed, or not.
    Flushed(RequestId, Result<Flushed, store::Error>),
    /// So many more results were acknowledged in order; then one failed, if there is an error.
    Published(RequestId, usize, Option<log::Error>),
    /// Stored results were published again below this position; then one failed, if it is an error.
    Republished(RequestId, Position, Option<String>),
    /// `published_to` was stored, or not.
    MarkedPublished(RequestId, Result<(), store::Error>),
}

/// What to do. Every variant with an id is answered by the input of the same name.
#[derive(Debug)]
pub enum Output {
    /// Take the shard over.
    Acquire {
        id: RequestId,
        mine: Option<Nonce>,
        ttl: Duration,
    },
    /// Prolong the lease.
    Renew {
        id: RequestId,
        epoch: Epoch,
        nonce: Nonce,
        ttl: Duration,
    },
    /// End the lease.
    Release {
        id: RequestId,
        epoch: Epoch,
        nonce: Nonce,
    },
    /// Read the log from here, as leader of this epoch; the record before hashes to `anchor`.
    Open {
        id: RequestId,
        epoch: Epoch,
        from: Position,
        anchor: Option<Anchor>,
    },
    /// Read on.
    Fetch {
        id: RequestId,
        count_max: usize,
        bytes_max: usize,
    },
    /// Load with one query.
    Load { id: RequestId, request: LoadRequest },
    /// Commit with one statement.
    Flush {
        id: RequestId,
        flush: Arc<Flush>,
        ttl: Duration,
    },
    /// Publish the results of a committed flush, then its dead letters, but for the first `skip`.
    Publish {
        id: RequestId,
        flush: Arc<Flush>,
        skip: usize,
    },
    /// Publish the stored results and dead letters of these positions again.
    Republish {
        id: RequestId,
        from: Position,
        to: Position,
    },
    /// Store how far results are published.
    MarkPublished {
        id: RequestId,
        epoch: Epoch,
        nonce: Nonce,
        to: Position,
    },
    /// Write to the cache; not answered.
    Snapshot {
        epoch: Epoch,
        snapshots: Vec<Snapshot>,
    },
    /// Write these to the cache as the store has them: what we know may be out of date.
    Refresh { accounts: Vec<AccountId> },
    /// Stop reading the log: the memory is gone.
    Close,
    /// Somebody should look at this.
    Alarm(String),
    /// Not the leader any more.
    StepDown(Why),
}

/// Why a leader stepped down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was asked to.
    Drained,
    /// Another process leads.
    LeaseLost,
    /// Another process led when we tried.
    Held,
    /// The log could neither be read nor written for a while.
    LogAway(String),
    /// Needs an operator; this process does not try again.
    Stopped(String),
}

/// What a leader is doing, for metrics and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not leading and not trying.
    Idle,
    /// Trying to take over.
    Acquiring,
    /// Has the lease; the log is being opened.
    Opening,
    /// Applies commands.
    Leading,
    /// Hands over.
    Draining,
    /// Needs an operator.
    Stopped,
}

/// Figures of a leader at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Of its lease.
    pub epoch: Option<Epoch>,
    /// First position not committed.
    pub flushed_to: Option<Position>,
    /// First position not published.
    pub published_to: Option<Position>,
    /// When the last flush was committed.
    pub last_flush_at: Option<Mono>,
    /// Accounts in memory.
    pub accounts_resident: usize,
    /// Records read and not committed.
    pub records_unflushed: usize,
}

/// The owner of one shard.
pub struct Leader {
    shard: ShardId,
    config: Config,
    phase: Phase,
    requests: u64,
    /// Of our last take-over: lets us take our own lease over again.
    nonce: Option<Nonce>,
    acquire: Option<(RequestId, Mono)>,
    release: Option<RequestId>,
    retry: Retry,
    /// Everything that is thrown away with the leadership.
    tenure: Option<Box<Tenure>>,
    /// The positions that become dead letters without being looked at; outlives a tenure.
    parked: BTreeMap<Position, Parked>,
    refusals: Option<Refusals>,
    /// Most records of the next flush: as many as the store took in good time.
    batch_count: usize,
    /// Positions of the latest dead letters; outlives a tenure too.
    dead_letters: VecDeque<Position>,
    last_flush_at: Option<Mono>,
    #[cfg(feature = "simulation")]
    kept: Option<crate::core::engine::Engine>,
}

/// A record that becomes a dead letter when it is read again.
#[derive(Clone, Copy, Debug)]
struct Parked {
    reason: DeadLetterReason,
    /// Of the record: another one may stand there once the log lost its end. `None`: whatever it is.
    anchor: Option<Anchor>,
}

/// How often a flush from one position was refused with the fence intact.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    from: Position,
    /// Refused twice: flush record by record below this position.
    single_below: Option<Position>,
}

/// When to try again, and the next pause.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    at: Option<Mono>,
    pause: Duration,
}

impl Retry {
    fn after_failure(&mut self, now: Mono) {
        self.pause = (self.pause * 2).clamp(RETRY_MIN, RETRY_MAX);
        self.at = Some(now + self.pause);
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn is_due(&self, now: Mono) -> bool {
        self.at.is_none_or(|at| now >= at)
    }
}

impl Leader {
    /// A leader that does nothing until [`Input::Lead`].
    pub fn new(shard: ShardId, config: Config) -> Self {
        assert!(
            config.batch_count_max > 0 && config.batch_bytes_max > 0,
            "a batch holds a record"
        );
        let batch_count = config.batch_count_max;
        Self {
            shard,
            config,
            phase: Phase::Idle,
            requests: 0,
            nonce: None,
            acquire: None,
            release: None,
            retry: Retry::default(),
            tenure: None,
            parked: BTreeMap::new(),
            refusals: None,
            batch_count,
            dead_letters: VecDeque::new(),
            last_flush_at: None,
            #[cfg(feature = "simulation")]
            kept: None,
        }
    }

    /// Takes one input and says what to do; then [`Leader::wake_at`] says when to come again.
    pub fn step(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Lead => self.on_lead(now, out),
            Input::Drain => self.on_drain(out),
            Input::Tick => {}
            Input::Acquired(id, answer) => self.on_acquired(now, id, answer, out),
            Input::Renewed(id, answer) => self.on_renewed(now, id, answer, out),
            Input::Released(id, _) => self.on_released(id, out),
            Input::Opened(id, answer) => self.on_opened(now, id, answer, out),
            Input::Fetched(id, answer) => self.on_fetched(now, id, answer, out),
            Input::Loaded(id, answer) => self.on_loaded(now, id, answer),
            Input::Flushed(id, answer) => self.on_flushed(now, id, answer, out),
            Input::Published(id, count, error) => self.on_published(now, id, count, error),
            Input::Republished(id, to, error) => self.on_republished(now, id, to, error),
            Input::MarkedPublished(id, answer) => self.on_marked_published(now, id, answer, out),
        }
        self.advance(now, out);
    }

    /// The moment at which [`Input::Tick`] is wanted, if nothing happens before.
    pub fn wake_at(&self) -> Option<Mono> {
        let tenure = self
            .tenure
            .as_deref()
            .map(|tenure| tenure.wake_at(&self.config));
        [self.retry.at, tenure].into_iter().flatten().min()
    }

    /// Figures for metrics and health.
    pub fn status(&self) -> Status {
        let tenure = self.tenure.as_deref();
        Status {
            phase: self.phase,
            epoch: tenure.map(|tenure| tenure.epoch),
            flushed_to: tenure.map(|tenure| tenure.flushed_to),
            published_to: tenure.map(|tenure| tenure.published_to),
            last_flush_at: self.last_flush_at,
            accounts_resident: tenure.map_or(0, |tenure| tenure.engine.accounts_resident()),
            records_unflushed: tenure.map_or(0, Tenure::records_unflushed),
        }
    }

    /// Does everything that can be done now.
    fn advance(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.tenure.is_none() {
            self.try_acquire(now, out);
            return;
        }
        if self.lease_ran_out(now, out) || self.log_is_away(now, out) {
            return;
        }
        if matches!(self.phase, Phase::Leading | Phase::Draining) {
            self.plan_and_apply(now, out);
            if self.tenure.is_none() {
                return;
            }
            self.start_flush(now, out);
            self.start_publish(now, out);
            self.start_fetch(now, out);
            self.finish_drain(now, out);
        }
        self.start_renewal(now, out);
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Throws the memory away. There is no repair: what was not committed is read again.
    fn drop_memory(&mut self, out: &mut Vec<Output>) {
        if let Some(tenure) = self.tenure.take() {
            out.push(Output::Close);
            self.keep(*tenure);
        }
    }

    /// Only where the simulation has switched the guard off: goes on with what was refused.
    #[cfg(feature = "simulation")]
    fn keep(&mut self, tenure: Tenure) {
        self.kept = canary::is_off(canary::Guard::DropOnRefusal).then_some(tenure.engine);
    }

    #[cfg(not(feature = "simulation"))]
    #[expect(clippy::unused_self, reason = "the simulation's build keeps it")]
    fn keep(&mut self, _: Tenure) {}

    fn stop(&mut self, why: String, out: &mut Vec<Output>) {
        self.drop_memory(out);
        self.phase = Phase::Stopped;
        self.retry = Retry::default();
        out.push(Output::Alarm(format!(
            "shard {} stopped: {why}",
            self.shard
        )));
        out.push(Output::StepDown(Why::Stopped(why)));
    }
}
