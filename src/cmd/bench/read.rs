//! `axs bench read`: balances from the cache.

use std::time::Duration;

use anyhow::Result;
use axs::core::bench::{callers::Load, read};

use super::{super::service, Common, Ctx, OnServers, Shape, Spread, servers};

/// Balances from Redis by independent callers, every answer checked
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Which accounts are read: uniform, zipf (exponent 1.0), or hot (one account)
    #[arg(long, value_name = "SHAPE", default_value_t = Shape::Uniform)]
    shape: Shape,
    /// How many accounts there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    accounts: u64,
    /// Calls a second of all callers, at fixed times; 0: as fast as they are answered
    #[arg(long, value_name = "COUNT", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    rate: u32,
    /// Independent callers, each with one call at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    callers: u32,
    /// HTTP/2 connections that callers share
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// How long callers read
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    #[command(flatten)]
    on: OnServers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let plan = args.on.plan(&ctx, servers::ONE_OF_EACH)?;
    if plan.settings.redis.url.is_none() {
        return Err(service::missing("redis.url", "--redis-url").into());
    }
    let options = read::Options {
        plan,
        load: Load {
            workload: args.common.workload(&Spread {
                shape: args.shape,
                accounts: args.accounts,
            }),
            callers: args.callers,
            batch: 1,
            rate: f64::from(args.rate),
            duration: Duration::from_secs(args.seconds),
        },
        connections: args.connections,
    };
    let stop = service::interrupted()?;
    let mut told = servers::Told::new(&ctx);
    let measured = read::run(&options, &stop, &mut |phase, steps| told.tell(phase, steps)).await;
    drop(told);
    args.common.finish(&ctx, &measured?)
}
