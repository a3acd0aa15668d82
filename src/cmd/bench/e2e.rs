//! `axs bench e2e`: how long a caller waits until its command is applied.

use std::time::Duration;

use anyhow::Result;
use axs::core::bench::{callers::Load, e2e};

use super::{super::service, Common, Ctx, OnServers, Shape, Spread, servers};

/// How long a caller waits until its command is applied, at a rate that leaves room
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// How commands spread: uniform, zipf (exponent 1.0), hot (one account), or multi (four changes)
    #[arg(long, value_name = "SHAPE", default_value_t = Shape::Uniform)]
    shape: Shape,
    /// How many accounts there are
    #[arg(long, value_name = "COUNT", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    accounts: u64,
    /// Commands a second of all callers, sent at fixed times
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Independent callers; one whose command is not answered yet is late with the next
    #[arg(long, value_name = "COUNT", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    callers: u32,
    /// HTTP/2 connections that callers share
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// How long callers send
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Also watch the records on their way, and tell what each step took; costs some time itself
    #[arg(long)]
    steps: bool,
    #[command(flatten)]
    on: OnServers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let options = e2e::Options {
        plan: args.on.plan(&ctx, servers::ONE_OF_EACH)?,
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
        steps: args.steps,
    };
    let stop = service::interrupted()?;
    let mut told = servers::Told::new(&ctx);
    let measured = e2e::run(&options, &stop, &mut |phase, steps| told.tell(phase, steps)).await;
    drop(told);
    args.common.finish(&ctx, &measured?)
}
