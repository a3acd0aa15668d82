//! Drives one leader: carries its outputs to log, store and cache, and brings the answers back. It
//! decides nothing about balances or leadership.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Parts, Shards,
    metrics::{self, ShardMetrics},
    publish::{publish, republish},
    refresh::{self, Told},
};
use crate::core::{
    drift,
    leader::{Input, Leader, Output, RequestId, Why},
    log::Reader,
    store::{self, Flush},
    types::{Anchor, Nonce, Position, ShardId},
};

/// How long a fetch waits for a first record.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// A wake-up is never nearer than this, so that a leader with nothing to do cannot spin.
const WAKE_MIN: Duration = Duration::from_millis(1);
/// Without one, it looks around after so long.
const WAKE_MAX: Duration = Duration::from_secs(1);
/// Flushes whose snapshots wait for the cache.
const SNAPSHOT_QUEUE_MAX: usize = 16;
/// The gate holds others off for so long after its last renewal.
const GATE_TTL: Duration = Duration::from_millis(500);

/// What the coordinator tells a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Lead,
    Drain,
}

/// What a driver tells the coordinator, at most once for each order and each lost lease.
#[derive(Debug)]
pub(super) struct SteppedDown {
    pub shard: ShardId,
    pub why: Why,
}

type Answer = Pin<Box<dyn Future<Output = Input> + Send>>;
type Fetch = Pin<Box<dyn Future<Output = (Option<Reader>, Input)> + Send>>;

/// The driver of one shard; lives as long as the process.
pub(super) struct Driver {
    shard: ShardId,
    parts: Parts,
    leader: Leader,
    started: Instant,
    reader: Option<Reader>,
    fetch: Option<Fetch>,
    answers: FuturesUnordered<Answer>,
    /// To the task that keeps the cache true, if there is one.
    refresh: Option<mpsc::Sender<Told>>,
    /// The queue to it was full: it has to pass over all accounts.
    missed_snapshots: bool,
    /// Of the drift detector, if there is one.
    drift: Option<drift::Post>,
    shards: Shards,
    reports: mpsc::UnboundedSender<SteppedDown>,
    metrics: ShardMetrics,
}

impl Driver {
    pub fn new(
        shard: ShardId,
        parts: Parts,
        leader: Leader,
        drift: Option<drift::Post>,
        shards: Shards,
        reports: mpsc::UnboundedSender<SteppedDown>,
    ) -> Self {
        let refresh = parts.cache.clone().map(|cache| {
            let (sender, receiver) = mpsc::channel(SNAPSHOT_QUEUE_MAX);
            tokio::spawn(refresh::run(shard, parts.store.clone(), cache, receiver));
            sender
        });
        Self {
            shard,
            parts,
            leader,
            refresh,
            missed_snapshots: false,
            drift,
            started: Instant::now(),
            reader: None,
            fetch: None,
            answers: FuturesUnordered::new(),
            shards,
            reports,
            metrics: ShardMetrics::new(shard),
        }
    }

    /// Until the coordinator hangs up.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut outputs = Vec::new();
        let (mut last_status, mut led_since) = (None, None);
        loop {
            let wake_at = self.wake_at();
            let input = tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Lead) => Input::Lead,
                    Some(Order::Drain) => Input::Drain,
                    None => return,
                },
                Some(input) = self.answers.next() => input,
                (reader, input) = next_fetch(&mut self.fetch) => {
                    self.fetch = None;
                    self.reader = reader;
                    input
                }
                question = next_question(&mut self.drift) => {
                    question.answer(&self.leader);
                    continue;
                }
                () = tokio::time::sleep_until(wake_at) => Input::Tick,
            };
            self.leader
                .step(self.started.elapsed(), input, &mut outputs);
            for output in outputs.drain(..) {
                self.carry_out(output);
            }
            self.make_up_for_missed();
            let (status, now) = (self.leader.status(), self.started.elapsed());
            if last_status != Some(status) {
                last_status = Some(status);
                let is_led = metrics::is_leading(&status);
                led_since = is_led.then(|| led_since.unwrap_or(now));
                self.metrics.status(&status);
                self.shards.set(self.shard, status);
            }
            self.metrics.age(&status, led_since, now);
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let wanted = self.leader.wake_at().map(|at| self.started + at);
        wanted.map_or(now + WAKE_MAX, |at| {
            at.clamp(now + WAKE_MIN, now + WAKE_MAX)
        })
    }

    fn answer<F>(&mut self, future: F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        self.answers.push(future.boxed());
    }

    fn carry_out(&mut self, output: Output) {
        let (shard, parts) = (self.shard, self.parts.clone());
        match output {
            Output::Acquire { id, mine, ttl } => {
                self.answer(acquire(parts, shard, id, mine, ttl));
            }
            Output::Renew {
                id,
                epoch,
                nonce,
                ttl,
            } => self.answer(async move {
                let answer = parts.store.renew(shard, epoch, nonce, ttl).await;
                if answer.is_ok() {
                    keep_gate(&parts, shard).await;
                }
                Input::Renewed(id, answer)
            }),
            Output::Release { id, epoch, nonce } => self.answer(async move {
                let answer = parts.store.release(shard, epoch, nonce).await;
                if let Some(cache) = &parts.cache {
                    let _ = cache.gate_leave(shard, &parts.name).await;
                }
                Input::Released(id, answer)
            }),
            Output::Open {
                id,
                epoch,
                from,
                anchor,
            } => {
                self.tell(Told::Leads(epoch));
                self.open(id, from, anchor);
            }
            Output::Fetch {
                id,
                count_max,
                bytes_max,
            } => self.fetch(id, count_max, bytes_max),
            Output::Load { id, request } => self.answer(async move {
                let answer = parts.store.load(shard, &request).await;
                if let Err(error) = &answer {
                    tracing::warn!(%shard, %error, "accounts could not be loaded");
                }
                Input::Loaded(id, answer)
            }),
            Output::Flush { id, flush, ttl } => self.flush(id, flush, ttl),
            Output::Publish { id, flush, skip } => self.answer(async move {
                let (count, error) = publish(&parts, &flush, skip).await;
                Input::Published(id, count, error)
            }),
            Output::Republish { id, from, to } => self.answer(async move {
                let (published_to, error) = republish(&parts, shard, from, to).await;
                Input::Republished(id, published_to, error)
            }),
            Output::MarkPublished {
                id,
                epoch,
                nonce,
                to,
            } => self.answer(async move {
                let answer = parts.store.mark_published(shard, epoch, nonce, to).await;
                Input::MarkedPublished(id, answer)
            }),
            Output::Snapshot { epoch, snapshots } => {
                if let Some(drift) = &self.drift {
                    drift.changed(snapshots.iter().map(|one| one.account).collect());
                }
                self.tell(Told::Committed(epoch, snapshots));
            }
            Output::Refresh { accounts } => self.tell(Told::Changed(accounts)),
            Output::Close => {
                self.fetch = None;
                self.reader = None;
                self.tell(Told::SteppedDown);
            }
            Output::Alarm(message) => {
                self.metrics.alarm();
                tracing::error!(%shard, "{message}");
            }
            Output::StepDown(why) => {
                tracing::info!(%shard, ?why, "stepped down");
                if why == Why::LeaseLost {
                    self.shards.note_lost(shard);
                }
                // A coordinator that is gone needs no report.
                let _ = self.reports.send(SteppedDown { shard, why });
            }
        }
    }

    fn open(&mut self, id: RequestId, from: Position, anchor: Option<Anchor>) {
        // The former reader goes first: two of one shard would share the partition's queue.
        self.fetch = None;
        self.reader = None;
        let (shard, log) = (self.shard, self.parts.log.clone());
        let open = async move {
            match log.open(shard, from, anchor).await {
                Ok(reader) => (Some(reader), Input::Opened(id, Ok(()))),
                Err(error) => {
                    tracing::warn!(%shard, %error, "the log could not be opened");
                    (None, Input::Opened(id, Err(error)))
                }
            }
        };
        self.fetch = Some(open.boxed());
    }

    fn fetch(&mut self, id: RequestId, count_max: usize, bytes_max: usize) {
        let shard = self.shard;
        let mut reader = self
            .reader
            .take()
            .expect("a leader fetches from an open log, once a time");
        let fetch = async move {
            let answer = reader.fetch(count_max, bytes_max, FETCH_WAIT).await;
            if let Err(error) = &answer {
                tracing::warn!(%shard, %error, "the log could not be read");
            }
            (Some(reader), Input::Fetched(id, answer))
        };
        self.fetch = Some(fetch.boxed());
    }

    fn flush(&mut self, id: RequestId, flush: Arc<Flush>, ttl: Duration) {
        let (shard, parts, metrics) = (self.shard, self.parts.clone(), self.metrics.clone());
        self.answer(async move {
            let sent_at = Instant::now();
            let answer = match note_parked(&parts, &flush).await {
                Ok(()) => parts.store.flush(&flush, ttl).await,
                Err(error) => Err(error),
            };
            match &answer {
                Ok(_) => metrics.flushed(&flush, sent_at.elapsed()),
                Err(error) => tracing::warn!(%shard, %error, "flush not confirmed"),
            }
            Input::Flushed(id, answer)
        });
    }

    /// The cache never holds a leader up: what does not fit the queue, and all that follows it, is
    /// made up for by a pass.
    fn tell(&mut self, told: Told) {
        let Some(refresh) = &self.refresh else { return };
        if self.missed_snapshots || refresh.try_send(told).is_err() {
            self.missed_snapshots = true;
            self.metrics.snapshots_dropped();
        }
    }

    /// Says once more who leads, as soon as there is room: nothing else may be told for a long time.
    fn make_up_for_missed(&mut self) {
        let Some(refresh) = &self.refresh else { return };
        if self.missed_snapshots {
            let epoch = self.leader.status().epoch;
            let told = epoch.map_or(Told::SteppedDown, Told::Leads);
            self.missed_snapshots = refresh.try_send(told).is_err();
        }
    }
}

/// Where the log file is the database, what is parked must stand there before it is visible: a
/// restart decides by it. It is written once, however often it is sent.
async fn note_parked(parts: &Parts, flush: &Flush) -> Result<(), store::Error> {
    if !parts.log.is_ledger() || flush.dead_letters.is_empty() {
        return Ok(());
    }
    let answers = parts
        .log
        .publish_dead_letters(flush.shard, &flush.dead_letters)
        .await;
    let noted: Result<(), _> = answers.into_iter().collect();
    noted.map_err(|error| store::Error::Unavailable(error.to_string()))
}

/// Pending for ever while there is no fetch.
async fn next_fetch(fetch: &mut Option<Fetch>) -> (Option<Reader>, Input) {
    match fetch {
        Some(fetch) => fetch.await,
        None => std::future::pending().await,
    }
}

/// Pending for ever where nobody asks.
async fn next_question(drift: &mut Option<drift::Post>) -> drift::Question {
    match drift {
        Some(drift) => drift.question().await,
        None => std::future::pending().await,
    }
}

async fn acquire(
    parts: Parts,
    shard: ShardId,
    id: RequestId,
    mine: Option<Nonce>,
    ttl: Duration,
) -> Input {
    // The gate only says who should try; without the cache everybody may.
    if let Some(cache) = &parts.cache
        && let Ok(false) = cache.gate_enter(shard, &parts.name, GATE_TTL).await
    {
        return Input::Acquired(id, Ok(None));
    }
    let nonce = Nonce(i64::from_le_bytes(random()));
    let answer = parts
        .store
        .acquire(shard, &parts.name, mine, nonce, ttl)
        .await;
    match &answer {
        Ok(Some(state)) => {
            tracing::info!(%shard, epoch = %state.epoch, next = %state.next_position, "took over");
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%shard, %error, "shard could not be taken over"),
    }
    Input::Acquired(id, answer)
}

/// Eight bytes from the operating system.
fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

async fn keep_gate(parts: &Parts, shard: ShardId) {
    if let Some(cache) = &parts.cache {
        let _ = cache.gate_enter(shard, &parts.name, GATE_TTL).await;
    }
}
