//! Balances that are changed by hand, or in Redis, under a detector that must find them and nothing
//! else.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axs::core::drift::SOURCE;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{
    cluster::{Cluster, Options},
    member::{PATIENCE, eventually},
    process::Submit,
    stream::Report,
};

const ACCOUNTS: u64 = 40;
/// Found within so long, says the contract with operators.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// Past the guards on the table, and past the triggers of the session.
const PAST_GUARDS: &str = "SET session_replication_role = replica";
/// Past what notes it, too: as if the triggers were gone.
const UNNOTED: &str = "SET session_replication_role = replica; SET axs.repairing = on";

async fn cluster(consumers: usize) -> Cluster {
    let cluster = Cluster::start(Options {
        shards: 2,
        assets: "USD:2".into(),
        servers: 1,
        consumers,
        outboxes: 1,
        stack: None,
        // Of a machine that is busy with other tests.
        settings: &[("AXS_POSTGRES__CONNECT_TIMEOUT", "30s")],
    })
    .await;
    let reports = cluster.send(&wave(&cluster, "open", "OPEN_ACCOUNT", "1000"), "applied");
    assert!(reports.iter().all(|it| it.outcome.status == "APPLIED"));
    cluster
}

/// A command for each account.
fn wave(cluster: &Cluster, name: &str, kind: &str, amount: &str) -> PathBuf {
    let mut text = String::new();
    for account in 1..=ACCOUNTS {
        let changes = match kind {
            "UNBLOCK_ACCOUNT" => String::new(),
            _ => format!(r#","changes":[{{"asset":"USD","available_delta":"{amount}"}}]"#),
        };
        writeln!(
            text,
            r#"{{"source":"load","idempotency_key":"{name}-{account}","account_id":{account},"kind":"{kind}"{changes}}}"#
        )
        .expect("a String takes everything");
    }
    let file = cluster.folder().join(format!("{name}.jsonl"));
    std::fs::write(&file, text).expect("a file");
    file
}

/// Commands for all accounts, wave upon wave, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Report>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        const WAVES_MAX: usize = 100_000;
        let stop = Arc::new(AtomicBool::new(false));
        let (server, stopped) = (cluster.server(), stop.clone());
        let file = wave(cluster, "wave", "CHANGE", "0.01");
        let template = std::fs::read_to_string(&file).expect("it was written");
        let task = tokio::task::spawn_blocking(move || {
            let mut reports = Vec::new();
            for number in 0..WAVES_MAX {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                std::fs::write(&file, template.replace("wave-", &format!("wave{number}-")))
                    .expect("a file");
                reports.extend(Submit::start(&server, &file, "applied").finish());
            }
            reports
        });
        Self { stop, task }
    }

    async fn stop(self) -> Vec<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load ends")
    }
}

/// The sum of a metric over all shards and kinds, and all consumers.
async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let mut sum = 0.0;
    for consumer in &cluster.consumers {
        let page = consumer.metrics().await;
        let lines = page
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        sum += values.sum::<f64>();
    }
    sum
}

/// Until a metric of the consumers is what it should be.
async fn shows(cluster: &Cluster, name: &str, fits: impl Fn(f64) -> bool) {
    eventually(PATIENCE, async || {
        let value = metric(cluster, name).await;
        fits(value).then_some(()).ok_or(format!("{name} {value}"))
    })
    .await;
}

/// Changes a row by hand.
async fn damage(cluster: &Cluster, how: &str, account: u64, by: i64) {
    let session = cluster.database.session().await;
    session.batch_execute(how).await.expect("a superuser");
    let sql = "UPDATE balance SET available = available + $2 WHERE account_id = $1";
    let account = i64::try_from(account).expect("small");
    let by = by.to_string();
    let changed = session
        .execute(&sql.replace("$2", &by), &[&account])
        .await
        .expect("it is changed");
    assert_eq!(changed, 1);
}

/// What `inspect-balance` says of an account.
async fn inspect(cluster: &Cluster, account: u64) -> Value {
    let account = account.to_string();
    cluster
        .run(&["inspect-balance", "--account", &account])
        .await
}

/// Until the account is blocked, by a command of the detector that was applied.
async fn blocked(cluster: &Cluster, account: u64, within: Duration) {
    let sql = format!(
        "SELECT count(*) FROM command c
            CROSS JOIN LATERAL axs_outcome(c.shard::bigint << 48 | c.seq) o
            JOIN account a ON a.account_id = c.account_id
            WHERE c.account_id = {account} AND c.source = '{SOURCE}' AND o.outcome = 0
                AND c.idempotency_key LIKE '{account}/USD/%' AND a.status = 2"
    );
    eventually(within, async || match cluster.count(&sql).await {
        0 => Err(format!("account {account} is open")),
        _ => Ok(()),
    })
    .await;
}

async fn blocks(cluster: &Cluster) -> i64 {
    let sql = format!("SELECT count(*) FROM command WHERE source = '{SOURCE}'");
    cluster.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unit_on_a_hot_balance_is_found_and_the_account_blocked() {
    let cluster = cluster(1).await;
    let load = Load::start(&cluster);
    let hot = "SELECT version FROM balance WHERE account_id = 7";
    eventually(PATIENCE, async || match cluster.count(hot).await {
        5.. => Ok(()),
        version => Err(format!("version {version}")),
    })
    .await;

    let damaged_at = Instant::now();
    damage(&cluster, PAST_GUARDS, 7, 1).await;
    blocked(&cluster, 7, FOUND_WITHIN).await;
    let took = damaged_at.elapsed();
    assert!(took < FOUND_WITHIN, "found after {took:?}");
    eprintln!("found and blocked after {took:?}");
    shows(&cluster, "axs_drift_balances", |value| value == 1.0).await;
    let log = cluster.consumers[0].tail();
    assert!(log.contains("balance differs"), "{log}");

    let shown = inspect(&cluster, 7).await;
    assert_eq!(shown["account"]["status"], "BLOCKED", "{shown}");
    assert_eq!(shown["drift"][0]["kind"], "touched", "{shown}");
    assert_eq!(shown["drift"][0]["asset"], "USD", "{shown}");
    let by = shown["drift"][0]["blocked_by"].as_str().expect("a command");
    let command = cluster.run(&["inspect-command", by]).await;
    assert_eq!(command["command"]["source"], SOURCE, "{command}");
    assert_eq!(command["state"], "APPLIED", "{command}");

    let reports = load.stop().await;
    let rejected = reports.iter().filter(|it| it.outcome.status == "REJECTED");
    assert!(rejected.clone().count() > 0, "commands met the block");
    assert!(
        rejected
            .clone()
            .all(|it| it.outcome.reject_code == "ACCOUNT_BLOCKED")
    );

    // An operator puts the row right, if no flush did, and opens the account again.
    let session = cluster.database.session().await;
    session
        .batch_execute(PAST_GUARDS)
        .await
        .expect("a superuser");
    let repair = "UPDATE balance b SET available = e.available_after
        FROM axs_entries(7, 1, p_limit => 1) e
        WHERE b.account_id = 7 AND b.available <> e.available_after";
    session.execute(repair, &[]).await.expect("it is repaired");
    let unblock = wave(&cluster, "unblock", "UNBLOCK_ACCOUNT", "");
    let reports = cluster.send(&unblock, "applied");
    assert!(reports.iter().all(|it| it.outcome.status == "APPLIED"));
    let reports = cluster.send(&wave(&cluster, "after", "CHANGE", "1"), "applied");
    assert!(reports.iter().all(|it| it.outcome.status == "APPLIED"));
    shows(&cluster, "axs_drift_balances", |value| value == 0.0).await;
    assert_eq!(blocks(&cluster).await, 1, "nobody is blocked again");
    let shown = inspect(&cluster, 7).await;
    assert_eq!(shown["account"]["status"], "OPEN", "{shown}");
    assert!(shown["drift"][0]["whole_at"].is_string(), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_noted_is_found_by_looking() {
    let mut cluster = cluster(1).await;
    // By a leader that knows the right amounts ...
    damage(&cluster, UNNOTED, 3, -1).await;
    blocked(&cluster, 3, FOUND_WITHIN).await;
    // ... and by one that loads the wrong ones.
    cluster.consumers[0].kill9();
    damage(&cluster, UNNOTED, 5, 1).await;
    cluster.consumers[0].restart().await;
    cluster.is_led().await;
    blocked(&cluster, 5, PATIENCE).await;
    let found = "SELECT count(*) FROM drift WHERE kind = 'journal' AND account_id IN (3, 5)
        AND seen_at IS NOT NULL AND whole_at IS NULL";
    assert_eq!(cluster.count(found).await, 2);
    assert_eq!(blocks(&cluster).await, 2);
    shows(&cluster, "axs_drift_balances", |value| value == 2.0).await;

    // Put right while nobody leads: a leader that loaded the wrong row would go on with it.
    cluster.consumers[0].kill9();
    damage(&cluster, UNNOTED, 3, 1).await;
    damage(&cluster, UNNOTED, 5, -1).await;
    cluster.consumers[0].restart().await;
    cluster.is_led().await;
    shows(&cluster, "axs_drift_checked_total", |checked| checked > 0.0).await;
    shows(&cluster, "axs_drift_balances", |value| value == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_redis_is_written_again_and_nobody_is_blocked() {
    let cluster = cluster(1).await;
    let shard = cluster
        .count("SELECT shard::bigint FROM account WHERE account_id = 9")
        .await;
    let shard = i16::try_from(shard).expect("a shard");
    let value = || {
        let values = cluster.redis.values(shard, "balance");
        values.into_iter().find(|(account, _)| account == "9")
    };
    let right = eventually(PATIENCE, async || value().ok_or("no snapshot".into()))
        .await
        .1;
    let wrong = right.replacen("100000", "100001", 1);
    assert_ne!(right, wrong, "the amount stands in the value");
    cluster.redis.set(shard, "9", &wrong);
    let amount = |text: &str| text.contains("100000");
    eventually(FOUND_WITHIN, async || match value() {
        Some((_, now)) if amount(&now) => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
    let found = "SELECT count(*) FROM drift WHERE kind = 'redis' AND account_id = 9";
    assert_eq!(cluster.count(found).await, 1);
    assert_eq!(cluster.count("SELECT count(*) FROM drift").await, 1);
    assert_eq!(blocks(&cluster).await, 0);
    shows(&cluster, "axs_drift_balances", |value| value == 0.0).await;
}

/// Take-overs of the short run.
const TAKE_OVERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_under_load_with_take_overs() {
    let mut cluster = cluster(2).await;
    let load = Load::start(&cluster);
    let until = std::env::var("AXS_TEST_DRIFT_SECONDS").ok();
    let until = until.map(|text| text.parse::<u64>().expect("seconds"));
    let started = Instant::now();
    let mut take_overs = 0;
    while take_overs < TAKE_OVERS
        || until.is_some_and(|seconds| started.elapsed() < Duration::from_secs(seconds))
    {
        let victim = take_overs % 2;
        let looked = metric(&cluster, "axs_drift_checked_total").await;
        // Some looks at everything, between one take-over and the next.
        shows(&cluster, "axs_drift_checked_total", |checked| {
            checked >= looked + 4.0 * ACCOUNTS as f64
        })
        .await;
        cluster.consumers[victim].kill9();
        cluster.is_led().await;
        cluster.consumers[victim].restart().await;
        take_overs += 1;
    }
    let reports = load.stop().await;
    assert!(reports.iter().all(|it| it.outcome.status == "APPLIED"));
    eprintln!(
        "{take_overs} take-overs, {} commands, {:?}",
        reports.len(),
        started.elapsed()
    );
    assert_eq!(cluster.count("SELECT count(*) FROM drift").await, 0);
    assert_eq!(metric(&cluster, "axs_drift_found_total").await, 0.0);
    assert_eq!(blocks(&cluster).await, 0);
}
