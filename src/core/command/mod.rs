//! A command as the engine takes it: resolved to ids and minor units, nothing left to look up.
//!
//! - `amount`: decimal strings to and from minor units.
//! - `parse`: from the API's message, with the field named in every error.
//! - `text`: its text fields.
//! - `record`: to and from the log record; the stored body.
//! - `hash`: content hash and key hash.
//! - `json`: the API's message to and from one line of JSON.

pub mod amount;
pub mod hash;
pub mod json;
pub mod parse;
pub mod record;
mod text;

use smallvec::SmallVec;
pub use text::Text;

pub use crate::core::proto::CommandKind;
use crate::core::{
    proto,
    types::{AccountId, AssetId, CommandId, ContentHash, Money, ShardId, Timestamp},
};

/// Most changes of one command.
pub const CHANGES_MAX: usize = 64;
/// Longest idempotency key.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest source.
pub const SOURCE_BYTES_MAX: usize = 64;
/// Longest reference.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Largest encoded command of the API.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;

/// Nearly every command has one change, which needs no memory of its own.
pub type ChangeList = SmallVec<[Change; 1]>;

/// One command, as stored and as logged. Until acceptance its `id` is `None` and `accepted_at` 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Assigned at acceptance.
    pub id: Option<CommandId>,
    /// Over everything a repeated key is compared by.
    pub content_hash: ContentHash,
    /// The calling service.
    pub source: Text,
    /// Unique per source, for ever.
    pub idempotency_key: Text,
    /// Decides the shard.
    pub account: AccountId,
    /// What it does; never `Unspecified`.
    pub kind: CommandKind,
    /// In the order they apply.
    pub changes: ChangeList,
    /// The caller's business id.
    pub reference: Text,
    /// The caller's time; never decides.
    pub created_at: Option<Timestamp>,
    /// By PostgreSQL's clock; 0 until accepted.
    pub accepted_at: Timestamp,
    /// OPEN_ACCOUNT: the owner.
    pub user: u64,
    /// REVERSE: the command to invert.
    pub reverses: Option<CommandId>,
    /// Set: the applied result must be acknowledged.
    pub ack: Option<proto::AckPolicy>,
    /// OPEN_ACCOUNT: the pin, as sent.
    pub pin: Option<ShardId>,
}

/// One change of a command, on one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose balance; never 0.
    pub account: AccountId,
    /// What is tried first.
    pub primary: Move,
    /// Taken instead where the primary does not fit the funds.
    pub fallback: Option<Move>,
    /// The balance's version must be this.
    pub if_version: Option<u64>,
    /// The balance's available must be at least this.
    pub if_min_available: Option<Money>,
}

/// A pair of deltas on the balance of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which asset.
    pub asset: AssetId,
    /// Signed.
    pub available_delta: Money,
    /// Signed.
    pub frozen_delta: Money,
}

/// What of a command is stored and shown but never decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The calling service.
    pub source: Text,
    /// The caller's key.
    pub idempotency_key: Text,
    /// The caller's business id.
    pub reference: Text,
    /// The caller's time.
    pub created_at: Option<Timestamp>,
}

impl Command {
    /// Every account it names, its own first, without repeats.
    pub fn accounts(&self) -> Vec<AccountId> {
        let mut accounts = vec![self.account];
        for change in &self.changes {
            if !accounts.contains(&change.account) {
                accounts.push(change.account);
            }
        }
        accounts
    }

    /// What is shown of it beside its outcome, where the rest of it is not needed any more.
    pub fn into_label(self) -> Label {
        Label {
            source: self.source,
            idempotency_key: self.idempotency_key,
            reference: self.reference,
            created_at: self.created_at,
        }
    }

    /// What is shown of it beside its outcome.
    pub fn label(&self) -> Label {
        Label {
            source: self.source.clone(),
            idempotency_key: self.idempotency_key.clone(),
            reference: self.reference.clone(),
            created_at: self.created_at,
        }
    }
}
