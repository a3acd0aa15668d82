//! `kill -9` in the middle of a file, then a start: outcomes and balances are what they are without.
//!
//! The last test kills at random; `AXS_TEST_SEED` repeats the strikes of a run that failed.

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    member::Process,
    stack::Stack,
    stream::{Sending, Stream},
};

/// Parts of the file, in tenths, after which something dies.
const STRIKES: [usize; 3] = [2, 5, 8];

/// Strikes of the test at random.
const RANDOM_STRIKES: usize = 9;

/// Sends the file, strikes several times in between, and looks at everything there is afterwards.
/// Answers how many lines were sent more than once.
async fn survives(
    cluster: &mut Cluster,
    stream: &Stream,
    strike: impl AsyncFnMut(&mut Cluster),
) -> usize {
    survives_at(cluster, stream, &STRIKES, strike).await
}

async fn survives_at(
    cluster: &mut Cluster,
    stream: &Stream,
    tenths: &[usize],
    mut strike: impl AsyncFnMut(&mut Cluster),
) -> usize {
    let mut submit = cluster.submit(&stream.commands, "applied");
    for tenths in tenths {
        submit.answered(stream.lines() * tenths / 10);
        strike(cluster).await;
    }
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(cluster).await;
    reports.iter().filter(|report| report.attempts > 1).count()
}

/// Answers how many lines were sent more than once.
async fn survives_on(services: &'static [&'static str]) -> usize {
    let stream = Stream::load();
    let stack = Stack::start(services);
    let mut cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, 4)
    })
    .await;
    let resent = survives(&mut cluster, &stream, async |_| {
        for service in services {
            stack.kill9(service);
            stack.up(service);
        }
    })
    .await;
    redis_agrees(&cluster, false).await;
    resent
}

#[tokio::test(flavor = "multi_thread")]
async fn of_serve_grpc_changes_nothing() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, 4)).await;
    let resent = survives(&mut cluster, &stream, async |cluster| {
        cluster.servers[0].kill9();
        cluster.servers[0].restart().await;
    })
    .await;
    assert!(resent > 0, "some lines were under way");
    redis_agrees(&cluster, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_only_consumer_changes_nothing() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, 4)).await;
    survives(&mut cluster, &stream, async |cluster| {
        cluster.consumers[0].kill9();
        cluster.consumers[0].restart().await;
    })
    .await;
    let take_overs = cluster.count("SELECT min(epoch) FROM shard_position").await;
    assert!(
        take_overs > 3,
        "each shard was taken over each time, not {take_overs} times"
    );
    redis_agrees(&cluster, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_of_two_consumers_changes_nothing() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, 4)
    })
    .await;
    let mut victim = 0;
    survives(&mut cluster, &stream, async |cluster| {
        cluster.consumers[victim].kill9();
        // The other one takes over first.
        cluster.is_led().await;
        cluster.consumers[victim].restart().await;
        victim = 1 - victim;
    })
    .await;
    redis_agrees(&cluster, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_cron_outbox_changes_nothing() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, 4)).await;
    survives(&mut cluster, &stream, async |cluster| {
        cluster.outboxes[0].kill9();
        cluster.outboxes[0].restart().await;
    })
    .await;
    redis_agrees(&cluster, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_postgresql_changes_nothing() {
    // A line is sent again only when acceptance could not outlast the restart by itself.
    survives_on(&["postgres"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_redis_changes_nothing() {
    let resent = survives_on(&["redis"]).await;
    assert_eq!(resent, 0, "nobody waits for Redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_kafka_changes_nothing() {
    survives_on(&["kafka"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_anything_at_random_changes_nothing() {
    let mut seed = match std::env::var("AXS_TEST_SEED") {
        Ok(seed) => seed.parse().expect("AXS_TEST_SEED is a number"),
        Err(_) => getrandom::u64().expect("the system has random numbers"),
    };
    println!("AXS_TEST_SEED={seed}");
    let stream = Stream::load();
    let stack = Stack::start(&["postgres", "redis", "kafka"]);
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        outboxes: 2,
        stack: Some(&stack),
        ..Options::of(&stream, 4)
    })
    .await;
    let tenths: Vec<usize> = (1..=RANDOM_STRIKES).collect();
    survives_at(&mut cluster, &stream, &tenths, async |cluster| {
        // Two different ones, which are both gone before the first comes back.
        let first = random(&mut seed, 7);
        let second = (first + 1 + random(&mut seed, 6)) % 7;
        println!("kill -9 of {first} and {second}");
        strike(cluster, &stack, first, second).await;
    })
    .await;
    redis_agrees(&cluster, false).await;
}

/// 0 to 2: a server; 3: `serve-grpc`; 4, 5: `consume`; 6: `cron-outbox`.
async fn strike(cluster: &mut Cluster, stack: &Stack, first: usize, second: usize) {
    const SERVERS: [&str; 3] = ["postgres", "redis", "kafka"];
    let mut both = [first, second];
    // A service becomes ready again only where the servers are.
    both.sort_unstable();
    for struck in both {
        match struck {
            0..3 => stack.kill9(SERVERS[struck]),
            _ => member(cluster, struck).kill9(),
        }
    }
    for struck in both {
        match struck {
            0..3 => stack.up(SERVERS[struck]),
            _ => member(cluster, struck).restart().await,
        }
    }
}

fn member(cluster: &mut Cluster, number: usize) -> &mut Process {
    match number {
        3 => &mut cluster.servers[0],
        4 | 5 => &mut cluster.consumers[number - 4],
        _ => &mut cluster.outboxes[0],
    }
}

/// Below `end`; the constants are those of Knuth's MMIX.
fn random(state: &mut u64, end: u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from((*state >> 33) % end).expect("below a few")
}
