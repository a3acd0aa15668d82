//! What is looked at, and what a look means.

use super::*;
use crate::core::{
    engine::AccountStatus,
    store::drift::{After, StandingAccount},
    types::{Money, Position, Timestamp},
};

const ACCOUNT: AccountId = AccountId(7);
const USD: AssetId = AssetId(1);

fn balance(available: i64, version: u64) -> Balance {
    Balance {
        account: ACCOUNT,
        asset: USD,
        available: Money::from(available),
        frozen: Money::ZERO,
        version,
        last_position: Position(40),
    }
}

fn after(available: i64, version: u64) -> After {
    After {
        available: Money::from(available),
        frozen: Money::ZERO,
        version,
    }
}

fn snapshot(balance: Balance) -> Snapshot {
    Snapshot {
        account: ACCOUNT,
        epoch: Epoch(3),
        position: balance.last_position,
        as_of: Timestamp(0),
        balances: vec![balance],
    }
}

/// Rows with their entries, as PostgreSQL has them under epoch 3.
fn standing(rows: &[(Balance, Option<After>)]) -> Standing {
    let row = |&(balance, entry)| StandingBalance { balance, entry };
    Standing {
        epoch: Epoch(3),
        accounts: vec![StandingAccount {
            id: ACCOUNT,
            status: Some(AccountStatus::Open),
            balances: rows.iter().map(row).collect(),
        }],
    }
}

fn kinds(memory: &[Balance], cached: &[Balance], standing: &Standing) -> Vec<DriftKind> {
    let before = Before {
        epoch: Epoch(3),
        memory: memory.to_vec(),
        cached: cached.iter().copied().map(snapshot).collect(),
    };
    let found = differences(&before, standing).expect("the epoch is the same");
    found.into_iter().map(|one| one.kind).collect()
}

#[test]
fn what_is_behind_is_lag_and_what_is_the_same_is_whole() {
    let stored = standing(&[(balance(100, 5), Some(after(100, 5)))]);
    for version in 1..5 {
        let behind = [balance(1, version)];
        assert_eq!(kinds(&behind, &behind, &stored), [], "version {version}");
    }
    let same = [balance(100, 5)];
    assert_eq!(kinds(&same, &same, &stored), []);
    assert_eq!(kinds(&[], &[], &stored), [], "neither has it");
}

#[test]
fn one_unit_in_the_row_is_found_by_journal_and_memory_and_redis_is_not_to_blame() {
    let stored = standing(&[(balance(101, 5), Some(after(100, 5)))]);
    let right = [balance(100, 5)];
    assert_eq!(
        kinds(&right, &right, &stored),
        [DriftKind::Journal, DriftKind::Memory]
    );
    assert_eq!(kinds(&[], &right, &stored), [DriftKind::Journal]);
}

#[test]
fn a_row_needs_an_entry_of_its_own_version() {
    let none = standing(&[(balance(100, 5), None)]);
    assert_eq!(kinds(&[], &[], &none), [DriftKind::Journal]);
    let other = standing(&[(balance(100, 6), Some(after(100, 5)))]);
    assert_eq!(kinds(&[], &[], &other), [DriftKind::Journal]);
}

#[test]
fn a_copy_ahead_of_the_row_or_without_one_differs() {
    let stored = standing(&[(balance(100, 5), Some(after(100, 5)))]);
    let ahead = [balance(90, 6)];
    assert_eq!(kinds(&ahead, &[], &stored), [DriftKind::Memory]);
    assert_eq!(kinds(&[], &ahead, &stored), [DriftKind::Redis]);
    let removed = standing(&[]);
    assert_eq!(kinds(&ahead, &[], &removed), [DriftKind::Memory]);
    assert_eq!(kinds(&[], &ahead, &removed), [DriftKind::Redis]);
}

#[test]
fn one_unit_in_redis_is_found_at_the_same_version() {
    let stored = standing(&[(balance(100, 5), Some(after(100, 5)))]);
    assert_eq!(
        kinds(&[balance(100, 5)], &[balance(101, 5)], &stored),
        [DriftKind::Redis]
    );
}

#[test]
fn under_another_epoch_nothing_is_said() {
    let mut stored = standing(&[(balance(101, 5), Some(after(100, 5)))]);
    stored.epoch = Epoch(4);
    let before = Before {
        epoch: Epoch(3),
        memory: vec![balance(100, 5)],
        cached: Vec::new(),
    };
    assert_eq!(differences(&before, &stored), None);
}

#[test]
fn only_what_two_looks_find_is_confirmed_as_the_second_has_it() {
    let found = |version, kind| Difference {
        account: ACCOUNT,
        asset: USD,
        version,
        kind,
        detail: String::new(),
    };
    let first = [found(5, DriftKind::Journal), found(5, DriftKind::Memory)];
    let second = vec![found(6, DriftKind::Journal), found(5, DriftKind::Redis)];
    assert_eq!(confirmed(&first, second), [found(6, DriftKind::Journal)]);
}

/// Ids from `first`, so many.
fn ids(first: u64, count: u64) -> Vec<AccountId> {
    (first..first + count).map(AccountId).collect()
}

#[test]
fn what_changed_is_looked_at_within_the_looks_that_it_is_remembered_for() {
    let mut plan = Plan::new(20);
    let hot = ids(1_000, 100);
    plan.changed(&hot);
    let mut seen = BTreeSet::new();
    for _ in 0..HOT_LOOKS {
        let (_, room) = plan.turn();
        assert_eq!(room, 5, "a quarter is for accounts in turn");
        let wanted = plan.accounts(&[], &ids(1, 5));
        assert!(wanted.len() <= 20);
        seen.extend(wanted);
    }
    assert!(hot.iter().all(|account| seen.contains(account)));
}

#[test]
fn every_account_has_its_turn_whatever_is_hot() {
    let all = ids(1, 23);
    let mut plan = Plan::new(8);
    plan.changed(&ids(1_000, 64));
    let mut seen = BTreeSet::new();
    for _ in 0..23_usize.div_ceil(2) + 1 {
        let (behind, room) = plan.turn();
        let page: Vec<_> = all
            .iter()
            .copied()
            .filter(|id| *id > behind)
            .take(room)
            .collect();
        seen.extend(plan.accounts(&[], &page));
    }
    assert!(all.iter().all(|account| seen.contains(account)));
}

#[test]
fn a_hot_account_keeps_its_place_among_a_crowd_that_changes_once() {
    let mut plan = Plan::new(10);
    let hot = AccountId(5);
    for crowd in 0..200 {
        plan.changed(&[hot]);
        plan.changed(&ids(1_000 + crowd * 50, 50));
        plan.changed(&[hot]);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..HOT_LOOKS + 3 {
        seen.extend(plan.accounts(&[], &[]));
    }
    assert!(seen.contains(&hot));
    assert!(plan.hot.len() <= 10 * HOT_LOOKS, "the memory is bounded");
    assert_eq!(plan.hot.len(), plan.places.len());
}

#[test]
fn what_was_found_before_is_always_looked_at() {
    let mut plan = Plan::new(4);
    plan.changed(&ids(1_000, 50));
    let open = ids(1, 3);
    for _ in 0..5 {
        let wanted = plan.accounts(&open, &[AccountId(9)]);
        assert!(open.iter().all(|account| wanted.contains(account)));
    }
}
