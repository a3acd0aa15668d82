//! `axs reconcile`: the journal folded, and compared with everything that follows from it.

use std::path::PathBuf;

use anyhow::Result;
use axs::core::{
    assets::Assets,
    cache::Cache,
    config::Settings,
    log::{self, Log},
    reconcile::{self, CacheReport, Event, Request, ShardReport, Watch},
    replay::{Source, Sources},
    store::Store,
    types::{AccountId, ShardId},
};
use clap::ValueEnum;
use tokio::sync::mpsc;

use self::{found::Found, repair::Plan};
use super::{Ctx, Exit, Failure, confirm::Execution, flags, service, ui::Progress};

mod found;
mod repair;
mod show;

/// What was found and not taken yet.
const EVENTS_MAX: usize = 1_024;

const AFTER: &str = "\
Each shard is read in one snapshot, so live traffic gives no false alarm; what Redis has counts as
different only if it stays so. Looks only, and holds no lock; the server keeps old rows until a
shard is read, which takes seconds a million entries.

--execute repairs what is derived, and compares again: what Redis has, and, with --reason, balance
rows of a shard whose journal is whole. The shard is paused meanwhile; a row in `audit` keeps what
was there. A damaged journal is reported, never repaired.

For example:
  axs reconcile
  axs reconcile --account 1001 --against balance,redis
  axs reconcile --shard 3 --export differences.csv
  axs reconcile --shard 3 --execute --reason 'changed by hand, INC-1234'
  axs reconcile --json | jq '.findings[]'

Exit codes: 0 nothing differs, or not any more · 1 failure · 2 usage, or there is no such shard · 3
something differs · 4 no such account · 5 a server is not available · 6 settings · 7 --execute needs
--yes where nobody can be asked";

/// Compare the journal with balances, commands, hashes, Redis and the log
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Only this shard, from 0
    #[arg(long, value_name = "SHARD", conflicts_with = "account")]
    shard: Option<u16>,
    /// Only this account
    #[arg(long, value_name = "ID")]
    account: Option<u64>,
    /// Every shard, which is the default
    #[arg(long, conflicts_with_all = ["shard", "account"])]
    all: bool,
    /// Compare with these
    #[arg(
        long,
        value_enum,
        value_name = "WITH",
        value_delimiter = ',',
        default_value = "balance"
    )]
    against: Vec<Against>,
    /// Write every difference to this file, as CSV
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    export: Option<PathBuf>,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    kafka: flags::Kafka,
    #[command(flatten)]
    redis: flags::Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Against {
    /// What PostgreSQL says beside the journal: balances, accounts, commands, hashes
    Balance,
    /// The snapshots in Redis
    Redis,
    /// A replay of the log; of whole shards, and with `balance`
    Log,
}

impl Against {
    fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Redis => "redis",
            Self::Log => "log",
        }
    }
}

impl Args {
    /// It may change something: then it must not be ended half way.
    pub fn executes(&self) -> bool {
        self.execution.execute
    }
}

/// What was compared with what.
struct Compared {
    against: Vec<Against>,
    shards: Vec<ShardReport>,
    caches: Vec<(ShardId, CacheReport)>,
    found: Found,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [
        args.postgres.settings(),
        args.kafka.settings(),
        args.redis.settings(),
    ]
    .concat();
    let settings = ctx.settings(flags)?.settings;
    let store = service::store(&settings, "axs-reconcile").await?;
    let count = service::shards(&settings, &store).await?;
    let shards = shards(&args, &store, count).await?;
    let cache = match args.against.contains(&Against::Redis) {
        true => Some(service::cache(&settings)?.ok_or_else(no_redis)?),
        false => None,
    };
    let assets = store.assets().await?;
    let mut against = args.against.clone();
    let log = match against.contains(&Against::Log) {
        true => Some(sources(&args, &settings, &store, count).await?),
        false => None,
    };
    if log.is_some() {
        // The log is compared with the journal, which is folded for it anyway.
        against.push(Against::Balance);
    }
    against.sort_unstable();
    against.dedup();
    let request = Request {
        shards,
        account: args.account.map(AccountId),
        log,
    };
    let work = Work {
        settings: &settings,
        store: &store,
        cache: cache.as_ref(),
        assets: &assets,
        request: &request,
    };
    let found = Found::new(args.export.as_deref())?;
    let compared = tokio::select! {
        compared = work.compare(&ctx, against, found) => compared?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted().into()),
    };
    if let Some(account) = args.account.filter(|_| compared.is_empty()) {
        return Err(not_found(account).into());
    }
    let plan = Plan::of(&compared);
    let is_shown = !(ctx.ui.is_json() && args.executes());
    if is_shown {
        show::show(&ctx, &compared, &assets, None);
    }
    plan.show(&ctx);
    let done = match plan.is_empty() {
        true => None,
        false => {
            plan.execute(&ctx, &args.execution, &work, &compared)
                .await?
        }
    };
    let Some(done) = done else {
        if !is_shown {
            show::show(&ctx, &compared, &assets, None);
        }
        return finish(&compared, args.export.is_some());
    };
    let after = work
        .compare(&ctx, compared.against.clone(), Found::new(None)?)
        .await?;
    match is_shown {
        true if after.found.total > 0 => show::show(&ctx, &after, &assets, None),
        true => ctx.ui.note("nothing differs any more"),
        false => show::show(&ctx, &compared, &assets, Some((&done, &after.found))),
    }
    finish(&after, false)
}

/// The servers and what to compare on them.
struct Work<'a> {
    settings: &'a Settings,
    store: &'a Store,
    cache: Option<&'a Cache>,
    assets: &'a Assets,
    request: &'a Request,
}

impl Work<'_> {
    async fn compare(&self, ctx: &Ctx, against: Vec<Against>, found: Found) -> Result<Compared> {
        let mut compared = Compared {
            against,
            shards: Vec::new(),
            caches: Vec::new(),
            found,
        };
        if compared.against.contains(&Against::Balance) {
            let passes = if self.request.log.is_some() { 2 } else { 1 };
            let total = self.commands().await? * passes;
            let bar = ctx.ui.progress("commands", Some(total));
            let (sender, events) = mpsc::channel(EVENTS_MAX);
            let watch = Watch(sender);
            let settings = &self.settings.postgres;
            let work = async {
                let work = reconcile::run(settings, self.assets, self.request, &watch).await;
                drop(watch);
                work
            };
            let (reports, ()) = tokio::join!(work, compared.found.follow(events, bar));
            compared.shards = reports.map_err(failure)?;
        }
        if let Some(cache) = self.cache {
            let bar = ctx.ui.progress("accounts in Redis", None);
            let (sender, events) = mpsc::channel(EVENTS_MAX);
            let watch = Watch(sender);
            let work = self.caches(cache, watch);
            let (reports, ()) = tokio::join!(work, compared.found.follow(events, bar));
            compared.caches = reports.map_err(failure)?;
        }
        compared.found.end()?;
        Ok(compared)
    }

    async fn caches(
        &self,
        cache: &Cache,
        watch: Watch,
    ) -> Result<Vec<(ShardId, CacheReport)>, reconcile::Error> {
        let mut reports = Vec::new();
        for &shard in &self.request.shards {
            let of = (shard, self.request.account);
            let (store, assets) = (self.store, self.assets);
            let report = reconcile::compare_cache(store, cache, assets, of, &watch).await?;
            reports.push((shard, report));
        }
        Ok(reports)
    }

    /// About how many outcomes there are: sealed numbers are counted too.
    async fn commands(&self) -> Result<u64> {
        let rows = self.store.shard_rows().await?;
        let asked = rows
            .iter()
            .filter(|row| self.request.shards.contains(&row.shard));
        Ok(asked.map(|row| row.applied.count()).sum())
    }
}

impl Compared {
    /// Nobody knows the account that was asked for.
    fn is_empty(&self) -> bool {
        let of_store = |it: &ShardReport| it.accounts + it.balances + it.entries == 0;
        let of_cache = |it: &(ShardId, CacheReport)| it.1.accounts == it.1.missing;
        self.found.total == 0
            && self.shards.iter().all(of_store)
            && (!self.shards.is_empty() || self.caches.iter().all(of_cache))
    }
}

async fn shards(args: &Args, store: &Store, count: u16) -> Result<Vec<ShardId>> {
    if let Some(account) = args.account.map(AccountId) {
        let shard = match account.clearing_shard() {
            Some(shard) => Some(shard).filter(|shard| shard.0 < count),
            None => store.routes(&[account]).await?.pop().flatten(),
        };
        return Ok(vec![shard.ok_or_else(|| not_found(account.0))?]);
    }
    match args.shard {
        Some(shard) if shard >= count => {
            let message = format!("there is no shard {shard}: the cluster has {count}, from 0");
            Err(Failure::new(Exit::Usage, message).into())
        }
        Some(shard) => Ok(vec![ShardId(shard)]),
        None => Ok((0..count).map(ShardId).collect()),
    }
}

/// Exit 3 where something differs, with what to run next.
fn finish(compared: &Compared, is_exported: bool) -> Result<()> {
    let found = &compared.found;
    if found.total == 0 {
        return Ok(());
    }
    let noun = if found.total == 1 {
        "difference"
    } else {
        "differences"
    };
    let message = format!("{} {noun}, of {}", found.total, found.shards());
    let failure = Failure::new(Exit::Difference, message);
    Err(failure.hint(show::advice(compared, is_exported)).into())
}

fn failure(error: reconcile::Error) -> anyhow::Error {
    match error {
        reconcile::Error::Unavailable(why) => Failure::new(Exit::Unavailable, why).into(),
        reconcile::Error::Failed(why) => Failure::new(Exit::Failure, why).into(),
        reconcile::Error::Store(error) => error.into(),
    }
}

/// The log, which must be the one in use.
async fn sources(args: &Args, settings: &Settings, store: &Store, count: u16) -> Result<Sources> {
    if args.account.is_some() {
        let message = "the log is replayed for whole shards, not for an account";
        return Err(Failure::new(Exit::Usage, message)
            .hint("give --shard in place of --account")
            .into());
    }
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    // First: topics of another name that do not exist are not to be made.
    service::topics(store, &settings.kafka.topic_prefix).await?;
    let log = log::kafka::Log::connect(&settings.kafka, count, "axs-reconcile").await?;
    Ok(Sources {
        source: Source::Log(Log::Kafka(log)),
        store: Some(store.clone()),
    })
}

fn no_redis() -> Failure {
    service::missing("redis.url", "--redis-url")
}

fn not_found(account: u64) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("account {account} was never opened"),
    )
}

/// Events end when nobody watches any more.
async fn next(
    events: &mut mpsc::Receiver<Event>,
    bar: &mut Progress,
) -> Option<reconcile::Finding> {
    loop {
        match events.recv().await? {
            Event::Read(steps) | Event::Cached(steps) | Event::Replayed(steps) => bar.add(steps),
            Event::Found(finding) => return Some(finding),
        }
    }
}
