//! The log is replaced under load: shards stop, the command that their message names lets them go
//! on, and nothing is lost or applied twice.

use axs::core::chaos::laws;
use rdkafka::admin::AdminOptions;

use crate::{
    audit::redis_agrees,
    cluster::{Cluster, Options},
    member::{PATIENCE, eventually},
    stack::Stack,
    stream::{Report, Sending, Stream},
};

const SHARDS: u16 = 4;
const REBASE: [&str; 5] = ["shards", "rebase", "--all", "--reason", "a rehearsal"];
const YES: [&str; 2] = ["--execute", "--yes"];

/// Waits until a shard has stopped with a message that names this command.
async fn is_told(cluster: &Cluster, command: &str) {
    eventually(PATIENCE, async || {
        let log = cluster.consumers[0].tail();
        match log.contains(command) {
            true => Ok(()),
            false => Err(log),
        }
    })
    .await;
}

/// Outcomes, balances, and every law in the database.
async fn nothing_is_lost(cluster: &Cluster, stream: &Stream, reports: &[Report]) {
    stream.assert_outcomes(reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), reports).await);
    let broken = laws::broken(&cluster.database.session().await).await;
    assert_eq!(broken.expect("the laws can be asked"), []);
    redis_agrees(cluster, true).await;
    // As an operator would look.
    let against = ["reconcile", "--all", "--against", "balance,redis,log"];
    cluster.run(&against).await;
    for shard in 0..SHARDS {
        let shard = shard.to_string();
        let replay = ["replay", "--shard", &shard, "--diff", "postgres,redis"];
        cluster.run(&replay).await;
    }
}

async fn generations(cluster: &Cluster) -> Vec<i64> {
    let sql = "SELECT next_position >> 48 FROM shard_position ORDER BY shard";
    let rows = cluster.database.session().await.query(sql, &[]).await;
    rows.expect("positions")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_is_gone_on_without() {
    let stream = Stream::load();
    let cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    let nothing = cluster.run(&[&REBASE[..], &YES].concat()).await;
    for shard in nothing["shards"].as_array().expect("shards") {
        assert_eq!(shard["why"], serde_json::Value::Null, "{shard}");
        assert_eq!(shard["changed"], false, "{shard}");
    }

    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() * 3 / 10);
    let topics = [cluster.topics.names.commands.as_str()];
    let admin = cluster.topics.admin();
    let deleted = admin.delete_topics(&topics, &AdminOptions::new()).await;
    assert!(matches!(deleted.as_deref(), Ok([Ok(_)])), "{deleted:?}");
    cluster.topics.ensure().await;
    is_told(&cluster, "axs shards rebase").await;
    let plan = cluster.run(&REBASE).await;
    let due = plan["shards"].as_array().expect("shards").iter();
    assert!(
        due.filter(|shard| !shard["why"].is_null()).count() > 0,
        "{plan}"
    );
    assert_eq!(
        generations(&cluster).await,
        [0; 4],
        "a plan changes nothing"
    );
    cluster.run(&[&REBASE[..], &YES].concat()).await;
    let reports = submit.finish();
    nothing_is_lost(&cluster, &stream, &reports).await;
    let again = cluster.run(&[&REBASE[..], &YES].concat()).await;
    let again = again["shards"].as_array().expect("shards").iter();
    assert!(
        again.clone().all(|shard| shard["changed"] == false),
        "twice is once"
    );
}

/// Another, empty Kafka at the same address.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_was_replaced_by_an_empty_one_is_gone_on_with() {
    let stream = Stream::load();
    let stack = Stack::start(&["kafka"]);
    let mut cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, SHARDS)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() * 3 / 10);
    stack.kill9("kafka");
    stack.lose("kafka");
    stack.up("kafka");
    // One shard alone cannot move.
    let (code, _, error) = cluster
        .run_to_end(&[&["shards", "rebase", "0"][..], &YES].concat())
        .await;
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("--all"), "{error}");
    let plan = cluster.run(&REBASE).await;
    assert_eq!(
        plan["topics_missing"].as_array().map(Vec::len),
        Some(3),
        "{plan}"
    );
    assert!(!plan["moves"].is_null(), "{plan}");
    let done = cluster.run(&[&REBASE[..], &YES].concat()).await;
    let all = done["shards"].as_array().expect("shards");
    assert!(all.iter().all(|shard| shard["changed"] == true), "{done}");
    assert_eq!(generations(&cluster).await, [1; 4]);
    // As it says.
    for process in cluster.consumers.iter_mut().chain(&mut cluster.outboxes) {
        process.kill9();
        process.restart().await;
    }
    cluster.servers[0].kill9();
    cluster.servers[0].restart().await;
    let reports = submit.finish();
    nothing_is_lost(&cluster, &stream, &reports).await;
}
