//! A row for every rule of shape; what a valid command becomes is in `resolved`.

use super::*;
use crate::core::proto::{AckPolicy, Condition, Fallback};

mod resolved;

const SHARDS: u16 = 4;

fn registry() -> Assets {
    let asset = |id, code: &str, scale| Asset {
        id: AssetId(id),
        code: code.into(),
        scale,
    };
    [asset(1, "USDT", 18), asset(2, "XBT", 8), asset(3, "YEN", 0)]
        .into_iter()
        .collect()
}

fn leg(asset: &str, available_delta: &str, frozen_delta: &str) -> proto::Change {
    proto::Change {
        asset: asset.into(),
        available_delta: available_delta.into(),
        frozen_delta: frozen_delta.into(),
        ..Default::default()
    }
}

fn of_kind(kind: CommandKind, changes: Vec<proto::Change>) -> proto::Command {
    proto::Command {
        idempotency_key: "key".into(),
        source: "shop".into(),
        account_id: 1001,
        kind: kind.into(),
        changes,
        ..Default::default()
    }
}

fn credit() -> proto::Command {
    of_kind(CommandKind::Change, vec![leg("USDT", "1", "")])
}

fn transfer() -> proto::Command {
    let mut to = leg("USDT", "1", "");
    to.account_id = 1002;
    of_kind(CommandKind::Transfer, vec![leg("USDT", "-1", ""), to])
}

fn open() -> proto::Command {
    of_kind(CommandKind::OpenAccount, vec![])
}

fn reverse() -> proto::Command {
    proto::Command {
        reverses: 1 << 48 | 7,
        ..of_kind(CommandKind::Reverse, vec![])
    }
}

fn parsed(message: &proto::Command) -> Result<Command, ParseError> {
    parse(message, &registry(), SHARDS)
}

type Edit = fn(&mut proto::Command);

#[track_caller]
fn check(base: proto::Command, edit: Edit, field: &str, says: &str) {
    let mut message = base.clone();
    assert!(parsed(&message).is_ok(), "the base is valid: {base:?}");
    edit(&mut message);
    let error = parsed(&message).expect_err(field);
    assert_eq!(error.code, Code::Invalid, "{error}");
    assert_eq!(error.field, field, "{error}");
    assert!(error.message.starts_with(field), "{error}");
    assert!(error.message.contains(says), "{error}");
}

#[test]
fn texts_and_ids_are_checked() {
    check(
        credit(),
        |c| c.reference = "r".repeat(40_000),
        "command",
        "32768",
    );
    check(
        credit(),
        |c| c.idempotency_key.clear(),
        "idempotency_key",
        "1 to 128",
    );
    check(
        credit(),
        |c| c.idempotency_key = "k".repeat(129),
        "idempotency_key",
        "not 129",
    );
    check(
        credit(),
        |c| c.idempotency_key = "a\nb".into(),
        "idempotency_key",
        "U+000A",
    );
    check(credit(), |c| c.source.clear(), "source", "1 to 64");
    check(credit(), |c| c.source = "s".repeat(65), "source", "not 65");
    check(credit(), |c| c.source = "\u{85}".into(), "source", "U+0085");
    check(
        credit(),
        |c| c.reference = "r".repeat(129),
        "reference",
        "not 129",
    );
    check(
        credit(),
        |c| c.reference = "a\0".into(),
        "reference",
        "U+0000",
    );
    check(credit(), |c| c.account_id = 0, "account_id", "must be set");
    check(
        credit(),
        |c| c.account_id = 1 << 62,
        "account_id",
        "AXS's own",
    );
    check(credit(), |c| c.kind = 0, "kind", "must be set");
    check(credit(), |c| c.kind = 8, "kind", "not 8");
    let nanos = |c: &mut proto::Command| {
        c.created_at = Some(prost_types::Timestamp {
            seconds: 0,
            nanos: -1,
        });
    };
    check(credit(), nanos, "created_at", "1 to 9999");
}

#[test]
fn what_belongs_to_one_kind_is_refused_elsewhere() {
    check(credit(), |c| c.user_id = 1, "user_id", "OPEN_ACCOUNT");
    check(
        credit(),
        |c| c.shard_id = Some(0),
        "shard_id",
        "OPEN_ACCOUNT",
    );
    check(open(), |c| c.shard_id = Some(4), "shard_id", "below 4");
    check(
        open(),
        |c| c.shard_id = Some(1 << 16),
        "shard_id",
        "below 4",
    );
    check(
        credit(),
        |c| c.reverses = 1 << 48 | 7,
        "reverses",
        "REVERSE only",
    );
    check(reverse(), |c| c.reverses = 0, "reverses", "must be set");
    check(
        reverse(),
        |c| c.reverses = 1 << 48,
        "reverses",
        "id of a command",
    );
    check(
        open(),
        |c| c.changes = vec![own(1002)],
        "changes[0].account_id",
        "opens",
    );
}

fn own(account: u64) -> proto::Change {
    proto::Change {
        account_id: account,
        ..leg("USDT", "1", "")
    }
}

#[test]
fn changes_are_counted_by_kind() {
    check(credit(), |c| c.changes.clear(), "changes", "1 to 64");
    check(
        credit(),
        |c| c.changes = vec![own(0); 65],
        "changes",
        "not 65",
    );
    check(transfer(), |c| c.changes.truncate(1), "changes", "2 to 64");
    check(
        open(),
        |c| c.changes = vec![own(0); 65],
        "changes",
        "0 to 64",
    );
    check(
        reverse(),
        |c| c.changes = vec![own(0)],
        "changes",
        "empty for REVERSE",
    );
    for kind in [
        CommandKind::BlockAccount,
        CommandKind::UnblockAccount,
        CommandKind::CloseAccount,
    ] {
        let base = of_kind(kind, vec![]);
        check(
            base,
            |c| c.changes = vec![own(0)],
            "changes",
            "must be empty",
        );
    }
    assert!(parsed(&of_kind(CommandKind::Change, vec![own(0); 64])).is_ok());
    assert!(parsed(&of_kind(CommandKind::OpenAccount, vec![own(1001); 64])).is_ok());
}

#[test]
fn changes_are_checked_one_by_one() {
    check(
        credit(),
        |c| c.changes[0].asset = "usdt".into(),
        "changes[0].asset",
        "A-Z",
    );
    check(
        credit(),
        |c| c.changes[0].account_id = 1 << 63,
        "changes[0].account_id",
        "2^62",
    );
    check(
        credit(),
        |c| c.changes.push(leg("XBT", "0.000000001", "")),
        "changes[1].available_delta",
        "at most 8 digits behind",
    );
    check(
        credit(),
        |c| c.changes.push(leg("YEN", "", "1.0")),
        "changes[1].frozen_delta",
        "whole number",
    );
    check(
        credit(),
        |c| {
            c.changes[0].fallback = Some(Fallback {
                asset: "XBT".into(),
                frozen_delta: "x".into(),
                ..Default::default()
            });
        },
        "changes[0].fallback.frozen_delta",
        "decimal number",
    );
    check(
        credit(),
        |c| c.changes[0].fallback = Some(Fallback::default()),
        "changes[0].fallback.asset",
        "asset code",
    );
    check(
        credit(),
        |c| {
            c.changes[0].condition = Some(Condition {
                version: None,
                min_available: Some(String::new()),
            });
        },
        "changes[0].condition.min_available",
        "decimal number",
    );
}

#[test]
fn transfers_sum_to_zero() {
    check(
        transfer(),
        |c| c.changes[1].available_delta = "2".into(),
        "changes",
        "sum to zero",
    );
    check(
        transfer(),
        |c| c.changes[1].asset = "XBT".into(),
        "changes",
        "sum to zero",
    );
    check(
        transfer(),
        |c| {
            c.changes[0].fallback = Some(Fallback {
                asset: "USDT".into(),
                ..Default::default()
            });
        },
        "changes[0].fallback",
        "TRANSFER",
    );
    let frozen = of_kind(
        CommandKind::Transfer,
        vec![leg("USDT", "-1.5", "0.5"), leg("USDT", "", "1")],
    );
    assert!(parsed(&frozen).is_ok());
    // Together 2^128 minor units, which wrap to zero in 128 bits and are not zero.
    let tenth = "34028236692093846346.337460743176821145";
    let mut changes = vec![leg("USDT", tenth, tenth); 5];
    changes.push(leg("USDT", "0.000000000000000006", ""));
    let error = parsed(&of_kind(CommandKind::Transfer, changes)).expect_err("not balanced");
    assert_eq!(error.field, "changes");
    let most = "99999999999999999999.999999999999999999";
    let least = format!("-{most}");
    let mut changes = vec![leg("USDT", most, most); 32];
    changes.extend(vec![leg("USDT", &least, &least); 32]);
    assert!(parsed(&of_kind(CommandKind::Transfer, changes)).is_ok());
}

#[test]
fn an_unknown_asset_is_told_apart() {
    let error = parsed(&of_kind(CommandKind::Change, vec![leg("DOGE", "1", "")]))
        .expect_err("not in the registry");
    assert_eq!(error.code, Code::Invalid);
    assert_eq!(error.field, "changes[0].asset");
    assert_eq!(error.unknown_asset.as_deref(), Some("DOGE"));
    let error = parsed(&of_kind(CommandKind::Change, vec![leg("doge", "1", "")]))
        .expect_err("no code at all");
    assert_eq!(error.unknown_asset, None);
}

#[test]
fn acknowledgements_are_unsupported_after_shape() {
    let ack = |deadline_seconds| {
        Some(AckPolicy {
            deadline_seconds,
            callback: "shop".into(),
            on_timeout: 2,
        })
    };
    let with = |ack, account_id| proto::Command {
        ack,
        account_id,
        ..credit()
    };
    let error = parsed(&with(ack(60), 1)).expect_err("not built yet");
    assert_eq!((error.code, &error.field[..]), (Code::Unsupported, "ack"));
    let error = parsed(&with(ack(60), 0)).expect_err("shape comes first");
    assert_eq!(
        (error.code, &error.field[..]),
        (Code::Invalid, "account_id")
    );
    let error = parsed(&with(ack(0), 1)).expect_err("out of range");
    assert_eq!(
        (error.code, &error.field[..]),
        (Code::Invalid, "ack.deadline_seconds")
    );
}
