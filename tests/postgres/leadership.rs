//! Leaders that sleep, hang or come back: only the row decides.

use std::{sync::Arc, time::Instant};

use axs::core::{
    store::{Error, Flush, Flushed, Store},
    types::{Epoch, Position},
};
use tokio::time::timeout;

use crate::{
    PATIENCE, SHARD, SHARDS, WATCH,
    database::Database,
    ledger::{Leader, START, TTL, Writer, change, nonce, open},
};

/// As `opened`, the lease over.
const EXPIRE: &str = "UPDATE shard_position SET lease_until = clock_timestamp()";

/// Account 1001 opened and flushed by a leader, and its next flush.
async fn led(store: &Store) -> (Leader, Arc<Flush>) {
    let mut writer = Writer::new(store);
    let accepted = writer
        .accept(SHARD, vec![open(1001), change(1001, "fund", 1, 100, 0)])
        .await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.open(&accepted[0]);
    leader.commit(store).await;
    leader.apply(&accepted[1]);
    let next = leader.take();
    (leader, next)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_waited_for_a_take_over_is_fenced() {
    let database = Database::migrated(SHARDS).await;
    let (zombie, healthy) = (database.store().await, database.session().await);
    let (_, flush) = led(&zombie).await;
    healthy
        .batch_execute(EXPIRE)
        .await
        .expect("the leader slept");
    // The take-over is under way when the old leader's flush arrives.
    let take_over = "BEGIN; SELECT axs_acquire(2::smallint, 'next', NULL, 77, interval '1 minute')";
    healthy
        .batch_execute(take_over)
        .await
        .expect("the lease is over");
    let flushing = zombie.flush(&flush, TTL);
    tokio::pin!(flushing);
    assert!(timeout(WATCH, &mut flushing).await.is_err(), "it must wait");
    healthy.batch_execute("COMMIT").await.expect("taken over");
    let fenced = timeout(PATIENCE, flushing).await.expect("in time");
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
    let balances = zombie.balances(&[axs::core::types::AccountId(1001)]).await;
    let balances = balances
        .expect("an answer")
        .remove(0)
        .expect("it was opened");
    assert_eq!((balances.balances, balances.epoch), (vec![], Epoch(2)));
    for refused in [
        zombie.renew(SHARD, flush.epoch, flush.nonce, TTL).await,
        zombie
            .mark_published(SHARD, flush.epoch, flush.nonce, Position::new(0, 9))
            .await,
    ] {
        assert!(matches!(refused, Err(Error::Fenced(_))), "{refused:?}");
    }
}

/// A restore brings the row of an earlier time back, and the next leader has the epoch that the one
/// from before it has: the nonces differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_from_before_a_restore_is_fenced() {
    let database = Database::migrated(SHARDS).await;
    let (before, after) = (database.store().await, database.store().await);
    let session = database.session().await;
    let (_, flush) = led(&before).await;
    // As it was when this leader took over.
    let restore = "UPDATE shard_position SET epoch = epoch - 1, nonce = 0, lease_until = 'epoch'";
    session
        .batch_execute(restore)
        .await
        .expect("an earlier row");
    let mut leader = Leader::acquire(&after, SHARD).await;
    assert_eq!(
        (leader.flush.epoch, leader.flush.from),
        (flush.epoch, flush.from)
    );
    let fenced = before.flush(&flush, TTL).await;
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
    leader.tick(START);
    leader.commit(&after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_waits_for_a_flush_and_sees_it() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let (mut leader, flush) = led(&store).await;
    // A flush whose statement is under way, of a leader whose lease is over.
    session
        .batch_execute(EXPIRE)
        .await
        .expect("the leader slept");
    session
        .batch_execute("BEGIN; UPDATE shard_position SET next_position = 7 WHERE shard = 2")
        .await
        .expect("as axs_flush begins");
    let next = database.store().await;
    let acquiring = next.acquire(SHARD, "next", None, nonce(), TTL);
    tokio::pin!(acquiring);
    let early = timeout(WATCH / 3, &mut acquiring).await;
    assert!(early.is_err(), "taken over under a flush");
    session
        .batch_execute("COMMIT")
        .await
        .expect("the flush ends");
    let state = timeout(PATIENCE, acquiring).await.expect("in time");
    let state = state.expect("an answer").expect("the lease was over");
    assert_eq!((state.epoch, state.next_position), (Epoch(2), Position(7)));
    let fenced = store.flush(&flush, TTL).await;
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
    leader.tick(START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_hangs_on_the_row_is_ended() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    let (_, flush) = led(&store).await;
    session
        .batch_execute(EXPIRE)
        .await
        .expect("the leader hangs");
    session
        .batch_execute(
            "SET application_name = 'axs-shard-2-e1';
            BEGIN; UPDATE shard_position SET next_position = next_position WHERE shard = 2",
        )
        .await
        .expect("it holds the row");
    let next = database.store().await;
    let started = Instant::now();
    let state = timeout(PATIENCE, next.acquire(SHARD, "next", None, nonce(), TTL)).await;
    let state = state
        .expect("in time")
        .expect("an answer")
        .expect("taken over");
    assert_eq!((state.epoch, state.next_position), (Epoch(2), flush.from));
    assert!(started.elapsed() >= WATCH, "a flush gets its time first");
    let dead = session.batch_execute("COMMIT").await;
    assert!(dead.is_err(), "the session that held the row was ended");
    let fenced = store.flush(&flush, TTL).await;
    assert!(
        matches!(fenced, Err(Error::Fenced(_) | Error::AnswerLost(_))),
        "its own session may have been ended with it: {fenced:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_in_its_lease_is_not_disturbed() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    let (_, flush) = led(&store).await;
    session
        .batch_execute(
            "SET application_name = 'axs-shard-2-e1';
            BEGIN; UPDATE shard_position SET next_position = next_position WHERE shard = 2",
        )
        .await
        .expect("a long flush");
    let other = database.store().await;
    let refused = timeout(PATIENCE, other.acquire(SHARD, "next", None, nonce(), TTL)).await;
    assert_eq!(refused.expect("at once").expect("an answer"), None);
    session
        .batch_execute("COMMIT")
        .await
        .expect("it was not ended");
    assert_eq!(store.flush(&flush, TTL).await.expect("ours"), Flushed::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_leader_is_named() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    let (_, flush) = led(&store).await;
    let named = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'axs-shard-2-e1'";
    let first: i32 = session
        .query_one(named, &[])
        .await
        .expect("it leads")
        .get(0);
    let end = format!("SELECT pg_terminate_backend({first}, 5000)");
    session
        .batch_execute(&end)
        .await
        .expect("its session is ended");
    // Sent again until it is answered, as the leader does.
    let mut flushed = Err(Error::AnswerLost(String::new()));
    for _ in 0..5 {
        flushed = store.flush(&flush, TTL).await;
        if flushed.is_ok() {
            break;
        }
    }
    assert_eq!(flushed.expect("on a new session"), Flushed::Done);
    let second: i32 = session
        .query_one(named, &[])
        .await
        .expect("named again")
        .get(0);
    assert_ne!(first, second);
}
