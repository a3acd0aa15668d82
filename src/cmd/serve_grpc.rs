//! `axs serve-grpc`: the gRPC API over PostgreSQL, Kafka and Redis.

use std::net::SocketAddr;

use anyhow::Result;
use axs::core::{
    grpc::{self, Parts},
    outcomes::Outcomes,
    registry::Registry,
    writer::{self, routes::Routes},
};

use super::{
    Ctx, flags,
    service::{self, Connected, Service},
};

const ADMIN: SocketAddr = super::loopback(7251);

/// Serve the gRPC API: accept commands, answer reads
///
/// Needs PostgreSQL and Kafka; Redis makes reads faster. Any number of these may run.
#[derive(clap::Args)]
#[command(after_long_help = super::SERVICE_EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    servers: flags::Servers,
    #[command(flatten)]
    grpc: flags::Grpc,
    #[command(flatten)]
    admin: flags::Admin,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [
        args.servers.settings(),
        args.grpc.settings(),
        args.admin.settings(),
    ]
    .concat();
    let settings = ctx.settings(flags)?.settings;
    let service = Service::start(settings.admin.listen.unwrap_or(ADMIN)).await?;
    let Connected {
        store, shards, log, ..
    } = service::connect(&settings).await?;
    let cache = service::cache(&settings)?;
    service.watch(&store, Some(&log), cache.as_ref());

    service::warn_beyond_loopback("grpc.listen", settings.grpc.listen);
    let listener = grpc::bind(settings.grpc.listen).await?;
    let registry = Registry::load(store.clone()).await?;
    let writer = writer::start(
        store.clone(),
        log.clone(),
        &settings.writer,
        shards,
        Routes::default(),
    );
    let waiters_max = settings.grpc.waiters_max;
    let outcomes = Outcomes::start(store.clone(), log, registry.clone(), shards, waiters_max);
    let parts = Parts {
        store,
        cache,
        writer: writer.clone(),
        outcomes: outcomes.clone(),
        registry,
    };
    tracing::info!(
        grpc = %settings.grpc.listen,
        admin = %service.admin.address,
        shards,
        "serving"
    );
    service.started();
    let served = grpc::serve(listener, &settings.grpc, parts, service.shutdown.clone()).await;
    writer.stop().await;
    outcomes.stop();
    Ok(served?)
}
