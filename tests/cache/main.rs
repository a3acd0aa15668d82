//! The cache: one suite on memory and on Redis. `redis`: what is Redis's alone. `outage`: servers
//! of the tests' own, which die, stand still, or form a cluster.

mod fixture;
mod outage;
mod redis;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use axs::core::{
    cache::{Cache, Pulse, Snapshot},
    engine::Balance,
    types::{AccountId, AssetId, Epoch, Money, Position, ShardId},
};
use fixture::{Fixture, PATIENCE, SHARD, snapshot};
use proptest::prelude::*;

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test] async fn $name() { super::$name(super::Fixture::memory()).await })*
        }
        mod on_redis {
            $(#[tokio::test] async fn $name() { super::$name(super::Fixture::redis()).await })*
        }
    };
}

suite!(
    a_newer_snapshot_wins_and_an_older_one_is_refused,
    the_same_snapshot_again_changes_nothing,
    an_epoch_that_is_over_writes_nothing,
    what_was_acknowledged_must_still_be_there,
    numbers_beyond_a_double_are_told_apart,
    the_largest_balances_come_back,
    many_accounts_go_in_one_call,
    an_account_twice_in_one_call_keeps_the_newest,
    shards_do_not_share_anything,
    the_gate_has_one_holder_at_a_time,
    the_gate_opens_when_its_time_is_over,
);

async fn a_newer_snapshot_wins_and_an_older_one_is_refused(on: Fixture) {
    assert_eq!(on.read(1).await, None);
    assert_eq!(on.write(1, &[]).await, 0);
    assert_eq!(on.write(1, &[snapshot(1, 1, 10)]).await, 1);
    assert_eq!(on.read(1).await, Some(snapshot(1, 1, 10)));
    assert_eq!(on.write(1, &[snapshot(1, 1, 9)]).await, 0);
    assert_eq!(on.read(1).await, Some(snapshot(1, 1, 10)));
    assert_eq!(on.write(1, &[snapshot(1, 1, 11)]).await, 1);
    assert_eq!(on.read(1).await, Some(snapshot(1, 1, 11)));
    // The epoch counts before the position.
    assert_eq!(on.write(2, &[snapshot(1, 2, 5)]).await, 1);
    assert_eq!(on.read(1).await, Some(snapshot(1, 2, 5)));
}

async fn the_same_snapshot_again_changes_nothing(on: Fixture) {
    assert_eq!(on.write(4, &[snapshot(1, 4, 10)]).await, 1);
    assert_eq!(on.write(4, &[snapshot(1, 4, 10)]).await, 0);
    // The first one of an (epoch, position) stands.
    let other = Snapshot {
        balances: Vec::new(),
        ..snapshot(1, 4, 10)
    };
    assert_eq!(on.write(4, &[other]).await, 0);
    assert_eq!(on.read(1).await, Some(snapshot(1, 4, 10)));
}

async fn an_epoch_that_is_over_writes_nothing(on: Fixture) {
    assert_eq!(on.write(5, &[snapshot(1, 5, 10)]).await, 1);
    // Later positions, and an account that nobody wrote yet.
    assert_eq!(
        on.write(4, &[snapshot(1, 4, 99), snapshot(2, 4, 99)]).await,
        0
    );
    assert_eq!(
        (on.read(1).await, on.read(2).await),
        (Some(snapshot(1, 5, 10)), None)
    );
    // A greater epoch ends the former one, even where it has no news.
    assert_eq!(on.write(6, &[snapshot(1, 5, 10)]).await, 0);
    assert_eq!(on.write(5, &[snapshot(1, 5, 11)]).await, 0);
    assert_eq!(on.write(6, &[snapshot(2, 6, 1)]).await, 1);
}

async fn what_was_acknowledged_must_still_be_there(on: Fixture) {
    assert!(!on.beat(1, 1, None, &[]).await, "the first write");
    assert!(!on.beat(1, 2, Some(1), &[]).await);
    assert!(!on.beat(1, 2, Some(1), &[]).await, "executed twice");
    assert!(!on.beat(1, 5, Some(2), &[]).await, "answers were lost");
    assert!(on.beat(1, 7, Some(6), &[]).await, "it fell back behind 6");
    // The answer was lost, and a write of before comes late.
    assert!(on.beat(1, 8, Some(6), &[]).await);
    assert!(!on.beat(1, 6, Some(5), &[]).await);
    assert!(!on.beat(1, 5, Some(2), &[]).await);
    assert!(on.beat(1, 9, Some(8), &[]).await, "6 stands there");
    assert!(!on.beat(1, 8, None, &[]).await, "a new beginning");
    // More than one call of a real cache takes.
    let many: Vec<_> = (1..2_000).map(|account| snapshot(account, 1, 1)).collect();
    assert!(!on.beat(1, 9, Some(8), &many).await);
    // Who fills what is missing has no part in it.
    assert_eq!(on.write(1, &[snapshot(1, 1, 2)]).await, 1);
    assert!(!on.beat(1, 10, Some(9), &[]).await);
    // Nor has a former leader.
    assert!(!on.beat(2, 1, None, &[]).await);
    assert!(!on.beat(1, 99, Some(10), &[]).await);
    assert!(!on.beat(2, 2, Some(1), &[]).await);
}

async fn numbers_beyond_a_double_are_told_apart(on: Fixture) {
    const EXACT: i64 = 1 << 53;
    let rising = [
        EXACT - 1,
        EXACT,
        EXACT + 1,
        EXACT + 2,
        i64::MAX - 1,
        i64::MAX,
    ];
    for position in rising {
        assert_eq!(
            on.write(1, &[snapshot(1, 1, position)]).await,
            1,
            "{position}"
        );
        assert_eq!(on.read(1).await, Some(snapshot(1, 1, position)));
        assert_eq!(
            on.write(1, &[snapshot(1, 1, position - 1)]).await,
            0,
            "{position} - 1"
        );
    }
    for epoch in rising
        .map(i64::unsigned_abs)
        .into_iter()
        .chain([u64::MAX - 1, u64::MAX])
    {
        assert_eq!(
            on.write(epoch, &[snapshot(2, epoch, 0)]).await,
            1,
            "epoch {epoch}"
        );
        assert_eq!(
            on.write(epoch - 1, &[snapshot(2, epoch - 1, 9)]).await,
            0,
            "{epoch} - 1"
        );
    }
}

async fn the_largest_balances_come_back(on: Fixture) {
    let balance = |asset, available, frozen| Balance {
        account: AccountId(9),
        asset: AssetId(asset),
        available,
        frozen,
        version: u64::MAX,
        last_position: Position(i64::MAX),
    };
    let largest = Snapshot {
        balances: vec![
            balance(1, Money::MAX, Money::MIN),
            balance(u32::MAX, Money::from(-1), Money::ZERO),
        ],
        ..snapshot(9, u64::MAX, i64::MAX)
    };
    assert_eq!(on.write(u64::MAX, std::slice::from_ref(&largest)).await, 1);
    assert_eq!(on.read(9).await, Some(largest));
    // An account without any balance is known too.
    let empty = Snapshot {
        balances: Vec::new(),
        ..snapshot(8, u64::MAX, 0)
    };
    assert_eq!(on.write(u64::MAX, std::slice::from_ref(&empty)).await, 1);
    assert_eq!(on.read(8).await, Some(empty));
}

async fn many_accounts_go_in_one_call(on: Fixture) {
    const COUNT: u64 = 2_003;
    let snapshots: Vec<Snapshot> = (1..=COUNT)
        .map(|account| snapshot(account, 1, 50))
        .collect();
    assert_eq!(on.write(1, &snapshots).await, snapshots.len());
    // Every third has news.
    let news: Vec<Snapshot> = (1..=COUNT)
        .map(|account| snapshot(account, 1, if account % 3 == 0 { 51 } else { 49 }))
        .collect();
    assert_eq!(on.write(1, &news).await, news.len() / 3);
    let keys: Vec<_> = (0..=COUNT)
        .map(|account| (SHARD, AccountId(account)))
        .collect();
    let found = on.cache.read(&keys).await.expect("read");
    assert_eq!(found[0], None);
    for (account, found) in (1..).zip(&found[1..]) {
        let position = if account % 3 == 0 { 51 } else { 50 };
        assert_eq!(found.as_ref(), Some(&snapshot(account, 1, position)));
    }
}

async fn an_account_twice_in_one_call_keeps_the_newest(on: Fixture) {
    let twice = [
        snapshot(1, 1, 5),
        snapshot(2, 1, 5),
        snapshot(1, 1, 3),
        snapshot(1, 1, 7),
    ];
    assert_eq!(on.write(1, &twice).await, 3);
    assert_eq!(on.read(1).await, Some(snapshot(1, 1, 7)));
}

async fn shards_do_not_share_anything(on: Fixture) {
    let other = ShardId(4);
    assert_eq!(on.write(9, &[snapshot(1, 9, 10)]).await, 1);
    let five = [snapshot(1, 2, 5)];
    let written = on.cache.write(other, Epoch(2), None, &five).await;
    let newer = written.map(|written| written.newer);
    assert_eq!(newer, Ok(1), "the epoch of another shard");
    let keys = [
        (other, AccountId(1)),
        (SHARD, AccountId(1)),
        (ShardId(5), AccountId(1)),
    ];
    let found = on.cache.read(&keys).await.expect("read");
    assert_eq!(
        found,
        [Some(snapshot(1, 2, 5)), Some(snapshot(1, 9, 10)), None]
    );
    assert!(on.enter("a", PATIENCE).await);
    assert_eq!(on.cache.gate_enter(other, "b", PATIENCE).await, Ok(true));
}

async fn the_gate_has_one_holder_at_a_time(on: Fixture) {
    assert!(on.enter("a", PATIENCE).await);
    assert!(!on.enter("b", PATIENCE).await);
    assert!(on.enter("a", PATIENCE).await, "the holder renews");
    on.cache.gate_leave(SHARD, "b").await.expect("answered");
    assert!(
        !on.enter("b", PATIENCE).await,
        "only the holder gives it up"
    );
    on.cache.gate_leave(SHARD, "a").await.expect("answered");
    assert!(on.enter("b", PATIENCE).await);
    on.cache.gate_leave(SHARD, "a").await.expect("answered");
    assert!(!on.enter("a", PATIENCE).await);
}

async fn the_gate_opens_when_its_time_is_over(on: Fixture) {
    const TTL: Duration = Duration::from_millis(500);
    let started = Instant::now();
    assert!(on.enter("a", TTL).await);
    // Renewed, it outlives its first time.
    while started.elapsed() < TTL * 2 {
        let renewed = Instant::now();
        assert!(on.enter("a", TTL).await);
        let entered = on.enter("b", TTL).await;
        assert!(
            !entered || renewed.elapsed() >= TTL,
            "taken from a holder that renews"
        );
    }
    let renewed = Instant::now();
    assert!(on.enter("a", TTL).await);
    while !on.enter("b", TTL).await {
        assert!(renewed.elapsed() < PATIENCE, "it does not open");
    }
    assert!(renewed.elapsed() >= TTL, "it opens before its time");
    assert!(!on.enter("a", TTL).await);
}

/// What can happen to a cache.
#[derive(Clone, Debug)]
enum Act {
    Write(u64, Option<Pulse>, Vec<(u64, u64, i64)>),
    Read(Vec<u64>),
    Enter(u8),
    Leave(u8),
}

fn act() -> impl Strategy<Value = Act> {
    // Numbers that doubles, and texts of doubles, would mix up.
    let ends = [
        i64::MAX - 1,
        i64::MAX,
        99_999_999,
        100_000_000,
        100_000_000_000_000_001,
    ];
    let end = prop::sample::select(ends.to_vec());
    let greatest = prop_oneof![end.clone().prop_map(i64::cast_unsigned), Just(u64::MAX)];
    let epoch = prop_oneof![0..4_u64, (1_u64 << 53) - 1..(1 << 53) + 2, greatest];
    let position = prop_oneof![0..4_i64, (1_i64 << 53) - 1..(1 << 53) + 2, end];
    let snapshots = prop::collection::vec((1..6_u64, epoch.clone(), position), 0..6);
    let number = || prop_oneof![0..4_u64, (1_u64 << 53) - 1..(1 << 53) + 2, Just(u64::MAX)];
    let pulse = (number(), prop::option::of(number())).prop_map(|(number, acknowledged)| Pulse {
        number,
        acknowledged,
    });
    let write = (epoch, prop::option::of(pulse), snapshots);
    prop_oneof![
        write.prop_map(|(epoch, pulse, snapshots)| Act::Write(epoch, pulse, snapshots)),
        prop::collection::vec(1..6_u64, 0..6).prop_map(Act::Read),
        (0..3_u8).prop_map(Act::Enter),
        (0..3_u8).prop_map(Act::Leave),
    ]
}

async fn answer(on: &Cache, act: &Act) -> String {
    match act {
        Act::Write(epoch, pulse, snapshots) => {
            let snapshots: Vec<_> = snapshots
                .iter()
                .map(|&(a, e, p)| snapshot(a, e, p))
                .collect();
            // Twice, as a library that lost the answer would do it.
            let epoch = Epoch(*epoch);
            let first = on.write(SHARD, epoch, *pulse, &snapshots).await;
            let again = on.write(SHARD, epoch, *pulse, &snapshots).await;
            format!("{first:?}, then {again:?}")
        }
        Act::Read(accounts) => {
            let keys: Vec<_> = accounts
                .iter()
                .map(|&account| (SHARD, AccountId(account)))
                .collect();
            format!("{:?}", on.read(&keys).await)
        }
        Act::Enter(who) => format!(
            "{:?}",
            on.gate_enter(SHARD, &who.to_string(), PATIENCE).await
        ),
        Act::Leave(who) => format!("{:?}", on.gate_leave(SHARD, &who.to_string()).await),
    }
}

/// Sequences when `AXS_TEST_CACHE_SEQUENCES` says nothing else.
const SEQUENCES: u32 = 200;

fn sequences() -> u32 {
    let set = std::env::var("AXS_TEST_CACHE_SEQUENCES").ok();
    set.map_or(SEQUENCES, |text| {
        text.parse()
            .expect("`AXS_TEST_CACHE_SEQUENCES` is a number")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(sequences()))]
    #[test]
    fn redis_answers_as_memory_does(acts in prop::collection::vec(act(), 1..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (memory, redis) = (Fixture::memory(), Fixture::redis());
            for act in &acts {
                let (one, other) = (answer(&memory.cache, act).await, answer(&redis.cache, act).await);
                assert_eq!(one, other, "{act:?}");
            }
        });
    }
}
