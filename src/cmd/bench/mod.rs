//! `axs bench`: how fast AXS is, and where the time goes.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use axs::core::{
    bench::{Figures, Shape, Workload, cluster::Plan},
    testbed::fleet::Size,
};

use super::{Ctx, flags};

mod baseline;
mod codec;
mod consume;
mod e2e;
mod engine;
mod floor;
mod flush;
mod read;
mod report;
mod servers;
mod show;
mod submit;

const AFTER: &str = "\
Every bench draws its commands from --seed and prints what it did, how fast, the latencies, and the
processor time of each stage. Benches on servers make a database, topics and keys of their own on
the servers that the settings name, and take them away in the end; what is there already is never
touched. Figures of one run compare with each other; those of different machines do not.

For example:
  axs bench engine --accounts 1000000 --commands 20000000
  axs bench submit --callers 256 --against row-lock
  axs bench consume --shape zipf --report consume.html

Exit codes: 0 measured · 1 failure · 2 usage · 5 a server is not available · 6 settings · 130
interrupted, and cleaned up";

/// Measure a part of AXS, or the whole way of a command
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    Engine(engine::Args),
    Submit(submit::Args),
    Baseline(baseline::Args),
    E2e(e2e::Args),
    Floor(floor::Args),
    Read(read::Args),
    Flush(flush::Args),
    Consume(consume::Args),
    Codec(codec::Args),
}

impl Args {
    /// It has something to take away when it is interrupted.
    pub fn cleans_up(&self) -> bool {
        match self.bench {
            Bench::Engine(_) | Bench::Codec(_) => false,
            Bench::Submit(_)
            | Bench::Baseline(_)
            | Bench::E2e(_)
            | Bench::Floor(_)
            | Bench::Read(_)
            | Bench::Flush(_)
            | Bench::Consume(_) => true,
        }
    }
}

impl Bench {
    fn common(&self) -> &Common {
        match self {
            Self::Engine(args) => &args.common,
            Self::Submit(args) => &args.common,
            Self::Baseline(args) => &args.common,
            Self::E2e(args) => &args.common,
            Self::Floor(args) => &args.common,
            Self::Read(args) => &args.common,
            Self::Flush(args) => &args.common,
            Self::Consume(args) => &args.common,
            Self::Codec(args) => &args.common,
        }
    }
}

/// What every bench takes.
#[derive(clap::Args)]
struct Common {
    /// Decides every command
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of a hundred commands, those that repeat an earlier one
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=90))]
    duplicates: u8,
    /// Also write one page with plots, that needs no network
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    report: Option<PathBuf>,
}

/// How commands spread over accounts.
#[derive(clap::Args)]
struct Spread {
    /// uniform, zipf (exponent 1.0), hot (one account), or multi (four changes a command)
    #[arg(long, value_name = "SHAPE", default_value_t = Shape::Uniform)]
    shape: Shape,
    /// How many accounts there are
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    accounts: u64,
}

/// The servers to measure on, and the services.
#[derive(clap::Args)]
struct OnServers {
    /// Shards of the run's cluster
    #[arg(long, value_name = "COUNT", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    #[command(flatten)]
    to: flags::Servers,
}

impl OnServers {
    /// A cluster of its own on these servers.
    fn plan(&self, ctx: &Ctx, size: Size) -> Result<Plan> {
        let settings = servers::settings(&self.to, ctx)?;
        Ok(Plan {
            program: std::env::current_exe().context("the path of this program")?,
            settings,
            shards: self.shards,
            size,
        })
    }
}

impl Common {
    fn workload(&self, spread: &Spread) -> Workload {
        Workload {
            shape: spread.shape,
            accounts: spread.accounts,
            duplicates_percent: self.duplicates,
            seed: self.seed,
        }
    }

    /// Prints what was measured, and writes the page if one is wanted.
    fn finish(&self, ctx: &Ctx, figures: &Figures) -> Result<()> {
        show::figures(ctx, figures);
        match &self.report {
            Some(path) => report::write(path, figures),
            None => Ok(()),
        }
    }
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    if let Some(page) = &args.bench.common().report {
        report::check(page)?;
    }
    match args.bench {
        Bench::Engine(args) => engine::run(args, ctx).await,
        Bench::Submit(args) => submit::run(args, ctx).await,
        Bench::Baseline(args) => baseline::run(args, ctx).await,
        Bench::E2e(args) => e2e::run(args, ctx).await,
        Bench::Floor(args) => floor::run(args, ctx).await,
        Bench::Read(args) => read::run(args, ctx).await,
        Bench::Flush(args) => flush::run(args, ctx).await,
        Bench::Consume(args) => consume::run(args, ctx).await,
        Bench::Codec(args) => codec::run(args, ctx).await,
    }
}
