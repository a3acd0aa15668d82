//! What comes back from an earlier time: a database is refused, a cache is put right.

use crate::{
    audit::redis_agrees,
    cluster::{Cluster, Options},
    member::{PATIENCE, Process, eventually},
    stack::Stack,
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

/// Waits until every process has looked how far the server is: each look has another latency, and
/// the second one from now on was begun after now.
async fn all_looked(cluster: &Cluster) {
    let processes = cluster.servers.iter().chain(&cluster.outboxes);
    for process in processes.chain(&cluster.consumers) {
        let mut seen = is_ready(process).await;
        for _ in 0..2 {
            seen = eventually(PATIENCE, async || match is_ready(process).await {
                now if now != seen => Ok(now),
                now => Err(now),
            })
            .await;
        }
    }
}

/// The latency that its page tells.
async fn is_ready(process: &Process) -> String {
    eventually(PATIENCE, async || match process.ready_page().await {
        (200, page) => {
            let (_, rest) = page.split_once("answers in ").expect("of PostgreSQL");
            Ok(rest.split('"').next().expect("its end").to_owned())
        }
        other => Err(format!("{other:?}")),
    })
    .await
}

/// The server's data of an earlier time is put in its place while all processes run: those that
/// have seen more refuse it, for good, and change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_back_under_running_processes_is_refused() {
    let stream = Stream::load();
    let stack = Stack::start(&["postgres"]);
    let mut cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, 2)
    })
    .await;
    stack.down("postgres");
    stack.copy_aside("postgres");
    stack.up("postgres");
    all_looked(&cluster).await;
    cluster.send(&stream.commands, "applied");
    all_looked(&cluster).await;
    let commands = "SELECT count(*) FROM command";
    assert!(cluster.count(commands).await > 0);
    stack.kill9("postgres");
    // A crash alone is none: the same data again.
    stack.up("postgres");
    cluster.is_led().await;
    all_looked(&cluster).await;

    stack.down("postgres");
    stack.bring_copy_back("postgres");
    stack.up("postgres");
    let epochs = "SELECT sum(epoch)::bigint FROM shard_position";
    let before = cluster.count(epochs).await;
    let processes = cluster.servers.iter().chain(&cluster.outboxes);
    for process in processes.chain(&cluster.consumers) {
        eventually(PATIENCE, async || match process.ready_page().await {
            (503, page) if page.contains("the database went back in time") => Ok(()),
            other => Err(format!("`{}`: {other:?}", process.name)),
        })
        .await;
        let log = process.tail();
        assert!(log.contains("axs shards recover"), "{log}");
    }
    assert_eq!(cluster.count(commands).await, 0, "nothing is accepted");
    assert_eq!(cluster.count(epochs).await, before, "nothing is led");
    // A new process has seen nothing, but the results in the log have.
    let consumer = &mut cluster.consumers[0];
    assert!(consumer.sigterm().await.0.success());
    let (status, log) = consumer.refuses().await;
    assert_eq!(status.code(), Some(6), "{log}");
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
    // Under a leader that goes on and has nothing to write: all keys are lost, and a late write
    // brings the old value.
    cluster.redis.delete_all(shard);
    cluster.redis.set(shard, &accounts[1].0, &older);
    redis_agrees(&cluster, true).await;
}
