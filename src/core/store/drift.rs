//! The values that the drift detector exchanges with PostgreSQL. Plain data.

use std::time::Duration;

use super::Error;
use crate::core::{
    engine::{AccountStatus, Balance},
    types::{AccountId, AssetId, CommandId, Epoch, Money, ShardId, Timestamp},
};

/// Most findings that one question is answered with.
pub const FINDINGS_MAX: i64 = 1_000;

/// What is stored of some accounts of a shard, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of the shard.
    pub epoch: Epoch,
    /// In the order they were asked for.
    pub accounts: Vec<StandingAccount>,
}

/// One account of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingAccount {
    /// Which.
    pub id: AccountId,
    /// `None`: it was never opened, as clearing accounts are.
    pub status: Option<AccountStatus>,
    /// By asset.
    pub balances: Vec<StandingBalance>,
}

/// A balance row, and what the journal says that it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingBalance {
    /// The row.
    pub balance: Balance,
    /// After the last entry of the command at `last_position`; `None`: the journal has none there.
    pub entry: Option<After>,
}

/// A balance after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// Minor units.
    pub available: Money,
    /// Minor units.
    pub frozen: Money,
    /// The balance's.
    pub version: u64,
}

/// How a balance differed. The names are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftKind {
    /// Somebody changed or removed the row by hand.
    Touched,
    /// The row is not what its last journal entry left.
    Journal,
    /// The row is not what its leader flushed.
    Memory,
    /// Redis has another amount at the same version, or a later version.
    Redis,
}

impl DriftKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Touched, Self::Journal, Self::Memory, Self::Redis];

    /// As stored, and as the label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Touched => "touched",
            Self::Journal => "journal",
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }

    /// The kind with this name; `Mismatch`: of a later program.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == name)
            .ok_or_else(|| Error::Mismatch(format!("drift of kind `{name}`: run a newer `axs`")))
    }
}

/// A row of the table `drift`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Names it.
    pub id: i64,
    /// By the store's clock.
    pub found_at: Timestamp,
    /// How long ago that was.
    pub age: Duration,
    /// Whose balance.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// Where the account is.
    pub shard: ShardId,
    /// Of the balance when it was found.
    pub version: u64,
    /// How it differed.
    pub kind: DriftKind,
    /// One sentence with the amounts, in minor units.
    pub detail: String,
    /// The alarm was raised.
    pub is_seen: bool,
    /// When the balance was seen whole again.
    pub whole_at: Option<Timestamp>,
    /// The BLOCK_ACCOUNT that was submitted.
    pub blocked_by: Option<CommandId>,
}

impl Finding {
    /// The row in PostgreSQL is in doubt, and was not seen whole again.
    pub fn is_of_row(&self) -> bool {
        self.kind != DriftKind::Redis && self.whole_at.is_none()
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose balance.
    pub account: AccountId,
    /// Of which asset.
    pub asset: AssetId,
    /// As PostgreSQL has it, 0: no row.
    pub version: u64,
    /// How it differs.
    pub kind: DriftKind,
    /// One sentence with the amounts, in minor units.
    pub detail: String,
}
