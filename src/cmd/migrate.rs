//! `axs migrate`: brings schema, shards, assets and topics to what this program needs.

use anyhow::Result;
use axs::core::{
    log::kafka::admin,
    store::postgres::migrate::{self, SCHEMA_VERSION},
};
use serde_json::json;

use super::{Ctx, flags, service, ui::Table};

const AFTER: &str = "\
Running it again changes nothing. The number of shards and the scales of assets never change; what
does not fit what is there is refused, and nothing is done.

Exit codes: 0 done · 1 failure · 2 usage · 5 a server is not available · 6 settings, or they do not
fit what is there";

/// Make or update schema, shards, assets and Kafka topics
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    kafka: flags::Kafka,
    /// Number of shards of a new cluster [default: cluster.shards, 16]
    #[arg(long, value_name = "COUNT")]
    shards: Option<u16>,
    /// Leave Kafka alone
    #[arg(long)]
    skip_kafka: bool,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let mut flags = [args.postgres.settings(), args.kafka.settings()].concat();
    flags::given(
        &mut flags,
        "cluster.shards",
        "--shards",
        args.shards.as_ref(),
    );
    let settings = ctx.settings(flags)?.settings;
    if settings.postgres.url.is_none() {
        return Err(service::missing("postgres.url", "--postgres-url").into());
    }
    if settings.kafka.brokers.is_none() && !args.skip_kafka {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    let schema = migrate::run(&settings.postgres, &settings.cluster).await?;
    let topics = match args.skip_kafka {
        true => admin::Report::default(),
        false => {
            let store = service::store(&settings, "axs-migrate").await?;
            service::topics(&store, &settings.kafka.topic_prefix).await?;
            admin::ensure_topics(&settings.kafka, schema.shards).await?
        }
    };
    for warning in &topics.warnings {
        tracing::warn!(warning, "a topic should be mended");
    }
    show(&ctx, &schema, &topics);
    Ok(())
}

fn show(ctx: &Ctx, schema: &migrate::Report, topics: &admin::Report) {
    let codes: Vec<_> = schema
        .assets
        .iter()
        .map(|asset| asset.code.as_str())
        .collect();
    if ctx.ui.is_json() {
        return ctx.ui.document(&json!({
            "schema": "axs.migrate/v1",
            "schema_version": SCHEMA_VERSION,
            "migrations_applied": schema.applied,
            "shards": schema.shards,
            "partitions_created": schema.partitions_created,
            "assets": codes,
            "topics_created": topics.created,
            "topics_existing": topics.existing,
            "warnings": topics.warnings,
        }));
    }
    let list = |items: &[String]| match items {
        [] => "-".to_owned(),
        items => items.join(", "),
    };
    let mut table = Table::new(["what", "is"]);
    let mut row = |what: &str, is: String| table.row([what.to_owned(), is]);
    row("schema", SCHEMA_VERSION.to_owned());
    row("migrations run now", list(&schema.applied));
    row("shards", schema.shards.to_string());
    row("partitions made now", schema.partitions_created.to_string());
    row("assets", codes.join(", "));
    row("topics made now", list(&topics.created));
    row("topics that were there", list(&topics.existing));
    ctx.ui.table(table);
}
