//! What comes back from an earlier time: a database is refused, a cache is put right.

use crate::{
    audit::redis_agrees,
    cluster::{Cluster, Options},
    stream::Stream,
};

const SHARDS: u16 = 4;

async fn stop_all(cluster: &mut Cluster) {
    let processes = cluster.servers.iter_mut().chain(&mut cluster.outboxes);
    for process in processes.chain(&mut cluster.consumers) {
        assert!(
            process.sigterm().await.0.success(),
            "`{}` stops",
            process.name
        );
    }
}

/// A copy of the database is taken, commands go on, and the copy is brought back: every service
/// refuses it, with a sentence that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_in_time_is_refused() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    stop_all(&mut cluster).await;
    cluster.database.copy_aside().await;
    for process in cluster.consumers.iter_mut().chain(&mut cluster.servers) {
        process.restart().await;
    }
    cluster.send(&stream.commands, "applied");
    for process in cluster.consumers.iter_mut().chain(&mut cluster.servers) {
        assert!(process.sigterm().await.0.success());
    }
    cluster.database.bring_copy_back().await;

    let processes = cluster.servers.iter_mut().chain(&mut cluster.outboxes);
    for process in processes.chain(&mut cluster.consumers) {
        let (status, log) = process.refuses().await;
        assert_eq!(status.code(), Some(6), "`{}`: {log}", process.name);
        assert!(
            log.contains("the database went back in time"),
            "`{}`: {log}",
            process.name
        );
    }
}

/// A value that a cache kept from before, and one that it lost, are put right by the leader's pass
/// over its accounts, although nobody touches those accounts again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_from_an_earlier_time_is_put_right() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    cluster.send(&stream.commands, "applied");
    redis_agrees(&cluster, true).await;
    let shard = cluster
        .count("SELECT min(shard)::bigint FROM account")
        .await;
    let shard = i16::try_from(shard).expect("small");
    let accounts = cluster.redis.values(shard, "balance");
    assert!(
        accounts.len() >= 2,
        "some accounts to spoil: {}",
        accounts.len()
    );
    cluster.redis.delete(shard, &accounts[0].0);
    // As the account was before it had a balance.
    let (head, _) = accounts[1].1.split_once(" | ").expect("it has balances");
    let older = format!("{:020} {:020}{}", 0, 0, &head[41..]);
    cluster.redis.set(shard, &accounts[1].0, &older);
    assert!(cluster.consumers[0].sigterm().await.0.success());
    cluster.consumers[0].restart().await;
    redis_agrees(&cluster, true).await;
}
