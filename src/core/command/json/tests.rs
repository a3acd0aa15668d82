//! What is read, what is refused with which field, and fuzz.

use proptest::{collection::vec, option, prelude::*};

use super::*;

#[test]
fn every_field_is_read() {
    let line = r#"{"idempotency_key": "k", "source": "shop", "account_id": "4611686018427387903",
        "kind": "CHANGE", "reference": "r", "created_at": "2026-01-31T23:59:59.5Z", "user_id": 7,
        "reverses": "281474976710657", "shard_id": 0,
        "ack": {"deadline_seconds": 60, "callback": "c", "on_timeout": "REVERSE"},
        "changes": [{"asset": "USDT", "available_delta": "-1.50", "frozen_delta": "", "account_id": 9,
            "fallback": {"asset": "XBT", "available_delta": "1", "frozen_delta": "2"},
            "condition": {"version": 0, "min_available": "3"}}]}"#;
    let expected = proto::Command {
        idempotency_key: "k".into(),
        source: "shop".into(),
        account_id: (1 << 62) - 1,
        kind: 1,
        changes: vec![Change {
            asset: "USDT".into(),
            available_delta: "-1.50".into(),
            frozen_delta: String::new(),
            account_id: 9,
            fallback: Some(Fallback {
                asset: "XBT".into(),
                available_delta: "1".into(),
                frozen_delta: "2".into(),
            }),
            condition: Some(Condition {
                version: Some(0),
                min_available: Some("3".into()),
            }),
        }],
        reference: "r".into(),
        created_at: Some(prost_types::Timestamp {
            seconds: 1_769_903_999,
            nanos: 500_000_000,
        }),
        user_id: 7,
        reverses: 281_474_976_710_657,
        ack: Some(AckPolicy {
            deadline_seconds: 60,
            callback: "c".into(),
            on_timeout: 2,
        }),
        shard_id: Some(0),
    };
    assert_eq!(from_json(line), Ok(expected));
}

#[test]
fn absent_and_null_are_the_default() {
    assert_eq!(from_json("{}"), Ok(proto::Command::default()));
    let nulls = r#"{"kind":null,"changes":null,"ack":null,"shard_id":null,"created_at":null}"#;
    assert_eq!(from_json(nulls), Ok(proto::Command::default()));
    let condition = r#"{"changes":[{"condition":{"version":null}}]}"#;
    let read = from_json(condition).expect("valid");
    assert_eq!(read.changes[0].condition, Some(Condition::default()));
}

#[test]
fn enums_have_three_forms() {
    for form in [r#""TRANSFER""#, r#""COMMAND_KIND_TRANSFER""#, "2"] {
        let line = format!(r#"{{"kind": {form}}}"#);
        assert_eq!(
            from_json(&line).map(|command| command.kind),
            Ok(2),
            "{form}"
        );
    }
    let unknown = from_json(r#"{"kind": 8}"#).map(|command| command.kind);
    assert_eq!(
        unknown,
        Ok(8),
        "which kinds there are is not for JSON to say"
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (line, field) in [
        ("", ""),
        ("not json", ""),
        ("[]", ""),
        ("null", ""),
        ("{} {}", ""),
        (r#"{"source":"a","source":"b"}"#, ""),
        (r#"{"sauce":"a"}"#, "sauce"),
        (r#"{"idempotencyKey":"a"}"#, "idempotencyKey"),
        (r#"{"source":1}"#, "source"),
        (r#"{"account_id":-1}"#, "account_id"),
        (r#"{"account_id":1.0}"#, "account_id"),
        (r#"{"account_id":1e3}"#, "account_id"),
        (r#"{"account_id":"+1"}"#, "account_id"),
        (r#"{"account_id":""}"#, "account_id"),
        (r#"{"account_id":18446744073709551616}"#, "account_id"),
        (r#"{"account_id":"18446744073709551616"}"#, "account_id"),
        (r#"{"account_id":true}"#, "account_id"),
        (r#"{"shard_id":4294967296}"#, "shard_id"),
        (r#"{"kind":"change"}"#, "kind"),
        (r#"{"kind":"SET_FLOOR"}"#, "kind"),
        (r#"{"kind":true}"#, "kind"),
        (r#"{"kind":3000000000}"#, "kind"),
        (r#"{"created_at":1769903999}"#, "created_at"),
        (r#"{"created_at":"yesterday"}"#, "created_at"),
        (r#"{"ack":[]}"#, "ack"),
        (r#"{"ack":{"on_timeout":"x"}}"#, "ack.on_timeout"),
        (r#"{"changes":{}}"#, "changes"),
        (r#"{"changes":[null]}"#, "changes[0]"),
        (
            r#"{"changes":[{},{"available_delta":1}]}"#,
            "changes[1].available_delta",
        ),
        (r#"{"changes":[{"amount":"1"}]}"#, "changes[0].amount"),
        (
            r#"{"changes":[{"fallback":{"x":1}}]}"#,
            "changes[0].fallback.x",
        ),
        (
            r#"{"changes":[{"condition":{"min_available":5}}]}"#,
            "changes[0].condition.min_available",
        ),
    ] {
        let error = from_json(line).expect_err(line);
        assert_eq!(error.field, field, "{line}: {error}");
        assert!(error.message.contains(field), "{line}: {error}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "[".repeat(100_000);
    assert!(from_json(&deep).is_err());
}

#[test]
fn a_line_is_written_in_a_fixed_order_without_defaults() {
    let command = proto::Command {
        idempotency_key: "k".into(),
        source: "shop".into(),
        account_id: 1 << 53,
        kind: CommandKind::OpenAccount.into(),
        changes: vec![Change {
            asset: "USD".into(),
            available_delta: "1".into(),
            ..Default::default()
        }],
        user_id: 7,
        shard_id: Some(0),
        ..Default::default()
    };
    let line = concat!(
        r#"{"source":"shop","idempotency_key":"k","account_id":"9007199254740992","#,
        r#""kind":"OPEN_ACCOUNT","changes":[{"asset":"USD","available_delta":"1"}],"#,
        r#""user_id":7,"shard_id":0}"#
    );
    assert_eq!(to_json(&command), line);
}

fn change_message() -> impl Strategy<Value = Change> {
    let fallback = (".{0,4}", ".{0,4}", ".{0,4}").prop_map(|(asset, available, frozen)| Fallback {
        asset,
        available_delta: available,
        frozen_delta: frozen,
    });
    let condition =
        (option::of(any::<u64>()), option::of(".{0,4}")).prop_map(|(version, min)| Condition {
            version,
            min_available: min,
        });
    let rest = (option::of(fallback), option::of(condition));
    (".{0,4}", ".{0,4}", ".{0,4}", any::<u64>(), rest).prop_map(
        |(asset, available_delta, frozen_delta, account_id, (fallback, condition))| Change {
            asset,
            available_delta,
            frozen_delta,
            account_id,
            fallback,
            condition,
        },
    )
}

fn message() -> impl Strategy<Value = proto::Command> {
    let times = option::of((-62_135_596_800..=253_402_300_799_i64, 0..1_000_000_000_i32));
    let acks = option::of((any::<u32>(), ".{0,4}", any::<i32>()));
    let first = (".{0,8}", ".{0,8}", any::<u64>(), 0..9_i32, ".{0,8}", times);
    let rest = (
        vec(change_message(), 0..4),
        any::<u64>(),
        any::<u64>(),
        acks,
        option::of(any::<u32>()),
    );
    (first, rest).prop_map(|(first, rest)| {
        let (idempotency_key, source, account_id, kind, reference, time) = first;
        let (changes, user_id, reverses, ack, shard_id) = rest;
        proto::Command {
            idempotency_key,
            source,
            account_id,
            kind,
            changes,
            reference,
            created_at: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            user_id,
            reverses,
            ack: ack.map(|(deadline_seconds, callback, on_timeout)| AckPolicy {
                deadline_seconds,
                callback,
                on_timeout,
            }),
            shard_id,
        }
    })
}

proptest! {
    #[test]
    fn every_message_survives_its_line(command in message()) {
        let line = to_json(&command);
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(from_json(&line), Ok(command));
    }

    #[test]
    fn no_text_panics(text in ".{0,64}") {
        drop(from_json(&text));
    }

    #[test]
    fn no_damaged_line_panics(
        command in message(),
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{}\":,0-9a-z-]{0,3}",
    ) {
        let mut line: Vec<char> = to_json(&command).chars().collect();
        let at = at.index(line.len());
        line.splice(at..=at, with.chars());
        drop(from_json(&String::from_iter(line)));
    }

    #[test]
    fn no_time_panics(text in prop_oneof![".{0,32}", "[-+0-9TZ:.]{0,32}", time_like()]) {
        drop(from_json(&format!(r#"{{"created_at":{}}}"#, serde_json::json!(text))));
    }
}

/// Texts of the right form with numbers that may be out of range.
fn time_like() -> impl Strategy<Value = String> {
    "[-+]?[0-9]{4,12}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[-+][0-9]{2}:[0-9]{2})"
}
