//! How soon another process goes on: services are signalled one after the other, and clients see
//! when the shards of the victim are applied again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Error, faults,
    judge::{self, Judgement},
    load::{self, Load, Outcome},
    meter::{Samples, Window},
    processes::{Role, Service},
    run::{self, Progress},
    stage::{Plan, Stage},
};
use crate::core::{store::Store, workload::random::Random};

/// Another process must go on within this.
const TAKEN_MAX: Duration = Duration::from_secs(20);
/// The shards are spread again within this, or the next strike comes all the same.
const SPREAD_MAX: Duration = Duration::from_secs(10);
/// A service that was told to stop and has not by then is killed.
const EXIT_MAX: Duration = Duration::from_secs(10);
/// After everything is in order again, before the next strike: at most so many milliseconds.
const PAUSE_MS_MAX: u64 = 500;
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Between two looks at the store.
const STORE_INTERVAL: Duration = Duration::from_millis(100);
/// Everything sent is decided, and at rest, so soon after the last strike.
const REST_MAX: Duration = Duration::from_secs(60);

/// What is done to the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `kill -9`.
    Kill,
    /// SIGSTOP; SIGCONT once another process has gone on.
    Stop,
    /// SIGTERM: it hands over.
    Term,
}

impl How {
    /// As flags name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Term => "term",
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to put up.
    pub stage: Plan,
    /// What is sent.
    pub load: load::Options,
    /// How often.
    pub strikes: u32,
    /// What.
    pub how: How,
    /// All services in turn are victims, not only `consume`.
    pub any_service: bool,
    /// Leave database, topics, keys and logs behind.
    pub keep: bool,
}

/// What was measured.
#[derive(Default)]
pub struct Figures {
    /// From the signal until every shard of the victim was applied by another process.
    pub taken: Samples,
    /// The same of single shards.
    pub shards: Samples,
    /// Strikes after which a shard was not applied in time.
    pub not_taken: u64,
    /// From SIGTERM to the exit.
    pub exits: Samples,
    /// Services that did not end in time, or not with exit code 0.
    pub bad_exits: u64,
    /// Answers with an error, or none in time, while a strike lasted.
    pub errors: u64,
}

/// What came of it.
pub struct Report {
    /// Everything that was compared.
    pub judgement: Judgement,
    /// What was measured.
    pub figures: Figures,
    /// What clients saw over the whole.
    pub window: Window,
    /// What the run leaves behind, if it does.
    pub left: Option<String>,
}

/// Strikes, and measures.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    let stage = run::put_up(&options.stage, tell).await?;
    let done = on(&stage, options, stop, tell).await;
    run::end(stage, options.keep, done).await
}

impl run::Judged for Report {
    fn holds(&self) -> bool {
        self.judgement.holds()
    }

    fn leave(&mut self, left: Option<String>) {
        self.left = left;
    }
}

async fn on(
    stage: &Arc<Stage>,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    let load = Load::start(&options.load, stage.fleet.servers.clone()).await?;
    let mut striker = Striker {
        stage,
        load: &load,
        store: stage.store().await?,
        how: options.how,
        any_service: options.any_service,
        random: Random::new(options.load.seed),
        figures: Figures::default(),
    };
    for strike in 0..options.strikes {
        striker.strike(strike as usize).await?;
        tell(Progress {
            phase: "striking",
            steps: 1,
        });
        if stop.is_cancelled() {
            return Err(Error::Interrupted);
        }
        stage.fleet.look().await?;
    }
    let figures = striker.figures;
    faults::mend(stage).await?;
    let window = load.shared.meter.take();
    let (judgement, _) = judged(stage, load, tell).await?;
    Ok(Report {
        judgement,
        figures,
        window,
        left: None,
    })
}

/// Rest, and the verdict.
pub async fn judged(
    stage: &Stage,
    load: Load,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(Judgement, Outcome), Error> {
    tell(Progress::of("coming to rest"));
    let outcome = load.finish(REST_MAX).await;
    let at_rest = stage.is_at_rest(REST_MAX).await?;
    tell(Progress::of("comparing"));
    let judgement = judge::judge(stage, &outcome, &at_rest).await?;
    Ok((judgement, outcome))
}

struct Striker<'a> {
    stage: &'a Stage,
    load: &'a Load,
    store: Store,
    how: How,
    any_service: bool,
    random: Random,
    figures: Figures,
}

impl Striker<'_> {
    async fn strike(&mut self, strike: usize) -> Result<(), Error> {
        self.is_spread().await?;
        let pause = Duration::from_millis(self.random.below(PAUSE_MS_MAX));
        tokio::time::sleep(pause).await;
        let Some(number) = self.victim(strike).await? else {
            return Ok(());
        };
        let mut service = self.stage.fleet.take(number).await;
        let shards = self.led_by(service.pid()).await?;
        let before = self.errors();
        let struck_at = Instant::now();
        match self.how {
            How::Kill => service.kill(),
            How::Stop => drop(service.signal("STOP")?),
            How::Term => self.terminate(&mut service).await?,
        }
        self.stage.tally.add(self.how.name());
        self.are_taken(struck_at, &shards).await;
        self.figures.errors += self.errors() - before;
        match self.how {
            How::Stop => drop(service.signal("CONT")?),
            How::Kill | How::Term => self.stage.fleet.bring_up(&mut service).await?,
        }
        Ok(())
    }

    /// SIGTERM, and how it ended. The shards are taken over meanwhile; who sees that notes when.
    async fn terminate(&mut self, service: &mut Service) -> Result<(), Error> {
        match service.terminate(EXIT_MAX).await? {
            Some((took, well)) => {
                self.figures.exits.add(took);
                self.figures.bad_exits += u64::from(!well);
            }
            None => self.figures.bad_exits += 1,
        }
        Ok(())
    }

    /// In turn; of consumers only those that lead something.
    async fn victim(&self, strike: usize) -> Result<Option<usize>, Error> {
        let fleet = &self.stage.fleet;
        for step in 0..fleet.size() {
            let number = (strike + step) % fleet.size();
            if self.any_service && fleet.role(number) != Role::Consume {
                return Ok(Some(number));
            }
            if fleet.role(number) != Role::Consume {
                continue;
            }
            let pid = fleet.take(number).await.pid();
            if !self.led_by(pid).await?.is_empty() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Shards that a process leads, each with its epoch.
    async fn led_by(&self, pid: Option<u32>) -> Result<Vec<(usize, u64)>, Error> {
        let Some(pid) = pid else {
            return Ok(Vec::new());
        };
        let rows = self.store.shard_rows().await?;
        let mine = rows.iter().filter(|row| {
            let leader = row.leader.split(':').nth(1).and_then(|it| it.parse().ok());
            leader == Some(pid) && !row.lease_left.is_zero()
        });
        Ok(mine
            .map(|row| (usize::from(row.shard.0), row.epoch.0))
            .collect())
    }

    /// Waits until a result of a later epoch was seen of each shard.
    async fn are_taken(&mut self, struck_at: Instant, shards: &[(usize, u64)]) {
        let mut last = struck_at;
        for (shard, epoch) in shards {
            let seen = &self.load.shared.seen[*shard];
            loop {
                let (now, at) = seen.epoch();
                if now > *epoch {
                    // A rebalancing may have been under way before.
                    let at = at.max(struck_at);
                    self.figures.shards.add(at - struck_at);
                    last = last.max(at);
                    break;
                }
                if struck_at.elapsed() > TAKEN_MAX {
                    tracing::warn!(shard, epoch, "nobody went on");
                    self.figures.not_taken += 1;
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        if !shards.is_empty() {
            self.figures.taken.add(last - struck_at);
        }
    }

    /// Waits until every shard is led and every consumer leads one, if there are enough.
    async fn is_spread(&self) -> Result<(), Error> {
        let until = Instant::now() + SPREAD_MAX;
        loop {
            let rows = self.store.shard_rows().await?;
            let led: Vec<&str> = rows
                .iter()
                .filter(|row| !row.lease_left.is_zero())
                .map(|row| row.leader.as_str())
                .collect();
            let mut leaders = led.clone();
            leaders.sort_unstable();
            leaders.dedup();
            let consumers = self.stage.fleet.count(Role::Consume).min(rows.len());
            let spread = led.len() == rows.len() && leaders.len() >= consumers;
            if spread || Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(STORE_INTERVAL).await;
        }
    }

    fn errors(&self) -> u64 {
        let meter = &self.load.shared.meter;
        meter.read(|window| window.unknown + window.late + window.refused.count())
    }
}
