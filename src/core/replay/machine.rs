//! Applies decoded records to a fresh engine, exactly as a leader does, and remembers what a leader
//! would ask its store for. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{Batch, Counts, Decision, Item, Letter, Until, targets::Targets};
use crate::core::{
    command::{Command, CommandKind},
    engine::{Applied, Engine, Entry, Outcome, Target},
    leader::Content,
    store::DeadLetterReason,
    types::{CommandId, Position, Timestamp},
};

/// The engine of a replay and what it needs beside its records.
pub(super) struct Machine {
    pub engine: Engine,
    /// First position not applied.
    pub next: Position,
    /// Position of the last outcome, or [`Position::NONE`].
    pub last_result: Position,
    pub counts: Counts,
    targets: Targets,
    /// Target → REVERSE.
    reversed: BTreeMap<CommandId, CommandId>,
    /// Found before the batch was begun.
    known: BTreeMap<CommandId, Target>,
    /// Stored dead letters: not applied.
    letters: BTreeSet<Position>,
}

impl Machine {
    /// From a state on; entries of commands are kept up to a limit.
    pub fn new(engine: Engine, next: Position, last_result: Position, bytes_max: usize) -> Self {
        Self {
            engine,
            next,
            last_result,
            counts: Counts::default(),
            targets: Targets::new(bytes_max),
            reversed: BTreeMap::new(),
            known: BTreeMap::new(),
            letters: BTreeSet::new(),
        }
    }

    /// These positions are dead letters, whatever stands there.
    pub fn add_letters(&mut self, positions: impl IntoIterator<Item = Position>) {
        self.letters.extend(positions);
    }

    /// Applied commands that REVERSEs among these items name and that are not here: to be brought
    /// by `bring` before the items are applied.
    pub fn needs(&mut self, items: &[Item]) -> Vec<CommandId> {
        let (shard, applied) = (self.engine.shard(), self.engine.applied());
        let mut missing = Vec::new();
        self.known.clear();
        for item in items {
            let Content::Command(command) = &item.content else {
                continue;
            };
            let named = command.reverses.filter(|target| {
                command.kind == CommandKind::Reverse
                    && target.shard() == shard
                    && applied.contains(target.sequence().0)
            });
            let Some(target) = named else { continue };
            match self.targets.find(target) {
                Some(found) => drop(self.known.insert(target, found)),
                None => missing.push(target),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// What the store knows of commands that `needs` asked for.
    pub fn bring(&mut self, targets: Vec<Target>) {
        let targets = targets.into_iter().map(|target| (target.id, target));
        self.known.extend(targets);
    }

    /// Applies items in their order, down to where `until` says; how many. They are kept in the
    /// batch, with what became of them.
    pub fn apply(&mut self, items: &[Item], until: Until, batch: &mut Batch) -> usize {
        let mut taken = items.len();
        for (index, item) in items.iter().enumerate() {
            if self.is_behind(item, until) {
                taken = index;
                break;
            }
            self.apply_item(index, item, batch);
        }
        // Nothing is flushed, so that nothing would ever be let go of: every batch counts as flushed.
        let changes = self.engine.take_changes();
        let reversals = changes.reversals.iter();
        self.reversed
            .extend(reversals.map(|reversal| (reversal.target, reversal.by)));
        self.engine.flushed(changes.batch);
        self.engine.trim(usize::MAX);
        self.targets.trim();
        taken
    }

    fn is_behind(&self, item: &Item, until: Until) -> bool {
        match until {
            Until::Position(end) => item.position >= end,
            Until::Time(last) => {
                let fresh = |id: CommandId| !self.engine.applied().contains(id.sequence().0);
                let decides = match &item.content {
                    Content::Command(command) => command.id.is_some_and(fresh),
                    Content::Discard(discard, _) => fresh(discard.command_id),
                    _ => false,
                };
                decides
                    && !self.letters.contains(&item.position)
                    && self.engine.applied_at().max(item.log_time) > last
            }
        }
    }

    fn apply_item(&mut self, index: usize, item: &Item, batch: &mut Batch) {
        self.counts.records += 1;
        self.next = item.position.next();
        let (at, time) = (item.position, item.log_time);
        if !self.letters.is_empty() && self.letters.contains(&at) {
            self.counts.dead_letters += 1;
            return;
        }
        match &item.content {
            Content::Command(command) => self.apply_command(index, at, time, command, batch),
            Content::Tick(now) => {
                self.counts.ticks += 1;
                self.engine.tick(*now);
            }
            Content::Seal { first, last } => {
                self.counts.seals += 1;
                self.counts.numbers_sealed += self.engine.seal(*first, *last);
            }
            Content::Discard(discard, _) => match self.engine.discard(at, time, *discard) {
                Applied::Done(outcome) => self.decided(index, outcome, batch),
                Applied::Skipped => self.counts.duplicates += 1,
            },
            Content::Passed => {}
            Content::Bad { reason, message } => self.letter(at, *reason, message.clone(), batch),
        }
    }

    fn apply_command(
        &mut self,
        index: usize,
        at: Position,
        time: Timestamp,
        command: &Command,
        batch: &mut Batch,
    ) {
        let target = match (command.kind, command.reverses) {
            (CommandKind::Reverse, Some(target)) => self.target(target),
            _ => None,
        };
        // From the beginning on everything is in memory: what is not there does not exist.
        let changed = command.changes.iter().map(|change| change.account);
        for account in std::iter::once(command.account).chain(changed) {
            if !self.engine.is_resident(account) {
                self.engine.note_absent(account);
            }
        }
        let first_entry = batch.entries.len();
        let (engine, entries) = (&mut self.engine, &mut batch.entries);
        let applied = catch_unwind(AssertUnwindSafe(|| {
            engine.apply(at, time, command, target.as_ref(), entries)
        }));
        match applied {
            Ok(Applied::Done(outcome)) => self.decided(index, outcome, batch),
            Ok(Applied::Skipped) => self.counts.duplicates += 1,
            Err(_) => {
                batch.entries.truncate(first_entry);
                let message = "the engine panicked on this command".to_owned();
                self.letter(at, DeadLetterReason::EnginePanic, message, batch);
            }
        }
    }

    /// What is known of a command by now.
    fn target(&self, id: CommandId) -> Option<Target> {
        let known = self.known.get(&id).cloned();
        let mut target = known.or_else(|| self.targets.find(id))?;
        // The store may know of a REVERSE that stands behind this place of the log.
        let applied = |by: &CommandId| self.engine.applied().contains(by.sequence().0);
        let here = self.reversed.get(&id).copied();
        target.reversed_by = here.or(target.reversed_by.filter(applied));
        Some(target)
    }

    fn decided(&mut self, index: usize, outcome: Outcome, batch: &mut Batch) {
        match &outcome.reject {
            None => self.counts.applied += 1,
            Some(reject) => *self.counts.rejected.entry(reject.code).or_default() += 1,
        }
        let first_entry = batch.entries.len() - outcome.entries as usize;
        self.targets.insert(&outcome, &batch.entries[first_entry..]);
        let previous = std::mem::replace(&mut self.last_result, outcome.position);
        batch.decisions.push(Decision {
            item: index,
            outcome,
            first_entry,
            previous,
        });
    }

    /// A record that a leader makes a dead letter of, and that is none in the store.
    fn letter(
        &mut self,
        position: Position,
        reason: DeadLetterReason,
        message: String,
        batch: &mut Batch,
    ) {
        self.counts.dead_letters += 1;
        batch.letters.push(Letter {
            position,
            reason,
            message,
        });
    }

    /// Entries of a decision.
    pub fn entries<'a>(batch: &'a Batch, decision: &Decision) -> &'a [Entry] {
        let first = decision.first_entry;
        &batch.entries[first..first + decision.outcome.entries as usize]
    }
}
