//! What operators do to a shard.

use axs::core::{
    command::Command,
    store::{Act, Error, Known, Recovery, ShardRow, Store},
    types::{Epoch, Position, Sequence, ShardId, Timestamp},
};

use crate::{
    ledger::{Leader, TTL, Writer, change, item, nonce, open},
    stores::SHARD,
};

fn act() -> Act {
    Act {
        operator: "somebody@somewhere".into(),
        reason: "a test".into(),
    }
}

async fn row(store: &Store) -> ShardRow {
    let mut rows = store.shard_rows().await.expect("an answer");
    rows.swap_remove(usize::from(SHARD.0))
}

fn is_fenced<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Fenced(_))), "{answer:?}");
}

pub async fn a_paused_shard_is_led_by_nobody(store: &Store) {
    let mut leader = Leader::acquire(store, SHARD).await;
    is_fenced(store.fence(SHARD, nonce(), &act()).await);
    assert!(store.pause(SHARD, &act()).await.expect("it is done"));
    assert!(!store.pause(SHARD, &act()).await.expect("it was done"));
    assert_eq!(row(store).await.paused_by, Some(act().operator));
    // Who leads goes on until it hands the shard over; nobody takes over, not even itself.
    leader.tick(Timestamp(1));
    leader.commit(store).await;
    let (mine, other) = (Some(leader.flush.nonce), nonce());
    for mine in [mine, None] {
        let taken = store.acquire(SHARD, "other", mine, other, TTL).await;
        assert_eq!(taken.expect("an answer"), None);
    }
    let before = row(store).await;
    store
        .fence(SHARD, nonce(), &act())
        .await
        .expect("it is paused");
    let fenced = row(store).await;
    assert_eq!(fenced.epoch, Epoch(before.epoch.0 + 1));
    assert!(fenced.lease_left.is_zero());
    leader.tick(Timestamp(2));
    is_fenced(store.flush(&leader.flush.clone().into(), TTL).await);
    let taken = store.acquire(SHARD, "other", None, other, TTL).await;
    assert_eq!(taken.expect("an answer"), None, "paused still");

    assert!(store.resume(SHARD, &act()).await.expect("it is done"));
    assert!(!store.resume(SHARD, &act()).await.expect("it was done"));
    let resumed = row(store).await;
    assert_eq!((resumed.paused_by, resumed.interventions), (None, 1));
    let taken = store.acquire(SHARD, "other", None, other, TTL).await;
    assert!(taken.expect("an answer").is_some());
}

pub async fn a_shard_goes_on_in_another_generation(store: &Store) {
    let mut leader = Leader::acquire(store, SHARD).await;
    let mut writer = Writer::new(store);
    let accepted = writer.accept(SHARD, vec![open(7)]).await;
    leader.open(&accepted[0]);
    leader.commit(store).await;
    let before = row(store).await;
    assert!(before.anchor.is_some());
    let to = Position::new(1, 40);
    let elsewhere = Position::new(0, 4_000);
    is_fenced(store.rebase(SHARD, elsewhere, to, nonce(), &act()).await);
    assert_eq!(row(store).await.next_position, before.next_position);

    let from = before.next_position;
    let moved = store.rebase(SHARD, from, to, nonce(), &act()).await;
    assert!(moved.expect("it is done"));
    let moved = store.rebase(SHARD, from, to, nonce(), &act()).await;
    assert!(!moved.expect("it was done"));
    let after = row(store).await;
    assert_eq!((after.next_position, after.anchor), (to, None));
    assert_eq!(after.epoch, Epoch(before.epoch.0 + 1));
    assert_eq!(after.interventions, before.interventions + 1);
    assert!(after.lease_left.is_zero());
    assert_eq!(
        (after.applied, after.state_hash, after.published_to),
        (before.applied, before.state_hash, before.published_to)
    );
    leader.tick(Timestamp(1));
    is_fenced(store.flush(&leader.flush.clone().into(), TTL).await);
    let taken = Leader::acquire(store, SHARD).await;
    assert_eq!(taken.flush.from, to);
}

pub async fn commands_without_a_row_are_adopted_once(store: &Store) {
    let mut writer = Writer::new(store);
    let known = writer
        .accept(SHARD, vec![change(7, "known", 1, 1, 0)])
        .await;
    // As they stand in the log of a database that went back: numbered, and with no row.
    let mut lost = Vec::new();
    for command in [open(7), change(7, "lost", 1, 5, 0)] {
        let mut command = writer.number(SHARD, command).await;
        command.accepted_at = known[0].accepted_at.plus_micros(1);
        lost.push(command);
    }
    let mut other_content = change(7, "another", 1, 2, 0);
    other_content.id = known[0].id;
    let other_key = writer.number(SHARD, change(7, "known", 1, 1, 0)).await;
    let log: Vec<Command> = [&known[..], &lost, &[other_content, other_key]].concat();
    let expected = [
        Known::Accepted,
        Known::Nothing,
        Known::Nothing,
        Known::OtherContent,
        Known::OtherCommand,
    ];
    assert_eq!(store.known(SHARD, &log).await.expect("an answer"), expected);
    assert_eq!(store.adopt(SHARD, &log).await.expect("an answer"), expected);
    let again = store.adopt(SHARD, &log[..3]).await.expect("an answer");
    assert_eq!(again, [Known::Accepted; 3]);
    assert_eq!(store.known(SHARD, &[]).await.expect("an answer"), []);

    let ids: Vec<_> = lost.iter().filter_map(|command| command.id).collect();
    let stored = store.commands(&ids).await.expect("an answer");
    let stored: Vec<_> = stored.into_iter().flatten().map(|it| it.command).collect();
    assert_eq!(stored, lost, "as they were accepted");
    let key = item(lost[1].clone()).key_hash;
    assert_eq!(
        store.command_of_key(key).await.expect("an answer"),
        lost[1].id
    );
    let routes = store.routes(&[lost[0].account]).await.expect("an answer");
    assert_eq!(routes, [Some(SHARD)]);
}

pub async fn a_recovery_uses_nothing_again(store: &Store) {
    let mut leader = Leader::acquire(store, SHARD).await;
    let elsewhere = store.lease_block(ShardId(1), nonce(), 10).await;
    elsewhere.expect("a block");
    let mut writer = Writer::new(store);
    let used = writer.accept(SHARD, vec![open(7)]).await;
    let before = row(store).await;
    let recovery = Recovery {
        epoch: Epoch(before.epoch.0 + 1_000),
        next: Sequence(2_000_000),
    };
    let recovered = store.recover(SHARD, recovery, nonce(), &act()).await;
    recovered.expect("it is done");
    let after = row(store).await;
    assert_eq!(
        (after.epoch, after.recovered_epoch),
        (recovery.epoch, recovery.epoch)
    );
    assert_eq!(after.interventions, 1);
    assert!(after.lease_left.is_zero());
    assert_eq!(after.next_position, before.next_position);
    leader.tick(Timestamp(1));
    is_fenced(store.flush(&leader.flush.clone().into(), TTL).await);

    // The block that was open is closed; the next one begins behind everything seen.
    let late = writer.number(SHARD, change(7, "late", 1, 1, 0)).await;
    let late = writer.send(vec![late]).await;
    assert!(matches!(late, Err(Error::BlockClosed(SHARD))), "{late:?}");
    let block = store
        .lease_block(SHARD, nonce(), 10)
        .await
        .expect("a block");
    assert_eq!(block.first, recovery.next);
    let view = store
        .outbox_view(SHARD, std::time::Duration::ZERO, 10)
        .await
        .expect("an answer");
    let number = used[0].id.expect("it has one").sequence().0;
    assert_eq!(
        view.sealable.first(),
        Some(&(Sequence(number + 1), view.sealable[0].1))
    );
    assert_eq!(
        view.sealable.last().map(|(_, last)| *last),
        Some(Sequence(recovery.next.0 - 1))
    );

    // Twice: a later epoch, and no number more.
    let recovered = store.recover(SHARD, recovery, nonce(), &act()).await;
    recovered.expect("it is done");
    assert_eq!(row(store).await.epoch, Epoch(recovery.epoch.0 + 1));
    let block = store
        .lease_block(SHARD, nonce(), 10)
        .await
        .expect("a block");
    assert_eq!(block.first, Sequence(recovery.next.0 + 10));
}
