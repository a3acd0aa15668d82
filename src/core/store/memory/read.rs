//! What the APIs and a publishing leader read: results, commands, balances, history.

use std::ops::Bound;

use super::{
    super::{
        AccountBalances, DeadLetter, Error, HistoryQuery, StoredCommand, StoredEntry, StoredResult,
    },
    tables::{Shard, Tables},
};
use crate::core::{
    command::{Command, Label},
    types::{AccountId, AssetId, CommandId, KeyHash, Position, ShardId, Timestamp},
};

impl Tables {
    /// Committed results at positions ≥ `from`, in order.
    pub fn results(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredResult>, Error> {
        let outcomes = self.shard(shard)?.journal.starting_at(from);
        let results = outcomes.filter_map(|outcome| self.outcome(outcome.id));
        Ok(results.take(limit).collect())
    }

    /// Dead letters at positions ≥ `from`, in order.
    pub fn dead_letters(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let letters = self.shard(shard)?.dead_letters.range(from..);
        Ok(letters
            .take(limit)
            .map(|(_, letter)| letter.clone())
            .collect())
    }

    /// The committed outcome of each command, if it has one.
    pub fn outcomes(&self, ids: &[CommandId]) -> Vec<Option<StoredResult>> {
        ids.iter().map(|&id| self.outcome(id)).collect()
    }

    /// The stored command of each id, if there is one.
    pub fn commands(&self, ids: &[CommandId]) -> Vec<Option<StoredCommand>> {
        let stored = |id: &CommandId| {
            let command = self.commands.get(id)?.clone();
            let parked = self.parked_reason(*id).cloned();
            Some(StoredCommand { command, parked })
        };
        ids.iter().map(stored).collect()
    }

    /// The command id of a source and key.
    pub fn command_of_key(&self, key: KeyHash) -> Option<CommandId> {
        self.idempotency.get(&key).map(|&(id, _)| id)
    }

    /// Each account with its balances, if it was opened.
    pub fn balances(&self, now: Timestamp, accounts: &[AccountId]) -> Vec<Option<AccountBalances>> {
        let balances = |&id: &AccountId| {
            let (shard, row) = self.home(id)?;
            let account = *row.accounts.get(&id)?;
            Some(AccountBalances {
                account,
                shard,
                epoch: row.epoch,
                balances: row.balances_of(id).collect(),
                as_of: now,
            })
        };
        accounts.iter().map(balances).collect()
    }

    /// Accounts of a shard with ids above `behind`, by id.
    pub fn accounts_behind(
        &self,
        shard: ShardId,
        behind: AccountId,
        limit: usize,
    ) -> Result<Vec<AccountId>, Error> {
        let above = (Bound::Excluded(behind), Bound::Unbounded);
        let accounts = self.shard(shard)?.accounts.range(above);
        Ok(accounts.map(|(id, _)| *id).take(limit).collect())
    }

    /// A page of a balance's history.
    pub fn entries(&self, query: &HistoryQuery) -> Vec<StoredEntry> {
        let Some((_, row)) = self.home(query.account) else {
            return Vec::new();
        };
        let history = row.journal.history(query.account, query.asset);
        let get = |index| history.get(index, |id| self.label(id).reference.to_string());
        if query.oldest_first {
            let first = query.from_version.map_or(0, |from| history.below(from));
            (first..history.len()).take(query.limit).map(get).collect()
        } else {
            let behind = query
                .from_version
                .map_or(history.len(), |from| history.below(from.saturating_add(1)));
            (0..behind).rev().take(query.limit).map(get).collect()
        }
    }

    /// The last entry of a balance with `applied_at` ≤ `at`.
    pub fn entry_at(
        &self,
        account: AccountId,
        asset: AssetId,
        at: Timestamp,
    ) -> Option<StoredEntry> {
        let (_, row) = self.home(account)?;
        let history = row.journal.history(account, asset);
        let last = history.until(at).checked_sub(1)?;
        Some(history.get(last, |id| self.label(id).reference.to_string()))
    }

    fn outcome(&self, id: CommandId) -> Option<StoredResult> {
        let journal = &self.shard(id.shard()).ok()?.journal;
        journal.result(id, self.label(id))
    }

    fn label(&self, id: CommandId) -> Label {
        self.commands
            .get(&id)
            .map(Command::label)
            .unwrap_or_default()
    }

    /// The shard of an account: its route, or the one that a clearing account belongs to.
    fn home(&self, account: AccountId) -> Option<(ShardId, &Shard)> {
        let route = self.routes.get(&account).copied();
        let shard = route.or_else(|| account.clearing_shard())?;
        Some((shard, self.shard(shard).ok()?))
    }
}
