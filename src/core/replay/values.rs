//! What a replay reads, decides and counts: plain values.

use std::collections::BTreeMap;

use super::machine::Machine;
use crate::core::{
    engine::{Entry, Outcome, RejectCode},
    leader::Content,
    store::DeadLetterReason,
    types::{Position, Timestamp},
};

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The first position that is not applied, as in a shard's row.
    Position(Position),
    /// The last `applied_at` of an outcome; ends at the log's end at the latest.
    Time(Timestamp),
}

/// A record, decoded.
pub struct Item {
    /// Where it stands.
    pub position: Position,
    /// By the log's clock.
    pub log_time: Timestamp,
    /// What it is.
    pub(in crate::core) content: Content,
}

/// What was decided of a command.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Index of its record in the batch.
    pub item: usize,
    /// The outcome.
    pub outcome: Outcome,
    /// Index of its first entry in the batch.
    pub first_entry: usize,
    /// Position of the result before it, or [`Position::NONE`].
    pub previous: Position,
}

/// A record that a leader makes a dead letter of, and that is none in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub reason: DeadLetterReason,
    /// One sentence.
    pub message: String,
}

/// What one step applied.
#[derive(Default)]
pub struct Batch {
    /// The records.
    pub items: Vec<Item>,
    /// In log order.
    pub decisions: Vec<Decision>,
    /// Of all decisions.
    pub entries: Vec<Entry>,
    /// In log order.
    pub letters: Vec<Letter>,
}

/// What was read and applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Commands applied.
    pub applied: u64,
    /// Commands rejected, by code.
    pub rejected: BTreeMap<RejectCode, u64>,
    /// Records whose number was decided before.
    pub duplicates: u64,
    /// SEAL records.
    pub seals: u64,
    /// Numbers that they closed.
    pub numbers_sealed: u64,
    /// TICK records.
    pub ticks: u64,
    /// Records that are dead letters.
    pub dead_letters: u64,
}

impl Counts {
    /// Commands applied or rejected.
    pub fn decided(&self) -> u64 {
        self.applied + self.rejected.values().sum::<u64>()
    }
}

/// Where a replay began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Began {
    /// Its first position.
    pub at: Position,
    /// Commands of the journal that the state there was built from; `None`: from nothing.
    pub from_journal: Option<u64>,
}

impl Batch {
    /// Decisions with their entries.
    pub fn decided(&self) -> impl Iterator<Item = (&Decision, &[Entry])> {
        let entries = |decision| (decision, Machine::entries(self, decision));
        self.decisions.iter().map(entries)
    }
}
