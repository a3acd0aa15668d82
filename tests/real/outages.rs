//! A server is away for a while: what can go on goes on, the rest waits, nothing is lost.

use std::time::{Duration, Instant};

use axs::core::proto::{
    BalanceKey, Change, Command, CommandKind, GetBalancesRequest, SubmitRequest,
    balance_snapshot::Origin, submit_error, write_service_client::WriteServiceClient,
};

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    expected::connect,
    member::{PATIENCE, eventually},
    stack::Stack,
    stream::{Sending, Stream},
};

/// A client hears of a missing database this soon at the latest.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// A command for an account that the file does not have.
const LATE: &str =
    r#"{"source":"outage","idempotency_key":"late","kind":"BLOCK_ACCOUNT","account_id":999999999}"#;

async fn origin(cluster: &Cluster, stream: &Stream) -> Origin {
    let request = GetBalancesRequest {
        keys: vec![BalanceKey {
            account_id: stream.expected.balances[0].account_id,
            asset: String::new(),
        }],
        ..GetBalancesRequest::default()
    };
    let answer = connect(&cluster.server()).await.get_balances(request).await;
    let balances = answer.expect("balances are read").into_inner().balances;
    balances.first().expect("the account has balances").origin()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_writes_and_reads_go_on() {
    let stream = Stream::load();
    let stack = Stack::start(&["redis"]);
    let cluster = Cluster::start(Options {
        stack: Some(&stack),
        consumers: 2,
        ..Options::of(&stream, 4)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 5);
    assert_eq!(origin(&cluster, &stream).await, Origin::Cache);
    stack.down("redis");
    assert_eq!(origin(&cluster, &stream).await, Origin::Store);
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    stack.up("redis");
    // Reads fill it again.
    eventually(Duration::from_secs(10), async || {
        match origin(&cluster, &stream).await {
            Origin::Cache => Ok(()),
            other => Err(format!("balances come from {other:?}")),
        }
    })
    .await;
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_callers_are_told_and_submit_waits() {
    let stream = Stream::load();
    let stack = Stack::start(&["postgres"]);
    let cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, 4)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 5);
    stack.down("postgres");
    is_told(&cluster).await;
    // Every line of the file may have been accepted and wait for its outcome; this one meets no
    // database.
    let told = refusals(&cluster).await;
    let file = cluster.folder().join("late.jsonl");
    std::fs::write(&file, LATE).expect("the folder takes files");
    let late = cluster.submit(&file, "applied");
    eventually(PATIENCE, async || match refusals(&cluster).await {
        now if now > told => Ok(()),
        _ => Err("no line was refused".to_owned()),
    })
    .await;
    stack.up("postgres");
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    let late = late.finish();
    assert_eq!(late[0].outcome.error, "ACCOUNT_NOT_FOUND");
    assert!(
        reports
            .iter()
            .chain(&late)
            .any(|report| report.attempts > 1),
        "a refused line is sent again"
    );
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_commands_are_accepted_and_wait() {
    let stream = Stream::load();
    let stack = Stack::start(&["kafka"]);
    let cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, 4)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 5);
    stack.down("kafka");
    // Until producing has given up what it was told, and only the outbox knows of it.
    eventually(PATIENCE, async || {
        let sql = "SELECT count(*) FROM command c JOIN shard_position p ON p.shard = c.shard
            WHERE NOT p.applied @> c.seq AND c.accepted_at < clock_timestamp() - interval '7 s'";
        match cluster.count(sql).await {
            0 => Err("no command has waited for long".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(origin(&cluster, &stream).await, Origin::Cache);
    stack.up("kafka");
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

/// Commands refused so far because the store is away.
async fn refusals(cluster: &Cluster) -> u64 {
    let page = cluster.servers[0].metrics().await;
    let name = r#"axs_accept_commands_total{answer="unavailable"} "#;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |count| count.parse().expect("a counter"))
}

/// A command gets a retryable error, soon, and as its own.
async fn is_told(cluster: &Cluster) {
    let client = WriteServiceClient::connect(cluster.server()).await;
    let mut client = client.expect("the API takes connections");
    let command = Command {
        source: "outage".into(),
        idempotency_key: "told".into(),
        account_id: 1,
        kind: CommandKind::Change.into(),
        changes: vec![Change {
            asset: "USDT".into(),
            available_delta: "1".into(),
            ..Change::default()
        }],
        ..Command::default()
    };
    let asked_at = Instant::now();
    let request = SubmitRequest {
        commands: vec![command],
        ..SubmitRequest::default()
    };
    let (code, retryable) = match client.submit(request).await {
        Ok(response) => {
            let outcomes = response.into_inner().outcomes;
            let error = outcomes[0].error.clone().expect("nothing can be stored");
            (error.code().as_str_name().to_owned(), error.retryable)
        }
        Err(status) => (format!("{:?}", status.code()), true),
    };
    let unavailable = submit_error::Code::Unavailable.as_str_name();
    assert!(code == unavailable || code == "Unavailable", "{code}");
    assert!(retryable);
    let took = asked_at.elapsed();
    assert!(took < TOLD_WITHIN, "it took {took:?}");
}
