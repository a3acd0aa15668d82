//! `axs bench submit`: acceptance through the API, and how soon all of it is applied.

use anyhow::Result;
use axs::core::bench::{baseline, submit};

use super::{super::service, Common, Ctx, OnServers, servers};

/// Acceptance through the API by independent callers, and how soon all of it is applied
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    callers: servers::Callers,
    /// HTTP/2 connections that callers share
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// What an answer waits for: accepted or applied
    #[arg(long, value_name = "STATE", default_value = "accepted",
        value_parser = ["accepted", "applied"])]
    wait: String,
    /// Each caller has a stream, and --batch commands in flight on it
    #[arg(long)]
    stream: bool,
    /// Measure this baseline first, in the same run: row-lock or row-lock-batched
    #[arg(long, value_name = "KIND")]
    against: Option<baseline::Kind>,
    /// Connections to PostgreSQL of the baseline
    #[arg(long, value_name = "COUNT", default_value_t = super::baseline::POOL, requires = "against",
        value_parser = clap::value_parser!(u32).range(super::baseline::POOLS))]
    pool: u32,
    #[command(flatten)]
    on: OnServers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let load = args.callers.load(&args.common);
    let against = match args.against {
        Some(kind) => Some(super::baseline::options(kind, load, args.pool)?),
        None => None,
    };
    let options = submit::Options {
        plan: args.on.plan(&ctx, servers::ONE_OF_EACH)?,
        load,
        connections: args.connections,
        wait_applied: args.wait == "applied",
        stream: args.stream,
        against,
    };
    let stop = service::interrupted()?;
    let mut told = servers::Told::new(&ctx);
    let measured = submit::run(&options, &stop, &mut |phase, steps| told.tell(phase, steps)).await;
    drop(told);
    args.common.finish(&ctx, &measured?)
}
