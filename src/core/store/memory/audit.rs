//! What the simulation looks at. Not part of the store's seam.

use super::tables::Tables;
use crate::core::{
    command::Command,
    engine::{Account, Balance},
    types::{CommandId, Position, ShardId},
};

impl Tables {
    /// Every accepted command, by id.
    pub fn all_commands(&self) -> impl Iterator<Item = (&CommandId, &Command)> {
        self.commands.iter()
    }

    /// Every account of a shard.
    pub fn all_accounts(&self, shard: ShardId) -> Vec<Account> {
        let shard = &self.shards[usize::from(shard.0)];
        shard.accounts.values().copied().collect()
    }

    /// Every balance of a shard.
    pub fn all_balances(&self, shard: ShardId) -> Vec<Balance> {
        let shard = &self.shards[usize::from(shard.0)];
        shard.balances.values().copied().collect()
    }

    /// Position of the shard's last result.
    pub fn last_result(&self, shard: ShardId) -> Position {
        self.shards[usize::from(shard.0)].last_result
    }
}
