//! What happened in one shard, in log order: the outcomes and their entries, with the indexes that
//! the reads need. Only ever grows.

use std::collections::BTreeMap;

use crate::core::{
    command::Label,
    engine::{Entry, Outcome, Target},
    store::{Flush, StoredEntry, StoredResult},
    types::{AccountId, AssetId, CommandId, ContentHash, Epoch, Position, Timestamp},
};

/// The journal of one shard.
#[derive(Clone, Default)]
pub(super) struct Journal {
    /// By rising position.
    rows: Vec<Row>,
    entries: Vec<Entry>,
    /// Index in `rows`.
    by_id: BTreeMap<CommandId, usize>,
    /// Indexes in `entries`, by rising version.
    by_balance: BTreeMap<(AccountId, AssetId), Vec<usize>>,
}

/// One outcome and where its entries stand.
#[derive(Clone)]
struct Row {
    epoch: Epoch,
    previous_position: Position,
    outcome: Outcome,
    entries_first: usize,
}

impl Journal {
    /// Adds the outcomes and entries of a flush; the entries are as many as the outcomes say.
    pub fn append(&mut self, flush: &Flush) {
        let mut previous_position = flush.previous_result;
        let mut entries_first = self.entries.len();
        for outcome in &flush.outcomes {
            self.by_id.insert(outcome.id, self.rows.len());
            self.rows.push(Row {
                epoch: flush.epoch,
                previous_position,
                outcome: outcome.clone(),
                entries_first,
            });
            previous_position = outcome.position;
            entries_first += outcome.entries as usize;
        }
        for entry in &flush.entries {
            let balance = (entry.account, entry.asset);
            let history = self.by_balance.entry(balance).or_default();
            history.push(self.entries.len());
            self.entries.push(*entry);
        }
        assert!(
            entries_first == self.entries.len(),
            "outcomes count their entries"
        );
    }

    /// The outcomes at positions ≥ `from`.
    pub fn starting_at(&self, from: Position) -> impl Iterator<Item = &Outcome> {
        let start = self.rows.partition_point(|row| row.outcome.position < from);
        self.rows[start..].iter().map(|row| &row.outcome)
    }

    /// The result of a command, if it has one.
    pub fn result(&self, id: CommandId, label: Label) -> Option<StoredResult> {
        let row = self.row(id)?;
        Some(StoredResult {
            epoch: row.epoch,
            outcome: row.outcome.clone(),
            entries: self.entries_of(row).to_vec(),
            label,
            previous_position: row.previous_position,
        })
    }

    /// What a REVERSE needs to know of a command.
    pub fn target(&self, id: CommandId, reversed_by: Option<CommandId>) -> Option<Target> {
        let row = self.row(id)?;
        Some(Target {
            id,
            account: row.outcome.account,
            kind: row.outcome.kind,
            rejected: row.outcome.reject.is_some(),
            entries: self.entries_of(row).to_vec(),
            reversed_by,
        })
    }

    /// The content hash that a command was applied with.
    pub fn content_hash(&self, id: CommandId) -> Option<ContentHash> {
        Some(self.row(id)?.outcome.content_hash)
    }

    /// The history of a balance, by rising version.
    pub fn history(&self, account: AccountId, asset: AssetId) -> History<'_> {
        let entries = self.by_balance.get(&(account, asset));
        History {
            journal: self,
            entries: entries.map_or(&[], Vec::as_slice),
        }
    }

    fn row(&self, id: CommandId) -> Option<&Row> {
        self.by_id.get(&id).map(|&index| &self.rows[index])
    }

    fn entries_of(&self, row: &Row) -> &[Entry] {
        &self.entries[row.entries_first..][..row.outcome.entries as usize]
    }

    /// The row that the entry at this index belongs to.
    fn row_of_entry(&self, entry: usize) -> &Row {
        let behind = self.rows.partition_point(|row| row.entries_first <= entry);
        &self.rows[behind - 1]
    }
}

/// The entries of one balance.
pub(super) struct History<'a> {
    journal: &'a Journal,
    entries: &'a [usize],
}

impl<'a> History<'a> {
    /// How many entries have a version below `version`.
    pub fn below(&self, version: u64) -> usize {
        self.entries
            .partition_point(|&entry| self.journal.entries[entry].version < version)
    }

    /// How many entries were applied at or before `at`.
    pub fn until(&self, at: Timestamp) -> usize {
        self.entries
            .partition_point(|&entry| self.journal.row_of_entry(entry).outcome.applied_at <= at)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `index`, with the command that it belongs to.
    pub fn get(&self, index: usize, reference: impl Fn(CommandId) -> String) -> StoredEntry {
        let row = self.journal.row_of_entry(self.entries[index]);
        StoredEntry {
            id: row.outcome.id,
            position: row.outcome.position,
            applied_at: row.outcome.applied_at,
            reference: reference(row.outcome.id),
            entry: self.journal.entries[self.entries[index]],
        }
    }
}
