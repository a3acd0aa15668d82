//! What is done to a run while the load goes on: each kind of fault has a clock of its own, from
//! the seed. Everything that is broken here is mended here, within a bound.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    hooks::{Act, Server},
    proxy::{Break, Proxy},
    stage::Stage,
};
use crate::core::workload::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9` of a service of ours.
    Kill,
    /// A service of ours is stopped and goes on later.
    Stop,
    /// PostgreSQL is restarted by its hooks, else away for the services.
    Postgres,
    /// Redis loses our keys, is restarted by its hooks, or is away for the services.
    Redis,
    /// Kafka is restarted by its hooks.
    Kafka,
    /// Connections to PostgreSQL and Redis are cut, held, delayed.
    Cut,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::Kill,
        Self::Stop,
        Self::Postgres,
        Self::Redis,
        Self::Kafka,
        Self::Cut,
    ];

    /// As flags name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::Cut => "cut",
        }
    }

    /// How often, unless the operator says otherwise.
    pub fn interval(self) -> Duration {
        match self {
            Self::Kill | Self::Stop => Duration::from_secs(2),
            Self::Postgres => Duration::from_secs(20),
            Self::Redis => Duration::from_secs(5),
            Self::Kafka => Duration::from_secs(30),
            Self::Cut => Duration::from_millis(500),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or_else(|| format!("`{text}` is none of kill, stop, postgres, redis, kafka, cut"))
    }
}

/// A stopped service goes on after 0.1 to 10 s, most often after a few.
const STOPPED: (u64, u64) = (100, 10_000);
/// A killed service is started again after at most so many milliseconds.
const DEAD_MS_MAX: u64 = 500;
/// A server is away for at most so many milliseconds, beside what its start takes.
const AWAY_MS_MAX: u64 = 3_000;
/// An answer is held back for at most so many milliseconds.
const HELD_MS_MAX: u64 = 4_000;
/// Bytes are delayed by at most so many milliseconds: longer than a lease runs, so that flushes arrive
/// when another process has taken over.
const DELAY_MS_MAX: u64 = 5_000;

/// What was done, by name.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    /// One more.
    pub fn add(&self, what: &'static str) {
        let mut counts = self.0.lock().expect("no holder panics");
        *counts.entry(what).or_default() += 1;
    }

    /// By name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().expect("no holder panics");
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }
}

/// Strikes until it is told to stop; then everything that it broke is mended.
pub async fn run(
    stage: Arc<Stage>,
    kinds: BTreeMap<Kind, Duration>,
    seed: u64,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut clocks = JoinSet::new();
    for (kind, interval) in kinds {
        let clock = Clock {
            stage: Arc::clone(&stage),
            kind,
            interval,
            random: Random::new(seed ^ (kind as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            stop: stop.clone(),
            strikes: 0,
            mending: JoinSet::new(),
        };
        clocks.spawn(clock.run());
    }
    let mut first = Ok(());
    while let Some(ended) = clocks.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(Error::Failed(error.to_string())));
        if ended.is_err() {
            stop.cancel();
            first = first.and(ended);
        }
    }
    first
}

/// One kind of fault.
struct Clock {
    stage: Arc<Stage>,
    kind: Kind,
    interval: Duration,
    random: Random,
    stop: CancellationToken,
    /// So far, of this kind.
    strikes: u64,
    /// Services on their way back.
    mending: JoinSet<Result<(), Error>>,
}

impl Clock {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX >> 2);
            let pause = self.millis(interval / 2, interval + interval / 2);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            while let Some(mended) = self.mending.try_join_next() {
                done(mended)?;
            }
            self.strike().await?;
        }
        while let Some(mended) = self.mending.join_next().await {
            done(mended)?;
        }
        Ok(())
    }

    async fn strike(&mut self) -> Result<(), Error> {
        match self.kind {
            Kind::Kill => self.kill(),
            Kind::Stop => self.stop_service(),
            Kind::Postgres => self.away_or_restarted(Server::Postgres).await?,
            // In turn, so that a short run has both.
            Kind::Redis if self.strikes.is_multiple_of(3) => self.forget().await,
            Kind::Redis => self.away_or_restarted(Server::Redis).await?,
            Kind::Kafka => self.away_or_restarted(Server::Kafka).await?,
            Kind::Cut => self.cut(),
        }
        self.strikes += 1;
        Ok(())
    }

    fn kill(&mut self) {
        let number = self.random.below(self.stage.fleet.size() as u64) as usize;
        let pause = self.millis(0, DEAD_MS_MAX);
        // Somebody stopped it, or it is on its way back from an earlier strike.
        let Some(mut service) = self.stage.fleet.try_take(number) else {
            return;
        };
        service.kill();
        tracing::info!(service = service.name, "killed");
        self.stage.tally.add("kill -9");
        let stage = Arc::clone(&self.stage);
        self.mending.spawn(async move {
            tokio::time::sleep(pause).await;
            stage.fleet.bring_up(&mut service).await
        });
    }

    fn stop_service(&mut self) {
        let number = self.random.below(self.stage.fleet.size() as u64) as usize;
        // The lesser of two: short ones are the more frequent, and the more dangerous.
        let one = self.millis(STOPPED.0, STOPPED.1);
        let pause = one.min(self.millis(STOPPED.0, STOPPED.1));
        let Some(mut service) = self.stage.fleet.try_take(number) else {
            return;
        };
        if !service.signal("STOP").is_ok_and(|sent| sent) {
            return;
        }
        tracing::info!(service = service.name, ?pause, "stopped");
        self.stage.tally.add("SIGSTOP, SIGCONT");
        self.mending.spawn(async move {
            tokio::time::sleep(pause).await;
            service.signal("CONT").map(|_| ())
        });
    }

    async fn forget(&mut self) {
        match self.stage.ground.delete_keys().await {
            Ok(keys) => {
                tracing::info!(keys, "redis lost our keys");
                self.stage.tally.add("redis: all keys lost");
            }
            // Another strike has it down.
            Err(error) => tracing::debug!(%error, "redis could not be emptied"),
        }
    }

    async fn away_or_restarted(&mut self, server: Server) -> Result<(), Error> {
        let pause = self.millis(0, AWAY_MS_MAX);
        if self.stage.hooks.can_restart(server) {
            tracing::info!(server = server.name(), ?pause, "restarted");
            self.stage.tally.add(match server {
                Server::Postgres => "postgres: restarted",
                Server::Redis => "redis: restarted",
                Server::Kafka => "kafka: restarted",
            });
            return self.stage.hooks.restart(server, pause).await;
        }
        let Some(proxy) = self.stage.proxy(server) else {
            return Ok(());
        };
        tracing::info!(server = server.name(), ?pause, "away");
        self.stage.tally.add(match server {
            Server::Postgres => "postgres: away",
            Server::Redis => "redis: away",
            Server::Kafka => "kafka: away",
        });
        proxy.set_up(false);
        tokio::time::sleep(pause).await;
        proxy.set_up(true);
        Ok(())
    }

    fn cut(&mut self) {
        // Three of four at PostgreSQL, where more depends on it.
        let server = match self.random.below(4) {
            0 => Server::Redis,
            _ => Server::Postgres,
        };
        let what = match self.random.below(10) {
            0..=5 => Break::Cut,
            6..=7 => Break::HalfOpen(self.millis(50, HELD_MS_MAX)),
            _ => Break::Delay(self.millis(1, DELAY_MS_MAX)),
        };
        let stage = Arc::clone(&self.stage);
        let Some(proxy): Option<&Proxy> = stage.proxy(server).or(stage.proxy(Server::Postgres))
        else {
            return;
        };
        tracing::debug!(server = server.name(), ?what, "armed");
        proxy.arm(what);
        self.stage.tally.add(match what {
            Break::Cut => "connection cut at any byte",
            Break::HalfOpen(_) => "connection half open",
            Break::Delay(_) => "bytes delayed",
        });
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.between(least, most.max(least)))
    }
}

/// Brings back what a strike that failed half-way may have left down.
pub async fn mend(stage: &Stage) -> Result<(), Error> {
    for proxy in stage.proxies() {
        proxy.heal();
    }
    for server in [Server::Postgres, Server::Redis, Server::Kafka] {
        stage.hooks.run(server, Act::Up).await?;
    }
    for number in 0..stage.fleet.size() {
        let mut service = stage.fleet.take(number).await;
        service.signal("CONT")?;
    }
    stage.fleet.all_up().await
}

fn done(mended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    mended.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
}
