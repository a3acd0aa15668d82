//! `axs bench engine`: the rules alone, on one thread.

use anyhow::Result;
use axs::core::bench::engine::{self, ASSETS_MAX};

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
    /// How many balances each account has
    #[arg(long, value_name = "COUNT", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=ASSETS_MAX as i64))]
    assets: u8,
    /// Apply as many, in turns, on an engine with so many balances (127 bytes of memory each with
    /// one asset an account)
    #[arg(long, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    compare_balances: Option<u64>,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let options = engine::Options {
        workload: args.common.workload(&args.spread),
        assets: args.assets.into(),
        commands: args.commands,
        compare_balances: args.compare_balances,
    };
    let mut progress = ctx.ui.progress("commands applied", Some(args.commands));
    let figures = tokio::task::spawn_blocking(move || {
        engine::run(&options, &mut |count| progress.add(count))
    });
    let figures = figures.await?;
    args.common.finish(&ctx, &figures)
}
