//! Commands that were accepted and never reached the log get there by the outbox.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    member::{PATIENCE, eventually},
    stack::Stack,
    stream::Report,
};

const ACCOUNTS: u64 = 200;
const SHARDS: u16 = 4;

/// A wave of commands, one per account, so that no order among them matters. Every second one
/// takes more than there is.
fn wave(cluster: &Cluster, name: &str, kind: &str, amounts: [&str; 2]) -> PathBuf {
    let mut text = String::new();
    for account in 1..=ACCOUNTS {
        let amount = amounts[usize::from(account % 2 == 0)];
        writeln!(
            text,
            r#"{{"source":"wave","idempotency_key":"{name}-{account}","account_id":{account},
            "kind":"{kind}","changes":[{{"asset":"USD","available_delta":"{amount}"}}]}}"#
        )
        .expect("a String takes everything");
    }
    let file = cluster.folder().join(format!("{name}.jsonl"));
    std::fs::write(&file, text.replace("\n            ", " ")).expect("a file");
    file
}

fn is_all(reports: &[Report], statuses: [&str; 2]) {
    assert_eq!(reports.len() as u64, ACCOUNTS);
    for report in reports {
        let status = statuses[usize::from(report.line % 2 == 0)];
        assert_eq!(report.outcome.status, status, "{report:?}");
    }
}

/// Accepts a wave that cannot reach Kafka: Kafka is down, and the only process that knows of it is
/// killed before Kafka is back.
async fn lose(cluster: &mut Cluster, stack: &Stack, file: &Path) {
    stack.down("kafka");
    let reports = cluster.send(file, "accepted");
    is_all(&reports, ["ACCEPTED", "ACCEPTED"]);
    cluster.servers[0].kill9();
    stack.up("kafka");
    cluster.servers[0].restart().await;
    assert_eq!(
        pending(cluster).await,
        i64::try_from(ACCOUNTS).expect("a few")
    );
}

async fn pending(cluster: &Cluster) -> i64 {
    let sql = "SELECT count(*) FROM command c JOIN shard_position p ON p.shard = c.shard
        WHERE NOT p.applied @> c.seq";
    cluster.count(sql).await
}

async fn is_done(cluster: &Cluster) {
    eventually(PATIENCE, async || match pending(cluster).await {
        0 => Ok(()),
        count => Err(format!("{count} commands are pending")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_on_the_way_arrives() {
    let stack = Stack::start(&["kafka"]);
    let mut cluster = Cluster::start(Options {
        shards: SHARDS,
        assets: "USD:2".into(),
        servers: 1,
        consumers: 1,
        outboxes: 0,
        stack: Some(&stack),
        settings: &[],
    })
    .await;
    let opening = wave(&cluster, "open", "OPEN_ACCOUNT", ["10", "10"]);
    let reports = cluster.send(&opening, "applied");
    is_all(&reports, ["APPLIED", "APPLIED"]);

    // By single passes, as a cron would start them.
    let first = wave(&cluster, "first", "CHANGE", ["-4", "-40"]);
    lose(&mut cluster, &stack, &first).await;
    let mut resent = 0;
    eventually(PATIENCE, async || {
        let pass = cluster.run(&["cron-outbox", "--once"]).await;
        assert_eq!(pass["schema"], "axs.cron-outbox/v1");
        let figure = |name: &str| -> u64 {
            let text = pass[name]
                .as_str()
                .unwrap_or_else(|| panic!("no `{name}` in {pass}"));
            text.parse().expect("a number")
        };
        resent += figure("resent");
        match figure("pending") {
            0 => Ok(()),
            _ => Err(pass.to_string()),
        }
    })
    .await;
    assert!(resent >= ACCOUNTS, "{resent} were sent again");
    let reports = cluster.send(&first, "applied");
    is_all(&reports, ["APPLIED", "REJECTED"]);

    // By two at a time, one of which is killed and comes back.
    let second = wave(&cluster, "second", "CHANGE", ["-6", "-11"]);
    lose(&mut cluster, &stack, &second).await;
    cluster.add_outbox().await;
    cluster.add_outbox().await;
    cluster.outboxes[0].kill9();
    cluster.outboxes[0].restart().await;
    is_done(&cluster).await;
    let reports = cluster.send(&second, "applied");
    is_all(&reports, ["APPLIED", "REJECTED"]);

    // 10 - 4 - 6 here, 10 there.
    let sql = "SELECT count(*) FROM balance WHERE frozen = 0 AND CASE account_id % 2
        WHEN 1 THEN available = 0 AND version = 3 ELSE available = 1000 AND version = 1 END";
    assert_eq!(
        cluster.count(sql).await,
        i64::try_from(ACCOUNTS).expect("a few")
    );
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}
