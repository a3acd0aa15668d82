//! `axs bench engine`: the rules alone, on one thread.

use anyhow::Result;
use axs::core::bench::engine;

use super::{Common, Ctx, Spread};

/// The rules alone, on one thread: no codec, no servers
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    spread: Spread,
    /// How many commands are applied
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    commands: u64,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let options = engine::Options {
        workload: args.common.workload(&args.spread),
        commands: args.commands,
    };
    let mut progress = ctx.ui.progress("commands applied", Some(args.commands));
    let figures = tokio::task::spawn_blocking(move || {
        engine::run(&options, &mut |count| progress.add(count))
    });
    let figures = figures.await?;
    args.common.finish(&ctx, &figures)
}
