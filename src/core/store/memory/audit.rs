//! What the simulation looks at and does as an operator would. Not part of the store's seam.

use super::tables::Tables;
use crate::core::{
    command::Command,
    engine::{Account, Balance},
    store::Error,
    types::{CommandId, Epoch, Nonce, Position, ShardId, Timestamp},
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

    /// Goes on at the beginning of another generation of the log; nobody leads.
    pub fn rebase(&mut self, now: Timestamp, shard: ShardId, to: Position) -> Result<(), Error> {
        let row = self.shard_mut(shard)?;
        row.epoch = Epoch(row.epoch.0 + 1);
        row.nonce = Nonce(row.nonce.0.wrapping_add(1));
        row.lease_until = now;
        row.next_position = to;
        row.anchor = None;
        Ok(())
    }

    /// After the database came back from an earlier state: no block is open, the epoch is above all
    /// that was seen, nobody leads.
    pub fn recover(&mut self, now: Timestamp, shard: ShardId, epoch: Epoch) -> Result<(), Error> {
        for block in self.blocks.values_mut() {
            block.open = false;
        }
        let row = self.shard_mut(shard)?;
        row.epoch = row.epoch.max(epoch);
        row.nonce = Nonce(row.nonce.0.wrapping_add(1));
        row.lease_until = now;
        Ok(())
    }
}
