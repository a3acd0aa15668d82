//! The pure rules of balances: `apply(position, log time, command) -> outcome and entries`.
//!
//! No async, clock, I/O, randomness, registry, float or hash-order dependence in here: the same log
//! gives the same [`Engine::state_hash`] on any machine. A rejection is a value; a panic is our bug.
//!
//! - `rules`: the checks in their fixed order, and what a command does;
//! - `state`: what is in memory, what a batch changed; `cells` and `table`: accounts and balances;
//! - `warm`: brings what commands need to the cache; `bare`: what its rate and memory are compared with;
//! - `hash`: the state hash; `invariants`: what is asserted; `model`: a naive oracle that the
//!   properties compare with.

#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

pub use bare::Memory;
pub use state::Engine;
pub use warm::WARM_COMMANDS;

pub use crate::core::proto::{AccountStatus, RejectCode};
use crate::core::{
    command::CommandKind,
    interval_set::IntervalSet,
    types::{AccountId, AssetId, CommandId, ContentHash, Money, Position, ShardId, Timestamp},
};

mod bare;
mod cells;
pub mod hash;
pub mod invariants;
pub mod model;
mod rules;
mod state;
mod table;
mod warm;

/// What an engine starts from: the row of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which shard.
    pub shard: ShardId,
    /// Numbers applied.
    pub applied: IntervalSet,
    /// `applied_at` of the last outcome.
    pub applied_at: Timestamp,
    /// The greatest TICK applied.
    pub passed_at: Timestamp,
    /// Of all balances and accounts.
    pub state_hash: u128,
}

/// What `apply` and `discard` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Decided now, for ever.
    Done(Outcome),
    /// Its number is in the applied set: nothing happened.
    Skipped,
}

/// A parked command that an operator gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Which command.
    pub command_id: CommandId,
    /// As it was accepted.
    pub content_hash: ContentHash,
    /// The command's account.
    pub account: AccountId,
    /// The command's kind.
    pub kind: CommandKind,
}

/// What a batch changed, in the order that a flush wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Its number, from 1, for `flushed`.
    pub batch: u64,
    /// Numbers that became applied, sealed and discarded ones included.
    pub applied: IntervalSet,
    /// Sorted by (account, asset).
    pub balances: Vec<BalanceWrite>,
    /// Sorted by id.
    pub accounts: Vec<AccountWrite>,
    /// Sorted by target.
    pub reversals: Vec<Reversal>,
}

/// A balance to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceWrite {
    /// After the flush.
    pub balance: Balance,
    /// Version that must be stored now; 0: the row must not exist.
    pub expected_version: u64,
}

/// An account to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountWrite {
    /// After the flush.
    pub account: Account,
    /// The row must not exist yet; else it must.
    pub opens: bool,
}

/// `target` was reversed by `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// The reversed command.
    pub target: CommandId,
    /// The REVERSE.
    pub by: CommandId,
}

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
    /// Set: rejected, and nothing happened. Apart, because few are and an outcome is half as long
    /// without.
    pub reject: Option<Box<Reject>>,
    /// How many entries it has; they follow each other in the batch, in the order of outcomes.
    pub entries: u32,
}

/// Why a command was rejected, with the numbers that its sentence is made of.
///
/// | code | leg, account | asset | had | needed |
/// |---|---|---|---|---|
/// | INVALID | the change at fault, if one is | | 0 | 0 |
/// | TRANSFER_NOT_BALANCED | the command's | the first one unbalanced | its sum, within bounds | 0 |
/// | ACCOUNT_NOT_FOUND, ACCOUNT_BLOCKED, ACCOUNT_CLOSED | its first mention | | 0 | 0 |
/// | ACCOUNT_EXISTS | the command's | | 0 | 0 |
/// | ACCOUNT_NOT_EMPTY | the command's | the lowest not empty | available, if 0 frozen | 0 |
/// | NOTHING_TO_REVERSE, ALREADY_REVERSED, DISCARDED | the command's | | 0 | 0 |
/// | VERSION_MISMATCH | the change | the primary's | the version | the version asked for |
/// | BELOW_MINIMUM | the change | the primary's | available | the minimum |
/// | INSUFFICIENT_AVAILABLE | the change | the primary's | available | -available_delta |
/// | INSUFFICIENT_FROZEN | the change | the primary's | frozen | -frozen_delta |
/// | AMOUNT_OVERFLOW | the change | the primary's | what overflows, before | its delta |
///
/// "The command's" is leg 0 and the command's account. Balances are those before the change, as the
/// earlier changes left them.
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

impl Reject {
    /// One without asset and numbers.
    pub fn new(code: RejectCode, leg: u16, account: AccountId) -> Self {
        Self {
            code,
            leg,
            account,
            asset: None,
            had: Money::ZERO,
            needed: Money::ZERO,
        }
    }
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

impl Balance {
    /// One without any entry.
    pub fn untouched(account: AccountId, asset: AssetId) -> Self {
        Self {
            account,
            asset,
            available: Money::ZERO,
            frozen: Money::ZERO,
            version: 0,
            last_position: Position::NONE,
        }
    }
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
