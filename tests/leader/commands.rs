//! Commands as they stand in the log of the world's shard.

use axs::core::{
    command::{Change, Command, CommandKind, Move, hash, record},
    types::{AccountId, AssetId, CommandId, ContentHash, Money, Sequence, Timestamp},
};
use bytes::Bytes;

use super::world::SHARD;

/// Commands of account after account, numbered as they are made.
pub fn command(sequence: u64, account: u64, kind: CommandKind, deltas: &[i64]) -> Command {
    let change = |delta: &i64| Change {
        account: AccountId(account),
        primary: Move {
            asset: AssetId(1),
            available_delta: Money::from(*delta),
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    };
    let mut command = Command {
        id: Some(CommandId::new(SHARD, Sequence(sequence))),
        content_hash: ContentHash([0; 16]),
        source: "test".into(),
        idempotency_key: format!("key-{sequence}").into(),
        account: AccountId(account),
        kind,
        changes: deltas.iter().map(change).collect(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp(1),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    };
    command.content_hash = hash::content_hash(&command);
    command
}

pub fn open(sequence: u64, account: u64, money: i64) -> Bytes {
    record::encode_command(&command(
        sequence,
        account,
        CommandKind::OpenAccount,
        &[money],
    ))
}

pub fn credit(sequence: u64, account: u64, money: i64) -> Bytes {
    record::encode_command(&command(sequence, account, CommandKind::Change, &[money]))
}

pub fn reverse(sequence: u64, account: u64, target: u64) -> Bytes {
    let mut command = command(sequence, account, CommandKind::Reverse, &[]);
    command.reverses = Some(CommandId::new(SHARD, Sequence(target)));
    command.content_hash = hash::content_hash(&command);
    record::encode_command(&command)
}

pub fn id(sequence: u64) -> CommandId {
    CommandId::new(SHARD, Sequence(sequence))
}
