//! What the tables do not show: numbers, batches, panics, and the layout of the hash.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axs::core::{
    command::{Change, Command, CommandKind, Move},
    engine::{
        Account, AccountStatus, AccountWrite, Applied, Balance, BalanceWrite, Discarded, Engine,
        Entry, RejectCode, hash,
    },
    interval_set::IntervalSet,
    types::{
        AccountId, AssetId, CommandId, ContentHash, Money, Position, SEQUENCE_MAX, Sequence,
        Timestamp,
    },
};

use super::{SHARD, command, empty};

pub fn open(number: u64, account: u64) -> Command {
    command(number, CommandKind::OpenAccount, AccountId(account))
}

pub fn credit(number: u64, account: u64, asset: u32, amount: i64) -> Command {
    let mut command = command(number, CommandKind::Change, AccountId(account));
    command.changes.push(Change {
        account: AccountId(account),
        primary: Move {
            asset: AssetId(asset),
            available_delta: Money::from(amount),
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    });
    command
}

/// Applies at a position equal to the command's number; it must succeed.
pub fn apply(engine: &mut Engine, command: &Command) -> Vec<Entry> {
    let number = command.id.expect("numbered").sequence().0 as i64;
    let mut entries = Vec::new();
    match engine.apply(
        Position(number),
        Timestamp(number),
        command,
        None,
        &mut entries,
    ) {
        Applied::Done(outcome) => assert_eq!(outcome.reject, None),
        Applied::Skipped => panic!("command {number} was skipped"),
    }
    entries
}

/// Accounts 1 to `accounts`, each with 10 of asset 1, in one batch that is not flushed yet.
pub fn opened(accounts: u64) -> (Engine, u64) {
    let mut engine = Engine::new(empty());
    for account in 1..=accounts {
        engine.note_absent(AccountId(account));
        let mut open = open(account, account);
        open.changes = credit(account, account, 1, 10).changes;
        apply(&mut engine, &open);
    }
    let batch = engine.take_changes().batch;
    (engine, batch)
}

#[test]
fn seals_add_only_what_is_not_applied() {
    let mut engine = Engine::new(empty());
    engine.note_absent(AccountId(1));
    apply(&mut engine, &open(5, 1));
    assert_eq!(engine.seal(Sequence(3), Sequence(8)), 5);
    assert_eq!(engine.seal(Sequence(3), Sequence(8)), 0);
    assert_eq!(engine.applied().to_string(), "3-8");
    let none = [(0, 5), (9, 8), (1, SEQUENCE_MAX + 1), (u64::MAX, u64::MAX)];
    for (first, last) in none {
        assert_eq!(
            engine.seal(Sequence(first), Sequence(last)),
            0,
            "{first}..={last}"
        );
    }
    assert_eq!(engine.take_changes().applied.to_string(), "3-8");
    assert_eq!(engine.seal(Sequence(1), Sequence(9)), 3);
    assert_eq!(engine.take_changes().applied.to_string(), "1-2,9");
    // A sealed number is used up.
    let mut entries = Vec::new();
    let late = engine.apply(Position(9), Timestamp(9), &open(4, 2), None, &mut entries);
    assert_eq!(late, Applied::Skipped);
}

#[test]
fn a_discard_rejects_once_and_only_what_is_not_applied() {
    let (mut engine, _) = opened(2);
    let discard = |number| Discarded {
        command_id: CommandId::new(SHARD, Sequence(number)),
        content_hash: ContentHash([9; 16]),
        account: AccountId(1),
        kind: CommandKind::Change,
    };
    let hash = engine.state_hash();
    assert_eq!(
        engine.discard(Position(10), Timestamp(1), discard(2)),
        Applied::Skipped
    );
    let Applied::Done(outcome) = engine.discard(Position(11), Timestamp(1), discard(3)) else {
        panic!("number 3 was not applied");
    };
    assert_eq!(
        outcome.reject.map(|reject| reject.code),
        Some(RejectCode::Discarded)
    );
    assert_eq!((outcome.position, outcome.entries), (Position(11), 0));
    assert_eq!(
        outcome.applied_at,
        Timestamp(2),
        "time never runs backwards"
    );
    assert_eq!(
        engine.discard(Position(12), Timestamp(1), discard(3)),
        Applied::Skipped
    );
    let mut entries = Vec::new();
    let late = credit(3, 1, 1, 5);
    let late = engine.apply(Position(13), Timestamp(9), &late, None, &mut entries);
    assert_eq!(
        late,
        Applied::Skipped,
        "a discarded command is never applied"
    );
    assert_eq!(
        (
            engine.state_hash(),
            engine.take_changes().applied.to_string()
        ),
        (hash, "3".into())
    );
}

#[test]
fn ticks_only_move_forward() {
    let mut engine = Engine::new(empty());
    engine.tick(Timestamp(5));
    engine.tick(Timestamp(3));
    assert_eq!(engine.passed_at(), Timestamp(5));
}

#[test]
fn changes_of_a_batch_are_net_and_sorted() {
    let (mut engine, batch) = opened(3);
    assert_eq!(batch, 1);
    engine.note_absent(AccountId(9));
    apply(&mut engine, &credit(10, 3, 2, 7));
    apply(&mut engine, &credit(11, 1, 1, 1));
    let entries = apply(&mut engine, &credit(12, 1, 1, 2));
    assert_eq!(entries[0].previous_position, Position(11));
    apply(&mut engine, &open(13, 9));
    apply(
        &mut engine,
        &command(14, CommandKind::BlockAccount, AccountId(9)),
    );
    apply(
        &mut engine,
        &command(15, CommandKind::BlockAccount, AccountId(2)),
    );
    apply(
        &mut engine,
        &command(16, CommandKind::UnblockAccount, AccountId(3)),
    );
    let changes = engine.take_changes();
    let write = |account, asset, amount: i64, version, position, expected_version| BalanceWrite {
        balance: Balance {
            account: AccountId(account),
            asset: AssetId(asset),
            available: Money::from(amount),
            frozen: Money::ZERO,
            version,
            last_position: Position(position),
        },
        expected_version,
    };
    assert_eq!(
        changes.balances,
        [write(1, 1, 13, 3, 12, 1), write(3, 2, 7, 1, 10, 0)]
    );
    let account = |id, status, opened_at| Account {
        id: AccountId(id),
        user: 0,
        status,
        opened_at: Timestamp(opened_at),
    };
    let blocked = AccountStatus::Blocked;
    assert_eq!(
        changes.accounts,
        [
            AccountWrite {
                account: account(2, blocked, 2),
                opens: false
            },
            AccountWrite {
                account: account(9, blocked, 13),
                opens: true
            },
        ]
    );
    assert_eq!(
        (changes.batch, changes.applied.to_string()),
        (2, "10-16".into())
    );
    let nothing = engine.take_changes();
    assert!(nothing.balances.is_empty() && nothing.accounts.is_empty());
    assert!(nothing.applied.is_empty() && nothing.reversals.is_empty());
}

/// A panic between the changes of a command leaves the state as it was.
#[test]
fn a_panic_changes_nothing() {
    let (mut engine, _) = opened(1);
    let mut bad = credit(2, 1, 1, 5);
    bad.changes.extend(credit(2, 77, 1, 5).changes);
    let (hash, applied) = (engine.state_hash(), engine.applied().clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        engine.apply(Position(2), Timestamp(2), &bad, None, &mut Vec::new())
    }));
    assert!(
        panicked.is_err(),
        "account 77 was never looked for: a bug of the caller"
    );
    assert_eq!((engine.state_hash(), engine.applied()), (hash, &applied));
    assert_eq!(
        apply(&mut engine, &credit(3, 1, 1, 5))[0].available_after,
        Money::from(15)
    );
    assert_eq!(engine.take_changes().applied, IntervalSet::from_iter([3]));
}

/// Written out byte by byte, apart from the code that hashes.
#[test]
fn hash_layouts_are_fixed() {
    let balance = Balance {
        account: AccountId(0x0102_0304_0506_0708),
        asset: AssetId(0x0a0b_0c0d),
        available: Money::from(-2),
        frozen: Money::from(0x1122),
        version: 3,
        last_position: Position(99),
    };
    let mut bytes = vec![1, 8, 7, 6, 5, 4, 3, 2, 1, 0x0d, 0x0c, 0x0b, 0x0a, 0xfe];
    bytes.extend([0xff; 15]);
    bytes.extend([0x22, 0x11]);
    bytes.extend([0; 14]);
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.len(), 53);
    assert_eq!(
        hash::of_balance(&balance),
        xxhash_rust::xxh3::xxh3_128(&bytes)
    );
    assert_eq!(
        hash::of_balance(&Balance {
            version: 0,
            ..balance
        }),
        0
    );

    let account = Account {
        id: AccountId(0x0102),
        user: 0x0304,
        status: AccountStatus::Blocked,
        opened_at: Timestamp(99),
    };
    let bytes = [2, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 2];
    assert_eq!(
        hash::of_account(&account),
        xxhash_rust::xxh3::xxh3_128(&bytes)
    );
    assert_eq!(
        hash::of_account(&Account {
            id: AccountId::clearing(SHARD),
            ..account
        }),
        0
    );
}
