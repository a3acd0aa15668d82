//! What operators do to a shard.

use super::{
    super::{Error, Known, Recovery},
    tables::Tables,
};
use crate::core::{
    command::{Command, hash::key_hash},
    types::{CommandId, Epoch, Nonce, Position, ShardId, Timestamp},
};

impl Tables {
    /// Nobody may lead until it is resumed. False: it is paused.
    pub fn pause(&mut self, shard: ShardId, operator: &str) -> Result<bool, Error> {
        let row = self.shard_mut(shard)?;
        let is_new = row.paused_by.is_none();
        if is_new {
            row.paused_by = Some(operator.to_owned());
        }
        Ok(is_new)
    }

    /// It may be led again. False: it was not paused.
    pub fn resume(&mut self, shard: ShardId) -> Result<bool, Error> {
        let row = self.shard_mut(shard)?;
        let was_paused = row.paused_by.take().is_some();
        row.interventions += u64::from(was_paused);
        Ok(was_paused)
    }

    /// Ends the lease of a paused shard.
    pub fn fence(&mut self, now: Timestamp, shard: ShardId, nonce: Nonce) -> Result<(), Error> {
        let row = self.shard_mut(shard)?;
        if row.paused_by.is_none() {
            return Err(Error::Fenced(format!("shard {shard} is not paused")));
        }
        row.epoch = Epoch(row.epoch.0 + 1);
        row.nonce = nonce;
        row.lease_until = row.lease_until.min(now);
        Ok(())
    }

    /// Goes on at a position of a later generation of the log; nobody leads.
    pub fn rebase(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        from: Position,
        to: Position,
        nonce: Nonce,
    ) -> Result<bool, Error> {
        let row = self.shard_mut(shard)?;
        if row.next_position != from {
            if row.next_position >= to {
                return Ok(false);
            }
            return Err(Error::Fenced(format!(
                "shard {shard} went on from position {from} to {} meanwhile: look again",
                row.next_position
            )));
        }
        row.next_position = to;
        row.anchor = None;
        row.epoch = Epoch(row.epoch.0 + 1);
        row.nonce = nonce;
        row.lease_until = row.lease_until.min(now);
        row.interventions += 1;
        Ok(true)
    }

    /// What is known of commands of a shard that stand in the log.
    pub fn known(&self, commands: &[Command]) -> Vec<Known> {
        commands
            .iter()
            .map(|command| self.is_known(command))
            .collect()
    }

    fn is_known(&self, command: &Command) -> Known {
        let id = logged_id(command);
        if let Some(stands) = self.commands.get(&id) {
            return match stands.content_hash == command.content_hash {
                true => Known::Accepted,
                false => Known::OtherContent,
            };
        }
        let key = key_hash(&command.source, &command.idempotency_key);
        match self.idempotency.get(&key) {
            Some((stands, _)) if *stands != id => Known::OtherCommand,
            _ => Known::Nothing,
        }
    }

    /// Stores those of which nothing is known.
    pub fn adopt(&mut self, shard: ShardId, commands: &[Command]) -> Result<Vec<Known>, Error> {
        self.shard(shard)?;
        let known = self.known(commands);
        for (command, known) in commands.iter().zip(&known) {
            if *known == Known::Nothing {
                let key = key_hash(&command.source, &command.idempotency_key);
                self.insert(key, command.clone());
            }
        }
        Ok(known)
    }

    /// No block is open, no number and no epoch that was seen is used again, nobody leads.
    pub fn recover(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        recovery: Recovery,
        nonce: Nonce,
    ) -> Result<(), Error> {
        let row = self.shard_mut(shard)?;
        row.sequence_next = row.sequence_next.max(recovery.next.0);
        row.epoch = Epoch(row.epoch.0 + 1).max(recovery.epoch);
        row.recovered_epoch = row.epoch;
        row.nonce = nonce;
        row.lease_until = row.lease_until.min(now);
        row.interventions += 1;
        for block in self
            .blocks
            .values_mut()
            .filter(|block| block.shard == shard)
        {
            block.open = false;
        }
        Ok(())
    }
}

fn logged_id(command: &Command) -> CommandId {
    command.id.expect("a logged command has an id")
}
