//! The values that cross the seam of the store: what is accepted, taken over, loaded, flushed and
//! read back. Plain data; both stores and the leader use them.

use std::{collections::BTreeMap, time::Duration};

pub use crate::core::engine::{AccountWrite, BalanceWrite, Reversal};
use crate::core::{
    command::{Command, Label},
    engine::{Account, Balance, Entry, Outcome, Target},
    interval_set::IntervalSet,
    types::{
        AccountId, Anchor, AssetId, CommandId, ContentHash, Epoch, KeyHash, Nonce, Position,
        Sequence, ShardId, Timestamp,
    },
};

// ---------------------------------------------------------------- acceptance

/// One group commit of acceptance.
#[derive(Clone, Debug)]
pub struct AcceptGroup {
    /// The open blocks that the ids come from.
    pub blocks: Vec<(ShardId, Nonce)>,
    /// Keys are distinct.
    pub items: Vec<AcceptItem>,
}

/// One command to accept.
#[derive(Clone, Debug)]
pub struct AcceptItem {
    /// Of source and key.
    pub key_hash: KeyHash,
    /// With its id, if it may be stored. Without an id only the key is looked up: its account has
    /// no route or is in another shard, and that is said only if the key is not known.
    pub command: Command,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedGroup {
    /// PostgreSQL's clock, for the commands that were stored.
    pub accepted_at: Timestamp,
    /// One for each item.
    pub answers: Vec<AcceptAnswer>,
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptAnswer {
    /// Stored under the id that was sent.
    Accepted,
    /// The key is known with the same content, under this id.
    Duplicate(CommandId),
    /// The key is known with other content, under this id.
    Conflict(CommandId),
    /// OPEN_ACCOUNT: the account's route stands in this other shard. Nothing was stored.
    Routed(ShardId),
    /// The item had no id and its key is not known. Nothing was stored.
    KeyUnknown,
}

/// A lease on the sequence numbers `first ..= last` of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceBlock {
    /// Names the lease.
    pub nonce: Nonce,
    /// Whose numbers.
    pub shard: ShardId,
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
}

/// A stored command with what the outbox and the APIs need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommand {
    /// With id and `accepted_at`.
    pub command: Command,
    /// Set: it is a dead letter and waits for an operator; why.
    pub parked: Option<String>,
}

// ---------------------------------------------------------------- leadership and flush

/// Everything a leader takes over with a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// Which.
    pub shard: ShardId,
    /// Of this take-over.
    pub epoch: Epoch,
    /// Of this take-over.
    pub nonce: Nonce,
    /// First position not yet applied.
    pub next_position: Position,
    /// First position whose results may be unpublished.
    pub published_to: Position,
    /// Position of the shard's last result, or [`Position::NONE`].
    pub last_result: Position,
    /// Hash of the last consumed record; `None`: nothing was consumed yet.
    pub anchor: Option<Anchor>,
    /// Sequence numbers applied.
    pub applied: IntervalSet,
    /// `applied_at` of the last outcome.
    pub applied_at: Timestamp,
    /// The greatest TICK applied.
    pub passed_at: Timestamp,
    /// Of all balances and accounts.
    pub state_hash: u128,
    /// Positions at or above `next_position` that are dead letters already: the log file of `axs
    /// dev` is read again from its beginning. Always empty in PostgreSQL.
    pub parked: BTreeMap<Position, DeadLetterReason>,
}

/// A row of the shard table, for spreading, lag and the operator's tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRow {
    /// Which.
    pub shard: ShardId,
    /// Current epoch.
    pub epoch: Epoch,
    /// Who led last.
    pub leader: String,
    /// Time left of the lease by the store's clock; zero: nobody leads.
    pub lease_left: Duration,
    /// First position not yet applied.
    pub next_position: Position,
    /// First position not yet published.
    pub published_to: Position,
    /// The greatest TICK applied.
    pub passed_at: Timestamp,
    /// `applied_at` of the last outcome.
    pub applied_at: Timestamp,
    /// Of all balances and accounts.
    pub state_hash: u128,
    /// Sequence numbers applied.
    pub applied: IntervalSet,
    /// Hash of the last consumed record, if one was.
    pub anchor: Option<Anchor>,
    /// An operator lets nobody lead; who.
    pub paused_by: Option<String>,
    /// How often operators did something to it: a process that stopped it tries again then.
    pub interventions: u64,
    /// Of the last recovery: results of earlier epochs may be beyond `next_position`.
    pub recovered_epoch: Epoch,
}

/// A process that wants to lead shards, seen lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique per process.
    pub name: String,
    /// It hands its shards over and wants none.
    pub draining: bool,
}

/// What to load before a batch is applied. All of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadRequest {
    /// Accounts, each with all its balances.
    pub accounts: Vec<AccountId>,
    /// Commands named by a REVERSE, with their entries and the accounts of those.
    pub targets: Vec<CommandId>,
    /// Applied commands whose content hash is wanted.
    pub hashes: Vec<CommandId>,
    /// Ids named by bad records: are they accepted commands?
    pub accepted: Vec<CommandId>,
}

/// The answer to a [`LoadRequest`], of one snapshot. What does not exist is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Those asked for, and those of the targets' entries.
    pub accounts: Vec<Account>,
    /// All balances of `accounts`.
    pub balances: Vec<Balance>,
    /// From the journal.
    pub targets: Vec<Target>,
    /// From the journal.
    pub hashes: Vec<(CommandId, ContentHash)>,
    /// From the `command` table.
    pub accepted: Vec<(CommandId, ContentHash)>,
}

/// One flush: what is committed in one statement. A range is sent with one content only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Which shard.
    pub shard: ShardId,
    /// Ours.
    pub epoch: Epoch,
    /// Ours.
    pub nonce: Nonce,
    /// `next_position` before it.
    pub from: Position,
    /// `next_position` after it.
    pub to: Position,
    /// Hash of the last record consumed.
    pub anchor: Anchor,
    /// Numbers that became applied, sealed and discarded ones included.
    pub applied: IntervalSet,
    /// The greatest TICK applied.
    pub passed_at: Timestamp,
    /// `applied_at` of the last outcome.
    pub applied_at: Timestamp,
    /// Position of the shard's last result before this flush.
    pub previous_result: Position,
    /// Position of the shard's last result after it.
    pub last_result: Position,
    /// After it.
    pub state_hash: u128,
    /// Results below are published.
    pub published_to: Position,
    /// Sorted by (account, asset).
    pub balances: Vec<BalanceWrite>,
    /// Sorted by id.
    pub accounts: Vec<AccountWrite>,
    /// In log order.
    pub outcomes: Vec<Outcome>,
    /// Of `outcomes`, in their order.
    pub entries: Vec<Entry>,
    /// One for each outcome; published, not stored (the `command` row has them).
    pub labels: Vec<Label>,
    /// Sorted by target.
    pub reversals: Vec<Reversal>,
    /// In log order.
    pub dead_letters: Vec<DeadLetter>,
}

/// A record that could not be taken, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub reason: DeadLetterReason,
    /// One sentence.
    pub message: String,
    /// The accepted command that it parks: its number stays outside the applied set.
    pub parks: Option<CommandId>,
    /// By the log's clock.
    pub log_time: Timestamp,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Vec<u8>,
}

/// Why a record is a dead letter. Stable numbers, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum DeadLetterReason {
    /// Its bytes are no log record.
    Undecodable = 1,
    /// It belongs to another shard.
    Misrouted = 2,
    /// Version or payload of a later program.
    Unsupported = 3,
    /// Another content under a number that was applied.
    ContentMismatch = 4,
    /// The engine panicked on it.
    EnginePanic = 5,
    /// The store refused its flush by itself.
    FlushRefused = 6,
}

impl DeadLetterReason {
    const ALL: [Self; 6] = [
        Self::Undecodable,
        Self::Misrouted,
        Self::Unsupported,
        Self::ContentMismatch,
        Self::EnginePanic,
        Self::FlushRefused,
    ];

    /// As headers and operators know it; never changed.
    pub fn code(self) -> &'static str {
        match self {
            Self::Undecodable => "UNDECODABLE",
            Self::Misrouted => "MISROUTED",
            Self::Unsupported => "UNSUPPORTED",
            Self::ContentMismatch => "CONTENT_MISMATCH",
            Self::EnginePanic => "ENGINE_PANIC",
            Self::FlushRefused => "FLUSH_REFUSED",
        }
    }

    /// The reason with this number; `None`: of a later program.
    pub fn from_number(number: u32) -> Option<Self> {
        let with_number = |reason: &Self| *reason as u32 == number;
        Self::ALL.into_iter().find(with_number)
    }
}

/// How a flush was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Committed now.
    Done,
    /// Was committed by an earlier send of the same flush.
    Already,
}

// ---------------------------------------------------------------- results and reads

/// A committed outcome, as results are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResult {
    /// Of the leader that applied it.
    pub epoch: Epoch,
    /// The outcome.
    pub outcome: Outcome,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// From the `command` row.
    pub label: Label,
    /// Position of the shard's previous result.
    pub previous_position: Position,
}

/// An account and its balances, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountBalances {
    /// The account.
    pub account: Account,
    /// Its shard.
    pub shard: ShardId,
    /// The shard's epoch in the same snapshot.
    pub epoch: Epoch,
    /// Every balance with version ≥ 1, by asset id.
    pub balances: Vec<Balance>,
    /// The store's clock.
    pub as_of: Timestamp,
}

/// An entry with its command, as history shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Whose entry.
    pub id: CommandId,
    /// Where it stands.
    pub position: Position,
    /// When.
    pub applied_at: Timestamp,
    /// Of the command.
    pub reference: String,
    /// The entry.
    pub entry: Entry,
}

/// Which part of a balance's history is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whose.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// First version wanted in the direction of travel; `None`: the end to start from.
    pub from_version: Option<u64>,
    /// Rising versions; else falling.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: usize,
}

// ---------------------------------------------------------------- outbox

/// What the outbox sees of a shard in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxView {
    /// The store's clock.
    pub now: Timestamp,
    /// `pg_current_wal_insert_lsn()`, 0 in memory.
    pub wal_position: u64,
    /// The greatest TICK applied.
    pub passed_at: Timestamp,
    /// How many commands are pending, parked ones left out (counted to a bound).
    pub pending_count: u64,
    /// `accepted_at` of the oldest of them.
    pub oldest_pending_at: Option<Timestamp>,
    /// Pending commands accepted before the margin asked for, oldest first, parked ones left out.
    pub pending: Vec<Command>,
    /// Numbers that nobody can use any more and that are neither commands nor applied.
    pub sealable: Vec<(Sequence, Sequence)>,
}

// ---------------------------------------------------------------- operators

/// Who does something to a shard by hand, and why. Kept in the table `audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// `user@host`.
    pub operator: String,
    /// One sentence.
    pub reason: String,
}

/// What is known of a command that stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: its row is gone.
    Nothing,
    /// It was accepted as it stands there.
    Accepted,
    /// Its number has another content.
    OtherContent,
    /// Its key is that of another command.
    OtherCommand,
}

/// What no process may use again after the database came back from an earlier time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The shard goes on under this one, or a later one.
    pub epoch: Epoch,
    /// Numbers below are not given out again.
    pub next: Sequence,
}

/// A balance row to make as the journal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceRepair {
    /// Whose.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// `None`: the row must not be there.
    pub becomes: Option<Balance>,
}

// ---------------------------------------------------------------- servers

/// How the database is, for `doctor` and start-up checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// (name, value) of server settings that durability depends on, in a fixed order.
    pub settings: Vec<(String, String)>,
    /// Schema version applied, if any.
    pub schema_version: Option<String>,
    /// Shards of the cluster, if `migrate` ran.
    pub shards: Option<u16>,
    /// Round trip.
    pub latency: Duration,
}
