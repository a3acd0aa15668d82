//! Acceptance: keys, routes, blocks, numbers, assets.

use axs::core::{
    command::{Change, Command, CommandKind, Move, hash},
    proto::AckPolicy,
    store::{AcceptAnswer, Error, Store, StoredCommand},
    types::{AccountId, AssetId, CommandId, Money, Sequence, ShardId, Timestamp},
};

use crate::{
    ledger::{Writer, change, command, item, nonce, open, rehashed},
    stores::SHARD,
};

/// A command that uses every field and the ends of every range.
fn full() -> Command {
    let move_of = |asset, available_delta, frozen_delta| Move {
        asset: AssetId(asset),
        available_delta,
        frozen_delta,
    };
    let change = Change {
        account: AccountId((1 << 62) - 1),
        primary: move_of(1, Money::MIN, Money::MAX),
        fallback: Some(move_of(2, Money::from(-1), Money::from(i64::MAX))),
        if_version: Some(u64::MAX),
        if_min_available: Some(Money::MAX),
    };
    let mut full = command(
        CommandKind::Transfer,
        (1 << 62) - 1,
        "füll",
        vec![change; 3],
    );
    full.user = u64::MAX;
    full.reverses = Some(CommandId::new(SHARD, Sequence(77)));
    full.pin = Some(ShardId(3));
    full.ack = Some(AckPolicy::default());
    full.created_at = None;
    rehashed(full)
}

pub async fn accepted_commands_are_read_back_as_sent(store: &Store) {
    let mut writer = Writer::new(store);
    let sent = vec![open(1001), change(1001, "a", 1, 5, -5), full()];
    let accepted = writer.accept(SHARD, sent).await;
    let ids: Vec<CommandId> = accepted.iter().filter_map(|command| command.id).collect();
    assert!(accepted[0].accepted_at > Timestamp(1_700_000_000_000_000));

    let stored = store.commands(&ids).await.expect("they are stored");
    for (stored, command) in stored.into_iter().zip(accepted) {
        let key = hash::key_hash(&command.source, &command.idempotency_key);
        let found = store.command_of_key(key).await.expect("keys are known");
        assert_eq!(found, command.id);
        assert_eq!(
            stored,
            Some(StoredCommand {
                command,
                parked: None
            })
        );
    }
    let outcomes = store.outcomes(&ids).await.expect("an answer");
    assert_eq!(outcomes, vec![None; 3], "nothing was applied");
}

pub async fn a_repeated_key_is_a_duplicate_or_a_conflict(store: &Store) {
    let mut writer = Writer::new(store);
    let first = writer.accept(SHARD, vec![change(1001, "k", 1, 5, 0)]).await;
    let id = first[0].id.expect("a number");

    let same = writer.number(SHARD, change(1001, "k", 1, 5, 0)).await;
    let other = writer.number(ShardId(0), change(1001, "k", 1, 6, 0)).await;
    let free = writer.number(SHARD, change(1001, "free", 1, 6, 0)).await;
    let answers = writer.send(vec![same.clone(), free]).await;
    let answers = answers.expect("a group");
    assert_eq!(
        answers,
        [AcceptAnswer::Duplicate(id), AcceptAnswer::Accepted]
    );
    let answers = writer.send(vec![other.clone()]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Conflict(id)]);

    // Without an id a key is only looked up.
    let lookups = [
        (change(1001, "k", 1, 5, 0), AcceptAnswer::Duplicate(id)),
        (change(1001, "k", 1, 6, 0), AcceptAnswer::Conflict(id)),
        (open(5), AcceptAnswer::KeyUnknown),
    ];
    for (lookup, expected) in lookups {
        let answers = writer.send(vec![lookup]).await.expect("a group");
        assert_eq!(answers, [expected]);
    }

    // The same send again, as after a lost answer: under the id that was sent.
    let answers = writer.send(vec![first[0].clone()]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Duplicate(id)]);

    // Nothing was left behind by the items that were not accepted.
    let unused = [same.id.expect("a number"), other.id.expect("a number")];
    let stored = store.commands(&unused).await.expect("an answer");
    assert_eq!(stored, vec![None, None]);
    let routes = store.routes(&[AccountId(5)]).await.expect("an answer");
    assert_eq!(routes, [None]);
}

pub async fn the_first_route_of_an_account_stands(store: &Store) {
    let mut writer = Writer::new(store);
    writer.accept(ShardId(1), vec![open(1001)]).await;
    let routes = store
        .routes(&[AccountId(9), AccountId(1001), AccountId(1)])
        .await;
    assert_eq!(routes.expect("an answer"), [None, Some(ShardId(1)), None]);

    let mut again = open(1001);
    again.idempotency_key = "again".into();
    let again = rehashed(again);
    let elsewhere = writer.number(ShardId(3), again.clone()).await;
    let key = item(elsewhere.clone()).key_hash;
    let answers = writer.send(vec![elsewhere]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Routed(ShardId(1))]);
    let stored = store.command_of_key(key).await.expect("an answer");
    assert_eq!(stored, None, "the key stays free");
    writer.accept(ShardId(1), vec![again]).await;

    // Two of one group: the first in its order.
    let mut second = open(2002);
    second.idempotency_key = "a second one".into();
    let first = writer.number(ShardId(3), open(2002)).await;
    let second = writer.number(ShardId(0), rehashed(second)).await;
    let answers = writer.send(vec![first, second]).await.expect("a group");
    let expected = [AcceptAnswer::Accepted, AcceptAnswer::Routed(ShardId(3))];
    assert_eq!(answers, expected);
    let routes = store.routes(&[AccountId(2002)]).await.expect("an answer");
    assert_eq!(routes, [Some(ShardId(3))]);
}

pub async fn a_closed_block_stores_nothing(store: &Store) {
    let mut writer = Writer::new(store);
    let good = writer.number(ShardId(1), change(9, "good", 1, 1, 0)).await;
    let late = writer.number(SHARD, change(1001, "late", 1, 1, 0)).await;
    let nonces: Vec<_> = writer.blocks().iter().map(|&(_, nonce)| nonce).collect();
    store
        .close_blocks(&[nonces[1], nonce()])
        .await
        .expect("closed, one is unknown");
    store
        .close_blocks(&nonces[1..])
        .await
        .expect("closed again");

    let key = item(good.clone()).key_hash;
    let refused = writer.send(vec![good, late]).await;
    assert!(
        matches!(refused, Err(Error::BlockClosed(SHARD))),
        "{refused:?}"
    );
    assert_eq!(store.command_of_key(key).await.expect("an answer"), None);

    // A nonce that was never leased is no open block either.
    let group = axs::core::store::AcceptGroup {
        blocks: vec![(ShardId(0), nonce())],
        items: vec![item(change(1, "lookup", 1, 1, 0))],
    };
    let refused = store.accept(&group).await;
    assert!(
        matches!(refused, Err(Error::BlockClosed(ShardId(0)))),
        "{refused:?}"
    );
}

pub async fn a_number_is_used_once(store: &Store) {
    let mut writer = Writer::new(store);
    let first = writer.accept(SHARD, vec![change(1001, "a", 1, 1, 0)]).await;
    let id = first[0].id.expect("a number");

    let fresh = writer.number(SHARD, open(1001)).await;
    let mut taken = change(1001, "b", 1, 1, 0);
    taken.id = Some(id);
    let key = item(fresh.clone()).key_hash;
    let refused = writer.send(vec![fresh.clone(), taken]).await;
    assert!(
        matches!(refused, Err(Error::NumberTaken(taken)) if taken == id),
        "{refused:?}"
    );
    assert_eq!(store.command_of_key(key).await.expect("an answer"), None);
    let routes = store.routes(&[AccountId(1001)]).await.expect("an answer");
    assert_eq!(routes, [None], "the group left no route");

    let mut twin = change(1001, "twin", 1, 1, 0);
    twin.id = fresh.id;
    let refused = writer.send(vec![fresh.clone(), twin]).await;
    let taken = matches!(refused, Err(Error::NumberTaken(id)) if Some(id) == fresh.id);
    assert!(taken, "{refused:?}");
}

pub async fn text_that_postgresql_cannot_store_is_refused(store: &Store) {
    let mut writer = Writer::new(store);
    let mut bad = change(1001, "nul", 1, 1, 0);
    bad.reference = "a\0b".into();
    let bad = writer.number(SHARD, rehashed(bad)).await;
    let good = writer.number(SHARD, change(1001, "good", 1, 1, 0)).await;
    let key = item(good.clone()).key_hash;
    let refused = writer.send(vec![good.clone(), bad]).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert_eq!(store.command_of_key(key).await.expect("an answer"), None);
    let answers = writer.send(vec![good]).await.expect("without the bad one");
    assert_eq!(answers, [AcceptAnswer::Accepted]);
}

pub async fn blocks_are_leased_once_for_each_nonce(store: &Store) {
    let (mine, yours) = (nonce(), nonce());
    let first = store.lease_block(SHARD, mine, 10).await.expect("a block");
    assert_eq!((first.first, first.last), (Sequence(1), Sequence(10)));
    assert_eq!((first.nonce, first.shard), (mine, SHARD));
    let second = store.lease_block(SHARD, yours, 1).await.expect("a block");
    assert_eq!((second.first, second.last), (Sequence(11), Sequence(11)));
    for size in [10, 500] {
        let again = store.lease_block(SHARD, mine, size).await.expect("a block");
        assert_eq!(again, first, "the same nonce");
    }
    let elsewhere = store.lease_block(ShardId(0), nonce(), 3).await;
    let elsewhere = elsewhere.expect("a block");
    assert_eq!(
        (elsewhere.first, elsewhere.last),
        (Sequence(1), Sequence(3))
    );
}

pub async fn assets_are_added_once(store: &Store) {
    assert!(store.assets().await.expect("an answer").is_empty());
    let eur = store.add_asset("EUR", 2).await.expect("it is new");
    let xbt = store.add_asset("XBT.F_1-2", 18).await.expect("it is new");
    assert!(eur.id.0 > 0 && xbt.id > eur.id);
    assert_eq!(store.add_asset("EUR", 2).await.expect("it stands"), eur);
    let refused = store.add_asset("EUR", 3).await;
    assert!(matches!(refused, Err(Error::Mismatch(_))), "{refused:?}");
    for (code, scale) in [("eur", 2), ("", 2), ("ABCDEFGHIJKLMNOPQ", 2), ("USD", 19)] {
        let refused = store.add_asset(code, scale).await;
        assert!(
            matches!(refused, Err(Error::Refused(_))),
            "{code}: {refused:?}"
        );
    }
    let all = store.assets().await.expect("an answer");
    assert_eq!(all.iter().cloned().collect::<Vec<_>>(), [eur, xbt]);
    assert_eq!(
        store.shards().await.expect("an answer"),
        crate::stores::SHARDS
    );
    let health = store.health().await.expect("an answer");
    assert_eq!(health.shards, Some(crate::stores::SHARDS));
}
