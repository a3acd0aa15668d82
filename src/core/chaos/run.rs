//! Chaos: load, faults, mending, rest, verdict.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Error,
    faults::{self, Kind},
    hooks::Server,
    judge::{self, Judgement},
    load::{self, Load},
    meter::Window,
    stage::{Plan, Stage},
};

/// Without faults, before them, to compare goodput with.
const CALM_MAX: Duration = Duration::from_secs(15);
/// Everything sent is decided so soon after the last fault is mended.
const DECIDED_MAX: Duration = Duration::from_secs(120);
/// And applied, published and marked so soon after that.
const REST_MAX: Duration = Duration::from_secs(60);
/// Between two looks at how far it is.
const TELL_INTERVAL: Duration = Duration::from_millis(500);
/// What logs say of flushes that PostgreSQL refused because another leader had taken over.
const STALE: &[&str] = &["flush not confirmed", "fenced"];

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to put up.
    pub stage: Plan,
    /// What is sent.
    pub load: load::Options,
    /// How long faults happen.
    pub duration: Duration,
    /// What happens, and how often.
    pub faults: BTreeMap<Kind, Duration>,
    /// Leave database, topics, keys and logs behind.
    pub keep: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub phase: &'static str,
    /// Commands decided, or strikes, since the last report.
    pub steps: u64,
}

/// What came of a run.
pub struct Report {
    /// Everything that was compared.
    pub judgement: Judgement,
    /// Commands decided in a second before the first fault ...
    pub goodput_calm: f64,
    /// ... and during the faults.
    pub goodput: f64,
    /// What clients saw during the faults.
    pub window: Window,
    /// What was done, by name.
    pub faults: Vec<(&'static str, u64)>,
    /// Faults of connections that hit bytes.
    pub connections_hit: u64,
    /// Flushes that PostgreSQL refused because another leader had taken over.
    pub stale_flushes: u64,
    /// From the last mending until everything was decided, applied and published.
    pub rest_took: Duration,
    /// What the run leaves behind, if it does.
    pub left: Option<String>,
}

/// What a run has to say of itself for its stage to be taken down.
pub trait Judged {
    /// Whether every promise held.
    fn holds(&self) -> bool;
    /// Says what the run leaves behind.
    fn leave(&mut self, left: Option<String>);
}

impl Judged for Report {
    fn holds(&self) -> bool {
        self.judgement.holds()
    }

    fn leave(&mut self, left: Option<String>) {
        self.left = left;
    }
}

/// Runs to the verdict; told to stop, it mends, cleans up, and answers `Interrupted`.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    let stage = put_up(&options.stage, tell).await?;
    let done = on(&stage, options, stop, tell).await;
    end(stage, options.keep, done).await
}

/// Puts the stage of a run up.
pub async fn put_up(
    plan: &Plan,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Arc<Stage>, Error> {
    tell(Progress::of("starting"));
    Ok(Arc::new(Stage::put_up(plan).await?))
}

/// Takes the stage down; a run that found something leaves everything for a look at it.
pub async fn end<R: Judged>(
    stage: Arc<Stage>,
    keep: bool,
    done: Result<R, Error>,
) -> Result<R, Error> {
    let found_something = done.as_ref().is_ok_and(|report| !report.holds());
    let stage =
        Arc::into_inner(stage).ok_or_else(|| Error::Failed("a fault is still under way".into()))?;
    let left = if keep || found_something {
        let left = stage.ground.leftovers();
        stage.fleet.stop().await?;
        Some(left)
    } else {
        let failed = matches!(&done, Err(error) if !matches!(error, Error::Interrupted));
        let folder = stage.ground.folder.display().to_string();
        stage.take_down(failed).await?;
        failed.then(|| format!("logs {folder}"))
    };
    let mut report = done?;
    report.leave(left);
    Ok(report)
}

async fn on(
    stage: &Arc<Stage>,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    tell(Progress::of("opening accounts"));
    let load = tokio::select! {
        load = Load::start(&options.load, stage.fleet.servers.clone()) => load?,
        () = stop.cancelled() => return Err(Error::Interrupted),
    };
    let calm = CALM_MAX.min(options.duration / 4);
    watch(stage, &load, calm, stop, "without faults", tell).await?;
    let goodput_calm = load.shared.meter.take().goodput(calm);
    let struck = strike(stage, &load, options, stop, tell).await;
    tell(Progress::of("mending"));
    faults::mend(stage).await?;
    let window = load.shared.meter.take();
    let goodput = window.goodput(window.since.elapsed());
    struck?;
    let mended_at = Instant::now();
    tell(Progress::of("coming to rest"));
    let outcome = load.finish(DECIDED_MAX).await;
    let at_rest = stage.is_at_rest(REST_MAX).await?;
    let rest_took = mended_at.elapsed();
    tell(Progress::of("comparing"));
    let judgement = judge::judge(stage, &outcome, &at_rest).await?;
    Ok(Report {
        judgement,
        goodput_calm,
        goodput,
        window,
        faults: stage.tally.counts(),
        connections_hit: stage.proxies().map(super::proxy::Proxy::hits).sum(),
        stale_flushes: stage.fleet.count_in_logs(&[STALE]).await[0],
        rest_took,
        left: None,
    })
}

/// Faults, while the load goes on.
async fn strike(
    stage: &Arc<Stage>,
    load: &Load,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let end = CancellationToken::new();
    let faults = faults::run(
        Arc::clone(stage),
        options.faults.clone(),
        options.load.seed,
        end.clone(),
    );
    let mut faults = tokio::spawn(faults);
    let watched = tokio::select! {
        watched = watch(stage, load, options.duration, stop, "breaking", tell) => watched,
        // A fault that cannot be done, or mended, ends the run.
        ended = &mut faults => return joined(ended),
    };
    end.cancel();
    joined(faults.await)?;
    watched
}

fn joined(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
}

/// Tells how far it is for so long, and looks whether services end by themselves.
pub async fn watch(
    stage: &Stage,
    load: &Load,
    duration: Duration,
    stop: &CancellationToken,
    phase: &'static str,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let until = Instant::now() + duration;
    let decided = |load: &Load| load.shared.meter.read(|window| window.decided);
    let mut seen = decided(load);
    while Instant::now() < until {
        let pause = TELL_INTERVAL.min(until - Instant::now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Err(Error::Interrupted),
        }
        stage.fleet.look().await?;
        let now = decided(load);
        tell(Progress {
            steps: now - seen,
            phase,
        });
        seen = now;
    }
    Ok(())
}

impl Progress {
    /// A phase begins.
    pub fn of(phase: &'static str) -> Self {
        Self { phase, steps: 0 }
    }
}

/// Which servers cannot be broken as asked, in a sentence.
pub fn cannot(options: &Options) -> Option<String> {
    let hooks = super::hooks::Hooks::new(&options.stage.hooks, std::path::Path::new(""));
    let kafka = options.faults.contains_key(&Kind::Kafka) && !hooks.can_restart(Server::Kafka);
    kafka.then(|| {
        "Kafka can only be restarted by a hook: its clients follow the addresses that the brokers \
         advertise, past any proxy"
            .into()
    })
}
