//! Every alert that AXS ships fires in a real Prometheus while what it is about is really so, and
//! clears when it is over.

use std::{fmt::Write as _, path::PathBuf};

use axs::core::{
    command::record::{self, Tick},
    log::NewRecord,
    types::{ShardId, Timestamp},
};

use crate::{
    cluster::{Cluster, Options},
    member::{PATIENCE, eventually},
    stack::Stack,
};

mod alertmanager;
mod dashboards;
mod prometheus;

use alertmanager::Alertmanager;
use prometheus::Prometheus;

const SHARDS: u16 = 2;
/// In both shards.
const ACCOUNTS: u64 = 20;
/// Control records that change nothing; more than `AxsShardLagging` lets pass here.
const TICKS: usize = 4_000;
/// Take-overs in a row that are more than `AxsLeaderChanges` lets pass here.
const KILLS: usize = 4;

fn options<'a>(stack: Option<&'a Stack>, settings: &'a [(&'a str, &'a str)]) -> Options<'a> {
    Options {
        shards: SHARDS,
        assets: "USD:2".into(),
        servers: 1,
        consumers: 1,
        outboxes: 1,
        stack,
        settings,
    }
}

/// One command for each account.
fn wave(cluster: &Cluster, name: &str) -> PathBuf {
    let kind = match name {
        "open" => "OPEN_ACCOUNT",
        _ => "CHANGE",
    };
    let mut text = String::new();
    for account in 1..=ACCOUNTS {
        let line = format!(
            r#"{{"source":"wave","idempotency_key":"{name}-{account}","account_id":{account},"kind":"{kind}","changes":[{{"asset":"USD","available_delta":"10"}}]}}"#
        );
        writeln!(text, "{line}").expect("a String takes everything");
    }
    let file = cluster.folder().join(format!("{name}.jsonl"));
    std::fs::write(&file, text).expect("a file");
    file
}

async fn by_hand(cluster: &Cluster, sql: &str) {
    let session = cluster.database.session().await;
    session.batch_execute(sql).await.expect("by hand");
}

fn record(shard: u16, value: bytes::Bytes) -> NewRecord {
    NewRecord {
        shard: ShardId(shard),
        account: None,
        value,
        command: None,
        source: "test".into(),
        time: Timestamp(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_processes_and_shards_fire_and_clear() {
    // Blocks of numbers are closed early, so that there is something to seal.
    let settings = [("AXS_OUTBOX__BLOCK_AGE_MAX", "1s")];
    let mut cluster = Cluster::start(options(None, &settings)).await;
    let prometheus = Prometheus::start(&cluster, None).await;
    cluster.send(&wave(&cluster, "open"), "applied");
    prometheus.is_quiet().await;
    dashboards::show_data(&prometheus).await;

    nobody_leads(&mut cluster, &prometheus).await;
    leaders_die(&mut cluster, &prometheus).await;
    a_record_is_garbage(&cluster, &prometheus).await;
    a_shard_is_paused(&cluster, &prometheus).await;
    a_shard_stops(&cluster, &prometheus).await;
    the_outbox_is_gone(&mut cluster, &prometheus).await;
    numbers_come_again(&mut cluster, &prometheus).await;

    let over = [
        "AxsLeaderChanges",
        "AxsDeadLetters",
        "AxsShardAlarm",
        "AxsNumbersTaken",
    ];
    prometheus.clears(&over).await;
    prometheus.is_quiet().await;
}

async fn nobody_leads(cluster: &mut Cluster, prometheus: &Prometheus) {
    cluster.consumers[0].kill9();
    cluster.send(&wave(cluster, "unled"), "accepted");
    prometheus
        .fires("AxsProcessDown", &[("job", "axs-consume")])
        .await;
    for shard in ["0", "1"] {
        let page = [("shard", shard), ("severity", "page")];
        let says = &prometheus.fires("AxsShardUnowned", &page).await["annotations"];
        assert_eq!(says["summary"], format!("nobody leads shard {shard}"));
        assert_eq!(says["runbook_url"], "docs/runbooks/AxsShardUnowned.md");
        prometheus.fires("AxsPendingOld", &[("shard", shard)]).await;
        prometheus.fires("AxsGapsStay", &[("shard", shard)]).await;
    }
    cluster.consumers[0].restart().await;
    let over = [
        "AxsProcessDown",
        "AxsShardUnowned",
        "AxsPendingOld",
        "AxsGapsStay",
    ];
    prometheus.clears(&over).await;
}

async fn leaders_die(cluster: &mut Cluster, prometheus: &Prometheus) {
    for _ in 0..KILLS {
        cluster.consumers[0].kill9();
        cluster.consumers[0].restart().await;
        let all = vec![(cluster.consumers[0].pid(), usize::from(SHARDS))];
        eventually(PATIENCE, async || match cluster.spread().await {
            spread if spread == all => Ok(()),
            spread => Err(format!("{spread:?} lead, not {all:?}")),
        })
        .await;
    }
    prometheus
        .fires("AxsLeaderChanges", &[("shard", "0")])
        .await;
}

async fn a_record_is_garbage(cluster: &Cluster, prometheus: &Prometheus) {
    let log = cluster.topics.log().await;
    let garbage = record(1, bytes::Bytes::from_static(b"no log record"));
    assert_eq!(log.append(vec![garbage]).await, [Ok(())]);
    prometheus.fires("AxsDeadLetters", &[("shard", "1")]).await;
    prometheus.fires("AxsShardAlarm", &[("shard", "1")]).await;
}

async fn a_shard_is_paused(cluster: &Cluster, prometheus: &Prometheus) {
    act(cluster, "pause").await;
    prometheus.fires("AxsShardPaused", &[("shard", "0")]).await;
    let unled = prometheus
        .query("axs_shard_unowned{shard=\"0\"} == 1")
        .await;
    assert_eq!(unled.len(), 1, "nobody leads it");
    prometheus.clears(&["AxsShardUnowned"]).await;
    act(cluster, "resume").await;
    prometheus.clears(&["AxsShardPaused"]).await;
}

/// An operator's, on shard 0.
async fn act(cluster: &Cluster, what: &str) {
    let act = [
        "shards",
        what,
        "0",
        "--execute",
        "--yes",
        "--reason",
        "to see the alert",
    ];
    cluster.run(&act).await;
}

async fn a_shard_stops(cluster: &Cluster, prometheus: &Prometheus) {
    change_anchor(cluster).await;
    prometheus.fires("AxsShardStopped", &[("shard", "1")]).await;
    prometheus
        .fires("AxsProcessNotReady", &[("job", "axs-consume")])
        .await;
    change_anchor(cluster).await;
    prometheus
        .clears(&["AxsShardStopped", "AxsProcessNotReady"])
        .await;
}

/// Another record than the one in the log was applied last; done twice, it is that one again.
async fn change_anchor(cluster: &Cluster) {
    by_hand(
        cluster,
        "SELECT axs_pause(1::smallint, 'test', 'to change the anchor')",
    )
    .await;
    eventually(PATIENCE, async || {
        let led = "SELECT count(*) FROM shard_position
            WHERE shard = 1 AND lease_until > clock_timestamp()";
        match cluster.count(led).await {
            0 => Ok(()),
            _ => Err("shard 1 is led".to_owned()),
        }
    })
    .await;
    let change = "UPDATE shard_position SET anchor = set_byte(anchor, 0, 255 - get_byte(anchor, 0))
            WHERE shard = 1;
        SELECT axs_resume(1::smallint, 'test', 'changed')";
    by_hand(cluster, change).await;
}

async fn the_outbox_is_gone(cluster: &mut Cluster, prometheus: &Prometheus) {
    cluster.outboxes[0].kill9();
    prometheus.fires("AxsOutboxNotRunning", &[]).await;
    prometheus
        .fires("AxsProcessDown", &[("job", "axs-cron-outbox")])
        .await;
    cluster.outboxes[0].restart().await;
    prometheus
        .clears(&["AxsOutboxNotRunning", "AxsProcessDown"])
        .await;
}

/// The database gives out numbers that it gave out before.
async fn numbers_come_again(cluster: &mut Cluster, prometheus: &Prometheus) {
    cluster.send(&wave(cluster, "before"), "applied");
    let back = "UPDATE sequence s SET next = (SELECT max(b.first) FROM sequence_block b
        WHERE b.shard = s.shard)";
    by_hand(cluster, back).await;
    // The blocks that it has are of before.
    cluster.servers[0].kill9();
    cluster.servers[0].restart().await;
    cluster.send(&wave(cluster, "again"), "applied");
    prometheus.fires("AxsNumbersTaken", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_servers_that_are_away_fire_and_clear() {
    let stack = Stack::start(&["postgres", "redis"]);
    let cluster = Cluster::start(options(Some(&stack), &[])).await;
    let alertmanager = Alertmanager::start();
    let prometheus = Prometheus::start(&cluster, Some(&alertmanager.address)).await;
    cluster.send(&wave(&cluster, "open"), "applied");
    prometheus.is_quiet().await;

    stack.down("redis");
    for job in ["axs-serve-grpc", "axs-consume"] {
        prometheus.fires("AxsCacheAway", &[("job", job)]).await;
    }
    alertmanager.passes_on("AxsCacheAway", "ticket").await;
    cluster.send(&wave(&cluster, "without-redis"), "applied");
    stack.up("redis");
    prometheus.clears(&["AxsCacheAway"]).await;
    prometheus.is_quiet().await;

    stack.down("postgres");
    let waits = cluster.submit(&wave(&cluster, "without-postgres"), "applied");
    let told = [("answer", "unavailable")];
    prometheus.fires("AxsAcceptFailing", &told).await;
    for job in ["axs-serve-grpc", "axs-consume", "axs-cron-outbox"] {
        prometheus
            .fires("AxsProcessNotReady", &[("job", job)])
            .await;
    }
    prometheus.fires("AxsOutboxNotRunning", &[]).await;
    alertmanager.passes_on("AxsOutboxNotRunning", "page").await;
    stack.up("postgres");
    waits.finish();
    prometheus.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_what_is_slow_or_wrong_fire_and_clear() {
    // A leader that commits a hundred records every eight seconds.
    let interval = "AXS_CONSUME__FLUSH_INTERVAL_MIN";
    let settings = [(interval, "8s"), ("AXS_CONSUME__BATCH_COUNT_MAX", "100")];
    let mut cluster = Cluster::start(options(None, &settings)).await;
    let prometheus = Prometheus::start(&cluster, None).await;
    let tick = record::encode_tick(&Tick {
        now: Timestamp(0),
        wal_position: 0,
    });
    let log = cluster.topics.log().await;
    let ticks = log.append(vec![record(0, tick); TICKS]).await;
    assert!(ticks.iter().all(Result::is_ok), "{:?}", ticks[0]);
    prometheus.fires("AxsShardLagging", &[("shard", "0")]).await;
    prometheus.fires("AxsFlushStalled", &[("shard", "0")]).await;
    cluster.set(interval, "0s");
    cluster.consumers[0].kill9();
    cluster.consumers[0].restart().await;
    prometheus
        .clears(&["AxsShardLagging", "AxsFlushStalled"])
        .await;

    cluster.send(&wave(&cluster, "open"), "applied");
    prometheus.is_quiet().await;
    add_by_hand(&cluster, 1).await;
    prometheus.fires("AxsDrift", &[]).await;
    add_by_hand(&cluster, -1).await;
    prometheus.clears(&["AxsDrift"]).await;
    prometheus.is_quiet().await;
}

/// One unit more or less of what stands in PostgreSQL.
async fn add_by_hand(cluster: &Cluster, units: i64) {
    let change = format!(
        "SET axs.flushing = 'on';
        UPDATE balance SET available = available + {units} WHERE account_id = 1"
    );
    by_hand(cluster, &change).await;
}
