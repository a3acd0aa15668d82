//! `axs bench flush`: what leaders do, into PostgreSQL.

use anyhow::Result;
use axs::core::bench::flush;

use super::{Common, Ctx, Spread};
use crate::cmd::{flags, service};

/// Flushes alone: a leader's outcomes into a database of its own on your PostgreSQL
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    spread: Spread,
    /// How many commands are flushed
    #[arg(long, value_name = "COUNT", default_value_t = 500_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    commands: u64,
    /// Commands of a flush
    #[arg(long, value_name = "COUNT", default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    #[command(flatten)]
    to: flags::Postgres,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = ctx.settings(args.to.settings())?.settings;
    if settings.postgres.url.is_none() {
        return Err(service::missing("postgres.url", "--postgres-url").into());
    }
    let options = flush::Options {
        workload: args.common.workload(&args.spread),
        commands: args.commands,
        batch: args.batch as usize,
        settings,
    };
    let all = options.workload.accounts + options.commands;
    let mut progress = ctx.ui.progress("commands flushed", Some(all));
    let stop = service::interrupted()?;
    let figures = flush::run(&options, &stop, &mut |count| progress.add(count)).await?;
    drop(progress);
    args.common.finish(&ctx, &figures)
}
