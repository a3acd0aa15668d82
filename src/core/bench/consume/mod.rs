//! The way from the log to balances: Kafka → engine → commit in PostgreSQL → results in Kafka and
//! snapshots in Redis, by a real `axs consume` on servers; in [`memory`] the same without servers.
//! The log is filled before: making and appending commands is acceptance's work, and not measured.

use std::{
    path::PathBuf,
    time::{Duration, Instant as Clocked},
};

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Figures, Recorder, Workload,
    cluster::{Cluster, Plan},
    figures::rounded,
    statistics::Statistics,
    usage::Usage,
};
use crate::core::{
    cache::{self, Cache},
    config::Settings,
    log::{Log, kafka},
    registry::Registry,
    store::Store,
    testbed::{
        Error,
        fleet::{STOP_MAX, Size},
    },
    types::{AccountId, AssetId, ShardId},
};

pub(in crate::core::bench) mod feed;
pub mod memory;
mod pages;

use feed::{CHUNK, Feed, Sender};
use pages::Pages;

/// Between two looks at how far the shards are.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Without any progress for so long, the run fails.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Leaders stand still for less than this while the log is filled; the longest that is allowed.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// A lease is renewed after a third of it: two thirds are left for sure, and this must be less.
const FILL_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(FILL_MAX.as_secs() * 3 < LEASE_TTL.as_secs() * 2);

/// Accounts whose snapshots are compared with the store, to see that the cache caught up.
const CACHE_SAMPLE: u64 = 500;
/// The cache may take so long after the last commit; a pass over all accounts takes its time.
const CACHE_MAX: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many are put into the log, duplicates included.
    pub commands: u64,
    /// Of the run's cluster.
    pub shards: u16,
    /// The binary that is run.
    pub program: PathBuf,
    /// The operator's, with the servers to use.
    pub settings: Settings,
}

/// Runs it on a ground of its own; `tell` hears of every command applied, warm-up included.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: &mut dyn FnMut(u64),
) -> Result<Figures, Error> {
    let mut settings = options.settings.clone();
    // The whole workload is in memory unless the operator says otherwise.
    let accounts = usize::try_from(options.workload.accounts).unwrap_or(usize::MAX);
    settings.consume.accounts_max = settings.consume.accounts_max.max(accounts);
    // They keep what they lead, and their memory, while they stand still.
    settings.consume.lease_ttl = LEASE_TTL;
    let plan = Plan {
        program: options.program.clone(),
        settings,
        shards: options.shards,
        size: Size {
            servers: 0,
            consumers: 1,
            outboxes: 0,
        },
    };
    Cluster::with(&plan, stop, async |cluster| {
        measure(options, cluster, tell).await
    })
    .await
}

/// Ids of the workload's assets in the registry.
pub(super) async fn assets(store: &Store, workload: &Workload) -> Result<Vec<AssetId>, Error> {
    let registry = Registry::load(store.clone()).await?;
    let assets = registry.assets();
    Ok(assets
        .iter()
        .take(workload.assets())
        .map(|asset| asset.id)
        .collect())
}

async fn measure(
    options: &Options,
    cluster: &Cluster,
    tell: &mut dyn FnMut(u64),
) -> Result<Figures, Error> {
    let (workload, shards) = (&options.workload, options.shards);
    let settings = &cluster.ground.settings;
    let store = cluster.store().await?;
    let log = kafka::Log::connect(&settings.kafka, shards, "axs-bench").await?;
    let cache = match &settings.redis.url {
        Some(_) => Some(Cache::Redis(cache::redis::Cache::connect(&settings.redis)?)),
        None => None,
    };
    let assets = assets(&store, workload).await?;
    let mut feed = Feed::new(&store, workload, shards, assets).await?;
    let mut watch = Watch::new(&store, Sender::new(Log::Kafka(log.clone())));
    open(&mut feed, &mut watch, workload.accounts, tell).await?;
    if let Some(cache) = &cache {
        caught_up(&store, cache, workload, shards).await?;
    }

    let pages = Pages::of(cluster).await;
    let (fill, new) = filled(options, cluster, &mut feed, &mut watch).await?;
    let session = cluster.ground.session().await?;
    let statistics = Statistics::take(&session).await?;
    let results_before: i64 = log.result_ends().await?.iter().sum();
    let usage = Usage::begin(cluster.processes().await);
    let begun = Instant::now();
    let mut seen = Recorder::new(begun);
    signal(cluster, "CONT").await?;
    watch.moved_at = Clocked::now();
    watch.sender.begin(begun);
    watch.finish(&mut seen, tell).await?;
    while log.result_ends().await?.iter().sum::<i64>() - results_before < new.cast_signed() {
        watch.check_stalled()?;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let stages = usage.stages();
    let behind = match &cache {
        Some(cache) => Some(caught_up(&store, cache, workload, shards).await?),
        None => None,
    };
    let pages = Pages::of(cluster).await.since(&pages);
    let peak_rss_bytes = usage.peak_rss_bytes("consume-0");
    // Its sessions tell what they did at the latest when they end.
    let mut service = cluster.fleet.take(0).await;
    service.terminate(STOP_MAX).await?;
    drop(service);
    let mut more = statistics.since(&session, new).await?;
    more.extend(pages.to_json());
    more.insert("fill_seconds".into(), json!(rounded(fill.as_secs_f64())));
    if let Some(behind) = behind {
        let seconds = rounded(behind.as_secs_f64());
        more.insert("cache_behind_seconds".into(), json!(seconds));
    }
    Ok(Figures {
        bench: "consume",
        workload: described(options, settings),
        seconds,
        seen,
        latency_of: format!("{CHUNK} commands of a full log to their commit, the backlog included"),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes,
        stages,
        more,
    })
}

/// Puts all commands into the log while the leaders stand still, so that nothing is measured but
/// their way through it; how long that took, and how many are new.
async fn filled(
    options: &Options,
    cluster: &Cluster,
    feed: &mut Feed,
    watch: &mut Watch,
) -> Result<(Duration, u64), Error> {
    signal(cluster, "STOP").await?;
    let begun = Clocked::now();
    let (mut sent, mut new) = (0, 0);
    while sent < options.commands && begun.elapsed() < FILL_MAX {
        let count = (options.commands - sent).min(CHUNK as u64);
        let (chunk, fresh) = feed
            .commands(usize::try_from(count).expect("a chunk"))
            .await?;
        (sent, new) = (sent + count, new + fresh);
        watch.sender.send(chunk).await?;
    }
    watch.sender.settle().await?;
    let took = begun.elapsed();
    if sent < options.commands || took > FILL_MAX {
        return Err(Error::Failed(format!(
            "the log took {sent} commands in {FILL_MAX:?}, and leaders stand still no longer\n\
             hint: measure with fewer `--commands`"
        )));
    }
    Ok((took, new))
}

/// To the process that leads.
async fn signal(cluster: &Cluster, name: &str) -> Result<(), Error> {
    match cluster.fleet.take(0).await.signal(name)? {
        true => Ok(()),
        false => Err(Error::Failed("the leaders' process is gone".into())),
    }
}

fn described(options: &Options, settings: &Settings) -> Map<String, Value> {
    let mut described = options.workload.to_json();
    described.insert("shards".into(), json!(options.shards));
    let batch = settings.consume.batch_count_max;
    described.insert("batch_count_max".into(), json!(batch));
    described
}

/// Opens the accounts of the workload, through the log.
async fn open(
    feed: &mut Feed,
    watch: &mut Watch,
    accounts: u64,
    tell: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut seen = Recorder::new(Instant::now());
    let mut first = 0;
    while first < accounts {
        let behind = accounts.min(first + CHUNK as u64);
        let chunk = feed.openings(first..behind).await?;
        first = behind;
        watch.sender.send(chunk).await?;
        watch.look(&mut seen, tell).await?;
    }
    watch.finish(&mut seen, tell).await
}

/// Watches the shards while they apply what is sent.
struct Watch {
    store: Store,
    sender: Sender,
    looked_at: Option<Clocked>,
    /// By shard, records applied.
    positions: Vec<u64>,
    moved_at: Clocked,
}

impl Watch {
    fn new(store: &Store, sender: Sender) -> Self {
        Self {
            store: store.clone(),
            sender,
            looked_at: None,
            positions: Vec::new(),
            moved_at: Clocked::now(),
        }
    }

    async fn finish(
        &mut self,
        seen: &mut Recorder,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        self.sender.settle().await?;
        while !self.sender.is_done() {
            self.check_stalled()?;
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look(seen, tell).await?;
        }
        Ok(())
    }

    /// Sees how far the shards are, if that was long enough ago.
    async fn look(&mut self, seen: &mut Recorder, tell: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let is_due = self
            .looked_at
            .is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
        if !is_due {
            return Ok(());
        }
        self.looked_at = Some(Clocked::now());
        let rows = self.store.shard_rows().await?;
        let offset = |offset: i64| u64::try_from(offset).expect("offsets count from 0");
        let positions: Vec<u64> = rows
            .iter()
            .map(|row| offset(row.next_position.offset()))
            .collect();
        if positions != self.positions {
            self.positions = positions;
            self.moved_at = Clocked::now();
        }
        while let Some(sent) = self.sender.applied(&self.positions) {
            seen.done(sent.at, sent.count);
            tell(sent.count);
        }
        Ok(())
    }

    fn check_stalled(&self) -> Result<(), Error> {
        match self.moved_at.elapsed() > STALLED_AFTER {
            true => Err(Error::Failed(format!(
                "nothing was applied for {STALLED_AFTER:?}; shards stand at {:?}",
                self.positions
            ))),
            false => Ok(()),
        }
    }
}

/// Waits until the cache has what the store has, by a sample of accounts; how long that took.
async fn caught_up(
    store: &Store,
    cache: &Cache,
    workload: &Workload,
    shards: u16,
) -> Result<Duration, Error> {
    let begun = Clocked::now();
    let sample = workload.accounts.min(CACHE_SAMPLE);
    let account = |number| workload.account(number * workload.accounts / sample);
    let accounts: Vec<AccountId> = (0..sample).map(account).collect();
    let keys: Vec<(ShardId, AccountId)> = accounts
        .iter()
        .map(|account| (account.default_shard(shards), *account))
        .collect();
    let stored = store.balances(&accounts).await?;
    let positions: Vec<_> = stored
        .iter()
        .flatten()
        .map(|stored| stored.balances.iter().map(|one| one.last_position).max())
        .collect();
    loop {
        let cached = cache.read(&keys).await?;
        let is_behind = cached.iter().zip(&positions).any(|(cached, position)| {
            let cached = cached.as_ref().map(|snapshot| snapshot.position);
            cached < *position
        });
        if !is_behind {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > CACHE_MAX {
            return Err(Error::Failed(format!(
                "the cache is behind the store after {CACHE_MAX:?}"
            )));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
