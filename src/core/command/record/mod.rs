//! The codec between a command and what is stored of it: the log record, and the `body` column of
//! the `command` table. It owns the bytes; it decides nothing about balances and checks no hash
//! ([`hash::verify_hash`](super::hash::verify_hash) does).
//!
//! The same [`Command`] is encoded to the same bytes, always: whoever produces it again from its
//! stored row appends the record that was lost.

use bytes::Bytes;
use prost::Message;

use crate::core::{
    assets::Assets,
    command::{Command, CommandKind, Label, Text},
    proto,
    types::{AccountId, CommandId, ContentHash, Position, Sequence, Timestamp},
};

mod canonical;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_body};
pub(super) use encode::canonical_body;
pub use encode::{
    encode_body, encode_command, encode_discard, encode_parked, encode_registry, encode_seal,
    encode_tick,
};

/// The version of `LogRecord` that is written and read.
pub const RECORD_VERSION: u32 = 1;

/// Why a record is a dead letter, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its bytes are no log record, or break the contract.
    #[error("{0}")]
    Undecodable(String),
    /// Its version, its payload or a value in it is of a later program.
    #[error("{0}")]
    Unsupported(String),
}

/// What stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is a command, and a box would be an allocation for each"
)]
pub enum LogItem {
    /// To apply.
    Command(Command),
    /// Moves the shard's time.
    Tick(Tick),
    /// Closes numbers that nobody can use any more.
    Seal(Seal),
    /// Gives a parked command up.
    Discard(Discard),
    /// Log file only: a dead letter of this shard.
    Parked(Parked),
    /// Log file only: the cluster's settings.
    Registry(Registry),
}

/// Moves the shard's time, only ever forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// PostgreSQL's clock.
    pub now: Timestamp,
    /// `pg_current_wal_insert_lsn()`; 0 in memory.
    pub wal_position: u64,
}

/// Sequence numbers `first ..= last` become applied without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// First number.
    pub first: Sequence,
    /// Last number, not below the first.
    pub last: Sequence,
}

/// A parked command that an operator gave up, with what journal and result need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Which command.
    pub id: CommandId,
    /// The operator's words.
    pub reason: String,
    /// Of the command.
    pub content_hash: ContentHash,
    /// Of the command.
    pub account: AccountId,
    /// Of the command.
    pub kind: CommandKind,
    /// Of the command.
    pub label: Label,
}

/// A dead letter at a position of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Of the record that could not be taken.
    pub position: Position,
    /// The accepted command that it parks.
    pub command: Option<CommandId>,
    /// Number of the dead letter's reason.
    pub reason: u32,
}

/// The cluster's settings as `axs dev` runs with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Number of shards.
    pub shards: u16,
    /// All assets.
    pub assets: Assets,
}

/// What of a stored command is in columns of its own, beside its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// `command_id`.
    pub id: CommandId,
    /// `content_hash`.
    pub content_hash: ContentHash,
    /// `source`.
    pub source: Text,
    /// `idempotency_key`.
    pub idempotency_key: Text,
    /// `account_id`.
    pub account: AccountId,
    /// `kind`.
    pub kind: CommandKind,
    /// `reference`.
    pub reference: Text,
    /// `created_at`.
    pub created_at: Option<Timestamp>,
    /// `accepted_at`.
    pub accepted_at: Timestamp,
}

fn envelope(payload: proto::log_record::Payload) -> Bytes {
    let record = proto::LogRecord {
        version: RECORD_VERSION,
        payload: Some(payload),
    };
    record.encode_to_vec().into()
}
