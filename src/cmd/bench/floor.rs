//! `axs bench floor`: what a command cannot take less than on these servers.

use std::time::Duration;

use anyhow::Result;
use axs::core::bench::{
    Shape, Workload,
    callers::Load,
    floor::{self, Options},
};

use super::{
    super::{flags, service},
    Common, Ctx, servers,
};

/// The hops of a command without AXS: an empty call, two rows committed, two passes through Kafka
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Commands a second of all callers, sent at fixed times
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Independent callers; one whose command is not done yet is late with the next
    #[arg(long, value_name = "COUNT", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    callers: u32,
    /// Connections to PostgreSQL, and as many for calls, that callers share
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// How long callers send
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    #[command(flatten)]
    to: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = servers::settings(&args.to, &ctx)?;
    let options = Options {
        load: Load {
            workload: Workload {
                shape: Shape::Uniform,
                accounts: 10_000,
                duplicates_percent: args.common.duplicates,
                seed: args.common.seed,
            },
            callers: args.callers,
            batch: 1,
            rate: f64::from(args.rate),
            duration: Duration::from_secs(args.seconds),
        },
        connections: args.connections,
    };
    let stop = service::interrupted()?;
    let mut told = servers::Told::new(&ctx);
    let tell = &mut |phase, steps| told.tell(phase, steps);
    let measured = floor::run(&settings, &options, &stop, tell).await;
    drop(told);
    args.common.finish(&ctx, &measured?)
}
