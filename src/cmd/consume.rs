//! `axs consume`: leads shards, applies their commands and flushes the outcome.

use std::net::SocketAddr;

use anyhow::Result;
use axs::core::{
    consumer::{self, Parts, Shards},
    registry::Registry,
    types::ShardId,
};

use super::{
    Ctx, flags,
    service::{self, Connected, Service},
};

const ADMIN: SocketAddr = super::loopback(7252);

/// Lead shards: apply the commands in the log and flush what they did
///
/// Needs PostgreSQL and Kafka; Redis gets snapshots. Several of these share the shards evenly and
/// take over from each other.
#[derive(clap::Args)]
#[command(after_long_help = super::SERVICE_EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    servers: flags::Servers,
    #[command(flatten)]
    admin: flags::Admin,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [args.servers.settings(), args.admin.settings()].concat();
    let settings = ctx.settings(flags)?.settings;
    let service = Service::start(settings.admin.listen.unwrap_or(ADMIN)).await?;
    let Connected {
        name,
        store,
        shards: count,
        log,
    } = service::connect(&settings).await?;
    let cache = service::cache(&settings)?;
    service.watch(&store, Some(&log), cache.as_ref());
    let shards = Shards::default();
    watch_shards(&service, &shards);
    let parts = Parts {
        registry: Registry::load(store.clone()).await?,
        store,
        log,
        cache,
        name: name.clone(),
    };
    service.is_up();
    tracing::info!(name, admin = %service.admin.address, shards = count, "leading");
    consumer::run(parts, &settings.consume, shards, service.shutdown.clone())
        .await
        .map_err(service::refusal)?;
    Ok(())
}

/// Readiness fails where a shard stopped; liveness tells which shards another leader took over. That
/// is no reason to end the process: it dropped their memory, and may lead them again.
pub fn watch_shards(service: &Service, shards: &Shards) {
    let watched = shards.clone();
    service.health.ready("shards", move || {
        let stopped = watched.stopped();
        match stopped.is_empty() {
            true => Ok(format!("leads {}", list(watched.leading()))),
            false => Err(format!("shards {} stopped, see the log", list(stopped))),
        }
    });
    let watched = shards.clone();
    service.health.live("leases", move || match watched.lost() {
        lost if lost.is_empty() => Ok("no shard was lost".into()),
        lost => Ok(format!("lost to another leader: {}", list(lost))),
    });
}

fn list(shards: impl IntoIterator<Item = ShardId>) -> String {
    let names: Vec<_> = shards.into_iter().map(|shard| shard.to_string()).collect();
    names.join(", ")
}
