//! What an operator sees of shards: as they are, with and without a leader, with and without Kafka.

use axs::core::{
    log::NewRecord,
    types::{ShardId, Timestamp},
};
use serde_json::Value;

use crate::{
    cluster::{Cluster, Options},
    member::{Environment, PATIENCE, command, eventually},
    stream::Stream,
};

const SHARDS: u16 = 4;

async fn list(cluster: &Cluster) -> Vec<Value> {
    let document = cluster.run(&["shards", "list"]).await;
    assert_eq!(document["schema"], "axs.shards/v1");
    let shards = document["shards"].as_array().expect("shards").clone();
    let numbers: Vec<_> = shards.iter().map(|shard| shard["shard"].as_u64()).collect();
    assert_eq!(
        numbers,
        (0..u64::from(SHARDS)).map(Some).collect::<Vec<_>>()
    );
    shards
}

async fn show(cluster: &Cluster, shard: u16) -> Value {
    let document = cluster.run(&["shards", "show", &shard.to_string()]).await;
    let shards = document["shards"].as_array().expect("shards");
    assert_eq!(shards.len(), 1, "{document}");
    shards[0].clone()
}

/// What PostgreSQL itself says of a shard.
async fn stored(cluster: &Cluster, shard: u16, column: &str) -> i64 {
    let sql = format!("SELECT {column}::bigint FROM shard_position WHERE shard = {shard}");
    cluster.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_shown_as_they_are() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    cluster.send(&stream.commands, "applied");
    eventually(PATIENCE, async || {
        let shards = list(&cluster).await;
        let is_done = |shard: &Value| shard["lag"] == 0 && shard["pending"] == 0;
        match shards.iter().all(is_done) {
            true => Ok(()),
            false => Err(format!("{shards:?}")),
        }
    })
    .await;
    let pid = format!(":{}:", cluster.consumers[0].pid());
    for (number, shard) in (0..).zip(list(&cluster).await) {
        let leader = shard["leader"].as_str().expect("a leader");
        assert!(leader.contains(&pid), "{leader} is not {pid}");
        assert_eq!(shard["is_led"], true);
        assert!(shard["lease_left_ms"].as_u64() > Some(0), "{shard}");
        let epoch = stored(&cluster, number, "epoch").await;
        assert_eq!(shard["epoch"], epoch.to_string());
        let next = stored(&cluster, number, "next_position").await;
        assert_eq!(shard["next_position"], next.to_string());
        assert_eq!(shard["log_end"], next.to_string());
        assert_eq!(shard["dead_letters"], Value::Array(Vec::new()));
        assert_eq!(shard["oldest_pending_ms"], Value::Null);
    }

    assert!(cluster.consumers[0].sigterm().await.0.success());
    let log = cluster.topics.log().await;
    let garbage = NewRecord {
        shard: ShardId(1),
        account: None,
        value: bytes::Bytes::from_static(b"no log record"),
        command: None,
        source: "test".into(),
        time: Timestamp(0),
    };
    assert_eq!(log.append(vec![garbage]).await, [Ok(())]);
    let account = cluster
        .count("SELECT min(account_id) FROM account WHERE shard = 1")
        .await;
    let file = cluster.folder().join("one.jsonl");
    let assets = stream.assets();
    let asset = assets.split(':').next().expect("an asset");
    let line = format!(
        r#"{{"source":"test","idempotency_key":"one","account_id":{account},"kind":"CHANGE","changes":[{{"asset":"{asset}","available_delta":"1"}}]}}"#
    );
    std::fs::write(&file, line).expect("a file");
    cluster.send(&file, "accepted");
    let shard = eventually(PATIENCE, async || {
        let shard = show(&cluster, 1).await;
        match shard["lag"].as_u64() {
            Some(2..) => Ok(shard),
            _ => Err(shard.to_string()),
        }
    })
    .await;
    assert_eq!(
        (&shard["is_led"], &shard["leader"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(shard["pending"], 1, "{shard}");
    assert!(shard["oldest_pending_ms"].is_u64(), "{shard}");

    cluster.consumers[0].restart().await;
    let shard = eventually(PATIENCE, async || {
        let shard = show(&cluster, 1).await;
        match (&shard["lag"], &shard["pending"]) {
            (lag, pending) if *lag == 0 && *pending == 0 => Ok(shard),
            _ => Err(shard.to_string()),
        }
    })
    .await;
    let letters = shard["dead_letters"].as_array().expect("dead letters");
    assert_eq!(letters.len(), 1, "{shard}");
    assert_eq!(letters[0]["reason"], "UNDECODABLE");
    assert_eq!(letters[0]["parks"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_shards_are_shown_but_for_their_lag() {
    let stream = Stream::load();
    let cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    let mut environment = cluster.environment().clone();
    environment.push(("AXS_KAFKA__BROKERS".into(), "127.0.0.1:1".into()));
    let run = async |environment: &Environment, arguments: &'static [&'static str]| {
        let mut command = command(arguments, environment, cluster.folder());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output
            .expect("nobody aborts it")
            .expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, out, err) = run(&environment, &["shards", "list"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 1 + usize::from(SHARDS), "{out}");
    assert!(err.contains("the lag is not known: "), "{err}");
    let (code, out, err) = run(&environment, &["shards", "show", "4"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(
        err.contains("there is no shard 4: the cluster has 4, from 0"),
        "{err}"
    );

    // Whoever only looks makes no topics.
    environment.push(("AXS_KAFKA__TOPIC_PREFIX".into(), "another.".into()));
    let (code, out, err) = run(&environment, &["shards", "list"]).await;
    assert_eq!((code, out.as_str()), (Some(6), ""), "{err}");
}
