//! What is in memory: loads, absence, eviction, and what is known of reversals.

use axs::core::{
    command::{Command, CommandKind},
    engine::{Account, AccountStatus, Applied, Balance, Engine, RejectCode, Reversal, Target},
    types::{AccountId, AssetId, CommandId, Money, Position, Sequence, Timestamp},
};

use super::{
    SHARD, command, empty,
    state::{apply, credit, open, opened},
};

#[test]
fn absence_is_forgotten_by_a_trim_and_loses_to_an_open() {
    let mut engine = Engine::new(empty());
    engine.note_absent(AccountId(1));
    engine.note_absent(AccountId(2));
    apply(&mut engine, &open(1, 1));
    engine.note_absent(AccountId(1));
    assert!(engine.is_resident(AccountId(1)) && engine.is_resident(AccountId(2)));
    engine.take_changes();
    assert!(
        engine.is_resident(AccountId(2)),
        "what one load brought may be flushed in parts"
    );
    engine.trim(usize::MAX);
    assert!(engine.is_resident(AccountId(1)) && !engine.is_resident(AccountId(2)));
    apply(&mut engine, &credit(2, 1, 1, 5));
}

#[test]
fn what_is_in_memory_wins_over_a_load() {
    let (mut engine, _) = opened(1);
    let mut stale = engine
        .balance(AccountId(1), AssetId(1))
        .expect("opened with it");
    apply(&mut engine, &credit(2, 1, 1, 5));
    let account = engine.account(AccountId(1)).expect("opened");
    stale.available = Money::from(1);
    engine.install(
        Account {
            status: AccountStatus::Closed,
            ..account
        },
        &[stale],
    );
    assert_eq!(engine.account(AccountId(1)), Some(account));
    let kept = engine
        .balance(AccountId(1), AssetId(1))
        .map(|balance| balance.available);
    assert_eq!(kept, Some(Money::from(15)));
}

#[test]
fn only_flushed_accounts_are_evicted_and_used_ones_last() {
    let (mut engine, batch) = opened(4);
    engine.trim(0);
    assert_eq!(engine.accounts_resident(), 4, "nothing is flushed");
    engine.flushed(batch);
    apply(&mut engine, &credit(10, 2, 1, 1));
    engine.trim(2);
    assert_eq!(
        (engine.accounts_resident(), engine.balances_resident()),
        (2, 2)
    );
    assert!(
        engine.is_resident(AccountId(2)),
        "it was used since the hand passed"
    );
    engine.trim(0);
    assert_eq!(engine.accounts_resident(), 1, "account 2 is not flushed");
    let hash = engine.state_hash();
    let batch = engine.take_changes().batch;
    engine.trim(0);
    assert_eq!(engine.accounts_resident(), 1, "its flush is under way");
    engine.flushed(batch);
    engine.trim(0);
    assert_eq!(
        (engine.accounts_resident(), engine.balances_resident()),
        (0, 0)
    );
    assert_eq!(
        engine.state_hash(),
        hash,
        "the hash covers what is not resident"
    );
    assert_eq!(engine.balances_of(AccountId(2)).count(), 0);
}

#[test]
fn balances_are_listed_by_asset() {
    let (mut engine, _) = opened(1);
    for (number, asset) in [(5, 9), (6, 3), (7, 7)] {
        apply(&mut engine, &credit(number, 1, asset, 1));
    }
    let assets: Vec<u32> = engine
        .balances_of(AccountId(1))
        .map(|b| b.asset.0)
        .collect();
    assert_eq!(assets, [1, 3, 7, 9]);
}

/// The account not empty that is named must not depend on what came to memory first.
#[test]
fn close_names_the_lowest_asset_whatever_the_order_of_loading() {
    for order in [[2, 1], [1, 2]] {
        let mut engine = Engine::new(empty());
        let (id, status) = (AccountId(1), AccountStatus::Open);
        let account = Account {
            id,
            user: 0,
            status,
            opened_at: Timestamp(0),
        };
        let balance = |asset| Balance {
            account: id,
            asset: AssetId(asset),
            available: Money::ZERO,
            frozen: Money::from(i64::from(asset)),
            version: 1,
            last_position: Position(1),
        };
        engine.install(account, &order.map(balance));
        let close = command(2, CommandKind::CloseAccount, id);
        let applied = engine.apply(Position(2), Timestamp(2), &close, None, &mut Vec::new());
        let Applied::Done(outcome) = applied else {
            panic!("it was not applied")
        };
        let reject = outcome.reject.expect("it is not empty");
        assert_eq!(reject.code, RejectCode::AccountNotEmpty);
        assert_eq!(
            (reject.asset, reject.had),
            (Some(AssetId(1)), Money::from(1))
        );
    }
}

/// A balance says by itself whether its account is open, wherever the two came to memory.
#[test]
fn a_balance_is_as_open_as_its_account() {
    let id = AccountId(1);
    let balance = |asset| Balance {
        available: Money::from(5),
        version: 1,
        last_position: Position(1),
        ..Balance::untouched(id, AssetId(asset))
    };
    let mut engine = Engine::new(empty());
    let account = Account {
        id,
        user: 0,
        status: AccountStatus::Blocked,
        opened_at: Timestamp(0),
    };
    engine.install(account, &[balance(1), balance(2)]);
    let mut number = 1_u64;
    let mut code = |engine: &mut Engine, next: &dyn Fn(u64) -> Command| {
        number += 1;
        let (at, next) = (Position(number.cast_signed()), next(number));
        let applied = engine.apply(at, Timestamp(0), &next, None, &mut Vec::new());
        let Applied::Done(outcome) = applied else {
            panic!("it was not applied")
        };
        outcome.reject.map(|reject| reject.code)
    };
    let blocked = Some(RejectCode::AccountBlocked);
    let kind = |kind| move |number| command(number, kind, id);
    let on = |asset| move |number| credit(number, 1, asset, 1);
    for asset in [1, 2, 3] {
        assert_eq!(
            code(&mut engine, &on(asset)),
            blocked,
            "loaded, asset {asset}"
        );
    }
    let unblock = kind(CommandKind::UnblockAccount);
    assert_eq!(code(&mut engine, &unblock), None);
    for asset in [1, 2, 3] {
        assert_eq!(code(&mut engine, &on(asset)), None, "open, asset {asset}");
    }
    let block = kind(CommandKind::BlockAccount);
    assert_eq!(code(&mut engine, &block), None);
    for asset in [1, 2, 3, 4] {
        assert_eq!(
            code(&mut engine, &on(asset)),
            blocked,
            "blocked, asset {asset}"
        );
    }
    assert_eq!(code(&mut engine, &unblock), None);
    for asset in [4, 3, 2, 1] {
        assert_eq!(
            code(&mut engine, &on(asset)),
            None,
            "open again, asset {asset}"
        );
    }
}

#[test]
fn reversals_are_known_until_flushed_and_trimmed() {
    let (mut engine, batch) = opened(1);
    let change = credit(2, 1, 1, 5);
    let target = Target {
        id: change.id.expect("numbered"),
        account: change.account,
        kind: change.kind,
        rejected: false,
        entries: apply(&mut engine, &change),
        reversed_by: None,
    };
    let mut number = 2;
    let mut reverse = |engine: &mut Engine| {
        number += 1;
        let mut reverse = command(number, CommandKind::Reverse, AccountId(1));
        reverse.reverses = Some(target.id);
        let at = Position(number as i64);
        let applied = engine.apply(at, Timestamp(0), &reverse, Some(&target), &mut Vec::new());
        let Applied::Done(outcome) = applied else {
            panic!("it was not applied")
        };
        outcome.reject.map(|reject| reject.code)
    };
    assert_eq!(reverse(&mut engine), None);
    let by = CommandId::new(SHARD, Sequence(3));
    let changes = engine.take_changes();
    assert_eq!(
        changes.reversals,
        [Reversal {
            target: target.id,
            by
        }]
    );
    engine.flushed(batch);
    engine.trim(9);
    assert_eq!(
        reverse(&mut engine),
        Some(RejectCode::AlreadyReversed),
        "not flushed"
    );
    engine.flushed(changes.batch);
    assert_eq!(
        reverse(&mut engine),
        Some(RejectCode::AlreadyReversed),
        "a load may be under way"
    );
    engine.trim(9);
    // From here on a load knows it; this target pretends that it does not.
    assert_eq!(reverse(&mut engine), None);
}
