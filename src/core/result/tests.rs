//! A sentence per reject code, and every field of what is rendered.

use proptest::prelude::*;

use super::{encode::Encoder, *};
use crate::core::{
    command::CommandKind,
    types::{AccountId, ContentHash, Sequence, ShardId},
};

fn registry() -> Assets {
    let usdt = Asset {
        id: AssetId(1),
        code: "USDT".into(),
        scale: 2,
    };
    [usdt].into_iter().collect()
}

fn reject(code: RejectCode, asset: Option<u32>) -> Reject {
    Reject {
        code,
        leg: 1,
        account: AccountId(1001),
        asset: asset.map(AssetId),
        had: Money::from(525),
        needed: Money::from(1000),
    }
}

#[test]
fn every_reject_code_has_its_sentence() {
    for (code, asset, sentence) in [
        (
            100,
            None,
            "the command is not of the shape that its kind asks for",
        ),
        (
            103,
            Some(1),
            "the deltas of the transfer sum to 5.25 USDT, and must sum to zero",
        ),
        (
            103,
            None,
            "the deltas of the transfer do not sum to zero per asset",
        ),
        (200, None, "account 1001 was never opened"),
        (
            201,
            None,
            "account 1001 exists, and an id is opened only once",
        ),
        (202, None, "account 1001 is blocked"),
        (203, None, "account 1001 is closed"),
        (
            204,
            Some(1),
            "account 1001 still has 5.25 USDT, and only an empty account is closed",
        ),
        (
            204,
            None,
            "account 1001 is not empty, and only an empty account is closed",
        ),
        (
            300,
            Some(1),
            "the balance of account 1001 in USDT has version 525, 1000 was expected",
        ),
        (
            301,
            Some(1),
            "account 1001 has 5.25 USDT available, 10 were set as the minimum",
        ),
        (
            400,
            Some(1),
            "account 1001 has 5.25 USDT available, 10 are needed",
        ),
        (
            400,
            Some(7),
            "account 1001 has 525 minor units of asset 7 available, 1000 are needed",
        ),
        (
            401,
            Some(1),
            "account 1001 has 5.25 USDT frozen, 10 are needed",
        ),
        (
            402,
            Some(1),
            "account 1001 has 5.25 USDT, which a change by 10 would take beyond 38 digits",
        ),
        (
            500,
            None,
            "there is no applied CHANGE or TRANSFER of account 1001 to reverse",
        ),
        (
            500,
            Some(1),
            "there is no applied CHANGE or TRANSFER of account 1001 to reverse",
        ),
        (501, None, "the command was reversed already"),
        (900, None, "the command was given up by an operator"),
    ] {
        let code = RejectCode::try_from(code).expect("a code of the contract");
        assert_eq!(reject_sentence(&reject(code, asset), &registry()), sentence);
    }
}

fn outcome(reject: Option<Reject>) -> Outcome {
    Outcome {
        id: CommandId::new(ShardId(3), Sequence(7)),
        position: Position::new(1, 42),
        content_hash: ContentHash([1; 16]),
        applied_at: Timestamp(1_000_001),
        account: AccountId(1001),
        kind: CommandKind::Change,
        reject: reject.map(Box::new),
        entries: 1,
    }
}

fn one_entry(asset: u32) -> Entry {
    Entry {
        leg: 2,
        fallback: true,
        account: AccountId(1002),
        asset: AssetId(asset),
        available_delta: Money::from(-50),
        frozen_delta: Money::from(50),
        available_after: Money::from(100),
        frozen_after: Money::from(1),
        version: 9,
        previous_position: Position::NONE,
    }
}

fn label() -> Label {
    Label {
        source: "shop".into(),
        idempotency_key: "k".into(),
        reference: "order-7".into(),
        created_at: Some(Timestamp(5)),
    }
}

#[test]
fn an_applied_outcome_is_rendered_whole() {
    let result = render(
        Epoch(4),
        &outcome(None),
        &[one_entry(1)],
        &label(),
        Position::new(1, 40),
        &registry(),
    );
    let expected = proto::CommandResult {
        command_id: 3 << 48 | 7,
        idempotency_key: "k".into(),
        source: "shop".into(),
        status: 2,
        reject_code: 0,
        reject_reason: String::new(),
        shard_id: 3,
        position: 1 << 48 | 42,
        epoch: 4,
        entries: vec![proto::Entry {
            command_id: 0,
            leg: 2,
            account_id: 1002,
            asset: "USDT".into(),
            available_delta: "-0.5".into(),
            frozen_delta: "0.5".into(),
            available_after: "1".into(),
            frozen_after: "0.01".into(),
            version: 9,
            fallback: true,
            applied_at: None,
            reference: String::new(),
        }],
        created_at: Some(prost_types::Timestamp {
            seconds: 0,
            nanos: 5_000,
        }),
        applied_at: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 1_000,
        }),
        reference: "order-7".into(),
        account_id: 1001,
        previous_position: 1 << 48 | 40,
        kind: 1,
    };
    assert_eq!(result, expected);
}

#[test]
fn a_rejected_outcome_has_code_and_sentence() {
    let rejected = outcome(Some(reject(RejectCode::InsufficientAvailable, Some(1))));
    let none = Position::NONE;
    let result = render(Epoch(4), &rejected, &[], &label(), none, &registry());
    assert_eq!(result.status(), CommandStatus::Rejected);
    assert_eq!(result.reject_code(), RejectCode::InsufficientAvailable);
    assert_eq!(
        result.reject_reason,
        "account 1001 has 5.25 USDT available, 10 are needed"
    );
    assert_eq!(result.previous_position, -1);
}

#[test]
fn a_history_entry_names_its_command() {
    let id = CommandId(8);
    let shown = entry(
        id,
        Timestamp(1_000_000),
        "order-7",
        &one_entry(7),
        &registry(),
    );
    assert_eq!((shown.command_id, &shown.reference[..]), (8, "order-7"));
    assert_eq!(shown.applied_at.map(|at| at.seconds), Some(1));
    assert_eq!(
        (&shown.asset[..], &shown.available_delta[..]),
        ("asset 7", "-50")
    );
}

#[test]
fn a_balance_is_shown_in_its_asset() {
    let shown = balance(
        &Balance {
            account: AccountId(1),
            asset: AssetId(1),
            available: Money::from(150),
            frozen: Money::ZERO,
            version: 3,
            last_position: Position::ZERO,
        },
        &registry(),
    );
    let expected = proto::Balance {
        account_id: 1,
        asset: "USDT".into(),
        available: "1.5".into(),
        frozen: "0".into(),
        version: 3,
    };
    assert_eq!(shown, expected);
}

fn money() -> impl Strategy<Value = Money> {
    let all = Money::MIN.minor_units()..=Money::MAX.minor_units();
    (all, 0..127_u32).prop_map(|(units, shift)| Money::new(units >> shift).expect("within bounds"))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let numbers = (
        any::<u16>(),
        any::<bool>(),
        any::<u64>(),
        1..=4_u32,
        any::<u64>(),
    );
    (numbers, [money(), money(), money(), money()]).prop_map(|(numbers, amounts)| {
        let (leg, fallback, account, asset, version) = numbers;
        let [available_delta, frozen_delta, available_after, frozen_after] = amounts;
        Entry {
            leg,
            fallback,
            account: AccountId(account),
            asset: AssetId(asset),
            available_delta,
            frozen_delta,
            available_after,
            frozen_after,
            version,
            previous_position: Position::NONE,
        }
    })
}

proptest! {
    /// Several in one buffer, applied and rejected, of known assets and of one that is not.
    #[test]
    fn encoded_results_are_the_bytes_of_the_message(
        results in prop::collection::vec(
            (
                prop::collection::vec(any_entry(), 0..4),
                prop::option::of((1..=4_u32, money())),
                (".{0,8}", ".{0,130}", prop::option::of(any::<i32>())),
                (any::<u64>(), any::<i64>(), any::<i64>()),
            ),
            0..5,
        ),
    ) {
        let assets = registry();
        let mut encoder = Encoder::with_capacity(0);
        let mut expected = Vec::new();
        for (entries, rejected, (source, key, created_at), (epoch, position, previous)) in results {
            let refusal = rejected.map(|(asset, had)| Reject {
                had,
                ..reject(RejectCode::BelowMinimum, Some(asset))
            });
            let outcome = Outcome {
                position: Position(position),
                ..outcome(refusal)
            };
            let label = Label {
                source: source.into(),
                idempotency_key: key.clone().into(),
                reference: key.into(),
                created_at: created_at.map(|at| Timestamp(at.into())),
            };
            let (epoch, previous) = (Epoch(epoch), Position(previous));
            encoder.add(epoch, &outcome, &entries, &label, previous, &assets);
            expected.push(Encoded::of(&render(
                epoch, &outcome, &entries, &label, previous, &assets,
            )));
        }
        prop_assert_eq!(encoder.finish(), expected);
    }
}
