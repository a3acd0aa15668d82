//! Leads shards in this process: one driver a shard, and a coordinator that says who leads what.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::core::{
    cache::Cache,
    config,
    drift::Detector,
    leader::{self, Leader, Why},
    log::Log,
    registry::Registry,
    startup::{self, Error},
    store::{self, Member, Store},
    types::ShardId,
};

mod driver;
mod metrics;
pub(in crate::core) mod publish;
pub(in crate::core) mod refresh;
mod shards;
mod spread;

use driver::{Driver, Order, SteppedDown};

pub use shards::Shards;

/// How often the coordinator looks at the shards.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often a process says that it is there, and sees who else is; at each look while a shard has
/// just become free, so that who hands over is known at once.
const BEAT_INTERVAL: Duration = Duration::from_millis(1_000);
/// A process not seen for so long is gone.
const SEEN_WITHIN: Duration = Duration::from_millis(4_000);
/// A free shard that nobody took for so long is anybody's.
const FORSAKEN_AFTER: Duration = Duration::from_millis(600);
/// A shard given up because the log was away is left to others for so long.
const AVOID_FOR: Duration = Duration::from_secs(5);
/// A hand-over may take so long; then the process just goes, which is safe.
const DRAIN_MAX: Duration = Duration::from_millis(1_800);
/// How often the log is asked for its ends, for the lag.
const LAG_INTERVAL: Duration = Duration::from_secs(2);

const _: () = assert!(BEAT_INTERVAL.as_millis() * 3 < SEEN_WITHIN.as_millis());
const _: () = assert!(LOOK_INTERVAL.as_millis() * 2 < FORSAKEN_AFTER.as_millis());

/// What a consumer works with. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// The cache, if there is one.
    pub cache: Option<Cache>,
    /// The assets.
    pub registry: Registry,
    /// Unique per process, such as `host:pid:nonce`.
    pub name: String,
}

/// Leads this process's share of the shards until `shutdown`; then hands them over and returns.
/// So it does with an error when an operator has moved the cluster to another log.
pub async fn run(
    parts: Parts,
    settings: &config::Consume,
    shards: Shards,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let count = parts.store.shards().await?;
    let mut coordinator = Coordinator::start(parts, settings, count, shards);
    let ended = coordinator.lead_until(shutdown).await;
    coordinator.drain().await;
    ended
}

/// Why this process does not try to lead a shard.
#[derive(Clone, Copy, Debug)]
enum Avoid {
    /// Another one may reach the log.
    Until(Instant),
    /// It needs an operator; so many interventions were seen when it stopped.
    Stopped(Option<u64>),
}

struct Coordinator {
    parts: Parts,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    drivers: JoinSet<()>,
    reports: mpsc::UnboundedReceiver<SteppedDown>,
    /// Led, or being taken over.
    mine: BTreeSet<ShardId>,
    draining: BTreeSet<ShardId>,
    avoid: BTreeMap<ShardId, Avoid>,
    /// What operators have done to each shard, as of the last look.
    interventions: BTreeMap<ShardId, u64>,
    free_since: BTreeMap<ShardId, Instant>,
    leases: spread::Leases,
    members: Vec<Member>,
    beat_at: Option<Instant>,
    /// A shard was given up because of the log: until it answers we ask for no share of the shards.
    log_away: bool,
    lag_at: Instant,
    drift: Option<Detector>,
}

impl Coordinator {
    fn start(parts: Parts, settings: &config::Consume, count: u16, shards: Shards) -> Self {
        let config = leader::Config {
            batch_count_max: settings.batch_count_max,
            batch_bytes_max: settings.batch_bytes_max,
            batch_age_max: settings.batch_age_max,
            flush_interval_min: settings.flush_interval_min,
            lease_ttl: settings.lease_ttl,
            accounts_max: settings.accounts_max,
            embedded: parts.log.is_ledger(),
        };
        let drift = Detector::new(
            &parts.store,
            &parts.log,
            parts.cache.as_ref(),
            &parts.registry,
            settings.drift_accounts_max,
        );
        let (sender, reports) = mpsc::unbounded_channel();
        let (mut orders, mut drivers) = (Vec::new(), JoinSet::new());
        for shard in (0..count).map(ShardId) {
            let (order, receiver) = mpsc::unbounded_channel();
            let leader = Leader::new(shard, config.clone());
            let post = drift.as_ref().map(|drift| drift.watch(shard));
            let (parts, shards) = (parts.clone(), shards.clone());
            let driver = Driver::new(shard, parts, leader, post, shards, sender.clone());
            drivers.spawn(driver.run(receiver));
            orders.push(order);
        }
        Self {
            parts,
            orders,
            drivers,
            reports,
            mine: BTreeSet::new(),
            draining: BTreeSet::new(),
            avoid: BTreeMap::new(),
            interventions: BTreeMap::new(),
            free_since: BTreeMap::new(),
            leases: spread::Leases::default(),
            members: Vec::new(),
            beat_at: None,
            log_away: false,
            lag_at: Instant::now(),
            drift,
        }
    }

    async fn lead_until(&mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(report) = self.reports.recv() => self.on_report(report),
                _ = look.tick() => match self.look_unless(&shutdown).await {
                    Ok(()) => is_away = false,
                    Err(error) if error.is_refusal() => return Err(error),
                    // Once: it is tried again several times a second.
                    Err(error) if !is_away => {
                        is_away = true;
                        tracing::warn!(%error, "the shards could not be looked at");
                    }
                    Err(_) => {}
                },
                Some(ended) = self.drivers.join_next() => {
                    // A driver ends only with the coordinator: this one panicked, and what it held
                    // is unknown. Another process takes its shard over.
                    panic!("the driver of a shard ended: {ended:?}");
                }
            }
        }
    }

    /// A log that does not answer must not keep a process from ending.
    async fn look_unless(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            looked = self.look() => looked,
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let rows = self.parts.store.shard_rows().await?;
        let now = Instant::now();
        self.check_interventions(&rows).await?;
        let interventions = &self.interventions;
        self.avoid.retain(|shard, avoid| match avoid {
            Avoid::Until(until) => now < *until,
            Avoid::Stopped(seen) => interventions.get(shard) == seen.as_ref(),
        });
        let is_free = |row: &store::ShardRow| row.lease_left.is_zero();
        for row in &rows {
            if is_free(row) && !self.mine.contains(&row.shard) {
                self.free_since.entry(row.shard).or_insert(now);
            } else {
                self.free_since.remove(&row.shard);
            }
        }
        self.beat(now).await?;
        let gone = self.leases.gone(now.into_std(), &rows);
        let members = self.members.iter();
        let members: Vec<Member> = members
            .filter(|member| member.name == self.parts.name || !gone.contains(&member.name))
            .cloned()
            .collect();
        let forsaken = self
            .free_since
            .iter()
            .filter(|(_, at)| now >= **at + FORSAKEN_AFTER);
        let plan = spread::plan(&spread::View {
            me: &self.parts.name,
            members: &members,
            rows: &rows,
            mine: &self.mine.difference(&self.draining).copied().collect(),
            avoid: &self.avoid.keys().chain(&self.draining).copied().collect(),
            forsaken: &forsaken.map(|(shard, _)| *shard).collect(),
        });
        for shard in plan.lead {
            self.mine.insert(shard);
            self.order(shard, Order::Lead);
        }
        for shard in plan.drain {
            self.draining.insert(shard);
            self.order(shard, Order::Drain);
        }
        self.measure_lag(now, &rows).await;
        Ok(())
    }

    /// Where an operator did something, the log may be another one now: then this process leads
    /// nothing more.
    async fn check_interventions(&mut self, rows: &[store::ShardRow]) -> Result<(), Error> {
        let now = rows.iter().map(|row| (row.shard, row.interventions));
        let now: BTreeMap<_, _> = now.collect();
        if now != self.interventions {
            startup::check_moved(&self.parts.store, &self.parts.log).await?;
            self.interventions = now;
        }
        Ok(())
    }

    /// Says that this process is there, and learns who else is, when that is due.
    async fn beat(&mut self, now: Instant) -> Result<(), store::Error> {
        let just_free = self
            .free_since
            .values()
            .any(|at| now < *at + FORSAKEN_AFTER);
        let interval = match just_free {
            true => LOOK_INTERVAL,
            false => BEAT_INTERVAL,
        };
        if self.beat_at.is_some_and(|at| now < at + interval) {
            return Ok(());
        }
        if self.log_away {
            self.log_away = self.parts.log.ping().await.is_err();
        }
        let me = Member {
            name: self.parts.name.clone(),
            draining: self.log_away,
        };
        self.members = self.parts.store.beat(&me, SEEN_WITHIN).await?;
        self.beat_at = Some(now);
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; nothing decides by it"
    )]
    async fn measure_lag(&mut self, now: Instant, rows: &[store::ShardRow]) {
        if now < self.lag_at + LAG_INTERVAL {
            return;
        }
        self.lag_at = now;
        let Ok(ends) = self.parts.log.ends().await else {
            return;
        };
        for (row, end) in rows
            .iter()
            .zip(ends)
            .filter(|(row, _)| self.mine.contains(&row.shard))
        {
            let lag = (end.offset() - row.next_position.offset()).max(0);
            metrics_lag(row.shard).set(lag as f64);
        }
    }

    fn order(&self, shard: ShardId, order: Order) {
        // A driver that is gone is noticed by the join set.
        let _ = self.orders[usize::from(shard.0)].send(order);
    }

    fn on_report(&mut self, SteppedDown { shard, why }: SteppedDown) {
        self.mine.remove(&shard);
        self.draining.remove(&shard);
        match why {
            Why::LogAway(_) => {
                self.log_away = true;
                self.beat_at = None;
                let until = Instant::now() + AVOID_FOR;
                self.avoid.insert(shard, Avoid::Until(until));
            }
            Why::Stopped(_) => {
                let seen = self.interventions.get(&shard).copied();
                self.avoid.insert(shard, Avoid::Stopped(seen));
            }
            Why::Held | Why::LeaseLost | Why::Drained => {}
        }
    }

    async fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_MAX;
        let me = Member {
            name: self.parts.name.clone(),
            draining: true,
        };
        for shard in self.mine.clone() {
            self.order(shard, Order::Drain);
        }
        let leave = async {
            // Whether the others hear of it early only decides how fast they are.
            let _ = self.parts.store.beat(&me, SEEN_WITHIN).await;
        };
        let _ = tokio::time::timeout_at(deadline, leave).await;
        while !self.mine.is_empty() {
            match tokio::time::timeout_at(deadline, self.reports.recv()).await {
                Ok(Some(report)) => self.on_report(report),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(shards = ?self.mine, "not handed over in time; their leases end by themselves");
                    break;
                }
            }
        }
        let _ = tokio::time::timeout_at(deadline, self.parts.store.leave(&me.name)).await;
        if let Some(drift) = &self.drift {
            // Blocks that are not closed here are closed by the outbox.
            let _ = tokio::time::timeout(DRAIN_MAX, drift.stop()).await;
        }
    }
}

fn metrics_lag(shard: ShardId) -> ::metrics::Gauge {
    ::metrics::gauge!("axs_shard_lag_records", "shard" => shard.to_string())
}
