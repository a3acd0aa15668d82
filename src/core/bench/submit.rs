//! Acceptance through the API, and how soon all of it is applied: callers, `serve-grpc`, PostgreSQL,
//! Kafka, `consume`, Redis, on a cluster of the run's own.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Figures, Workload, baseline,
    callers::{self, Load, Seen, Tell},
    cluster::{Cluster, Plan},
    figures::rounded,
    requests::{self, Answered, Requests},
    usage::{Process, Usage},
};
use crate::core::{
    interval_set::IntervalSet,
    store::Store,
    testbed::{Error, processes::Role},
    types::{CommandId, ShardId},
};

mod caller;

use caller::{Caller, Streamer};

/// Without anything applied for so long, a run fails.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Between two looks at the shards: each costs the server a statement.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to put up.
    pub plan: Plan,
    /// What is sent.
    pub load: Load,
    /// HTTP/2 connections that callers share.
    pub connections: u32,
    /// Each answer is that the commands are applied.
    pub wait_applied: bool,
    /// Each caller has a stream, and `load.batch` commands in flight on it.
    pub stream: bool,
    /// Measured first on the same servers, with the same callers.
    pub against: Option<baseline::Options>,
}

/// Measures on a cluster of its own.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    tell("starting services", 0);
    Cluster::with(&options.plan, stop, async |cluster| {
        on(cluster, options, stop, tell).await
    })
    .await
}

async fn on(
    cluster: &Cluster,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    let workload = &options.load.workload;
    let opened = cluster.open_accounts(workload, |count| tell("opening accounts", count));
    opened.await?;
    let against = match &options.against {
        Some(baseline) => Some(baseline::measure(&cluster.ground, baseline, stop, tell).await?),
        None => None,
    };
    requests::learn_routes(&cluster.channel_of_each_server().await?, workload).await?;
    let before = Before::look(cluster).await?;
    let processes = cluster.processes().await;
    let usage = Usage::begin(processes.clone());
    let seen = load(cluster, options, stop, tell).await?;
    let accepted = seen.answered.accepted;
    wait_applied(&cluster.store().await?, &seen.answered.ids, tell).await?;
    let applied_after = seen.begun.elapsed();
    let stages = usage.stages();
    let after = Before::look(cluster).await?;
    after.check(&before, workload, accepted)?;
    let mut more = more(&seen, applied_after);
    more.extend(after.since(&before, accepted));
    if let Some(baseline) = &against {
        more.insert(
            "against".into(),
            compared(baseline, accepted, applied_after),
        );
    }
    let servers = processes
        .iter()
        .filter(|it| it.name.starts_with(Role::ServeGrpc.name()));
    Ok(Figures {
        bench: "submit",
        workload: described(options),
        seconds: seen.took.as_secs_f64(),
        latency_of: latency_of(options),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: servers
            .map(Process::peak_rss_bytes)
            .max()
            .unwrap_or_default(),
        stages,
        seen: seen.recorder,
        more,
    })
}

/// Waits until all of these commands are applied; tells of what is applied meanwhile.
async fn wait_applied(store: &Store, ids: &[u64], tell: Tell<'_>) -> Result<(), Error> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let mut stored: BTreeMap<ShardId, IntervalSet> = BTreeMap::new();
    for id in ids.into_iter().filter_map(CommandId::parse) {
        stored
            .entry(id.shard())
            .or_default()
            .insert(id.sequence().0);
    }
    let mut last: Option<u64> = None;
    let mut moved_at = Instant::now();
    loop {
        let mut pending = 0;
        for row in store.shard_rows().await? {
            let numbers = stored
                .get(&row.shard)
                .into_iter()
                .flat_map(IntervalSet::iter);
            // Beside ours, numbers that nobody used are sealed: only ours count.
            let gaps = numbers.flat_map(|(first, last)| row.applied.gaps(first, last));
            pending += gaps.map(|(first, last)| last - first + 1).sum::<u64>();
        }
        if pending == 0 {
            return Ok(());
        }
        if last.is_none_or(|last| pending < last) {
            tell("applying", last.unwrap_or(pending) - pending);
            (last, moved_at) = (Some(pending), Instant::now());
        } else if moved_at.elapsed() > STALLED_AFTER {
            return Err(Error::Failed(format!(
                "{pending} accepted commands are not applied, and nothing is for {STALLED_AFTER:?}"
            )));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn load(
    cluster: &Cluster,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Seen, Error> {
    let channels = cluster.channels(options.connections).await?;
    let requests = Requests::new(options.load.workload);
    let caller = |number: u64| Caller {
        requests,
        number,
        client: requests::client(channels[number as usize % channels.len()].clone()),
        wait_applied: options.wait_applied,
        stream: None,
    };
    match options.stream {
        false => callers::run(&options.load, caller, stop, tell).await,
        true => callers::run(&options.load, |number| Streamer(caller(number)), stop, tell).await,
    }
}

fn latency_of(options: &Options) -> String {
    let (batch, until) = (
        options.load.batch,
        match options.wait_applied {
            true => "applied",
            false => "accepted",
        },
    );
    match options.stream {
        true => format!("{batch} commands of a stream until the last of them is {until}"),
        false => format!("a call of {batch} commands until they are {until}"),
    }
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.load.workload.to_json();
    described.insert("callers".into(), json!(options.load.callers));
    described.insert("batch".into(), json!(options.load.batch));
    described.insert("rate".into(), json!(options.load.rate));
    described.insert("connections".into(), json!(options.connections));
    described.insert("stream".into(), json!(options.stream));
    described.insert("shards".into(), json!(options.plan.shards));
    let wait = match options.wait_applied {
        true => "applied",
        false => "accepted",
    };
    described.insert("wait".into(), json!(wait));
    described
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn per_second(count: u64, time: Duration) -> f64 {
    rounded(count as f64 / time.as_secs_f64())
}

fn more(seen: &Seen, applied_after: Duration) -> Map<String, Value> {
    let Answered {
        accepted,
        duplicates,
        overloads,
        ..
    } = seen.answered;
    let fields = [
        ("accepted", json!(accepted)),
        (
            "accepted_per_second",
            json!(per_second(accepted, seen.took)),
        ),
        (
            "applied_seconds",
            json!(rounded(applied_after.as_secs_f64())),
        ),
        (
            "applied_per_second",
            json!(per_second(accepted, applied_after)),
        ),
        ("duplicates", json!(duplicates)),
        ("overloads", json!(overloads)),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// The baseline's figures, and how many times as many commands were applied a second.
fn compared(baseline: &Figures, accepted: u64, applied_after: Duration) -> Value {
    let theirs = baseline.more["applied_per_second"]
        .as_f64()
        .unwrap_or_default();
    let ours = per_second(accepted, applied_after);
    json!({
        "kind": baseline.workload["kind"],
        "pool": baseline.workload["pool"],
        "applied_per_second": theirs,
        "p50_us": rounded(baseline.percentile_us(50.0)),
        "p99_us": rounded(baseline.percentile_us(99.0)),
        "cpu_seconds": rounded(baseline.cpu_seconds),
        "applied_ratio": rounded(ours / theirs.max(1e-9)),
    })
}

/// How far a cluster was at some time.
struct Before {
    /// The sum of all balances' versions: one a change.
    versions: i64,
    wal_bytes: f64,
    wal_syncs: i64,
    groups: f64,
}

impl Before {
    async fn look(cluster: &Cluster) -> Result<Self, Error> {
        let session = cluster.ground.session().await?;
        let row = session
            .query_one(
                "SELECT (SELECT coalesce(sum(version), 0)::bigint FROM balance),
                    wal_bytes::float8, wal_sync FROM pg_stat_wal",
                &[],
            )
            .await?;
        Ok(Self {
            versions: row.get(0),
            wal_bytes: row.get(1),
            wal_syncs: row.get(2),
            groups: groups(cluster).await,
        })
    }

    /// Every accepted command was applied, and none was rejected: else the figures would be of
    /// something else.
    fn check(&self, before: &Self, workload: &Workload, accepted: u64) -> Result<(), Error> {
        let changes = workload.changes() as u64 * accepted;
        let changed = (self.versions - before.versions).unsigned_abs();
        if changes == changed {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "{accepted} accepted commands made {changed} changes, not {changes}"
        )))
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn since(&self, before: &Self, accepted: u64) -> Map<String, Value> {
        let commands = (accepted as f64).max(1.0);
        let syncs = (self.wal_syncs - before.wal_syncs) as f64;
        let fields = [
            (
                "wal_bytes_per_command",
                (self.wal_bytes - before.wal_bytes) / commands,
            ),
            ("wal_syncs_per_1000_commands", 1_000.0 * syncs / commands),
            (
                "commands_per_group",
                commands / (self.groups - before.groups).max(1.0),
            ),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), json!(rounded(value))));
        fields.into_iter().collect()
    }
}

/// Statements of acceptance so far, as the services tell.
async fn groups(cluster: &Cluster) -> f64 {
    let mut count = 0.0;
    for number in 0..cluster.fleet.size() {
        if cluster.fleet.role(number) != Role::ServeGrpc {
            continue;
        }
        let page = cluster.fleet.take(number).await.page("/metrics").await;
        let page = page.unwrap_or_default();
        let lines = page.lines();
        let values = lines.filter_map(|it| it.strip_prefix("axs_accept_group_commands_count "));
        count += values
            .filter_map(|value| value.parse::<f64>().ok())
            .sum::<f64>();
    }
    count
}
