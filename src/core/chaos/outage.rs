//! A server away for minutes, or ten times the load: memory, refusals, and how soon it is made up
//! for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Error,
    failover::judged,
    faults,
    hooks::{Act, Server},
    judge::{self, Judgement},
    load::{self, Load},
    meter::Window,
    run::{self, Progress},
    stage::{Plan, Stage},
};
use crate::core::{log::Log, store::Store};

/// The same load before and after, to compare with.
const CALM: Duration = Duration::from_secs(20);
/// What was missed is made up for within this, or the verdict says otherwise.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);
/// Commands a second that nobody reaches: callers send as fast as they are answered.
const NO_LIMIT: u32 = 1_000_000;
/// Callers in an overload, for each one at the peak.
const OVERLOAD: u32 = 10;
/// Under so many seconds of traffic behind counts as caught up.
const BEHIND_SECONDS: u64 = 1;

/// What is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A server.
    Server(Server),
    /// Nothing, but ten times as many callers as at the peak.
    Overload,
}

impl Of {
    /// As flags name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server(server) => server.name(),
            Self::Overload => "overload",
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
    /// What is away.
    pub of: Of,
    /// For how long.
    pub duration: Duration,
    /// Leave database, topics, keys and logs behind.
    pub keep: bool,
}

/// Memory of one service, in KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which.
    pub service: String,
    /// The most before.
    pub before: u64,
    /// The most during and after.
    pub most: u64,
}

/// What came of it.
pub struct Report {
    /// Everything that was compared.
    pub judgement: Judgement,
    /// What clients saw before, ...
    pub before: (Window, Duration),
    /// ... during ...
    pub during: (Window, Duration),
    /// ... and after it.
    pub after: (Window, Duration),
    /// Of each service.
    pub memory: Vec<Memory>,
    /// From its return until nothing was behind; `None`: not in time.
    pub caught_up: Option<Duration>,
    /// What the run leaves behind, if it does.
    pub left: Option<String>,
}

/// Runs to the verdict.
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

/// Whether it can be done, else what is missing.
pub fn cannot(options: &Options) -> Option<String> {
    let hooks = super::hooks::Hooks::new(&options.stage.hooks, std::path::Path::new(""));
    let kafka = options.of == Of::Server(Server::Kafka) && !hooks.can_stay_down(Server::Kafka);
    kafka.then(|| "Kafka can only be taken away by hooks".into())
}

async fn on(
    stage: &Arc<Stage>,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    let mut load = options.load.clone();
    if options.of == Of::Overload {
        load.rate = NO_LIMIT;
    }
    let first = Load::start(&load, stage.fleet.servers.clone()).await?;
    let mut watch = Watch {
        stage,
        stop,
        memory: Vec::new(),
        is_before: true,
    };
    let before = watch.phase(&first, CALM, "before", tell).await?;
    watch.is_before = false;
    let (during, second) = match options.of {
        Of::Server(server) => {
            away(stage, server, Act::Down).await?;
            let during = watch.phase(&first, options.duration, "away", tell).await;
            away(stage, server, Act::Up).await?;
            (during?, None)
        }
        Of::Overload => {
            let more = more(&load);
            let second = Load::start(&more, stage.fleet.servers.clone()).await?;
            let during = phase_of_both(&mut watch, (&first, &second), options, tell).await?;
            (during, Some(second.finish(CAUGHT_UP_MAX).await))
        }
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small rate"
    )]
    let usual = before.0.goodput(before.1) as u64;
    let caught_up = caught_up(stage, usual.max(u64::from(options.load.rate)), tell).await?;
    first.shared.meter.take();
    let after = watch.phase(&first, CALM, "after", tell).await?;
    let memory = watch.memory;
    faults::mend(stage).await?;
    let judgement = match second {
        None => judged(stage, first, tell).await?.0,
        Some(second) => {
            let mut outcome = first.finish(CAUGHT_UP_MAX).await;
            outcome.history.merge(second.history);
            outcome.undecided.extend(second.undecided);
            let at_rest = stage.is_at_rest(CAUGHT_UP_MAX).await?;
            judge::judge(stage, &outcome, &at_rest).await?
        }
    };
    Ok(Report {
        judgement,
        before,
        during,
        after,
        memory,
        caught_up,
        left: None,
    })
}

/// Callers beside those at the peak.
fn more(load: &load::Options) -> load::Options {
    load::Options {
        clients: load.clients * (OVERLOAD - 1),
        first: 1 << 16,
        ..load.clone()
    }
}

async fn phase_of_both(
    watch: &mut Watch<'_>,
    (first, second): (&Load, &Load),
    options: &Options,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(Window, Duration), Error> {
    first.shared.meter.take();
    second.shared.meter.take();
    let (mut one, took) = watch
        .phase(first, options.duration, "overload", tell)
        .await?;
    one.join(second.shared.meter.take());
    Ok((one, took))
}

/// By hooks where there are, else for the services only.
async fn away(stage: &Stage, server: Server, act: Act) -> Result<(), Error> {
    if stage.hooks.can_stay_down(server) {
        return stage.hooks.run(server, act).await;
    }
    let Some(proxy) = stage.proxy(server) else {
        let name = server.name();
        return Err(Error::Failed(format!(
            "{name} cannot be taken away\nhint: give --hook {name}-down=COMMAND and {name}-up=COMMAND"
        )));
    };
    proxy.set_up(act != Act::Down);
    Ok(())
}

struct Watch<'a> {
    stage: &'a Stage,
    stop: &'a CancellationToken,
    memory: Vec<Memory>,
    is_before: bool,
}

impl Watch<'_> {
    /// So long, with a look at memory now and then; what clients saw.
    async fn phase(
        &mut self,
        load: &Load,
        duration: Duration,
        phase: &'static str,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Window, Duration), Error> {
        let started = Instant::now();
        let mut seen = load.shared.meter.read(|window| window.decided);
        while started.elapsed() < duration {
            tokio::select! {
                () = tokio::time::sleep(MEMORY_INTERVAL) => {}
                () = self.stop.cancelled() => return Err(Error::Interrupted),
            }
            self.look().await;
            let now = load.shared.meter.read(|window| window.decided);
            tell(Progress {
                phase,
                steps: now - seen,
            });
            seen = now;
        }
        Ok((load.shared.meter.take(), started.elapsed()))
    }

    async fn look(&mut self) {
        let resident = self.stage.fleet.resident_kib().await;
        if self.memory.is_empty() {
            let names = (0..resident.len()).map(|number| self.stage.fleet.name(number).to_owned());
            let memory = names.map(|service| Memory {
                service,
                before: 0,
                most: 0,
            });
            self.memory = memory.collect();
        }
        for (memory, kib) in self.memory.iter_mut().zip(resident) {
            let kib = kib.unwrap_or_default();
            memory.most = memory.most.max(kib);
            if self.is_before {
                memory.before = memory.before.max(kib);
            }
        }
    }
}

/// Waits until less than a second's traffic is behind, although more keeps coming.
async fn caught_up(
    stage: &Stage,
    rate: u64,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Option<Duration>, Error> {
    tell(Progress::of("catching up"));
    let started = Instant::now();
    let (store, log) = (stage.store().await?, stage.log().await?);
    while started.elapsed() < CAUGHT_UP_MAX {
        if let Ok(behind) = behind(&store, &log).await
            && behind <= rate * BEHIND_SECONDS
        {
            return Ok(Some(started.elapsed()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(None)
}

/// Commands accepted and not applied, and records that are not read.
async fn behind(store: &Store, log: &Log) -> Result<u64, Error> {
    let (rows, ends) = (store.shard_rows().await?, log.ends().await?);
    let mut behind = 0;
    for (row, end) in rows.iter().zip(&ends) {
        let unread = end.0.saturating_sub(row.next_position.0);
        let pending = store.outbox_view(row.shard, Duration::ZERO, 1).await?;
        behind += u64::try_from(unread)
            .unwrap_or_default()
            .max(pending.pending_count);
    }
    Ok(behind)
}
