//! Round trips, refusals and fuzz of the codec.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::core::{
    assets::Asset,
    command::{CHANGES_MAX, Change, Move, hash},
    types::{AssetId, Money, ShardId},
};

fn money() -> impl Strategy<Value = Money> {
    prop_oneof![
        Just(Money::ZERO),
        Just(Money::MAX),
        Just(Money::MIN),
        prop_oneof![Just(i64::MAX), Just(i64::MIN), any::<i64>()].prop_map(Money::from),
        (any::<i64>(), -2..=2_i128).prop_map(|(at, by)| {
            let edge = if at > 0 { i64::MAX } else { i64::MIN };
            Money::new(i128::from(edge) + by).expect("within bounds")
        }),
        (Money::MIN.minor_units()..=Money::MAX.minor_units())
            .prop_map(|units| Money::new(units).expect("within bounds")),
    ]
}

fn one_move() -> impl Strategy<Value = Move> {
    (1..=u32::MAX, money(), money()).prop_map(|(asset, available_delta, frozen_delta)| Move {
        asset: AssetId(asset),
        available_delta,
        frozen_delta,
    })
}

fn account() -> impl Strategy<Value = AccountId> {
    prop_oneof![
        (1..1_u64 << 62).prop_map(AccountId),
        (0..1024_u16).prop_map(|shard| AccountId::clearing(ShardId(shard))),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    (
        account(),
        one_move(),
        option::of(one_move()),
        option::of(any::<u64>()),
        option::of(money()),
    )
        .prop_map(
            |(account, primary, fallback, if_version, if_min_available)| Change {
                account,
                primary,
                fallback,
                if_version,
                if_min_available,
            },
        )
}

fn id() -> impl Strategy<Value = CommandId> {
    (0..1024_u16, 1..1_u64 << 48)
        .prop_map(|(shard, sequence)| CommandId::new(ShardId(shard), Sequence(sequence)))
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000..=253_402_300_799_999_999_i64).prop_map(Timestamp)
}

/// Any command that the codec can hold, with its content hash.
fn command() -> impl Strategy<Value = Command> {
    let texts = (
        "[^\\p{Cc}]{1,16}",
        "[^\\p{Cc}]{1,32}",
        "[^\\p{Cc}]{0,32}",
        id(),
        account(),
        1..=7_i32,
    );
    let rest = (
        vec(change(), 0..=CHANGES_MAX),
        option::of(time()),
        time(),
        any::<u64>(),
        option::of(id()),
        option::of((1..=86_400_u32, "[a-z]{0,8}", 0..=2_i32)),
        option::of((0..1024_u16).prop_map(ShardId)),
    );
    (texts, rest).prop_map(|(texts, rest)| {
        let (source, idempotency_key, reference, id, account, kind) = texts;
        let (changes, created_at, accepted_at, user, reverses, ack, pin) = rest;
        let mut command = Command {
            id: Some(id),
            content_hash: ContentHash([0; 16]),
            source: source.into(),
            idempotency_key: idempotency_key.into(),
            account,
            kind: CommandKind::try_from(kind).expect("1 to 7 are kinds"),
            changes: changes.into(),
            reference: reference.into(),
            created_at,
            accepted_at,
            user,
            reverses,
            ack: ack.map(
                |(deadline_seconds, callback, on_timeout)| proto::AckPolicy {
                    deadline_seconds,
                    callback,
                    on_timeout,
                },
            ),
            pin,
        };
        command.content_hash = hash::content_hash(&command);
        command
    })
}

fn columns(command: &Command) -> Columns {
    Columns {
        id: command.id.expect("generated with an id"),
        content_hash: command.content_hash,
        source: command.source.clone(),
        idempotency_key: command.idempotency_key.clone(),
        account: command.account,
        kind: command.kind,
        reference: command.reference.clone(),
        created_at: command.created_at,
        accepted_at: command.accepted_at,
    }
}

proptest! {
    #[test]
    fn commands_round_trip(command in command()) {
        let bytes = encode_command(&command);
        prop_assert_eq!(&decode(&bytes), &Ok(LogItem::Command(command.clone())));
        let stored = decode_body(&encode_body(&command), columns(&command))
            .expect("a body that was encoded decodes");
        prop_assert_eq!(&stored, &command);
        prop_assert_eq!(encode_command(&stored), bytes, "the outbox produces the same bytes");
        prop_assert!(hash::verify_hash(&stored));
    }

    /// What `encode` writes takes the short way, unless it carries an ACK; both ways agree.
    #[test]
    fn both_ways_read_the_same(command in command()) {
        let bytes = encode_command(&command);
        let short = canonical::command(&bytes);
        prop_assert_eq!(short.is_some(), command.ack.is_none());
        prop_assert_eq!(decode(&bytes), decode::decode_any(&bytes));
    }

    /// Any fields with any values, in any order and number, also such as `encode` never writes.
    #[test]
    fn both_ways_read_the_same_of_strange_fields(
        command in command(),
        strange in vec((1..=16_u64, 0..=7_u64, vec(any::<u8>(), 0..12)), 0..3),
        at in any::<prop::sample::Index>(),
        is_repeated in any::<bool>(),
    ) {
        let bytes = encode_command(&Command { ack: None, ..command });
        // Behind version and key of the payload: its length, then its fields.
        let mut payload = &bytes[3..];
        prost::decode_length_delimiter(&mut payload).expect("just encoded");
        let mut fields = payload.to_vec();
        let at = at.index(fields.len() + 1);
        for (field, kind, value) in strange {
            let mut one = Vec::new();
            prost::encoding::encode_varint(field << 3 | kind, &mut one);
            one.extend(value);
            fields.splice(at..at, one);
        }
        if is_repeated {
            fields.extend_from_within(..at);
        }
        let mut record = bytes[..3].to_vec();
        prost::encode_length_delimiter(fields.len(), &mut record).expect("a vector grows");
        record.extend(fields);
        let record = Bytes::from(record);
        prop_assert_eq!(decode(&record), decode::decode_any(&record));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..256)) {
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(decode(&bytes), decode::decode_any(&bytes));
    }

    /// What a flipped, cut or inserted byte leaves is refused, or decodes to what is within the
    /// ranges of the types: then it round trips.
    #[test]
    fn damaged_records_are_refused_or_in_range(
        command in command(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        how in 0..3_u8,
    ) {
        let mut bytes = encode_command(&command).to_vec();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => bytes.truncate(at),
        }
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(decode(&bytes), decode::decode_any(&bytes));
        if let Ok(LogItem::Command(read)) = decode(&bytes) {
            prop_assert_eq!(decode(&encode_command(&read)), Ok(LogItem::Command(read)));
        }
    }
}

#[test]
fn control_records_round_trip() {
    let id = CommandId::new(ShardId(3), Sequence(7));
    let tick = Tick {
        now: Timestamp(1_700_000_000_000_001),
        wal_position: u64::MAX,
    };
    assert_eq!(decode(&encode_tick(&tick)), Ok(LogItem::Tick(tick)));
    let seal = Seal {
        first: Sequence(4),
        last: Sequence((1 << 48) - 1),
    };
    assert_eq!(decode(&encode_seal(&seal)), Ok(LogItem::Seal(seal)));
    let discard = Discard {
        id,
        reason: "given up by an operator".into(),
        content_hash: ContentHash([9; 16]),
        account: AccountId(1),
        kind: CommandKind::Change,
        label: Label {
            source: "shop".into(),
            idempotency_key: "k".into(),
            reference: String::new().into(),
            created_at: Some(Timestamp(-1)),
        },
    };
    let encoded = encode_discard(&discard);
    assert_eq!(decode(&encoded), Ok(LogItem::Discard(discard)));
    for command in [None, Some(id)] {
        let parked = Parked {
            position: Position::new(2, 9),
            command,
            reason: 3,
        };
        assert_eq!(decode(&encode_parked(&parked)), Ok(LogItem::Parked(parked)));
    }
    let asset = |id, code: &str, scale| Asset {
        id: AssetId(id),
        code: code.into(),
        scale,
    };
    let registry = Registry {
        shards: 16,
        assets: [asset(1, "USDT", 18), asset(2, "USD", 0)]
            .into_iter()
            .collect(),
    };
    assert_eq!(
        decode(&encode_registry(&registry)),
        Ok(LogItem::Registry(registry))
    );
}

fn credit() -> Command {
    Command {
        id: Some(CommandId::new(ShardId(0), Sequence(1))),
        content_hash: ContentHash([1; 16]),
        source: "shop".into(),
        idempotency_key: "k".into(),
        account: AccountId(1),
        kind: CommandKind::Change,
        changes: vec![Change {
            account: AccountId(1),
            primary: Move {
                asset: AssetId(1),
                available_delta: Money::from(5),
                frozen_delta: Money::ZERO,
            },
            fallback: None,
            if_version: None,
            if_min_available: None,
        }]
        .into(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp(1),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    }
}

/// The error of the record of a credit after `damage`.
fn refusal(damage: impl FnOnce(&mut proto::CommandRecord)) -> DecodeError {
    let mut record = proto::LogRecord::decode(encode_command(&credit())).expect("just encoded");
    let Some(proto::log_record::Payload::Command(command)) = &mut record.payload else {
        panic!("a command was encoded");
    };
    damage(command);
    decode(&record.encode_to_vec().into()).expect_err("damaged")
}

#[test]
fn what_breaks_the_contract_is_undecodable() {
    type Damage = fn(&mut proto::CommandRecord);
    let damages: [(&str, Damage); 16] = [
        ("command_id", |c| c.command_id = 0),
        ("command_id", |c| c.command_id = 1 << 63 | 1),
        ("content_hash", |c| c.content_hash.push(0)),
        ("source", |c| c.source.clear()),
        ("source", |c| c.source = "s".repeat(65)),
        ("idempotency_key", |c| c.idempotency_key = "a\u{0}b".into()),
        ("reference", |c| c.reference = "r".repeat(129)),
        ("account_id", |c| c.account_id = 0),
        ("account_id", |c| c.account_id = (1 << 62) + 1024),
        ("kind", |c| c.kind = 0),
        ("accepted_at", |c| c.accepted_at = None),
        ("primary", |c| c.changes[0].primary = None),
        ("changes", |c| c.changes = vec![c.changes[0].clone(); 65]),
        ("shard_id", |c| c.shard_id = Some(1024)),
        ("38 digits", |c| {
            c.changes[0].if_min_available = big(&i128::MAX.to_le_bytes());
        }),
        ("16", |c| c.changes[0].if_min_available = big(&[0; 15])),
    ];
    for (names, damage) in damages {
        let error = refusal(damage);
        assert!(
            matches!(&error, DecodeError::Undecodable(text) if text.contains(names)),
            "{names}: {error:?}"
        );
    }
    for bytes in [&b""[..], b"\xff", b"not a record"] {
        assert!(matches!(
            decode(&Bytes::from_static(bytes)),
            Err(DecodeError::Undecodable(_))
        ));
    }
}

#[test]
fn what_a_later_program_wrote_is_unsupported() {
    let later_version = proto::LogRecord {
        version: 2,
        payload: None,
    };
    // As if a later version had made field 2 a number: nothing but its version can be read.
    let later_layout = b"\x08\x02\x10\x05";
    // Version 1 with field 9, a payload of the future.
    let later_payload = b"\x08\x01\x4a\x00";
    for bytes in [
        &later_version.encode_to_vec()[..],
        later_layout,
        later_payload,
    ] {
        assert!(
            matches!(
                decode(&Bytes::copy_from_slice(bytes)),
                Err(DecodeError::Unsupported(_))
            ),
            "{bytes:?}"
        );
    }
    type Damage = fn(&mut proto::CommandRecord);
    let damages: [Damage; 3] = [
        |c| c.kind = 8,
        |c| c.changes[0].if_min_available = Some(proto::Amount { value: None }),
        |c| {
            c.ack = Some(proto::AckPolicy {
                on_timeout: 9,
                ..Default::default()
            });
        },
    ];
    for damage in damages {
        let error = refusal(damage);
        assert!(matches!(error, DecodeError::Unsupported(_)), "{error:?}");
    }
}

fn big(bytes: &[u8]) -> Option<proto::Amount> {
    Some(proto::Amount {
        value: Some(proto::amount::Value::Big(Bytes::copy_from_slice(bytes))),
    })
}

#[test]
fn a_body_holds_no_column() {
    let mut command = credit();
    let body = encode_body(&command);
    command.source = "another".into();
    command.reference = "another".into();
    command.content_hash = ContentHash([2; 16]);
    command.accepted_at = Timestamp(2);
    assert_eq!(encode_body(&command), body);
}
