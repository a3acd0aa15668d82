//! `axs shards`: who leads each shard, how far it is, and the operator's acts on it.

use anyhow::Result;
use axs::core::{
    config::Settings,
    store::postgres,
    types::{Nonce, ShardId},
};

use super::{Ctx, Exit, Failure, confirm::Execution, flags, service};

mod pause;
mod rebase;
mod recover;
mod show;

/// In `pg_stat_activity`, and in the logs of brokers.
const NAME: &str = "axs-shards";

const AFTER: &str = "\
list and show only look, at any time, beside live traffic. The others show what they would do, and do it
with --execute: on a terminal they ask, elsewhere --yes is needed. Each may be repeated. What was done
stands in the table `audit`.

For example:
  axs shards list
  axs shards show 3
  axs shards list --json | jq '.shards[] | select(.is_led | not)'
  axs shards pause 3 --reason 'repair of account 7' --execute

Exit codes: 0 shown, or done · 1 it was changed meanwhile, or is still led · 2 usage, or there is no such
shard · 3 the log contradicts the database · 5 a server is not available · 6 settings · 7 needs --yes";

/// See who leads each shard, how far it is, and what waits; bring a shard back
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Every shard, a line each
    List {
        #[command(flatten)]
        to: To,
    },
    /// Everything about one shard, its dead letters too
    Show {
        /// Its number, from 0
        shard: u16,
        #[command(flatten)]
        to: To,
    },
    /// Let nobody lead: its leader hands it over, commands are accepted and wait
    Pause(Act),
    /// Let it be led again; processes that stopped it try again
    Resume(Act),
    /// Go on with a log that was replaced, moved, or lost records
    #[command(after_long_help = rebase::AFTER)]
    Rebase(Act),
    /// Go on after PostgreSQL came back from an earlier time
    #[command(after_long_help = recover::AFTER)]
    Recover(Act),
}

/// On which shards, and whether really.
#[derive(Clone, Debug, clap::Args)]
struct Act {
    /// The shard's number, from 0
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    shard: Option<u16>,
    /// Every shard
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    to: To,
}

#[derive(Clone, Debug, Default, clap::Args)]
struct To {
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    kafka: flags::Kafka,
    #[command(flatten)]
    redis: flags::Redis,
}

impl To {
    fn settings(&self, ctx: &Ctx) -> Result<Settings> {
        let postgres = self.postgres.settings();
        let flags = [postgres, self.kafka.settings(), self.redis.settings()].concat();
        Ok(ctx.settings(flags)?.settings)
    }

    /// Settings, PostgreSQL, and how many shards there are.
    async fn connect(&self, ctx: &Ctx) -> Result<(Settings, postgres::Store, u16)> {
        let settings = self.settings(ctx)?;
        let store = service::store(&settings, NAME).await?;
        let count = service::shards(&settings, &store).await?;
        Ok((settings, in_postgres(store), count))
    }
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    match args.action {
        Action::List { to } => show::run(&to, None, &ctx).await,
        Action::Show { shard, to } => show::run(&to, Some(shard), &ctx).await,
        Action::Pause(act) => pause::pause(&act, &ctx).await,
        Action::Resume(act) => pause::resume(&act, &ctx).await,
        Action::Rebase(act) => rebase::run(&act, &ctx).await,
        Action::Recover(act) => recover::run(&act, &ctx).await,
    }
}

/// The shard that was named, if the cluster has it.
fn one_of(named: Option<u16>, count: u16) -> Result<Option<ShardId>> {
    match named {
        Some(shard) if shard >= count => {
            let message = format!("there is no shard {shard}: the cluster has {count}, from 0");
            Err(Failure::new(Exit::Usage, message).into())
        }
        named => Ok(named.map(ShardId)),
    }
}

/// These commands connect to nothing else.
fn in_postgres(store: axs::core::store::Store) -> postgres::Store {
    match store {
        axs::core::store::Store::Postgres(store) => store,
        axs::core::store::Store::Memory(_) => unreachable!("it was connected to a server"),
    }
}

/// Names what an act left behind.
fn nonce() -> Result<Nonce> {
    Ok(Nonce(getrandom::u64()?.cast_signed()))
}
