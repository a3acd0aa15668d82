//! Applying planned items to the engine, and gathering what one flush will commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Config, DEAD_LETTERS_MAX, DEAD_LETTERS_WINDOW, Leader, Mono, Output, Parked, RECENT_HASHES_MAX,
    intake::{Content, Item},
    tenure::Tenure,
};
use crate::core::{
    canary::{self, Guard},
    command::{Command, CommandKind, Label},
    engine::{Applied, Entry, Outcome, WARM_COMMANDS},
    log::Record,
    store::{DeadLetter, DeadLetterReason},
    types::{CommandId, ContentHash, Position},
};

/// What was applied and is not sent to the store yet.
pub(super) struct Building {
    /// `next_position` before it.
    pub from: Position,
    /// `next_position` after it.
    pub to: Position,
    pub records: usize,
    pub bytes: usize,
    /// When its first record was applied.
    pub first_at: Option<Mono>,
    pub last: Option<Record>,
    pub outcomes: Vec<Outcome>,
    pub entries: Vec<Entry>,
    pub labels: Vec<Label>,
    pub dead_letters: Vec<DeadLetter>,
    pub is_full: bool,
}

impl Building {
    pub fn new(from: Position) -> Self {
        Self {
            from,
            to: from,
            records: 0,
            bytes: 0,
            first_at: None,
            last: None,
            outcomes: Vec::new(),
            entries: Vec::new(),
            labels: Vec::new(),
            dead_letters: Vec::new(),
            is_full: false,
        }
    }

    /// When it has gathered for long enough; `None` while it is empty. The age counts from the
    /// first record, not between records.
    pub fn closes_at(&self, config: &Config) -> Option<Mono> {
        let first_at = self.first_at?;
        Some(if self.is_full {
            first_at
        } else {
            first_at + config.batch_age_max
        })
    }

    fn count(&mut self, now: Mono, record: Record, count_max: usize, bytes_max: usize) {
        self.first_at.get_or_insert(now);
        self.records += 1;
        self.bytes += record.bytes();
        self.to = record.position.next();
        self.last = Some(record);
        self.is_full = self.records >= count_max || self.bytes >= bytes_max;
    }
}

/// Content hashes of recent outcomes: one slot for each remainder of the sequence number.
#[derive(Default)]
pub(super) struct RecentHashes {
    slots: Vec<Option<(CommandId, ContentHash)>>,
}

impl RecentHashes {
    pub fn get(&self, id: CommandId) -> Option<ContentHash> {
        let (stored, hash) = (*self.slots.get(Self::slot(id))?)?;
        (stored == id).then_some(hash)
    }

    fn insert(&mut self, id: CommandId, hash: ContentHash) {
        if self.slots.is_empty() {
            self.slots.resize(RECENT_HASHES_MAX, None);
        }
        self.slots[Self::slot(id)] = Some((id, hash));
    }

    fn slot(id: CommandId) -> usize {
        (id.sequence().0 % RECENT_HASHES_MAX as u64) as usize
    }
}

impl Leader {
    /// Applies planned items until none is left (true) or the batch is full (false).
    pub(super) fn apply_planned(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let mut warm = 0_usize;
        loop {
            let Some(tenure) = self.tenure.as_deref_mut() else {
                return false;
            };
            if tenure.planned == 0 {
                return true;
            }
            if tenure.building.is_full {
                return false;
            }
            if warm == 0 {
                warm = tenure.warm();
            }
            warm -= 1;
            let Item { record, content } = tenure
                .inbox
                .pop_front()
                .expect("what is planned is in the inbox");
            tenure.planned -= 1;
            tenure.inbox_bytes -= record.bytes();
            let single = self.refusals.and_then(|refusals| refusals.single_below);
            let is_single = single.is_some_and(|below| record.position < below);
            let same = |parked: &&Parked| {
                let anchor = parked.anchor;
                anchor.is_none_or(|anchor| anchor == record.anchor())
            };
            let parked = self.parked.get(&record.position).filter(same);
            let parked = parked.map(|parked| parked.reason);
            let at = record.position;
            let letters_before = tenure.building.dead_letters.len();
            match parked {
                Some(reason) => tenure.park(&record, &content, reason, "parked before".into(), out),
                None => tenure.apply(&record, content, out),
            }
            let count_max = if is_single { 1 } else { self.batch_count };
            let bytes_max = self.config.batch_bytes_max;
            tenure.building.count(now, record, count_max, bytes_max);
            let is_letter = tenure.building.dead_letters.len() > letters_before;
            if self.breaks_on_dead_letters(at, is_letter) {
                let why = format!(
                    "{DEAD_LETTERS_MAX} of {DEAD_LETTERS_WINDOW} records became dead letters; look \
                     at table `dead_letter` and at the version of this program, then start it again"
                );
                self.stop(why, out);
                return false;
            }
        }
    }

    /// Whether too many of the last records became dead letters. By position, and beyond a tenure:
    /// a refused flush drops the memory for each letter, and what is read again counts once.
    fn breaks_on_dead_letters(&mut self, at: Position, is_letter: bool) -> bool {
        if is_letter && self.dead_letters.back().is_none_or(|last| *last < at) {
            self.dead_letters.push_back(at);
        }
        let is_old = |letter: &Position| letter.0 + DEAD_LETTERS_WINDOW <= at.0;
        while self.dead_letters.front().is_some_and(is_old) {
            self.dead_letters.pop_front();
        }
        self.dead_letters.len() > DEAD_LETTERS_MAX
    }
}

impl Tenure {
    /// Brings what the next planned commands need to the cache; how many items these are.
    fn warm(&self) -> usize {
        let count = self.planned.min(WARM_COMMANDS);
        let next = self.inbox.iter().take(count);
        self.engine
            .warm(next.filter_map(|item| match &item.content {
                Content::Command(command) => Some(command),
                _ => None,
            }));
        count
    }

    fn apply(&mut self, record: &Record, content: Content, out: &mut Vec<Output>) {
        match content {
            Content::Command(command) => self.apply_command(record, command, out),
            Content::Tick(now) => self.engine.tick(now),
            Content::Seal { first, last } => {
                self.engine.seal(first, last);
            }
            Content::Discard(discard, label) => {
                let (at, time) = (record.position, record.log_time);
                if let Applied::Done(outcome) = self.engine.discard(at, time, discard) {
                    self.gather(outcome, label);
                }
            }
            Content::Passed => {}
            Content::Bad {
                reason,
                ref message,
            } => {
                let message = message.clone();
                self.park(record, &content, reason, message, out);
            }
        }
    }

    fn apply_command(&mut self, record: &Record, command: Command, out: &mut Vec<Output>) {
        let id = command
            .id
            .expect("decoded commands of this shard have an id");
        let target = match (command.kind, command.reverses) {
            (CommandKind::Reverse, Some(target)) => self
                .find_unflushed(target)
                .or_else(|| self.answers.targets.get(&target).cloned()),
            _ => None,
        };
        let entries_before = self.building.entries.len();
        let (engine, entries) = (&mut self.engine, &mut self.building.entries);
        // The engine decides before it changes anything, so that a panic leaves it as it was.
        let applied = catch_unwind(AssertUnwindSafe(|| {
            engine.apply(
                record.position,
                record.log_time,
                &command,
                target.as_ref(),
                entries,
            )
        }));
        match applied {
            Ok(Applied::Done(outcome)) => {
                self.recent_hashes.insert(id, outcome.content_hash);
                self.gather(outcome, command.into_label());
            }
            Ok(Applied::Skipped) => self.check_duplicate(record, &command, id, out),
            Err(_) if canary::is_off(Guard::PanicParked) => {}
            Err(_) => {
                self.building.entries.truncate(entries_before);
                let message = "the engine panicked on this command".to_owned();
                out.push(Output::Alarm(format!(
                    "command {id} at {}: {message}",
                    record.position
                )));
                self.letter(record, DeadLetterReason::EnginePanic, message, Some(id));
            }
        }
    }

    fn gather(&mut self, outcome: Outcome, label: Label) {
        self.building.outcomes.push(outcome);
        self.building.labels.push(label);
    }

    /// A number applied before: the same content is a duplicate, other content must not be silent.
    fn check_duplicate(
        &mut self,
        record: &Record,
        command: &Command,
        id: CommandId,
        out: &mut Vec<Output>,
    ) {
        let known = self.recent_hashes.get(id).map(Some);
        let Some(known) = known.or_else(|| self.answers.hashes.get(&id).copied()) else {
            return; // over the bound of checks: a duplicate like any other
        };
        if known == Some(command.content_hash) {
            return;
        }
        let message = match known {
            Some(_) => format!("number {} was applied with other content", id.sequence()),
            None => format!("number {} was sealed or discarded", id.sequence()),
        };
        out.push(Output::Alarm(format!(
            "command {id} at {}: {message}",
            record.position
        )));
        self.letter(record, DeadLetterReason::ContentMismatch, message, None);
    }

    /// Makes a dead letter, and parks the accepted command that it names.
    fn park(
        &mut self,
        record: &Record,
        content: &Content,
        reason: DeadLetterReason,
        message: String,
        out: &mut Vec<Output>,
    ) {
        let shard = self.engine.shard();
        let named = content.names(record).filter(|(id, _)| {
            id.shard() == shard && !self.engine.applied().contains(id.sequence().0)
        });
        let parks = named.filter(|(id, hash)| match content {
            Content::Command(_) => true,
            _ => self.answers.accepted.get(id) == Some(hash),
        });
        let position = record.position;
        out.push(Output::Alarm(format!(
            "dead letter at {position} ({reason:?}): {message}"
        )));
        self.letter(record, reason, message, parks.map(|(id, _)| id));
    }

    fn letter(
        &mut self,
        record: &Record,
        reason: DeadLetterReason,
        message: String,
        parks: Option<CommandId>,
    ) {
        self.building.dead_letters.push(DeadLetter {
            position: record.position,
            reason,
            message,
            parks,
            log_time: record.log_time,
            key: record.key.to_vec(),
            value: record.value.to_vec(),
        });
    }
}
