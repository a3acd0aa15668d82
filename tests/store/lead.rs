//! Leadership: leases, take-overs, members.

use std::{collections::BTreeMap, time::Duration};

use axs::core::{
    interval_set::IntervalSet,
    store::{Error, LoadRequest, Member, Store},
    types::{Anchor, Epoch, Position, ShardId, Timestamp},
};

use crate::{
    ledger::{Leader, TTL, Writer, nonce, open},
    stores::{SHARD, SHARDS},
};

/// A lease that ends while a test looks on.
const SHORT: Duration = Duration::from_millis(50);

pub async fn a_lease_is_taken_over_when_it_ended(store: &Store) {
    let (first, second) = (nonce(), nonce());
    let taken = store.acquire(SHARD, "one", None, first, TTL).await;
    let taken = taken.expect("an answer").expect("nobody led");
    assert_eq!(
        (taken.shard, taken.epoch, taken.nonce),
        (SHARD, Epoch(1), first)
    );
    assert_eq!(taken.next_position, Position::ZERO);
    assert_eq!(taken.published_to, Position::ZERO);
    assert_eq!(taken.last_result, Position::NONE);
    assert_eq!((taken.anchor, taken.state_hash), (None, 0));
    assert_eq!(
        (taken.applied_at, taken.passed_at),
        (Timestamp(0), Timestamp(0))
    );
    assert!(taken.applied.is_empty() && taken.parked.is_empty());

    for mine in [None, Some(second)] {
        let refused = store.acquire(SHARD, "two", mine, second, TTL).await;
        assert_eq!(refused.expect("an answer"), None, "the lease of `one` runs");
    }
    let rows = store.shard_rows().await.expect("an answer");
    assert_eq!(rows.len(), usize::from(SHARDS));
    let row = &rows[usize::from(SHARD.0)];
    assert_eq!(
        (row.shard, row.epoch, row.leader.as_str()),
        (SHARD, Epoch(1), "one")
    );
    assert!(
        row.lease_left > TTL / 2 && row.lease_left <= TTL,
        "{:?}",
        row.lease_left
    );
    assert_eq!(
        (rows[0].epoch, rows[0].lease_left),
        (Epoch(0), Duration::ZERO)
    );

    // A renewal may shorten it; then it ends by the store's clock.
    store
        .renew(SHARD, Epoch(1), first, SHORT)
        .await
        .expect("ours");
    let mut taken = None;
    while taken.is_none() {
        taken = store
            .acquire(SHARD, "two", None, second, TTL)
            .await
            .expect("an answer");
    }
    let taken = taken.expect("the loop ends with it");
    assert_eq!((taken.epoch, taken.nonce), (Epoch(2), second));
    let fenced = store.renew(SHARD, Epoch(1), first, TTL).await;
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
    let fenced = store.renew(SHARD, Epoch(2), first, TTL).await;
    assert!(
        matches!(fenced, Err(Error::Fenced(_))),
        "the nonce counts: {fenced:?}"
    );

    // Only the holder can end it early.
    store
        .release(SHARD, Epoch(1), first)
        .await
        .expect("no error, no effect");
    let refused = store.acquire(SHARD, "one", None, nonce(), TTL).await;
    assert_eq!(refused.expect("an answer"), None);
    store.release(SHARD, Epoch(2), second).await.expect("ours");
    let taken = store
        .acquire(SHARD, "one", None, first, TTL)
        .await
        .expect("an answer");
    assert_eq!(taken.map(|state| state.epoch), Some(Epoch(3)));
}

pub async fn an_own_lease_is_taken_over_at_once(store: &Store) {
    let (first, second) = (nonce(), nonce());
    let taken = store.acquire(SHARD, "one", None, first, TTL).await;
    assert!(taken.expect("an answer").is_some());
    let taken = store.acquire(SHARD, "one", Some(first), second, TTL).await;
    let taken = taken.expect("an answer").expect("it is mine");
    assert_eq!((taken.epoch, taken.nonce), (Epoch(2), second));
    let refused = store.acquire(SHARD, "one", Some(first), nonce(), TTL).await;
    assert_eq!(
        refused.expect("an answer"),
        None,
        "it was mine, two take-overs ago"
    );
}

pub async fn a_take_over_brings_what_was_flushed(store: &Store) {
    let mut writer = Writer::new(store);
    let accepted = writer.accept(SHARD, vec![open(1001), open(1002)]).await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.open(&accepted[0]);
    leader.seal(10, 20);
    leader.tick(Timestamp(1_800_000_000_000_000));
    let first = leader.commit(store).await;
    leader.open(&accepted[1]);
    leader.flush.published_to = Position::new(0, 1);
    leader.tick(Timestamp(1_700_000_000_000_000));
    let second = leader.commit(store).await;

    store
        .release(SHARD, second.epoch, second.nonce)
        .await
        .expect("ours");
    let state = store.acquire(SHARD, "next", None, nonce(), TTL).await;
    let state = state.expect("an answer").expect("it was released");
    assert_eq!(state.epoch, Epoch(2));
    assert_eq!(state.next_position, Position::new(0, 5));
    assert_eq!(state.published_to, Position::new(0, 1));
    assert_eq!(state.last_result, Position::new(0, 3));
    assert_eq!(state.anchor, Some(second.anchor));
    let mut applied = IntervalSet::new();
    applied.insert_range(1, 2);
    applied.insert_range(10, 20);
    assert_eq!(state.applied, applied);
    assert_eq!(state.applied_at, second.applied_at);
    assert_eq!(
        state.passed_at, first.passed_at,
        "a TICK moves time forward only"
    );
    assert_eq!(state.state_hash, second.state_hash);
    assert_eq!(state.parked, BTreeMap::new());
    let rows = store.shard_rows().await.expect("an answer");
    let row = &rows[usize::from(SHARD.0)];
    assert_eq!(row.next_position, state.next_position);
    assert_eq!(row.published_to, state.published_to);
    assert_eq!(
        (row.passed_at, row.applied_at),
        (state.passed_at, state.applied_at)
    );
    assert_eq!(
        (row.state_hash, &row.applied),
        (state.state_hash, &state.applied)
    );
    assert_ne!(state.anchor, Some(Anchor([0; 16])));
}

pub async fn published_never_moves_back(store: &Store) {
    let leader = Leader::acquire(store, SHARD).await;
    let (epoch, nonce) = (leader.flush.epoch, leader.flush.nonce);
    for (to, expected) in [(7, 7), (3, 7), (9, 9)] {
        let marked = store
            .mark_published(SHARD, epoch, nonce, Position::new(0, to))
            .await;
        marked.expect("ours");
        let rows = store.shard_rows().await.expect("an answer");
        let published_to = rows[usize::from(SHARD.0)].published_to;
        assert_eq!(published_to, Position::new(0, expected));
    }
    let marked = store
        .mark_published(SHARD, Epoch(0), nonce, Position::new(0, 20))
        .await;
    assert!(matches!(marked, Err(Error::Fenced(_))), "{marked:?}");
}

pub async fn members_are_those_seen_lately(store: &Store) {
    let member = |name: &str, draining| Member {
        name: name.into(),
        draining,
    };
    let seen = store
        .beat(&member("b", false), TTL)
        .await
        .expect("an answer");
    assert_eq!(seen, [member("b", false)]);
    let mut seen = store
        .beat(&member("a", true), TTL)
        .await
        .expect("an answer");
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(seen, [member("a", true), member("b", false)]);
    // `b` is seen no more; who asks always is.
    let mut seen = vec![];
    while seen.len() != 1 {
        seen = store
            .beat(&member("a", false), Duration::from_millis(20))
            .await
            .expect("an answer");
    }
    assert_eq!(seen, [member("a", false)]);
    store.leave("a").await.expect("forgotten");
    store.leave("never there").await.expect("nothing to forget");
    let seen = store
        .beat(&member("b", false), TTL)
        .await
        .expect("an answer");
    assert_eq!(seen, [member("b", false)]);
}

pub async fn a_shard_that_is_not_there_is_a_mismatch(store: &Store) {
    let outside = ShardId(SHARDS);
    let leased = store.lease_block(outside, nonce(), 1).await;
    assert!(matches!(leased, Err(Error::Mismatch(_))), "{leased:?}");
    let taken = store.acquire(outside, "one", None, nonce(), TTL).await;
    assert!(matches!(taken, Err(Error::Mismatch(_))), "{taken:?}");
    let view = store.outbox_view(outside, TTL, 1).await;
    assert!(matches!(view, Err(Error::Mismatch(_))), "{view:?}");
    let loaded = store.load(SHARD, &LoadRequest::default()).await;
    assert_eq!(
        loaded.expect("an answer"),
        axs::core::store::Loaded::default()
    );
}
