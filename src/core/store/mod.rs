//! The store: what is durable beside the log. PostgreSQL, or memory with the same answers.
//!
//! Every write is one autocommitted statement. What crosses the seam stands in `contract`; the same
//! suite (`tests/store`) runs on both stores.

use std::{sync::Arc, time::Duration};

use crate::core::{
    assets::{Asset, Assets},
    command::Command,
    types::{AccountId, AssetId, CommandId, Epoch, KeyHash, Nonce, Position, ShardId, Timestamp},
};

mod contract;
pub mod drift;
pub mod memory;
pub mod postgres;

pub use contract::*;

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was done.
    #[error("the store is not reachable: {0}")]
    Unavailable(String),
    /// The statement was sent and its answer lost: it may or may not have been done.
    #[error("the store's answer was lost: {0}")]
    AnswerLost(String),
    /// Epoch, nonce, previous position or applied set are not as expected: another leader, or an
    /// earlier send under another range. Nothing was done.
    #[error("fenced: {0}")]
    Fenced(String),
    /// A balance or account was not at the version it was computed on. Nothing was done.
    #[error("version conflict: {0}")]
    Conflict(String),
    /// The store refuses the data itself, each time. Nothing was done.
    #[error("the store refused the data: {0}")]
    Refused(String),
    /// A sequence block of the group is not open any more. Nothing was done.
    #[error("sequence block of shard {0} is closed")]
    BlockClosed(ShardId),
    /// A sequence number of the group is in use: its block was closed. Nothing was done.
    #[error("command id {0} is in use already")]
    NumberTaken(CommandId),
    /// What is stored does not fit this program or its settings.
    #[error("{0}")]
    Mismatch(String),
}

/// The store of this process.
#[derive(Clone)]
pub enum Store {
    /// Tables in memory, rebuilt from the log file.
    Memory(memory::Store),
    /// PostgreSQL.
    Postgres(postgres::Store),
}

/// Implements each method by passing it on to the store in use.
macro_rules! delegate {
    ($($(#[$doc:meta])* fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        impl Store {$(
            $(#[$doc])*
            pub async fn $name(&self $(, $arg: $type)*) -> Result<$answer, Error> {
                match self {
                    Self::Memory(store) => store.$name($($arg),*).await,
                    Self::Postgres(store) => store.$name($($arg),*).await,
                }
            }
        )*}
    };
}

delegate! {
    /// The number of shards of the cluster. `Mismatch` when the schema is missing, too old or new.
    fn shards(&self) -> u16;
    /// All assets.
    fn assets(&self) -> Assets;
    /// Adds an asset, or returns the one that stands; `Mismatch` if it stands with another scale.
    fn add_asset(&self, code: &str, scale: u8) -> Asset;
    /// Round trip, schema and durability settings.
    fn health(&self) -> Health;

    /// The shard of each account that has a route.
    fn routes(&self, accounts: &[AccountId]) -> Vec<Option<ShardId>>;
    /// Leases `size` sequence numbers; the same nonce gets the same block again.
    fn lease_block(&self, shard: ShardId, nonce: Nonce, size: u32) -> SequenceBlock;
    /// Closes blocks: waits for an acceptance under way, refuses later ones.
    fn close_blocks(&self, nonces: &[Nonce]) -> ();
    /// `axs_accept`.
    fn accept(&self, group: &AcceptGroup) -> AcceptedGroup;

    /// Says that this process is there, and lists those seen within `seen_within`, itself included.
    fn beat(&self, member: &Member, seen_within: Duration) -> Vec<Member>;
    /// Forgets this process.
    fn leave(&self, name: &str) -> ();
    /// Every shard, by number.
    fn shard_rows(&self) -> Vec<ShardRow>;
    /// Takes a shard over: `None` while another one's lease runs. With `mine`, the nonce of our
    /// last take-over, our own running lease is taken over too.
    fn acquire(&self, shard: ShardId, leader: &str, mine: Option<Nonce>, nonce: Nonce, ttl: Duration) -> Option<ShardState>;
    /// Prolongs the lease; `Fenced` when it is not ours.
    fn renew(&self, shard: ShardId, epoch: Epoch, nonce: Nonce, ttl: Duration) -> ();
    /// Ends the lease, if it is ours.
    fn release(&self, shard: ShardId, epoch: Epoch, nonce: Nonce) -> ();
    /// One query for a batch.
    fn load(&self, shard: ShardId, request: &LoadRequest) -> Loaded;
    /// `axs_flush`, one statement, which flushes of other shards may share. Also prolongs the lease
    /// by `ttl`.
    fn flush(&self, flush: &Arc<Flush>, ttl: Duration) -> Flushed;
    /// Results below `published_to` are published; never moves back; `Fenced` when not ours.
    fn mark_published(&self, shard: ShardId, epoch: Epoch, nonce: Nonce, published_to: Position) -> ();

    /// Committed results of a shard at positions ≥ `from`, in order, at most `limit`.
    fn results(&self, shard: ShardId, from: Position, limit: usize) -> Vec<StoredResult>;
    /// Dead letters of a shard at positions ≥ `from`, in order, at most `limit`.
    fn dead_letters(&self, shard: ShardId, from: Position, limit: usize) -> Vec<DeadLetter>;
    /// The committed outcome of each command, if it has one.
    fn outcomes(&self, ids: &[CommandId]) -> Vec<Option<StoredResult>>;
    /// The stored command of each id, if there is one.
    fn commands(&self, ids: &[CommandId]) -> Vec<Option<StoredCommand>>;
    /// The command id of a source and key.
    fn command_of_key(&self, key: KeyHash) -> Option<CommandId>;
    /// Each account with its balances, if it was opened.
    fn balances(&self, accounts: &[AccountId]) -> Vec<Option<AccountBalances>>;
    /// Accounts of a shard with ids above `behind`, by id, at most `limit`.
    fn accounts_behind(&self, shard: ShardId, behind: AccountId, limit: usize) -> Vec<AccountId>;
    /// A page of a balance's history.
    fn entries(&self, query: &HistoryQuery) -> Vec<StoredEntry>;
    /// The last entry of a balance with `applied_at` ≤ `at`.
    fn entry_at(&self, account: AccountId, asset: AssetId, at: Timestamp) -> Option<StoredEntry>;

    /// Pending and sealable numbers: commands accepted before `passed_at - margin` (at most `limit`).
    fn outbox_view(&self, shard: ShardId, margin: Duration, limit: usize) -> OutboxView;
    /// Closes every block leased longer ago than `age`, whoever holds it; how many.
    fn close_old_blocks(&self, age: Duration) -> u64;

    /// Nobody takes the shard over any more, and its leader hands it over. False: it is paused.
    fn pause(&self, shard: ShardId, act: &Act) -> bool;
    /// The shard may be led again. False: it was not paused.
    fn resume(&self, shard: ShardId, act: &Act) -> bool;
    /// Ends the lease of a paused shard whose leader does not hand it over; `Fenced`: not paused.
    fn fence(&self, shard: ShardId, nonce: Nonce, act: &Act) -> ();
    /// Goes on at `to`, a position of a later generation; whoever leads is fenced. False: it went
    /// on there already. `Fenced`: it is not at `from` any more.
    fn rebase(&self, shard: ShardId, from: Position, to: Position, nonce: Nonce, act: &Act) -> bool;
    /// What is known of each command of a shard that stands in the log.
    fn known(&self, shard: ShardId, commands: &[Command]) -> Vec<Known>;
    /// Stores those of which nothing is known, as they were accepted; what was known of each.
    fn adopt(&self, shard: ShardId, commands: &[Command]) -> Vec<Known>;
    /// Closes every block of the shard, fences whoever leads, and skips what `recovery` names.
    fn recover(&self, shard: ShardId, recovery: Recovery, nonce: Nonce, act: &Act) -> ();
}
