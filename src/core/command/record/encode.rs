//! Commands and control records to bytes. Infallible: what it is given was checked before.

use bytes::Bytes;
use prost::Message;

use super::{Discard, Parked, Registry, Seal, Tick, envelope};
use crate::core::{
    command::{Change, Command, Move},
    proto::{self, CommandRecord, amount::Value, log_record::Payload},
    types::Money,
};

/// The log record of an accepted command.
pub fn encode_command(command: &Command) -> Bytes {
    let id = command.id.expect("an accepted command has an id");
    envelope(Payload::Command(CommandRecord {
        command_id: id.0,
        content_hash: command.content_hash.0.to_vec(),
        created_at: command.created_at.map(|at| at.to_proto()),
        accepted_at: Some(command.accepted_at.to_proto()),
        ..canonical_body(command)
    }))
}

/// The `body` column: what of the record is in no column of its own (see [`super::Columns`]).
pub fn encode_body(command: &Command) -> Vec<u8> {
    body(command).encode_to_vec()
}

/// The record without `command_id`, `content_hash`, `created_at` and `accepted_at`, whose encoding
/// is what the content hash is made of.
pub(in crate::core::command) fn canonical_body(command: &Command) -> CommandRecord {
    CommandRecord {
        source: command.source.to_string(),
        idempotency_key: command.idempotency_key.to_string(),
        account_id: command.account.0,
        kind: command.kind.into(),
        reference: command.reference.to_string(),
        ..body(command)
    }
}

fn body(command: &Command) -> CommandRecord {
    CommandRecord {
        changes: command.changes.iter().map(change).collect(),
        user_id: command.user,
        reverses: command.reverses.map_or(0, |id| id.0),
        ack: command.ack.clone(),
        shard_id: command.pin.map(|shard| u32::from(shard.0)),
        ..CommandRecord::default()
    }
}

fn change(change: &Change) -> proto::RecordChange {
    proto::RecordChange {
        account_id: change.account.0,
        primary: Some(one_move(&change.primary)),
        fallback: change.fallback.as_ref().map(one_move),
        if_version: change.if_version,
        if_min_available: change.if_min_available.map(amount),
    }
}

fn one_move(one: &Move) -> proto::Move {
    let delta = |money: Money| (money != Money::ZERO).then(|| amount(money));
    proto::Move {
        asset_id: one.asset.0,
        available_delta: delta(one.available_delta),
        frozen_delta: delta(one.frozen_delta),
    }
}

fn amount(money: Money) -> proto::Amount {
    let value = match i64::try_from(money.minor_units()) {
        Ok(small) => Value::Small(small),
        Err(_) => Value::Big(Bytes::copy_from_slice(&money.minor_units().to_le_bytes())),
    };
    proto::Amount { value: Some(value) }
}

/// The log record of a TICK.
pub fn encode_tick(tick: &Tick) -> Bytes {
    envelope(Payload::Tick(proto::Tick {
        now: Some(tick.now.to_proto()),
        wal_position: tick.wal_position,
    }))
}

/// The log record of a SEAL.
pub fn encode_seal(seal: &Seal) -> Bytes {
    envelope(Payload::Seal(proto::Seal {
        first: seal.first.0,
        last: seal.last.0,
    }))
}

/// The log record of a DISCARD.
pub fn encode_discard(discard: &Discard) -> Bytes {
    envelope(Payload::Discard(proto::Discard {
        command_id: discard.id.0,
        reason: discard.reason.clone(),
        content_hash: discard.content_hash.0.to_vec(),
        account_id: discard.account.0,
        kind: discard.kind.into(),
        source: discard.label.source.to_string(),
        idempotency_key: discard.label.idempotency_key.to_string(),
        reference: discard.label.reference.to_string(),
        created_at: discard.label.created_at.map(|at| at.to_proto()),
    }))
}

/// The log record of a PARKED.
pub fn encode_parked(parked: &Parked) -> Bytes {
    envelope(Payload::Parked(proto::Parked {
        position: parked.position.0,
        command_id: parked.command.map_or(0, |id| id.0),
        reason: parked.reason,
    }))
}

/// The log record of a REGISTRY.
pub fn encode_registry(registry: &Registry) -> Bytes {
    let assets = registry.assets.iter().map(|asset| proto::AssetRecord {
        asset_id: asset.id.0,
        code: asset.code.clone(),
        scale: u32::from(asset.scale),
    });
    envelope(Payload::Registry(proto::Registry {
        shards: u32::from(registry.shards),
        assets: assets.collect(),
    }))
}
