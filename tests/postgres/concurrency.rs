//! Acceptance by several sessions at once, callers that go away, connections that are lost.

use std::collections::BTreeSet;

use axs::core::{
    command::hash,
    store::{AcceptAnswer, AcceptGroup, AcceptItem, Error, Store},
    types::{CommandId, Sequence, ShardId},
};
use tokio::time::timeout;

use crate::{
    PATIENCE, SHARD, SHARDS, WATCH,
    database::Database,
    ledger::{change, item, nonce, open},
};

/// A group of `keys`, in their order, numbered from a block of its own.
async fn group(store: &Store, shard: ShardId, keys: impl Iterator<Item = u64>) -> AcceptGroup {
    let nonce = nonce();
    let block = store
        .lease_block(shard, nonce, 1_000)
        .await
        .expect("a block");
    let numbered = |(key, number): (u64, u64)| {
        let mut command = change(1001, &format!("key-{key}"), 1, 1, 0);
        command.id = Some(CommandId::new(shard, Sequence(number)));
        item(command)
    };
    AcceptGroup {
        blocks: vec![(shard, nonce)],
        items: keys.zip(block.first.0..).map(numbered).collect(),
    }
}

fn accepted(answers: &[AcceptAnswer]) -> usize {
    let accepted = answers
        .iter()
        .filter(|answer| **answer == AcceptAnswer::Accepted);
    accepted.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_with_the_same_keys_in_opposite_order_do_not_deadlock() {
    let database = Database::migrated(SHARDS).await;
    for round in 0..10 {
        // New ones, which expect new keys; in odd rounds they have met a known one before.
        let stores = [database.store().await, database.store().await];
        for (store, known) in stores.iter().zip([100_000, 200_000]) {
            for _ in 0..round % 2 * 2 {
                let met = group(store, SHARD, known..known + 1).await;
                store.accept(&met).await.expect("an answer");
            }
        }
        let keys = round * 500..round * 500 + 500;
        let one = group(&stores[0], SHARD, keys.clone()).await;
        let mut other = group(&stores[1], ShardId(0), keys.rev()).await;
        // Opens beside them, on the same accounts in opposite order.
        for (index, item) in other.items.iter_mut().enumerate().skip(490) {
            let id = item.command.id;
            item.command = open(round * 500 + index as u64);
            item.command.id = id;
            item.key_hash = hash::key_hash("orders", &item.command.idempotency_key);
        }
        let (one, other) = tokio::join!(stores[0].accept(&one), stores[1].accept(&other));
        let one = one.expect("no deadlock").answers;
        let other = other.expect("no deadlock").answers;
        assert_eq!(accepted(&one) + accepted(&other), 510, "each key once");
    }
}

#[tokio::test]
async fn a_known_key_among_new_ones_is_found_whatever_was_expected() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let first = group(&store, SHARD, 0..20).await;
    let answers = store.accept(&first).await.expect("an answer").answers;
    assert_eq!(accepted(&answers), 20);
    // First a surprise, then expected.
    for (round, known) in [(1_u64, 7), (2, 11)] {
        let keys = (round * 100..round * 100 + 9)
            .chain([known])
            .chain(round * 100 + 9..round * 100 + 19);
        let mut mixed = group(&store, ShardId(0), keys).await;
        // Another content under a known key.
        let conflict = first.items[12].command.idempotency_key.clone();
        let id = mixed.items[15].command.id;
        mixed.items[15] = item(change(1001, &conflict, 1, 2, 0));
        mixed.items[15].command.id = id;
        let answers = store.accept(&mixed).await.expect("an answer").answers;
        for (at, answer) in answers.iter().enumerate() {
            let stands = |item: usize| first.items[item].command.id.expect("numbered");
            let expected = match at {
                9 => AcceptAnswer::Duplicate(stands(usize::try_from(known).expect("a few"))),
                15 => AcceptAnswer::Conflict(stands(12)),
                _ => AcceptAnswer::Accepted,
            };
            assert_eq!(*answer, expected, "item {at} of round {round}");
        }
    }
    for table in ["command", "idempotency"] {
        let count = format!("SELECT count(*) FROM {table}");
        let count = session.query_one(&count, &[]).await.expect("a count");
        assert_eq!(count.get::<_, i64>(0), 20 + 18 + 18, "{table}");
    }
    // The same group once more, all known now.
    let again = store.accept(&first).await.expect("an answer").answers;
    for (item, answer) in first.items.iter().zip(again) {
        let id = item.command.id.expect("numbered");
        assert_eq!(answer, AcceptAnswer::Duplicate(id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_with_the_same_key_is_accepted() {
    const CLIENTS: usize = 64;
    let database = Database::migrated(SHARDS).await;
    let mut clients = tokio::task::JoinSet::new();
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(database.store().await);
    }
    for client in 0..CLIENTS {
        let store = stores[client % stores.len()].clone();
        clients.spawn(async move {
            let group = group(&store, SHARD, 7..8).await;
            (group.items[0].command.id, store.accept(&group).await)
        });
    }
    let (mut ours, mut named) = (Vec::new(), BTreeSet::new());
    while let Some(client) = clients.join_next().await {
        let (id, answer) = client.expect("no panic");
        match answer.expect("an answer").answers[..] {
            [AcceptAnswer::Accepted] => ours.extend(id),
            [AcceptAnswer::Duplicate(id)] => drop(named.insert(id)),
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(ours.len(), 1);
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ours);
    let session = database.session().await;
    let rows = session.query("SELECT FROM command", &[]).await;
    assert_eq!(rows.expect("an answer").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_block_waits_for_an_acceptance_under_way() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let group = group(&store, SHARD, 0..3).await;
    let blocks = [group.blocks[0].1];
    let session = database.session().await;
    let under_way = format!(
        "BEGIN; SELECT FROM sequence_block WHERE nonce = {} FOR SHARE;
        INSERT INTO command VALUES (2, 1001, now(), now(), 2, 1, '', '', '', '', '')",
        blocks[0]
    );
    session
        .batch_execute(&under_way)
        .await
        .expect("as axs_accept begins");
    let closing = store.close_blocks(&blocks);
    tokio::pin!(closing);
    let early = timeout(WATCH, &mut closing).await;
    assert!(early.is_err(), "the block was closed under an insert");
    session.batch_execute("COMMIT").await.expect("it ends");
    timeout(PATIENCE, closing)
        .await
        .expect("in time")
        .expect("closed");
    let refused = store.accept(&group).await;
    assert!(
        matches!(refused, Err(Error::BlockClosed(SHARD))),
        "{refused:?}"
    );
    // What closing waited for is seen: its number is not sealed.
    let view = store
        .outbox_view(SHARD, WATCH, 10)
        .await
        .expect("an answer");
    assert_eq!((view.sealable[0].0.0, view.sealable[0].1.0), (1, 1));
    assert_eq!((view.sealable[1].0.0, view.sealable[1].1.0), (3, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_waits_for_the_closing_of_its_block() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let group = group(&store, SHARD, 0..3).await;
    let session = database.session().await;
    let closing = format!(
        "BEGIN; SELECT axs_close_blocks('{{{}}}')",
        group.blocks[0].1
    );
    session
        .batch_execute(&closing)
        .await
        .expect("as the outbox closes it");
    let accepting = store.accept(&group);
    tokio::pin!(accepting);
    let early = timeout(WATCH, &mut accepting).await;
    assert!(early.is_err(), "accepted while the block was being closed");
    session.batch_execute("COMMIT").await.expect("it ends");
    let refused = timeout(PATIENCE, accepting).await.expect("in time");
    assert!(
        matches!(refused, Err(Error::BlockClosed(SHARD))),
        "{refused:?}"
    );
    let rows = session.query("SELECT FROM idempotency", &[]).await;
    assert_eq!(rows.expect("an answer").len(), 0, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_break_nothing() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let all = group(&store, SHARD, 0..400).await;
    let single = |item: &AcceptItem| AcceptGroup {
        blocks: all.blocks.clone(),
        items: vec![item.clone()],
    };
    for (index, item) in all.items.iter().enumerate() {
        let group = single(item);
        let patience = std::time::Duration::from_micros(index as u64 * 7);
        let _ = timeout(patience, store.accept(&group)).await;
        let _ = timeout(
            patience,
            store.commands(&[item.command.id.expect("numbered")]),
        )
        .await;
    }
    // Each was stored once or not at all, and the connections serve on.
    for item in &all.items {
        let answer = store
            .accept(&single(item))
            .await
            .expect("an answer")
            .answers[0];
        let id = item.command.id.expect("numbered");
        let known = [AcceptAnswer::Accepted, AcceptAnswer::Duplicate(id)];
        assert!(known.contains(&answer), "{answer:?}");
    }
    let session = database.session().await;
    let rows = session.query("SELECT FROM command", &[]).await;
    assert_eq!(rows.expect("an answer").len(), 400);
    let open = "SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND state LIKE 'idle in transaction%'";
    assert!(
        session
            .query(open, &[])
            .await
            .expect("an answer")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_connects_again_by_itself() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    for round in 0..3 {
        let group = group(&store, SHARD, round..round + 1).await;
        // The first attempts may meet what is left of the old connections.
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(store.accept(&group).await);
            if matches!(answers.last(), Some(Ok(_))) && store.shards().await.is_ok() {
                break;
            }
        }
        let last = answers.pop().expect("there was an attempt");
        assert_eq!(
            accepted(&last.expect("it connects again").answers),
            1,
            "{answers:?}"
        );
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        session.query(end, &[]).await.expect("they are ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_the_session_leaves_the_answer_open() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let group = group(&store, SHARD, 0..1).await;
    let session = database.session().await;
    let hold = format!(
        "BEGIN; SELECT axs_close_blocks('{{{}}}')",
        group.blocks[0].1
    );
    session
        .batch_execute(&hold)
        .await
        .expect("it holds the acceptance up");
    let accepting = store.accept(&group);
    tokio::pin!(accepting);
    assert!(timeout(WATCH, &mut accepting).await.is_err());
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%axs_accept(%'
            AND pid <> pg_backend_pid()";
    session.query(end, &[]).await.expect("it is ended");
    let lost = timeout(PATIENCE, accepting).await.expect("in time");
    assert!(matches!(lost, Err(Error::AnswerLost(_))), "{lost:?}");
    session
        .batch_execute("ROLLBACK")
        .await
        .expect("the block stays open");
    let answers = store
        .accept(&group)
        .await
        .expect("on a new connection")
        .answers;
    assert_eq!(answers, [AcceptAnswer::Accepted]);
}
