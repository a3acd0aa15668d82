//! The pure rules of balances: `apply(position, log time, command) -> outcome and entries`.
//!
//! No async, clock, I/O, randomness, registry, float or hash-order dependence in here: the same log
//! gives the same [`Engine::state_hash`] on any machine. A rejection is a value; a panic is our bug.
//!
//! - `state`: the balance and account tables; `rules`: the checks in their fixed order;
//! - `hash`: the state hash; `model`: a naive oracle that the properties compare with.

pub use crate::core::proto::{AccountStatus, RejectCode};
use crate::core::{
    command::CommandKind,
    types::{AccountId, AssetId, CommandId, ContentHash, Money, Position, Timestamp},
};

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which command.
    pub id: CommandId,
    /// Where it stands in the log.
    pub position: Position,
    /// As in the record.
    pub content_hash: ContentHash,
    /// The greater of the record's log time and the previous outcome's.
    pub applied_at: Timestamp,
    /// The command's account.
    pub account: AccountId,
    /// The command's kind.
    pub kind: CommandKind,
    /// Set: rejected, and nothing happened.
    pub reject: Option<Reject>,
    /// How many entries it has; they follow each other in the batch, in the order of outcomes.
    pub entries: u32,
}

/// Why a command was rejected, with the numbers that its sentence is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Stable code.
    pub code: RejectCode,
    /// Index of the change that failed (REVERSE: the leg of the target's entry); 0 where none did.
    pub leg: u16,
    /// The account it failed on.
    pub account: AccountId,
    /// The asset it failed on, for conditions and funds.
    pub asset: Option<AssetId>,
    /// What was there: the version for VERSION_MISMATCH, else minor units.
    pub had: Money,
    /// What was needed, in the same unit.
    pub needed: Money,
}

/// One applied change: what it did to one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the change in its command (REVERSE: the leg of the target's entry).
    pub leg: u16,
    /// The fallback was used.
    pub fallback: bool,
    /// Whose balance.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// Signed.
    pub available_delta: Money,
    /// Signed.
    pub frozen_delta: Money,
    /// The balance after it.
    pub available_after: Money,
    /// The balance after it.
    pub frozen_after: Money,
    /// The balance's version after it.
    pub version: u64,
    /// Position of the same balance's last entry in an earlier command, or [`Position::NONE`].
    pub previous_position: Position,
}

/// An account as the engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its owner.
    pub user: u64,
    /// Open, blocked or closed.
    pub status: AccountStatus,
    /// `applied_at` of its OPEN_ACCOUNT.
    pub opened_at: Timestamp,
}

/// A balance as the engine knows it; one never touched has version 0 and is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Whose.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// Free to use.
    pub available: Money,
    /// Held for something.
    pub frozen: Money,
    /// Rises by one with every entry.
    pub version: u64,
    /// Position of the last command that changed it.
    pub last_position: Position,
}

/// What is known of a command that a REVERSE names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The named command.
    pub id: CommandId,
    /// Its account.
    pub account: AccountId,
    /// Its kind.
    pub kind: CommandKind,
    /// It was rejected.
    pub rejected: bool,
    /// Its entries, in their order.
    pub entries: Vec<Entry>,
    /// The command that reversed it already.
    pub reversed_by: Option<CommandId>,
}
