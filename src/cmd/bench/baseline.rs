//! `axs bench baseline`: what people would write by hand on the same PostgreSQL.

use std::ops::RangeInclusive;

use anyhow::Result;
use axs::core::bench::{
    Shape,
    baseline::{self, Kind, Options},
    callers::Load,
};

use super::{
    super::{Exit, Failure, flags, service},
    Common, Ctx, servers,
};

/// Connections to PostgreSQL unless told otherwise.
pub const POOL: u32 = 16;
/// How many there may be: fewer than a server takes by default.
pub const POOLS: RangeInclusive<i64> = 1..=90;

/// Row locks in a stored function on the same PostgreSQL, to compare with
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    callers: servers::Callers,
    /// row-lock (a transaction for each command) or row-lock-batched (one for each call)
    #[arg(long, value_name = "KIND", default_value_t = Kind::RowLock)]
    kind: Kind,
    /// Connections to PostgreSQL that callers share
    #[arg(long, value_name = "COUNT", default_value_t = POOL,
        value_parser = clap::value_parser!(u32).range(POOLS))]
    pool: u32,
    #[command(flatten)]
    to: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = servers::settings(&args.to, &ctx)?;
    let options = options(args.kind, args.callers.load(&args.common), args.pool)?;
    let stop = service::interrupted()?;
    let mut told = servers::Told::new(&ctx);
    let tell = &mut |phase, steps| told.tell(phase, steps);
    let measured = baseline::run(&settings, &options, &stop, tell).await;
    drop(told);
    args.common.finish(&ctx, &measured?)
}

/// What a kind can do of a load.
pub fn options(kind: Kind, load: Load, pool: u32) -> Result<Options> {
    let usage = |text: &str| Failure::new(Exit::Usage, text);
    if load.workload.shape == Shape::Multi {
        return Err(usage("a baseline has one change a command: not --shape multi").into());
    }
    if kind == Kind::RowLock && load.batch != 1 {
        let why = "row-lock has one command a call";
        let hint = "give --batch 1, or row-lock-batched";
        return Err(usage(why).hint(hint).into());
    }
    Ok(Options { kind, load, pool })
}
