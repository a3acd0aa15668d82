//! Several `consume` processes share the shards, hand them over, and take over from the dead.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    audit::{audit, redis_agrees},
    cluster::{Cluster, Options},
    member::{eventually, signal},
    stream::{Sending, Stream},
};

const SHARDS: u16 = 16;
/// In which shards are spread evenly.
const SPREAD_WITHIN: Duration = Duration::from_secs(10);
/// In which a process that was told to stop has handed over and ended.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// Waits until these processes lead all shards, each as many as the others, or one more.
async fn is_even(cluster: &Cluster, consumers: &[usize]) {
    let pids: BTreeSet<u32> = consumers
        .iter()
        .map(|&at| cluster.consumers[at].pid())
        .collect();
    let all = usize::from(SHARDS);
    let (least, most) = (all / pids.len(), all.div_ceil(pids.len()));
    eventually(SPREAD_WITHIN, async || {
        let spread = cluster.spread().await;
        let is_even = spread.iter().map(|(pid, _)| *pid).collect::<BTreeSet<_>>() == pids
            && spread
                .iter()
                .all(|(_, count)| (least..=most).contains(count))
            && spread.iter().map(|(_, count)| count).sum::<usize>() == all;
        match is_even {
            true => Ok(()),
            false => Err(format!("{spread:?} among {pids:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_spread_evenly_and_are_handed_over() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, SHARDS)
    })
    .await;
    is_even(&cluster, &[0, 1]).await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 10);
    cluster.add_consumer().await;
    is_even(&cluster, &[0, 1, 2]).await;
    for (leaves, stay) in [(2, [0, 1].as_slice()), (0, &[1])] {
        let (status, took) = cluster.consumers[leaves].sigterm().await;
        assert_eq!(
            status.code(),
            Some(0),
            "{}",
            cluster.consumers[leaves].tail()
        );
        assert!(took <= STOPPED_WITHIN, "it took {took:?}");
        is_even(&cluster, stay).await;
    }
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    let again = reports.iter().filter(|report| report.attempts > 1).count();
    assert_eq!(again, 0, "a hand-over costs a client time and nothing else");
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_replaced() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        consumers: 3,
        ..Options::of(&stream, SHARDS)
    })
    .await;
    is_even(&cluster, &[0, 1, 2]).await;
    cluster.consumers[1].kill9();
    is_even(&cluster, &[0, 2]).await;
    cluster.consumers[1].restart().await;
    is_even(&cluster, &[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_changes_nothing() {
    let stream = Stream::load();
    let cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, SHARDS)
    })
    .await;
    is_even(&cluster, &[0, 1]).await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    for (tenths, pauses, leads) in [(1, 0, 1), (4, 1, 0), (7, 0, 1)] {
        submit.answered(stream.lines() * tenths / 10);
        let pid = cluster.consumers[pauses].pid();
        signal(pid, "STOP");
        is_even(&cluster, &[leads]).await;
        signal(pid, "CONT");
        is_even(&cluster, &[0, 1]).await;
    }
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
    redis_agrees(&cluster, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_stops_when_it_is_told_to() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, 4)).await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 10);
    let Cluster {
        servers,
        consumers,
        outboxes,
        ..
    } = &mut cluster;
    for process in servers.iter_mut().chain(outboxes).chain(consumers) {
        let (status, took) = process.sigterm().await;
        assert_eq!(status.code(), Some(0), "{}", process.tail());
        assert!(took <= STOPPED_WITHIN, "`{}` took {took:?}", process.name);
        process.restart().await;
    }
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    audit(&cluster).await;
}
