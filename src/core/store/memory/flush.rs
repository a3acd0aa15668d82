//! `axs_flush`: the one write of a leader. Every check comes before the first change.

use std::time::Duration;

use super::{
    super::{AccountWrite, BalanceWrite, Error, Flush, Flushed},
    tables::{Shard, Tables},
};
use crate::core::{
    canary::{self, Guard},
    clock::micros,
    engine::Balance,
    types::{Position, Timestamp},
};

impl Tables {
    /// Fence, position, applied set, balances, accounts, journal, reversals and dead letters, all
    /// of it or nothing.
    pub fn flush(
        &mut self,
        now: Timestamp,
        flush: &Flush,
        ttl: Duration,
    ) -> Result<Flushed, Error> {
        let row = self.shard_mut(flush.shard)?;
        if let Some(flushed) = row.fence(flush)? {
            return Ok(flushed);
        }
        for write in &flush.balances {
            row.check_balance(write)?;
        }
        for write in &flush.accounts {
            row.check_account(write)?;
        }
        row.check_journal(flush)?;
        // From here the flush must succeed.
        row.lease_until = now.plus_micros(micros(ttl));
        row.move_on(flush);
        for write in &flush.balances {
            let balance = write.balance;
            row.balances
                .insert((balance.account, balance.asset), balance);
        }
        for write in &flush.accounts {
            row.accounts.insert(write.account.id, write.account);
        }
        row.journal.append(flush);
        for reversal in &flush.reversals {
            row.reversals.insert(reversal.target, reversal.by);
        }
        for letter in &flush.dead_letters {
            row.dead_letters.insert(letter.position, letter.clone());
        }
        for letter in &flush.dead_letters {
            if let Some(id) = letter.parks {
                self.parked.insert(id, letter.message.clone());
            }
        }
        Ok(Flushed::Done)
    }
}

#[cfg(feature = "simulation")]
impl Tables {
    /// Only for the guard `AtomicPosition`, switched off: the position without what belongs to it.
    pub fn flush_position(&mut self, flush: &Flush) -> Result<(), Error> {
        let row = self.shard_mut(flush.shard)?;
        if row.fence(flush)?.is_none() {
            row.move_on(flush);
        }
        Ok(())
    }
}

impl Shard {
    /// `Some`: an earlier send of it was committed. `Err`: it is not ours to commit.
    fn fence(&self, flush: &Flush) -> Result<Option<Flushed>, Error> {
        let is_ours = (self.epoch, self.nonce) == (flush.epoch, flush.nonce);
        if !is_ours && !canary::is_off(Guard::Fence) {
            return Err(Error::Fenced(format!(
                "shard {} is led under epoch {}, not {}",
                flush.shard, self.epoch, flush.epoch
            )));
        }
        let follows = self.next_position == flush.from || canary::is_off(Guard::PreviousPosition);
        let is_new =
            !self.applied.overlaps(&flush.applied) || canary::is_off(Guard::AppliedOverlap);
        if follows && is_new {
            return Ok(None);
        }
        if self.next_position >= flush.to {
            return Ok(Some(Flushed::Already));
        }
        Err(Error::Fenced(format!(
            "shard {} is at position {}, the flush goes from {} to {} or adds numbers again",
            flush.shard, self.next_position, flush.from, flush.to
        )))
    }

    fn move_on(&mut self, flush: &Flush) {
        self.next_position = flush.to;
        self.anchor = Some(flush.anchor);
        self.applied.extend(&flush.applied);
        self.passed_at = self.passed_at.max(flush.passed_at);
        self.applied_at = self.applied_at.max(flush.applied_at);
        self.last_result = flush.last_result;
        self.state_hash = flush.state_hash;
        self.published_to = self.published_to.max(flush.published_to);
    }

    fn check_balance(&self, write: &BalanceWrite) -> Result<(), Error> {
        let Balance { account, asset, .. } = write.balance;
        let stored = self.balances.get(&(account, asset));
        let version = stored.map_or(0, |balance| balance.version);
        if version != write.expected_version && !canary::is_off(Guard::AccountVersion) {
            return Err(Error::Conflict(format!(
                "balance of account {account}, asset {asset} is at version {version}, not {}",
                write.expected_version
            )));
        }
        // What PostgreSQL's CHECKs refuse. Bounds are the type's, in `Money`.
        let below_floor =
            write.balance.available.is_negative() || write.balance.frozen.is_negative();
        if write.balance.version == 0 {
            return Err(Error::Refused(format!(
                "balance of account {account}, asset {asset} has version 0"
            )));
        }
        if below_floor && account.clearing_shard().is_none() {
            return Err(Error::Refused(format!(
                "balance of account {account}, asset {asset} is below zero"
            )));
        }
        Ok(())
    }

    fn check_account(&self, write: &AccountWrite) -> Result<(), Error> {
        let id = write.account.id;
        match (self.accounts.contains_key(&id), write.opens) {
            (true, true) => Err(Error::Conflict(format!("account {id} is there already"))),
            (false, false) => Err(Error::Conflict(format!("account {id} is not there"))),
            _ => Ok(()),
        }
    }

    /// Targets are reversed once; positions rise within the flush's range; entries are as many as
    /// the outcomes say.
    fn check_journal(&self, flush: &Flush) -> Result<(), Error> {
        for reversal in &flush.reversals {
            if let Some(by) = self.reversals.get(&reversal.target) {
                return Err(Error::Conflict(format!(
                    "command {} was reversed by {by} already",
                    reversal.target
                )));
            }
        }
        for letter in &flush.dead_letters {
            if letter.message.contains('\0') {
                return Err(Error::Refused("a text contains U+0000".into()));
            }
        }
        let outcomes = flush.outcomes.iter().map(|outcome| outcome.position);
        let letters = flush.dead_letters.iter().map(|letter| letter.position);
        let entries: u64 = (flush.outcomes.iter())
            .map(|outcome| u64::from(outcome.entries))
            .sum();
        if !rises_within(flush.from, flush.to, outcomes)
            || !rises_within(flush.from, flush.to, letters)
            || entries != flush.entries.len() as u64
            || flush.labels.len() != flush.outcomes.len()
        {
            return Err(Error::Refused(format!(
                "flush of shard {} from {} to {} contradicts itself",
                flush.shard, flush.from, flush.to
            )));
        }
        Ok(())
    }
}

/// Whether the positions rise strictly and stay in `from .. to`.
fn rises_within(from: Position, to: Position, positions: impl Iterator<Item = Position>) -> bool {
    let mut least = from;
    for position in positions {
        if position < least || position >= to {
            return false;
        }
        least = position.next();
    }
    true
}
