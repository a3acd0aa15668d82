//! The engine against tables of its rules and against its naive model.
//!
//! - `tables`: one row per reject code and per step of the order of checks.
//! - `random`: 1,000,000 random commands; evictions, stale loads, late flushes, crashes.
//! - `state` and `memory`: what the tables do not show: seals, discards, batches, panics, the
//!   hash's layout; loads and eviction.

use axs::core::{
    command::{Command, CommandKind},
    engine::Start,
    interval_set::IntervalSet,
    types::{AccountId, CommandId, ContentHash, Sequence, ShardId, Timestamp},
};

mod memory;
mod random;
mod state;
mod tables;

const SHARD: ShardId = ShardId(3);

/// A shard in which nothing happened yet.
fn empty() -> Start {
    Start {
        shard: SHARD,
        applied: IntervalSet::new(),
        applied_at: Timestamp(0),
        passed_at: Timestamp(0),
        state_hash: 0,
    }
}

/// Number `number` of the shard, without changes.
fn command(number: u64, kind: CommandKind, account: AccountId) -> Command {
    Command {
        id: Some(CommandId::new(SHARD, Sequence(number))),
        content_hash: ContentHash([number as u8; 16]),
        source: "test".into(),
        idempotency_key: number.to_string().into(),
        account,
        kind,
        changes: Vec::new().into(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp(0),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    }
}
