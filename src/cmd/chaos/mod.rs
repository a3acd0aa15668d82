//! `axs chaos`: breaks a cluster of its own on your servers, and says whether the promises held.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use axs::core::{
    chaos::{
        faults::Kind,
        fleet::Size,
        hooks::Hook,
        load,
        run::{self, Options, Progress},
        stage::Plan,
    },
    config::Settings,
};

use super::{Ctx, Exit, Failure, flags, service, ui};

mod failover;
mod outage;
mod show;

const AFTER: &str = "\
It makes a database, topics and keys of its own on the servers that the settings name, and takes
them away in the end; what is there already is never touched. It starts services of this binary,
sends them a seeded load through gRPC, and breaks things: kill (-9) and stop (SIGSTOP, SIGCONT) its
own services; postgres, redis and kafka restart servers, by your hooks only; cut breaks connections
to PostgreSQL and Redis at any byte, by a proxy of its own. Without hooks, postgres and redis are
away for the services only, and kafka is left out: its clients follow the addresses that the brokers
advertise, past a proxy. Then it mends everything, waits for rest, replays the log on a naive model
and compares it with journal, balances, results, Redis, and everything that clients were told.

For example:
  axs chaos --minutes 3 --seed 7
  axs chaos --hook 'postgres-down=systemctl kill -s QUIT postgresql' \\
            --hook 'postgres-up=systemctl start postgresql'

Exit codes: 0 every promise held · 1 failure · 2 usage · 3 a difference was found; database, topics,
keys and logs stay for a look at them · 5 a server is not available · 6 settings · 130 interrupted,
and cleaned up";

/// Commands of one caller that are not decided; above, it sends nothing new.
const PENDING_MAX: usize = 512;

/// Break a cluster of its own on your servers, and check every promise afterwards
#[derive(clap::Args)]
#[command(after_long_help = AFTER, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    chaos: Chaos,
}

#[derive(clap::Subcommand)]
enum Mode {
    Failover(failover::Args),
    Outage(outage::Args),
}

#[derive(clap::Args)]
struct Chaos {
    /// How long things break
    #[arg(long, value_name = "MINUTES", default_value = "3", value_parser = minutes)]
    minutes: Duration,
    /// What breaks: kill, stop, postgres, redis, kafka, cut [default: all that is possible]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    faults: Vec<Kind>,
    /// How often a kind of fault happens, as kill=1s [default: kill, stop 2s, postgres 20s, redis
    /// 5s, kafka 30s, cut 500ms]
    #[arg(long, value_name = "KIND=TIME", value_parser = every)]
    every: Vec<(Kind, Duration)>,
    #[command(flatten)]
    common: Common,
}

/// What every kind of run needs.
#[derive(clap::Args)]
struct Common {
    /// Decides load and faults [default: random; it is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Commands a second
    #[arg(long, value_name = "COUNT", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Callers at a time
    #[arg(long, value_name = "COUNT", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: u32,
    /// Accounts opened at the beginning
    #[arg(long, value_name = "COUNT", default_value_t = 200,
        value_parser = clap::value_parser!(u64).range(16..=100_000))]
    accounts: u64,
    /// Shards of the run's cluster
    #[arg(long, value_name = "COUNT", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// How many `serve-grpc` run
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = services)]
    servers: usize,
    /// How many `consume` run
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = services)]
    consumers: usize,
    /// How many `cron-outbox` run
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = services)]
    outboxes: usize,
    /// How to take a server down and bring it back, as postgres-down=COMMAND; postgres, redis or
    /// kafka, down, up or restart; run by `sh -c`
    #[arg(long, value_name = "SERVER-ACT=COMMAND")]
    hook: Vec<Hook>,
    /// Leave database, topics, keys and logs behind
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    to: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    match args.mode {
        None => chaos(args.chaos, ctx).await,
        Some(Mode::Failover(args)) => failover::run(args, ctx).await,
        Some(Mode::Outage(args)) => outage::run(args, ctx).await,
    }
}

async fn chaos(args: Chaos, ctx: Ctx) -> Result<()> {
    let faults = faults(&args)?;
    let (mut stage, load) = args.common.plan(&ctx)?;
    quicken(&mut stage.settings);
    let options = Options {
        stage,
        load,
        duration: args.minutes,
        faults,
        keep: args.common.keep,
    };
    if let Some(why) = run::cannot(&options) {
        let hint = "give --hook kafka-restart=COMMAND, or kafka-down and kafka-up";
        return Err(Failure::new(Exit::Usage, why).hint(hint).into());
    }
    let mut told = Told::new(&ctx, options.load.seed, "commands decided");
    let stop = service::interrupted()?;
    let report = run::run(&options, &stop, &mut |progress| told.tell(progress)).await?;
    drop(told);
    show::run(&ctx, &options, &report);
    show::verdict(&report.judgement)
}

/// What was asked for; without a word everything that is possible.
fn faults(args: &Chaos) -> Result<BTreeMap<Kind, Duration>> {
    let kafka = args.common.hook.iter().any(|hook| {
        let server = hook.server;
        server == axs::core::chaos::hooks::Server::Kafka
    });
    let possible = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Kafka || kafka);
    let wanted: Vec<Kind> = match args.faults.is_empty() {
        true => possible.collect(),
        false => args.faults.clone(),
    };
    let mut faults: BTreeMap<Kind, Duration> =
        wanted.iter().map(|kind| (*kind, kind.interval())).collect();
    for (kind, interval) in &args.every {
        if faults.insert(*kind, *interval).is_none() {
            let message = format!("--every {} is not among --faults", kind.name());
            return Err(Failure::new(Exit::Usage, message).into());
        }
    }
    Ok(faults)
}

/// Small blocks that are closed soon, and little memory: what is rare otherwise happens in a run.
/// What the operator has set stays.
fn quicken(settings: &mut Settings) {
    let usual = Settings::default();
    if settings.outbox == usual.outbox {
        settings.outbox.interval = Duration::from_millis(250);
        settings.outbox.block_age_max = Duration::from_secs(20);
    }
    if settings.writer == usual.writer {
        settings.writer.block_size = 500;
    }
    if settings.consume == usual.consume {
        settings.consume.accounts_max = 64;
    }
}

impl Common {
    fn plan(&self, ctx: &Ctx) -> Result<(Plan, load::Options)> {
        let settings = ctx.settings(self.to.settings())?.settings;
        if settings.postgres.url.is_none() {
            return Err(service::missing("postgres.url", "--postgres-url").into());
        }
        if settings.kafka.brokers.is_none() {
            return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
        }
        let random = getrandom::u32().context("no random number for a seed")?;
        let seed = self.seed.unwrap_or(u64::from(random));
        let stage = Plan {
            program: std::env::current_exe().context("the path of this program")?,
            settings,
            shards: self.shards,
            size: Size {
                servers: self.servers,
                consumers: self.consumers,
                outboxes: self.outboxes,
            },
            hooks: self.hook.clone(),
            seed,
        };
        let load = load::Options {
            seed,
            rate: self.rate,
            clients: self.clients,
            accounts: self.accounts,
            shards: self.shards,
            pending_max: PENDING_MAX,
            waiting_of_100: 75,
            probes: false,
            first: 0,
        };
        Ok((stage, load))
    }
}

/// Progress on stderr.
struct Told<'a> {
    ctx: &'a Ctx,
    steps: &'static str,
    phase: &'static str,
    bar: Option<ui::Progress>,
}

impl<'a> Told<'a> {
    fn new(ctx: &'a Ctx, seed: u64, steps: &'static str) -> Self {
        ctx.ui.note(format_args!("seed {seed}"));
        Self {
            ctx,
            steps,
            phase: "",
            bar: None,
        }
    }

    fn tell(&mut self, progress: Progress) {
        if self.phase != progress.phase {
            self.phase = progress.phase;
            self.bar = None;
            self.ctx.ui.note(progress.phase);
        }
        let bar = self
            .bar
            .get_or_insert_with(|| self.ctx.ui.progress(self.steps, None));
        bar.add(progress.steps);
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "it must be a number")?;
    match minutes {
        0.1..=1_440.0 => Ok(Duration::from_secs_f64(minutes * 60.0)),
        _ => Err("it must be 0.1 to 1440".into()),
    }
}

fn every(text: &str) -> Result<(Kind, Duration), String> {
    let (kind, time) = text.split_once('=').ok_or("it must be such as kill=1s")?;
    let time = humantime::parse_duration(time).map_err(|error| error.to_string())?;
    if time < Duration::from_millis(10) {
        return Err("it must be 10ms or longer".into());
    }
    Ok((kind.parse()?, time))
}

fn services(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=16) => Ok(count),
        _ => Err("it must be 1 to 16".into()),
    }
}
