//! `axs bench consume`: from the log to balances, results and snapshots.

use anyhow::{Context as _, Result};
use axs::core::bench::consume::{self, memory};

use super::{Common, Ctx, Spread};
use crate::cmd::{flags, service};

/// From a full log through the engine to PostgreSQL, results and Redis, by a real `axs consume`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    spread: Spread,
    /// How many commands are put into the log before it is measured how they get out of it
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    commands: u64,
    /// Shards of the run's cluster; with --memory several, one run each
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "4",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Vec<u16>,
    /// Log and store in memory: no servers, only this program's own work
    #[arg(long)]
    memory: bool,
    /// Threads that lead shards in memory; one run each
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1",
        requires = "memory", value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: Vec<u8>,
    #[command(flatten)]
    to: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = ctx.settings(args.to.settings())?.settings;
    let workload = args.common.workload(&args.spread);
    let runs = if args.memory {
        args.shards.len() * args.threads.len()
    } else {
        1
    };
    let all = (workload.accounts + args.commands) * runs as u64;
    if args.memory {
        let options = memory::Options {
            workload,
            commands: args.commands,
            threads: args.threads.iter().copied().map(usize::from).collect(),
            shards: args.shards,
            consume: settings.consume,
        };
        let mut progress = ctx.ui.progress("commands applied", Some(all));
        let figures = memory::run(&options, &mut |count| progress.add(count)).await?;
        drop(progress);
        return args.common.finish(&ctx, &figures);
    }
    if settings.postgres.url.is_none() {
        return Err(service::missing("postgres.url", "--postgres-url").into());
    }
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    let [shards] = args.shards[..] else {
        let message = "several --shards are for --memory";
        return Err(crate::cmd::Failure::new(crate::cmd::Exit::Usage, message).into());
    };
    let options = consume::Options {
        workload,
        commands: args.commands,
        shards,
        program: std::env::current_exe().context("the path of this program")?,
        settings,
    };
    let stop = service::interrupted()?;
    let mut progress = ctx.ui.progress("commands applied", Some(all));
    let figures = consume::run(&options, &stop, &mut |count| progress.add(count)).await?;
    drop(progress);
    args.common.finish(&ctx, &figures)
}
