//! What the outbox sees: commands passed over, numbers to seal.

use std::time::Duration;

use axs::core::{
    command::Command,
    interval_set::IntervalSet,
    store::{DeadLetterReason, OutboxView, Store},
    types::{Sequence, ShardId, Timestamp},
};

use crate::{
    ledger::{Leader, Writer, change, nonce, open},
    stores::SHARD,
};

const MARGIN: Duration = Duration::from_secs(6);
const MARGIN_MICROS: i64 = 6_000_000;

async fn view(store: &Store, limit: usize) -> OutboxView {
    store
        .outbox_view(SHARD, MARGIN, limit)
        .await
        .expect("an answer")
}

fn sealable(view: &OutboxView) -> String {
    let mut set = IntervalSet::new();
    for (first, last) in &view.sealable {
        set.insert_range(first.0, last.0);
    }
    set.to_string()
}

pub async fn pending_commands_are_those_passed_over(store: &Store) {
    let empty = view(store, 10).await;
    assert_eq!((empty.pending_count, empty.oldest_pending_at), (0, None));
    assert_eq!((empty.pending, empty.passed_at), (vec![], Timestamp(0)));

    let mut writer = Writer::new(store);
    let mut accepted: Vec<Command> = Vec::new();
    for number in 0..5 {
        let sent = vec![change(1001, &format!("c{number}"), 1, 1, 0)];
        accepted.extend(writer.accept(SHARD, sent).await);
    }
    writer.accept(ShardId(1), vec![open(9)]).await;
    let seen = view(store, 10).await;
    assert_eq!(seen.pending_count, 5);
    assert_eq!(seen.oldest_pending_at, Some(accepted[0].accepted_at));
    assert_eq!(seen.pending, [], "no TICK passed them");
    assert!(seen.now >= accepted[4].accepted_at);

    // A TICK passes those accepted before its time minus the margin, and not the one at it.
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.tick(accepted[3].accepted_at.plus_micros(MARGIN_MICROS));
    leader.commit(store).await;
    let seen = view(store, 10).await;
    let before = |command: &&Command| command.accepted_at < accepted[3].accepted_at;
    let expected: Vec<Command> = accepted.iter().filter(before).cloned().collect();
    assert_eq!(seen.pending, expected);
    assert_eq!(seen.pending_count, 5);
    assert_eq!(view(store, 1).await.pending, expected[..1]);

    // Applied and parked ones are not pending.
    leader.apply(&accepted[0]);
    leader.dead_letter(DeadLetterReason::EnginePanic, accepted[1].id);
    leader.tick(accepted[4].accepted_at.plus_micros(MARGIN_MICROS + 1));
    leader.commit(store).await;
    let seen = view(store, 10).await;
    assert_eq!(seen.pending, accepted[2..]);
    assert_eq!(seen.pending_count, 3);
    assert_eq!(seen.oldest_pending_at, Some(accepted[2].accepted_at));
    assert_eq!(
        seen.passed_at,
        accepted[4].accepted_at.plus_micros(MARGIN_MICROS + 1)
    );
}

pub async fn numbers_of_closed_blocks_can_be_sealed(store: &Store) {
    let mut nonces = Vec::new();
    for size in [5, 5, 5] {
        let nonce = nonce();
        store
            .lease_block(SHARD, nonce, size)
            .await
            .expect("a block");
        nonces.push(nonce);
    }
    let numbered = |number: u64| {
        let mut command = change(1001, &format!("n{number}"), 1, 1, 0);
        command.id = Some(axs::core::types::CommandId::new(SHARD, Sequence(number)));
        crate::ledger::item(command)
    };
    let group = axs::core::store::AcceptGroup {
        blocks: nonces.iter().map(|&nonce| (SHARD, nonce)).collect(),
        items: [2, 4, 7, 11].map(numbered).to_vec(),
    };
    store.accept(&group).await.expect("the group is accepted");
    assert_eq!(sealable(&view(store, 10).await), "", "all blocks are open");

    store.close_blocks(&[nonces[0]]).await.expect("closed");
    assert_eq!(sealable(&view(store, 10).await), "1,3,5");
    store
        .close_blocks(&[nonces[2], nonces[0]])
        .await
        .expect("closed");
    assert_eq!(sealable(&view(store, 10).await), "1,3,5,12-15");
    let other = store
        .outbox_view(ShardId(0), MARGIN, 10)
        .await
        .expect("an answer");
    assert_eq!(other.sealable, []);

    let mut leader = Leader::acquire(store, SHARD).await;
    leader.seal(3, 3);
    leader.seal(12, 14);
    leader.commit(store).await;
    assert_eq!(sealable(&view(store, 10).await), "1,5,15");
    leader.seal(1, 1);
    leader.seal(5, 5);
    leader.seal(15, 15);
    leader.commit(store).await;
    assert_eq!(sealable(&view(store, 10).await), "");
    assert_eq!(
        view(store, 10).await.pending_count,
        4,
        "commands are never sealed"
    );
}

pub async fn old_blocks_are_closed(store: &Store) {
    for shard in [SHARD, ShardId(0)] {
        store.lease_block(shard, nonce(), 3).await.expect("a block");
    }
    let closed = store.close_old_blocks(Duration::from_secs(900)).await;
    assert_eq!(closed.expect("an answer"), 0, "they are fresh");
    assert_eq!(sealable(&view(store, 10).await), "");
    let closed = store.close_old_blocks(Duration::ZERO).await;
    assert_eq!(closed.expect("an answer"), 2);
    assert_eq!(sealable(&view(store, 10).await), "1-3");
    let closed = store.close_old_blocks(Duration::ZERO).await;
    assert_eq!(closed.expect("an answer"), 0, "no more are open");
    assert_eq!(
        sealable(&view(store, 10).await),
        "1-3",
        "until they are sealed"
    );
}
