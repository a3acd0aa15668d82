//! `axs bench codec`: from the bytes of a record to the bytes of its result, on one thread.

use anyhow::Result;
use axs::core::bench::codec;

use super::{Common, Ctx, Spread};

/// Decode, apply, and encode results, on one thread: no servers
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    spread: Spread,
    /// How many commands go through
    #[arg(long, value_name = "COUNT", default_value_t = 5_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    commands: u64,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let options = codec::Options {
        workload: args.common.workload(&args.spread),
        commands: args.commands,
        allocations: None,
    };
    let mut progress = ctx.ui.progress("commands done", Some(args.commands));
    let figures =
        tokio::task::spawn_blocking(move || codec::run(&options, &mut |count| progress.add(count)));
    let figures = figures.await?;
    args.common.finish(&ctx, &figures)
}
