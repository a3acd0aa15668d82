//! Reads: loads of a leader, results, history.

use axs::core::{
    command::hash,
    engine::{AccountStatus, Target},
    store::{HistoryQuery, LoadRequest, Loaded, Store, StoredEntry},
    types::{AccountId, AssetId, CommandId, Position, Sequence, ShardId, Timestamp},
};

use crate::{
    ledger::{Leader, Writer, change, command, nonce, open},
    stores::SHARD,
};

const ACCOUNT: AccountId = AccountId(1001);
const ASSET: AssetId = AssetId(1);

/// `count` changes of one balance, flushed so many at a time, beside changes of others.
async fn history(store: &Store, count: u64, each: u64) -> Vec<StoredEntry> {
    let mut writer = Writer::new(store);
    let opened = writer
        .accept(SHARD, vec![open(ACCOUNT.0), open(1002)])
        .await;
    let mut leader = Leader::acquire(store, SHARD).await;
    for account in &opened {
        leader.open(account);
    }
    let mut expected = Vec::new();
    for number in 0..count {
        let commands = vec![
            change(1002, &format!("other-{number}"), 1, 3, 0),
            change(ACCOUNT.0, &format!("n-{number}"), ASSET.0, 1, 2),
            change(ACCOUNT.0, &format!("asset-2-{number}"), 2, 1, 0),
        ];
        let accepted = writer.accept(SHARD, commands).await;
        for command in &accepted {
            leader.apply(command);
            let entry = *leader.flush.entries.last().expect("just applied");
            if (entry.account, entry.asset) == (ACCOUNT, ASSET) {
                let outcome = leader.flush.outcomes.last().expect("just applied");
                expected.push(StoredEntry {
                    id: outcome.id,
                    position: outcome.position,
                    applied_at: outcome.applied_at,
                    reference: command.reference.to_string(),
                    entry,
                });
            }
        }
        if number % each == each - 1 {
            leader.commit(store).await;
        }
    }
    leader.commit(store).await;
    expected
}

async fn page(store: &Store, from: Option<u64>, oldest_first: bool, limit: usize) -> Vec<u64> {
    let query = HistoryQuery {
        account: ACCOUNT,
        asset: ASSET,
        from_version: from,
        oldest_first,
        limit,
    };
    let entries = store.entries(&query).await.expect("an answer");
    entries.iter().map(|stored| stored.entry.version).collect()
}

pub async fn a_history_is_read_by_pages_in_both_directions(store: &Store) {
    history(store, 10, 4).await;
    let rows = [
        (None, false, 3, vec![10, 9, 8]),
        (Some(7), false, 3, vec![7, 6, 5]),
        (Some(2), false, 3, vec![2, 1]),
        (Some(0), false, 3, vec![]),
        (Some(99), false, 2, vec![10, 9]),
        (Some(u64::MAX), false, 2, vec![10, 9]),
        (None, true, 3, vec![1, 2, 3]),
        (Some(0), true, 2, vec![1, 2]),
        (Some(4), true, 3, vec![4, 5, 6]),
        (Some(9), true, 3, vec![9, 10]),
        (Some(11), true, 3, vec![]),
    ];
    for (from, oldest_first, limit, expected) in rows {
        let versions = page(store, from, oldest_first, limit).await;
        assert_eq!(versions, expected, "{from:?} {oldest_first} {limit}");
    }
}

pub async fn a_history_goes_on_over_many_flushes(store: &Store) {
    let expected = history(store, 700, 9).await;
    for oldest_first in [false, true] {
        let mut all: Vec<StoredEntry> = Vec::new();
        loop {
            let from_version = all.last().map(|stored| match oldest_first {
                true => stored.entry.version + 1,
                false => stored.entry.version - 1,
            });
            let query = HistoryQuery {
                account: ACCOUNT,
                asset: ASSET,
                from_version,
                oldest_first,
                limit: 97,
            };
            let entries = store.entries(&query).await.expect("an answer");
            if entries.is_empty() {
                break;
            }
            all.extend(entries);
        }
        if !oldest_first {
            all.reverse();
        }
        assert_eq!(all, expected);
    }
}

pub async fn the_entry_at_a_time_is_the_last_before_it(store: &Store) {
    let expected = history(store, 300, 7).await;
    let at = |at| store.entry_at(ACCOUNT, ASSET, at);
    for index in [0, 1, 150, 256, 299] {
        let entry = &expected[index];
        let found = at(entry.applied_at).await.expect("an answer");
        assert_eq!(found.as_ref(), Some(entry), "at its own time");
        let before = index.checked_sub(1).map(|before| &expected[before]);
        let found = at(entry.applied_at.plus_micros(-1))
            .await
            .expect("an answer");
        assert_eq!(found.as_ref(), before, "just before it");
    }
    let found = at(Timestamp(i64::MAX / 2)).await.expect("an answer");
    assert_eq!(found.as_ref(), expected.last());
}

pub async fn a_load_is_of_one_shard(store: &Store) {
    let mut writer = Writer::new(store);
    let commands = vec![open(1001), open(1002), change(1001, "a", 1, 5, 0)];
    let accepted = writer.accept(SHARD, commands).await;
    let elsewhere = writer
        .accept(ShardId(1), vec![open(9), change(9, "b", 1, 5, 0)])
        .await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.open(&accepted[0]);
    leader.open(&accepted[1]);
    leader.apply(&accepted[2]);
    let flush = leader.commit(store).await;
    let mut other = Leader::acquire(store, ShardId(1)).await;
    other.open(&elsewhere[0]);
    other.apply(&elsewhere[1]);
    other.commit(store).await;

    let pending = writer
        .accept(SHARD, vec![change(1001, "pending", 1, 1, 0)])
        .await;
    let id = |command: &axs::core::command::Command| command.id.expect("a number");
    let missing = CommandId::new(SHARD, Sequence(99_999));
    let asked = vec![
        id(&accepted[2]),
        id(&elsewhere[1]),
        missing,
        id(&pending[0]),
    ];
    let request = LoadRequest {
        accounts: vec![AccountId(1002), AccountId(9), AccountId(4), AccountId(1002)],
        targets: asked.clone(),
        hashes: asked.clone(),
        accepted: asked,
    };
    let loaded = store.load(SHARD, &request).await.expect("an answer");
    let mut accounts = loaded.accounts.clone();
    accounts.sort_by_key(|account| account.id);
    assert_eq!(
        accounts,
        [flush.accounts[0].account, flush.accounts[1].account]
    );
    assert_eq!(accounts[0].status, AccountStatus::Open);
    assert_eq!(loaded.balances, [flush.balances[0].balance]);
    let target = Target {
        id: id(&accepted[2]),
        account: AccountId(1001),
        kind: accepted[2].kind,
        rejected: false,
        entries: flush.entries.clone(),
        reversed_by: None,
    };
    assert_eq!(loaded.targets, [target]);
    let hash_of =
        |command: &axs::core::command::Command| (id(command), hash::content_hash(command));
    assert_eq!(loaded.hashes, [hash_of(&accepted[2])]);
    let mut known = loaded.accepted;
    known.sort();
    assert_eq!(known, [hash_of(&accepted[2]), hash_of(&pending[0])]);
}

pub async fn results_follow_each_other(store: &Store) {
    let mut writer = Writer::new(store);
    let mut leader = Leader::acquire(store, SHARD).await;
    let mut commands = vec![open(1001)];
    commands.extend((0..6).map(|n| change(1001, &format!("c{n}"), n % 2 + 1, 1, 0)));
    let accepted = writer.accept(SHARD, commands).await;
    leader.tick(Timestamp(5));
    leader.open(&accepted[0]);
    leader.apply(&accepted[1]);
    leader.tick(Timestamp(6));
    leader.commit(store).await;
    leader.tick(Timestamp(7));
    leader.commit(store).await;
    for command in &accepted[2..5] {
        leader.apply(command);
    }
    leader.commit(store).await;
    // Under another epoch.
    let (epoch, old) = (leader.flush.epoch, leader.flush.nonce);
    store.release(SHARD, epoch, old).await.expect("ours");
    let state = store
        .acquire(SHARD, "next", None, nonce(), crate::ledger::TTL)
        .await;
    let state = state.expect("an answer").expect("released");
    let mut next = Leader::of(&state);
    next.balances = leader.balances.clone();
    next.apply(&accepted[5]);
    next.apply(&accepted[6]);
    next.commit(store).await;

    let all = store
        .results(SHARD, Position::ZERO, 100)
        .await
        .expect("an answer");
    let told: Vec<_> = all
        .iter()
        .map(|result| {
            (
                result.previous_position.0,
                result.outcome.position.0,
                result.epoch.0,
            )
        })
        .collect();
    let expected = [
        (-1, 1, 1),
        (1, 2, 1),
        (2, 5, 1),
        (5, 6, 1),
        (6, 7, 1),
        (7, 8, 2),
        (8, 9, 2),
    ];
    assert_eq!(told, expected);
    for (result, command) in all.iter().zip(&accepted) {
        assert_eq!(Some(result.outcome.id), command.id);
        assert_eq!(result.label, command.label());
        assert_eq!(result.entries.len(), command.changes.len());
    }
    for (from, limit, range) in [
        (0, 2, 0..2),
        (2, 2, 1..3),
        (3, 3, 2..5),
        (9, 9, 6..7),
        (10, 9, 7..7),
    ] {
        let some = store.results(SHARD, Position::new(0, from), limit).await;
        assert_eq!(some.expect("an answer"), all[range], "from {from}, {limit}");
    }
}

pub async fn what_is_not_there_is_absent(store: &Store) {
    let id = CommandId::new(SHARD, Sequence(1));
    assert_eq!(
        store.commands(&[id, id]).await.expect("an answer"),
        [None, None]
    );
    assert_eq!(store.outcomes(&[id]).await.expect("an answer"), [None]);
    assert_eq!(store.outcomes(&[]).await.expect("an answer"), []);
    let key = hash::key_hash("orders", "never sent");
    assert_eq!(store.command_of_key(key).await.expect("an answer"), None);
    assert_eq!(store.balances(&[ACCOUNT]).await.expect("an answer"), [None]);
    assert_eq!(page(store, None, true, 10).await, Vec::<u64>::new());
    let found = store
        .entry_at(ACCOUNT, ASSET, Timestamp(i64::MAX / 2))
        .await;
    assert_eq!(found.expect("an answer"), None);
    let results = store.results(SHARD, Position::ZERO, 10).await;
    assert_eq!(results.expect("an answer"), []);
    let request = LoadRequest {
        accounts: vec![ACCOUNT],
        targets: vec![id],
        hashes: vec![id],
        accepted: vec![id],
    };
    let loaded = store.load(SHARD, &request).await.expect("an answer");
    assert_eq!(loaded, Loaded::default());

    // A route is not an account: OPEN was accepted, not applied.
    let mut writer = Writer::new(store);
    writer.accept(SHARD, vec![open(ACCOUNT.0)]).await;
    assert_eq!(store.balances(&[ACCOUNT]).await.expect("an answer"), [None]);
    let close = command(
        axs::core::command::CommandKind::CloseAccount,
        ACCOUNT.0,
        "c",
        vec![],
    );
    let rejected = writer.accept(SHARD, vec![close]).await;
    let mut leader = Leader::acquire(store, SHARD).await;
    leader.outcome(&rejected[0], None);
    leader.commit(store).await;
    assert_eq!(store.balances(&[ACCOUNT]).await.expect("an answer"), [None]);
}
