//! Bytes to commands and control records. Never panics and trusts nothing: what leaves here is
//! within the ranges of its types. Rules of shape that depend on the kind are the engine's.

use bytes::Bytes;
use prost::Message;

use super::{
    Columns, DecodeError, Discard, LogItem, Parked, RECORD_VERSION, Registry, Seal, Tick, canonical,
};
use crate::core::{
    assets::{self, Asset, SCALE_MAX},
    command::{CHANGES_MAX, Change, Command, CommandKind, Label, Move, text},
    proto::{self, CommandRecord, amount::Value, log_record::Payload},
    types::{
        AccountId, AssetId, CommandId, ContentHash, Money, Position, SEQUENCE_MAX, SHARDS_MAX,
        Sequence, ShardId, Timestamp,
    },
};

/// Longest reason of a DISCARD.
const REASON_BYTES_MAX: usize = 1024;

/// Reads a log record. The texts of a command are parts of `bytes`.
pub fn decode(bytes: &Bytes) -> Result<LogItem, DecodeError> {
    match canonical::command(bytes) {
        Some(command) => Ok(LogItem::Command(command)),
        None => decode_any(bytes),
    }
}

/// The general way, with a sentence for everything that is wrong.
pub(super) fn decode_any(bytes: &[u8]) -> Result<LogItem, DecodeError> {
    let record = match proto::LogRecord::decode(bytes) {
        Ok(record) => record,
        Err(error) => {
            // A later version may have changed what fields are, but not where the version stands.
            let version = Envelope::decode(bytes).map_or(0, |envelope| envelope.version);
            check_version(version)?;
            return Err(undecodable(format!("no log record: {error}")));
        }
    };
    check_version(record.version)?;
    match record.payload {
        None => Err(unsupported("the payload is none that this version knows")),
        Some(Payload::Command(command)) => command_from_record(command).map(LogItem::Command),
        Some(Payload::Tick(tick)) => Ok(LogItem::Tick(Tick {
            now: required_time("now", tick.now.as_ref())?,
            wal_position: tick.wal_position,
        })),
        Some(Payload::Seal(seal)) => decode_seal(&seal).map(LogItem::Seal),
        Some(Payload::Discard(discard)) => decode_discard(discard).map(LogItem::Discard),
        Some(Payload::Parked(parked)) => decode_parked(&parked).map(LogItem::Parked),
        Some(Payload::Registry(registry)) => decode_registry(registry).map(LogItem::Registry),
    }
}

/// Puts a stored command together again from its body and its columns.
pub fn decode_body(body: &[u8], columns: Columns) -> Result<Command, DecodeError> {
    let record = CommandRecord::decode(body)
        .map_err(|error| undecodable(format!("no command body: {error}")))?;
    command_from_parts(record, columns)
}

/// What every version of a record begins with.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
}

fn check_version(version: u32) -> Result<(), DecodeError> {
    match version {
        RECORD_VERSION => Ok(()),
        0 => Err(undecodable("no log record: it carries no version")),
        later => Err(unsupported(format!(
            "record version {later} is not the one that this program reads, {RECORD_VERSION}"
        ))),
    }
}

fn command_from_record(mut record: CommandRecord) -> Result<Command, DecodeError> {
    let columns = Columns {
        id: command_id("command_id", record.command_id)?,
        content_hash: content_hash(&record.content_hash)?,
        source: std::mem::take(&mut record.source).into(),
        idempotency_key: std::mem::take(&mut record.idempotency_key).into(),
        account: account("account_id", record.account_id)?,
        kind: kind(record.kind)?,
        reference: std::mem::take(&mut record.reference).into(),
        created_at: optional_time("created_at", record.created_at.as_ref())?,
        accepted_at: required_time("accepted_at", record.accepted_at.as_ref())?,
    };
    check_text("source", &columns.source, text::SOURCE_BYTES)?;
    check_text("idempotency_key", &columns.idempotency_key, text::KEY_BYTES)?;
    check_text("reference", &columns.reference, text::REFERENCE_BYTES)?;
    command_from_parts(record, columns)
}

fn command_from_parts(record: CommandRecord, columns: Columns) -> Result<Command, DecodeError> {
    if record.changes.len() > CHANGES_MAX {
        let count = record.changes.len();
        return Err(undecodable(format!(
            "changes are {count}, more than {CHANGES_MAX}"
        )));
    }
    let reverses = match record.reverses {
        0 => None,
        raw => Some(command_id("reverses", raw)?),
    };
    Ok(Command {
        id: Some(columns.id),
        content_hash: columns.content_hash,
        source: columns.source,
        idempotency_key: columns.idempotency_key,
        account: columns.account,
        kind: columns.kind,
        changes: record
            .changes
            .iter()
            .map(change)
            .collect::<Result<_, _>>()?,
        reference: columns.reference,
        created_at: columns.created_at,
        accepted_at: columns.accepted_at,
        user: record.user_id,
        reverses,
        ack: record.ack.map(ack).transpose()?,
        pin: record.shard_id.map(shard).transpose()?,
    })
}

fn change(change: &proto::RecordChange) -> Result<Change, DecodeError> {
    let primary = change
        .primary
        .as_ref()
        .ok_or_else(|| undecodable("a change has no primary move"))?;
    Ok(Change {
        account: account("account_id of a change", change.account_id)?,
        primary: one_move(primary)?,
        fallback: change.fallback.as_ref().map(one_move).transpose()?,
        if_version: change.if_version,
        if_min_available: change.if_min_available.as_ref().map(amount).transpose()?,
    })
}

fn one_move(one: &proto::Move) -> Result<Move, DecodeError> {
    if one.asset_id == 0 {
        return Err(undecodable("a move has no asset_id"));
    }
    let delta = |delta: &Option<proto::Amount>| match delta {
        None => Ok(Money::ZERO),
        Some(delta) => amount(delta),
    };
    Ok(Move {
        asset: AssetId(one.asset_id),
        available_delta: delta(&one.available_delta)?,
        frozen_delta: delta(&one.frozen_delta)?,
    })
}

fn amount(amount: &proto::Amount) -> Result<Money, DecodeError> {
    match &amount.value {
        None => Err(unsupported(
            "an amount is of no kind that this version knows",
        )),
        Some(Value::Small(small)) => Ok(Money::from(*small)),
        Some(Value::Big(big)) => {
            let bytes = <[u8; 16]>::try_from(big.as_ref()).map_err(|_| {
                undecodable(format!("a big amount has {} bytes, not 16", big.len()))
            })?;
            Money::new(i128::from_le_bytes(bytes))
                .ok_or_else(|| undecodable("an amount is beyond 38 digits"))
        }
    }
}

fn ack(ack: proto::AckPolicy) -> Result<proto::AckPolicy, DecodeError> {
    match proto::ack_policy::OnTimeout::try_from(ack.on_timeout) {
        Ok(_) => Ok(ack),
        Err(_) => Err(unsupported(format!(
            "ack.on_timeout {} is none that this version knows",
            ack.on_timeout
        ))),
    }
}

fn decode_seal(seal: &proto::Seal) -> Result<Seal, DecodeError> {
    if seal.first == 0 || seal.first > seal.last || seal.last > SEQUENCE_MAX {
        return Err(undecodable(format!(
            "a seal of {} to {} is no range of sequence numbers",
            seal.first, seal.last
        )));
    }
    Ok(Seal {
        first: Sequence(seal.first),
        last: Sequence(seal.last),
    })
}

fn decode_discard(discard: proto::Discard) -> Result<Discard, DecodeError> {
    if discard.reason.len() > REASON_BYTES_MAX {
        return Err(undecodable(format!(
            "reason is longer than {REASON_BYTES_MAX} bytes"
        )));
    }
    check_text("source", &discard.source, text::SOURCE_BYTES)?;
    check_text("idempotency_key", &discard.idempotency_key, text::KEY_BYTES)?;
    check_text("reference", &discard.reference, text::REFERENCE_BYTES)?;
    Ok(Discard {
        id: command_id("command_id", discard.command_id)?,
        reason: discard.reason,
        content_hash: content_hash(&discard.content_hash)?,
        account: account("account_id", discard.account_id)?,
        kind: kind(discard.kind)?,
        label: Label {
            source: discard.source.into(),
            idempotency_key: discard.idempotency_key.into(),
            reference: discard.reference.into(),
            created_at: optional_time("created_at", discard.created_at.as_ref())?,
        },
    })
}

fn decode_parked(parked: &proto::Parked) -> Result<Parked, DecodeError> {
    if parked.position < 0 {
        return Err(undecodable(format!(
            "position {} is below zero",
            parked.position
        )));
    }
    let command = match parked.command_id {
        0 => None,
        raw => Some(command_id("command_id", raw)?),
    };
    Ok(Parked {
        position: Position(parked.position),
        command,
        reason: parked.reason,
    })
}

fn decode_registry(registry: proto::Registry) -> Result<Registry, DecodeError> {
    let shards = u16::try_from(registry.shards)
        .ok()
        .filter(|shards| (1..=SHARDS_MAX).contains(shards))
        .ok_or_else(|| undecodable(format!("{} shards are not 1 to 1024", registry.shards)))?;
    let asset = |asset: proto::AssetRecord| {
        let scale = u8::try_from(asset.scale).ok().filter(|s| *s <= SCALE_MAX);
        match scale {
            Some(scale) if asset.asset_id > 0 && assets::is_valid_code(&asset.code) => Ok(Asset {
                id: AssetId(asset.asset_id),
                code: asset.code,
                scale,
            }),
            _ => Err(undecodable(format!(
                "asset {} has no valid id, code and scale",
                asset.asset_id
            ))),
        }
    };
    Ok(Registry {
        shards,
        assets: registry
            .assets
            .into_iter()
            .map(asset)
            .collect::<Result<_, _>>()?,
    })
}

fn command_id(field: &str, raw: u64) -> Result<CommandId, DecodeError> {
    CommandId::parse(raw).ok_or_else(|| undecodable(format!("{field} {raw} is no command id")))
}

fn content_hash(bytes: &[u8]) -> Result<ContentHash, DecodeError> {
    <[u8; 16]>::try_from(bytes)
        .map(ContentHash)
        .map_err(|_| undecodable(format!("content_hash has {} bytes, not 16", bytes.len())))
}

fn account(field: &str, raw: u64) -> Result<AccountId, DecodeError> {
    let account = AccountId(raw);
    if account.is_callers() || account.clearing_shard().is_some() {
        return Ok(account);
    }
    Err(undecodable(format!("{field} {raw} is no account id")))
}

fn kind(raw: i32) -> Result<CommandKind, DecodeError> {
    match CommandKind::try_from(raw) {
        Ok(CommandKind::Unspecified) => Err(undecodable("the command has no kind")),
        Ok(kind) => Ok(kind),
        Err(_) => Err(unsupported(format!(
            "command kind {raw} is none that this version knows"
        ))),
    }
}

fn shard(raw: u32) -> Result<ShardId, DecodeError> {
    u16::try_from(raw)
        .ok()
        .filter(|shard| *shard < SHARDS_MAX)
        .map(ShardId)
        .ok_or_else(|| undecodable(format!("shard_id {raw} is not below {SHARDS_MAX}")))
}

fn optional_time(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, DecodeError> {
    time.map(|time| required_time(field, Some(time)))
        .transpose()
}

fn required_time(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Timestamp, DecodeError> {
    time.and_then(Timestamp::from_proto)
        .ok_or_else(|| undecodable(format!("{field} is no time of the years 1 to 9999")))
}

fn check_text(
    field: &str,
    value: &str,
    bytes: std::ops::RangeInclusive<usize>,
) -> Result<(), DecodeError> {
    text::check(value, bytes).map_err(|error| undecodable(format!("{field} {error}")))
}

fn undecodable(message: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable(message.into())
}

fn unsupported(message: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported(message.into())
}
