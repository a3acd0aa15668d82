//! `axs cron-outbox`: sends again what was accepted and did not reach the engine.

use std::net::SocketAddr;

use anyhow::Result;
use axs::core::outbox::{Outbox, Pass};

use super::{
    Ctx, flags,
    service::{self, Connected, Service},
    ui::Table,
};

const ADMIN: SocketAddr = super::loopback(7253);

/// Send again what was accepted and did not reach the engine
///
/// Ticks the shards' time, produces pending commands again, closes and seals old sequence blocks.
/// Several may run; each pass may run twice.
#[derive(clap::Args)]
#[command(after_long_help = super::SERVICE_EXIT_CODES)]
pub struct Args {
    /// One pass, then end and say what it did
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    kafka: flags::Kafka,
    #[command(flatten)]
    admin: flags::Admin,
}

impl Args {
    pub fn is_service(&self) -> bool {
        !self.once
    }
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [
        args.postgres.settings(),
        args.kafka.settings(),
        args.admin.settings(),
    ]
    .concat();
    let settings = ctx.settings(flags)?.settings;
    let Connected {
        name,
        store,
        shards,
        log,
    } = service::connect(&settings).await?;
    let mut outbox = Outbox::new(store.clone(), log.clone(), settings.outbox).await?;
    if args.once {
        outbox = outbox.for_one_pass();
        let pass = outbox.pass().await?;
        show(&ctx, &pass);
        return Ok(());
    }
    let service = Service::start(settings.admin.listen.unwrap_or(ADMIN)).await?;
    service.watch(&store, Some(&log), None);
    service.is_up();
    tracing::info!(name, admin = %service.admin.address, shards, "watching");
    outbox.run(service.shutdown.clone()).await;
    Ok(())
}

fn show(ctx: &Ctx, pass: &Pass) {
    let figures = [
        ("pending", pass.pending),
        ("ticks", pass.ticks),
        ("resent", pass.resent),
        ("sealed", pass.sealed),
        ("blocks_closed", pass.blocks_closed),
    ];
    if ctx.ui.is_json() {
        let mut document = serde_json::json!({"schema": "axs.cron-outbox/v1"});
        for (name, figure) in figures {
            document[name] = figure.to_string().into();
        }
        return ctx.ui.document(&document);
    }
    let mut table = Table::new(["what", "count>"]);
    for (name, figure) in figures {
        table.row([name.to_owned(), figure.to_string()]);
    }
    ctx.ui.table(table);
}
