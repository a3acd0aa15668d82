//! The cache: snapshots of accounts for readers, and the gate that says who should try to lead.
//! Redis, or memory. Never an authority: losing it loses speed only.

use std::time::Duration;

use crate::core::{
    engine::Balance,
    store::AccountBalances,
    types::{AccountId, Epoch, Position, ShardId, Timestamp},
};

pub mod memory;
pub mod redis;

/// Why the cache did not do it. Always survivable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache is not reachable: {0}")]
pub struct Error(pub String);

/// All balances of one account after one command. Last write wins by (epoch, position).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub account: AccountId,
    /// Of the leader (or the shard's, when filled from the store).
    pub epoch: Epoch,
    /// The greatest `last_position` of its balances; `Position::ZERO` when there is none.
    pub position: Position,
    /// `applied_at` of that command (or the store's clock).
    pub as_of: Timestamp,
    /// Every balance with version ≥ 1, by asset id.
    pub balances: Vec<Balance>,
}

/// The number of a leader's write, rising with its epoch. What a cache has acknowledged must still
/// be there at the next write: if it is not, the cache was emptied, or fell back to an earlier state,
/// and everything written since is in doubt. A write that finds so leaves the pulse alone: neither
/// an answer that is lost nor a write that comes late may cover a loss up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Of this write.
    pub number: u64,
    /// The greatest one of this epoch that was acknowledged; none at first, and after a loss.
    pub acknowledged: Option<u64>,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many snapshots were newer than what stood there.
    pub newer: usize,
    /// A pulse that was acknowledged is gone.
    pub is_lost: bool,
}

/// What the store says, for whoever fills the cache from it.
impl From<&AccountBalances> for Snapshot {
    fn from(stored: &AccountBalances) -> Self {
        let last = stored
            .balances
            .iter()
            .map(|balance| balance.last_position)
            .max();
        Self {
            account: stored.account.id,
            epoch: stored.epoch,
            position: last.unwrap_or(Position::ZERO),
            as_of: stored.as_of,
            balances: stored.balances.clone(),
        }
    }
}

/// The cache of this process. Cheap to clone.
#[derive(Clone)]
pub enum Cache {
    /// In this process.
    Memory(memory::Cache),
    /// Redis, one node or a cluster.
    Redis(redis::Cache),
}

impl Cache {
    /// Writes snapshots of one shard, if its epoch key is not above `epoch`. Its leader's writes
    /// carry a pulse; others, which fill what was missing, carry none.
    pub async fn write(
        &self,
        shard: ShardId,
        epoch: Epoch,
        pulse: Option<Pulse>,
        snapshots: &[Snapshot],
    ) -> Result<Written, Error> {
        match self {
            Self::Memory(cache) => Ok(cache.write(shard, epoch, pulse, snapshots)),
            Self::Redis(cache) => cache.write(shard, epoch, pulse, snapshots).await,
        }
    }

    /// The snapshot of each account that has one.
    pub async fn read(
        &self,
        keys: &[(ShardId, AccountId)],
    ) -> Result<Vec<Option<Snapshot>>, Error> {
        match self {
            Self::Memory(cache) => Ok(cache.read(keys)),
            Self::Redis(cache) => cache.read(keys).await,
        }
    }

    /// Forgets the snapshot of an account, whatever stands there: it is not to be believed.
    pub async fn forget(&self, shard: ShardId, account: AccountId) -> Result<(), Error> {
        match self {
            Self::Memory(cache) => {
                cache.forget(shard, account);
                Ok(())
            }
            Self::Redis(cache) => cache.forget(shard, account).await,
        }
    }

    /// The greatest epoch that wrote snapshots of a shard.
    pub async fn epoch(&self, shard: ShardId) -> Result<Option<Epoch>, Error> {
        match self {
            Self::Memory(cache) => Ok(cache.epoch(shard)),
            Self::Redis(cache) => cache.epoch(shard).await,
        }
    }

    /// Takes the gate of a shard for `ttl`; false while another one has it.
    pub async fn gate_enter(
        &self,
        shard: ShardId,
        who: &str,
        ttl: Duration,
    ) -> Result<bool, Error> {
        match self {
            Self::Memory(cache) => Ok(cache.gate_enter(shard, who, ttl)),
            Self::Redis(cache) => cache.gate_enter(shard, who, ttl).await,
        }
    }

    /// Gives the gate up, if it is ours.
    pub async fn gate_leave(&self, shard: ShardId, who: &str) -> Result<(), Error> {
        match self {
            Self::Memory(cache) => {
                cache.gate_leave(shard, who);
                Ok(())
            }
            Self::Redis(cache) => cache.gate_leave(shard, who).await,
        }
    }

    /// Whether the cache answers.
    pub async fn ping(&self) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(cache) => cache.ping().await,
        }
    }
}
