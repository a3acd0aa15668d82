//! A shard is paused and resumed under load.

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    member::{PATIENCE, eventually, signal},
    stream::{Sending, Stream},
};

const SHARDS: u16 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_shard_is_led_by_nobody_until_it_is_resumed() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, SHARDS)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 10);

    let plan = ["shards", "pause", "--all", "--reason", "a test"];
    cluster.run_to_end(&plan).await;
    let audits = "SELECT count(*) FROM audit";
    assert_eq!(cluster.count(audits).await, 0, "a plan changes nothing");
    let (code, _, error) = cluster
        .run_to_end(&[&plan[..], &["--execute"]].concat())
        .await;
    assert_eq!(code, 7, "{error}");
    assert!(error.contains("give --yes"), "{error}");
    assert_eq!(cluster.count(audits).await, 0, "nobody said yes");

    let execute = [&plan[..], &["--execute", "--yes"]].concat();
    for changed in [true, false] {
        let document = cluster.run(&execute).await;
        let shards = document["shards"].as_array().expect("shards");
        assert_eq!(shards.len(), usize::from(SHARDS));
        assert!(
            shards.iter().all(|shard| shard["changed"] == changed),
            "{document}"
        );
    }
    assert_eq!(
        cluster.count(audits).await,
        i64::from(SHARDS),
        "twice is once"
    );
    assert_eq!(cluster.spread().await, [], "nobody leads");
    let at = "SELECT sum(next_position)::bigint FROM shard_position";
    let before = cluster.count(at).await;

    // Neither a process that starts nor one that takes over from a dead one leads it.
    cluster.consumers[0].kill9();
    cluster.consumers[0].respawn();
    let pending = "SELECT count(*) FROM command c JOIN shard_position p USING (shard)
        WHERE NOT p.applied @> c.seq";
    eventually(PATIENCE, async || match cluster.count(pending).await {
        0 => Err("commands are accepted".to_owned()),
        _ => Ok(()),
    })
    .await;
    let shards = cluster.run(&["shards", "list"]).await;
    for shard in shards["shards"].as_array().expect("shards") {
        assert_eq!(shard["is_led"], false, "{shard}");
        assert!(
            shard["paused_by"]
                .as_str()
                .is_some_and(|by| by.contains('@')),
            "{shard}"
        );
    }
    assert_eq!(cluster.count(at).await, before, "nothing is applied");
    let doctor = cluster.run(&["doctor"]).await;
    let checks = doctor["checks"].as_array().expect("checks");
    let paused = checks.iter().find(|check| check["name"] == "paused");
    assert_eq!(paused.expect("it says so")["found"], "shards 0, 1, 2, 3");

    let resumed = cluster
        .run(&["shards", "resume", "--all", "--execute", "--yes"])
        .await;
    assert_eq!(resumed["shards"][0]["changed"], true, "{resumed}");
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

/// Whoever leads and hangs loses its lease by itself: nobody has to wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_does_not_keep_a_shard_from_being_paused() {
    let stream = Stream::load();
    let cluster = Cluster::start(Options::of(&stream, 1)).await;
    signal(cluster.consumers[0].pid(), "STOP");
    let paused = cluster
        .run(&["shards", "pause", "0", "--execute", "--yes"])
        .await;
    assert_eq!(paused["shards"][0]["changed"], true);
    assert_eq!(cluster.spread().await, []);
    signal(cluster.consumers[0].pid(), "CONT");
    cluster
        .run(&["shards", "resume", "0", "--execute", "--yes"])
        .await;
    cluster.is_led().await;
    let reports = cluster.send(&stream.commands, "applied");
    stream.assert_outcomes(&reports, Sending::First);
    assert_eq!(cluster.count("SELECT count(*) FROM audit").await, 2);
}
