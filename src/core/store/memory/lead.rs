//! Leadership by the row of a shard, and what a leader loads before a batch.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{Error, LoadRequest, Loaded, ShardRow, ShardState},
    tables::{Shard, Tables},
};
use crate::core::{
    clock::micros,
    types::{CommandId, Epoch, Nonce, Position, ShardId, Timestamp},
};

impl Tables {
    /// Every shard, by number.
    pub fn shard_rows(&self, now: Timestamp) -> Vec<ShardRow> {
        let row = |(id, shard): (ShardId, &Shard)| ShardRow {
            shard: id,
            epoch: shard.epoch,
            leader: shard.leader.clone(),
            lease_left: Duration::from_micros(
                u64::try_from(shard.lease_until.0.saturating_sub(now.0)).unwrap_or(0),
            ),
            next_position: shard.next_position,
            published_to: shard.published_to,
            passed_at: shard.passed_at,
            applied_at: shard.applied_at,
            state_hash: shard.state_hash,
            applied: shard.applied.clone(),
            anchor: shard.anchor,
            paused_by: shard.paused_by.clone(),
            interventions: shard.interventions,
            recovered_epoch: shard.recovered_epoch,
        };
        self.numbered().map(row).collect()
    }

    /// Takes a shard over: the epoch rises in the same statement that reads its state.
    pub fn acquire(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        leader: &str,
        mine: Option<Nonce>,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Option<ShardState>, Error> {
        let row = self.shard_mut(shard)?;
        let is_held = row.lease_until > now && mine != Some(row.nonce);
        if is_held || row.paused_by.is_some() {
            return Ok(None);
        }
        row.epoch = Epoch(row.epoch.0 + 1);
        row.nonce = nonce;
        leader.clone_into(&mut row.leader);
        row.lease_until = now.plus_micros(micros(ttl));
        Ok(Some(ShardState {
            shard,
            epoch: row.epoch,
            nonce,
            next_position: row.next_position,
            published_to: row.published_to,
            last_result: row.last_result,
            anchor: row.anchor,
            applied: row.applied.clone(),
            applied_at: row.applied_at,
            passed_at: row.passed_at,
            state_hash: row.state_hash,
            parked: row.parked.clone().split_off(&row.next_position),
        }))
    }

    /// Prolongs the lease.
    pub fn renew(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<(), Error> {
        let row = self.led(shard, epoch, nonce)?;
        row.lease_until = now.plus_micros(micros(ttl));
        Ok(())
    }

    /// Ends the lease, if it is ours.
    pub fn release(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
    ) -> Result<(), Error> {
        match self.led(shard, epoch, nonce) {
            Ok(row) => {
                row.lease_until = row.lease_until.min(now);
                Ok(())
            }
            Err(Error::Fenced(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Results below `published_to` are published; never moves back.
    pub fn mark_published(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        published_to: Position,
    ) -> Result<(), Error> {
        let row = self.led(shard, epoch, nonce)?;
        row.published_to = row.published_to.max(published_to);
        Ok(())
    }

    /// The row of a shard, if this leadership is the current one.
    fn led(&mut self, shard: ShardId, epoch: Epoch, nonce: Nonce) -> Result<&mut Shard, Error> {
        let row = self.shard_mut(shard)?;
        if (row.epoch, row.nonce) == (epoch, nonce) {
            return Ok(row);
        }
        Err(Error::Fenced(format!(
            "shard {shard} is led under epoch {}, not {epoch}",
            row.epoch
        )))
    }

    /// One query for a batch. What belongs to another shard is absent.
    pub fn load(&self, shard: ShardId, request: &LoadRequest) -> Result<Loaded, Error> {
        let row = self.shard(shard)?;
        let mut loaded = Loaded::default();
        let mut accounts: BTreeSet<_> = request.accounts.iter().copied().collect();
        for id in request.targets.iter().collect::<BTreeSet<_>>() {
            let Some(target) = row.journal.target(*id, row.reversals.get(id).copied()) else {
                continue;
            };
            accounts.extend(target.entries.iter().map(|entry| entry.account));
            loaded.targets.push(target);
        }
        for account in accounts {
            loaded.accounts.extend(row.accounts.get(&account));
            loaded.balances.extend(row.balances_of(account));
        }
        for id in request.hashes.iter().collect::<BTreeSet<_>>() {
            let hash = row.journal.content_hash(*id);
            loaded.hashes.extend(hash.map(|hash| (*id, hash)));
        }
        let here = |id: &&CommandId| id.shard() == shard;
        for id in request
            .accepted
            .iter()
            .filter(here)
            .collect::<BTreeSet<_>>()
        {
            let command = self.commands.get(id);
            let known = command.map(|command| (*id, command.content_hash));
            loaded.accepted.extend(known);
        }
        Ok(loaded)
    }
}
