//! WatchResults: gap-free, filtered, resumable.

use std::collections::{BTreeMap, BTreeSet};

use axs::core::proto::{CommandResult, WaitFor, WatchResultsRequest, WatchResultsResponse};
use tonic::{Code, Streaming};

use crate::api::{Api, PATIENCE, SHARDS, credit};

async fn watch(api: &Api, request: WatchResultsRequest) -> Streaming<WatchResultsResponse> {
    let watch = api.read().watch_results(request).await;
    watch.expect("it watches").into_inner()
}

async fn take(stream: &mut Streaming<WatchResultsResponse>, count: usize) -> Vec<CommandResult> {
    let mut results = Vec::new();
    while results.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let next = next
            .expect("a result in time")
            .expect("no error")
            .expect("no end");
        results.push(next.result.expect("a result"));
    }
    results
}

fn from_the_beginning() -> BTreeMap<u32, i64> {
    (0..u32::from(SHARDS)).map(|shard| (shard, -1)).collect()
}

fn ids(results: &[CommandResult]) -> BTreeSet<u64> {
    results.iter().map(|result| result.command_id).collect()
}

/// Each result names the one before it in its shard.
fn assert_no_gap(results: &[CommandResult]) {
    let mut last: BTreeMap<u32, i64> = BTreeMap::new();
    for result in results {
        let before = last.insert(result.shard_id, result.position).unwrap_or(-1);
        assert_eq!(result.previous_position, before, "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_result_comes_once_whenever_the_watch_begins() {
    let api = Api::start().await;
    let accounts: Vec<u64> = (1..=8).collect();
    api.open(&accounts).await;
    let request = WatchResultsRequest {
        account_ids: Vec::new(),
        after_positions: from_the_beginning().into_iter().collect(),
    };
    let mut early = watch(&api, request.clone()).await;
    let mut expected = BTreeSet::new();
    for round in 0..20 {
        let batch = accounts
            .iter()
            .map(|&account| credit(&format!("k{round}-{account}"), account, "EUR", "1"));
        let outcomes = api.submit(batch.collect(), WaitFor::Applied).await;
        expected.extend(outcomes.iter().map(|outcome| outcome.command_id));
    }
    let count = expected.len() + accounts.len();
    let mut late = watch(&api, request).await;
    for stream in [&mut early, &mut late] {
        let results = take(stream, count).await;
        assert_no_gap(&results);
        let seen = ids(&results);
        assert_eq!(seen.len(), count, "each once");
        assert!(seen.is_superset(&expected));
    }
    // On from the middle: what comes is what was not seen.
    let mut first = watch(
        &api,
        WatchResultsRequest {
            account_ids: Vec::new(),
            after_positions: from_the_beginning().into_iter().collect(),
        },
    )
    .await;
    let half = take(&mut first, count / 2).await;
    drop(first);
    let mut after_positions = from_the_beginning();
    for result in &half {
        after_positions.insert(result.shard_id, result.position);
    }
    let mut rest = watch(
        &api,
        WatchResultsRequest {
            account_ids: Vec::new(),
            after_positions: after_positions.into_iter().collect(),
        },
    )
    .await;
    let rest = take(&mut rest, count - count / 2).await;
    assert!(ids(&rest).is_disjoint(&ids(&half)));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_now_shows_what_comes_of_its_accounts() {
    let api = Api::start().await;
    api.open(&[1, 2]).await;
    api.submit(vec![credit("before", 1, "EUR", "1")], WaitFor::Applied)
        .await;
    let request = WatchResultsRequest {
        account_ids: vec![1],
        ..Default::default()
    };
    let mut stream = watch(&api, request).await;
    let batch = vec![
        credit("a", 1, "EUR", "1"),
        credit("other", 2, "EUR", "1"),
        credit("b", 1, "EUR", "-9"),
    ];
    api.submit(batch, WaitFor::Applied).await;
    let results = take(&mut stream, 2).await;
    let keys: Vec<_> = results
        .iter()
        .map(|result| result.idempotency_key.as_str())
        .collect();
    assert_eq!(keys, ["a", "b"], "rejections too");
    let stop = tokio::spawn(api.stop());
    let end = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("it ends");
    assert_eq!(end.expect_err("with a status").code(), Code::Unavailable);
    stop.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_checked() {
    let api = Api::start().await;
    for (shard, position) in [(u32::from(SHARDS), 0), (0, -2), (0, i64::MAX)] {
        let request = WatchResultsRequest {
            account_ids: Vec::new(),
            after_positions: [(shard, position)].into_iter().collect(),
        };
        let error = api
            .read()
            .watch_results(request)
            .await
            .expect_err("no such position");
        assert_eq!(error.code(), Code::InvalidArgument);
        let field = format!("after_positions[{shard}] must");
        assert!(error.message().starts_with(&field), "{error}");
    }
    api.stop().await;
}
