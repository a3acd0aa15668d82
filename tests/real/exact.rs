//! Files of commands give exactly the outcomes, balances and totals that models of their own say:
//! whatever the shards, the processes and the way to wait.

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    stream::{Sending, Stream},
};

/// What is sent, one after the other.
const ONCE: &[&str] = &["applied"];
const TWICE: &[&str] = &["applied", "applied"];
const ACCEPTED: &[&str] = &["accepted", "applied"];

/// Sends the file once or twice, and looks at everything there is afterwards.
async fn check(stream: &Stream, shards: u16, consumers: usize, waits: &[&str]) {
    let cluster = Cluster::start(Options {
        consumers,
        ..Options::of(stream, shards)
    })
    .await;
    let mut sending = Sending::First;
    for wait in waits {
        let reports = cluster.send(&stream.commands, wait);
        if *wait == "accepted" {
            stream.assert_accepted(&reports);
        } else {
            stream.assert_outcomes(&reports, sending);
            let balances = stream.balances_after(&cluster.server(), &reports).await;
            stream.assert_balances(&balances);
        }
        sending = Sending::Again;
    }
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

/// A stream from a seed, in a folder that lives as long as the test.
async fn check_seed(seed: u64, shards: u16, consumers: usize, waits: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = Stream::of_seed(folder.path(), seed, 400);
    check(&stream, shards, consumers, waits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_on_1_shard_sent_twice() {
    check(&Stream::load(), 1, 1, TWICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_on_1_shard_with_a_consumer_to_spare() {
    check_seed(2, 1, 2, ACCEPTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_on_4_shards_accepted_first() {
    check(&Stream::load(), 4, 1, ACCEPTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_on_4_shards_with_2_consumers() {
    check(&Stream::load(), 4, 2, ONCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_on_16_shards() {
    check(&Stream::load(), 16, 1, ONCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_on_16_shards_with_2_consumers_accepted_first() {
    check(&Stream::load(), 16, 2, ACCEPTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_on_16_shards() {
    check_seed(3, 16, 1, TWICE).await;
    check_seed(4, 16, 2, ONCE).await;
}
