//! Connections that are cut, and processes that stop, in the middle of a message.
//!
//! `AXS_TEST_FLUSH_CUTS` is how many flushes are cut.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axs::core::{
    command::Command,
    store::{Error, Flush, Flushed, Store},
    types::{AccountId, CommandId, Epoch, Position, Sequence},
};
use tokio::time::timeout;

use crate::{
    PATIENCE, SHARD, SHARDS,
    database::Database,
    ledger::{Leader, TTL, change, nonce},
    proxy::{Proxy, Then, Way},
};

/// Flushes that are cut when nothing else is said.
const CUTS: usize = 100;
/// Of the message that ends a statement of the extended protocol, and commits it.
const SYNC_BYTES: usize = 5;
/// A flush is sent again so often at most.
const TRIES_MAX: usize = 5;

fn cuts() -> usize {
    let set = std::env::var("AXS_TEST_FLUSH_CUTS").ok();
    set.map_or(CUTS, |text| {
        text.parse().expect("`AXS_TEST_FLUSH_CUTS` is a number")
    })
}

/// The next flush: one more for account 1001, whatever the shard.
pub fn one_more(leader: &mut Leader, number: u64) -> Arc<Flush> {
    let command = change(1001, "k", 1, 1, 0);
    let id = CommandId::new(leader.flush.shard, Sequence(number));
    leader.apply(&Command {
        id: Some(id),
        ..command
    });
    leader.take()
}

/// Version of the only balance (0: none), and the row's position.
async fn seen(store: &Store) -> (u64, Position) {
    let request = axs::core::store::LoadRequest {
        accounts: vec![AccountId(1001)],
        ..Default::default()
    };
    let loaded = store.load(SHARD, &request).await.expect("an answer");
    let rows = store.shard_rows().await.expect("an answer");
    let version = loaded.balances.first().map_or(0, |balance| balance.version);
    (version, rows[usize::from(SHARD.0)].next_position)
}

/// Until it is answered, as the leader does.
pub async fn send_again(store: &Store, flush: &Arc<Flush>) -> Flushed {
    let mut errors = Vec::new();
    for _ in 0..TRIES_MAX {
        match store.flush(flush, TTL).await {
            Ok(flushed) => return flushed,
            Err(error) => errors.push(error),
        }
    }
    panic!("it is not settled: {errors:?}");
}

/// Wherever the connection is cut, on the way there or back: the same flush again answers what
/// became of it, and it was done once and whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_cut_anywhere_is_done_once() {
    let database = Database::migrated(SHARDS).await;
    let proxy = Proxy::start(&database.settings).await;
    let (store, witness) = (proxy.store().await, database.store().await);
    let mut leader = Leader::acquire(&store, SHARD).await;
    let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut bytes, mut slowest) = ((0, 0), std::time::Duration::ZERO);
    for number in 1..=2 + cuts() as u64 {
        let flush = one_more(&mut leader, number);
        // The first two make the connection and show how long the messages are.
        if number <= 2 {
            proxy.counted();
            assert_eq!(
                store.flush(&flush, TTL).await.expect("uncut"),
                Flushed::Done
            );
            bytes = proxy.counted();
            continue;
        }
        // Spread over the whole message, both ends included.
        let place = |bytes: usize| (number as usize * 7_919) % (bytes + 1);
        match number % 2 {
            0 => proxy.limit(Way::ToServer, place(bytes.0), Then::Cut),
            _ => proxy.limit(Way::ToClient, place(bytes.1), Then::Cut),
        }
        let started = Instant::now();
        let first = store.flush(&flush, TTL).await;
        proxy.free();
        let settled = match &first {
            Ok(flushed) => *flushed,
            Err(_) => send_again(&store, &flush).await,
        };
        slowest = slowest.max(started.elapsed());
        let answer = match (&first, settled) {
            (Ok(_), _) => "answered before the cut",
            // The connection had been lost before, and the next one is cut while it is made.
            (Err(Error::Unavailable(_)), Flushed::Done) => "cut before it was sent",
            (Err(Error::AnswerLost(_)), Flushed::Done) => "cut before it was done",
            (Err(Error::AnswerLost(_)), Flushed::Already) => "cut after it was done",
            (Err(error), _) => panic!("a cut is an answer that is lost, not: {error:?}"),
        };
        *answers.entry(answer).or_default() += 1;
        assert_eq!(seen(&witness).await, (number, flush.to), "{answer}");
    }
    println!("{answers:?}, slowest {slowest:?}, messages of {bytes:?} bytes");
    for answer in ["cut before it was done", "cut after it was done"] {
        assert!(answers.contains_key(answer), "never {answer}: {answers:?}");
    }
}

/// A leader's process stops while it sends a flush: nothing that it left on the server delays the
/// next leader, and when it goes on, its flush is done as far as the next leader saw it, or fenced.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_stops_on_the_way_holds_nothing_up() {
    let database = Database::migrated(SHARDS).await;
    let proxy = Proxy::start(&database.settings).await;
    let (zombie, healthy) = (proxy.store().await, database.store().await);
    let session = database.session().await;
    let (mut bytes, mut version) = (0, 0);
    // Of the flush's messages: nothing, a byte, parts of them, all but the last one (Sync, without
    // which the statement is done and not committed), all but its last byte, all.
    for part in [
        "measure",
        "0",
        "1",
        "1/3",
        "1/2",
        "no sync",
        "last but one",
        "all",
    ] {
        let acquired = zombie.acquire(SHARD, "zombie", None, nonce(), TTL).await;
        let state = acquired.expect("an answer").expect("nobody leads");
        let mut leader = Leader::of(&state);
        if version > 0 {
            let request = axs::core::store::LoadRequest {
                accounts: vec![AccountId(1001)],
                ..Default::default()
            };
            let loaded = zombie.load(SHARD, &request).await.expect("an answer");
            let balance = loaded.balances[0];
            leader
                .balances
                .insert((balance.account, balance.asset), balance);
        }
        let fresh = state.applied.iter().last().map_or(1, |(_, last)| last + 1);
        let flush = one_more(&mut leader, fresh);
        if part == "measure" {
            proxy.counted();
            zombie.flush(&flush, TTL).await.expect("uncut");
            let flush = one_more(&mut leader, fresh + 1);
            proxy.counted();
            zombie.flush(&flush, TTL).await.expect("uncut");
            (bytes, version) = (proxy.counted().0, 2);
            zombie
                .release(SHARD, flush.epoch, flush.nonce)
                .await
                .expect("ours");
            continue;
        }
        let passed = match part {
            "0" => 0,
            "1" => 1,
            "1/3" => bytes / 3,
            "1/2" => bytes / 2,
            "no sync" => bytes - SYNC_BYTES,
            "last but one" => bytes - 1,
            _ => bytes,
        };
        // Before the flush, which may keep the row from then on.
        let over = "UPDATE shard_position SET lease_until = clock_timestamp()";
        session.batch_execute(over).await.expect("its lease ends");
        proxy.limit(Way::ToServer, passed, Then::Stop);
        let (sender, sent) = (zombie.clone(), flush.clone());
        let flushing = tokio::spawn(async move { sender.flush(&sent, TTL).await });
        timeout(PATIENCE, proxy.reached())
            .await
            .expect("it is sent");
        if part == "all" {
            let done = async { while seen(&healthy).await.1 != flush.to {} };
            timeout(PATIENCE, done).await.expect("the server does it");
            // The flush made it longer.
            session.batch_execute(over).await.expect("its lease ends");
        }
        let started = Instant::now();
        let taken = healthy.acquire(SHARD, "healthy", None, nonce(), TTL).await;
        let took = started.elapsed();
        let taken = taken.expect("an answer").expect("the lease is over");
        println!("{part}: taken over after {took:?}");
        assert!(took < PATIENCE / 10, "{part}: taken over after {took:?}");
        assert_eq!(taken.epoch, Epoch(flush.epoch.0 + 1));

        proxy.free();
        let answer = timeout(PATIENCE, flushing)
            .await
            .expect("in time")
            .expect("no panic");
        let is_done = taken.next_position == flush.to;
        assert_eq!(is_done, part == "all", "{part}: {answer:?}");
        match (is_done, &answer) {
            (true, Ok(Flushed::Done)) | (false, Err(Error::Fenced(_))) => {}
            // Its session held the row, and was ended for that.
            (false, Err(Error::AnswerLost(_))) => {
                let again = zombie.flush(&flush, TTL).await;
                assert!(matches!(again, Err(Error::Fenced(_))), "{part}: {again:?}");
            }
            _ => panic!("{part}: {answer:?}"),
        }
        version += u64::from(is_done);
        assert_eq!(
            seen(&healthy).await,
            (version, taken.next_position),
            "{part}"
        );
        healthy
            .release(SHARD, taken.epoch, taken.nonce)
            .await
            .expect("ours");
    }
}
