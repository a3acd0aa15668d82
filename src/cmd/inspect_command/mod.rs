//! `axs inspect-command`: the life of a command, from every place that knows it.

use anyhow::Result;
use axs::core::{
    inspect_command::{self, Which},
    types::CommandId,
};

use super::{Ctx, Exit, Failure, flags, service};

mod show;

const AFTER: &str = "\
Looks only; changes nothing. PostgreSQL is asked for the command, its outcome, its number and its dead
letters, Redis for the account's snapshot, and for a pending command the log is looked through from
what is applied to its end (50,000 records at most).

For example:
  axs inspect-command 844424930132993
  axs inspect-command --source trading --key order-17-fill-3
  axs inspect-command 844424930132993 --json | jq -r .state

Exit codes: 0 found · 2 usage · 4 nobody knows it · 5 PostgreSQL is not available · 6 settings";

/// Show the life of a command: accepted, in the log, decided, published, and what it waits for
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Its id
    #[arg(value_name = "ID", required_unless_present = "key", conflicts_with_all = ["source", "key"])]
    #[arg(value_parser = command_id)]
    id: Option<CommandId>,
    /// The service that sent it
    #[arg(long, value_name = "NAME", requires = "key")]
    source: Option<String>,
    /// The idempotency key that it was sent with
    #[arg(long, value_name = "KEY", requires = "source")]
    key: Option<String>,
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    kafka: flags::Kafka,
    #[command(flatten)]
    redis: flags::Redis,
}

fn command_id(text: &str) -> Result<CommandId, String> {
    let raw = text.parse().ok();
    raw.and_then(CommandId::parse)
        .ok_or_else(|| "must be a command id, such as 844424930132993".into())
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [
        args.postgres.settings(),
        args.kafka.settings(),
        args.redis.settings(),
    ]
    .concat();
    let settings = ctx.settings(flags)?.settings;
    let store = service::store(&settings, "axs-inspect-command").await?;
    let count = service::shards(&settings, &store).await?;
    let assets = store.assets().await?;
    let cache = service::cache(&settings)?;
    let log = service::log_if_there(&settings, &store, count, "axs-inspect-command").await?;
    let which = match (args.id, args.source, args.key) {
        (Some(id), ..) => Which::Id(id),
        (None, source, key) => Which::Key {
            source: source.unwrap_or_default(),
            key: key.unwrap_or_default(),
        },
    };
    let log = log.as_ref().map_err(Clone::clone);
    let life = inspect_command::look(&store, log, cache.as_ref(), &which).await?;
    let life = life.ok_or_else(|| unknown(&which))?;
    show::show(&ctx, &life, &assets);
    Ok(())
}

fn unknown(which: &Which) -> Failure {
    let (message, hint) = match which {
        Which::Id(id) => (
            format!("nobody knows command {id}"),
            format!(
                "looked at the commands, the journal, the applied numbers and the dead letters of \
                 shard {}; a number that was leased and not used yet is known by nobody",
                id.shard()
            ),
        ),
        Which::Key { source, key } => (
            format!("no command was accepted from `{source}` under the key `{key}`"),
            "looked at the keys of all shards, which are kept for ever; was it refused, or is the \
             source another one?"
                .into(),
        ),
    };
    Failure::new(Exit::NotFound, message).hint(hint)
}
