//! From records to items: decoding, and the one query that brings what a batch of items needs.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{HASH_CHECKS_MAX, Leader, Mono, Output, Phase, RequestId, tenure::Tenure};
use crate::core::{
    canary::{self, Guard},
    command::{
        Command, CommandKind, Label,
        record::{self, DecodeError, LogItem},
    },
    engine::{Discarded, Target},
    log::{self, Record},
    store::{self, DeadLetterReason, Flush, LoadRequest, Loaded},
    types::{CommandId, ContentHash, Sequence, ShardId, Timestamp},
};

/// A record and what it turned out to be.
pub(super) struct Item {
    pub record: Record,
    pub content: Content,
}

/// What a record is, to whoever applies it.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are commands, which a box each would cost more than it saves"
)]
#[derive(Debug)]
pub(in crate::core) enum Content {
    /// Of this shard, with an id.
    Command(Command),
    /// Moves the shard's time.
    Tick(Timestamp),
    /// Numbers that nobody can use.
    Seal {
        /// First number.
        first: Sequence,
        /// Last number.
        last: Sequence,
    },
    /// Gives a parked command up.
    Discard(Discarded, Label),
    /// Stands for a table in the log file of `axs dev`; the leader has nothing to do.
    Passed,
    /// A dead letter.
    Bad {
        /// Why.
        reason: DeadLetterReason,
        /// One sentence.
        message: String,
    },
}

/// What loads brought for the items planned.
#[derive(Default)]
pub(super) struct Answers {
    pub targets: BTreeMap<CommandId, Target>,
    /// `None`: asked for, and not in the journal.
    pub hashes: BTreeMap<CommandId, Option<ContentHash>>,
    pub accepted: BTreeMap<CommandId, ContentHash>,
    /// Flushes committed since the plan was made: a REVERSE planned before may name their outcomes,
    /// which the load could not see.
    pub committed: Vec<Arc<Flush>>,
}

impl Item {
    fn new(shard: ShardId, embedded: bool, record: Record) -> Self {
        let content = Content::decode(shard, embedded, &record.value);
        Self { record, content }
    }
}

impl Content {
    /// The command and content that the record names, by its body or, failing that, its headers.
    pub(super) fn names(&self, record: &Record) -> Option<(CommandId, ContentHash)> {
        match self {
            Self::Command(command) => Some((command.id?, command.content_hash)),
            _ => record.command_id.zip(record.content_hash),
        }
    }

    /// Of the bytes of a record in a shard's log; `embedded`: that of `axs dev`.
    pub fn decode(shard: ShardId, embedded: bool, value: &Bytes) -> Self {
        let (reason, message) = match record::decode(value) {
            Ok(item) => return Self::of(shard, embedded, item),
            Err(DecodeError::Undecodable(message)) => (DeadLetterReason::Undecodable, message),
            Err(DecodeError::Unsupported(message)) => (DeadLetterReason::Unsupported, message),
        };
        Self::Bad { reason, message }
    }

    fn of(shard: ShardId, embedded: bool, item: LogItem) -> Self {
        let bad = |reason, message: String| Self::Bad { reason, message };
        match item {
            LogItem::Command(command) => {
                let Some(id) = command.id else {
                    return bad(
                        DeadLetterReason::Undecodable,
                        "the command has no id".into(),
                    );
                };
                if id.shard() != shard {
                    let message = format!("command {id} belongs to shard {}", id.shard());
                    return bad(DeadLetterReason::Misrouted, message);
                }
                if command.ack.is_some() {
                    let message = "acknowledgements come with a later version".into();
                    return bad(DeadLetterReason::Unsupported, message);
                }
                Self::Command(command)
            }
            LogItem::Tick(tick) => Self::Tick(tick.now),
            LogItem::Seal(seal) => Self::Seal {
                first: seal.first,
                last: seal.last,
            },
            LogItem::Discard(discard) if discard.id.shard() != shard => {
                let message = format!("DISCARD of command {}", discard.id);
                bad(DeadLetterReason::Misrouted, message)
            }
            LogItem::Discard(discard) => {
                let discarded = Discarded {
                    command_id: discard.id,
                    content_hash: discard.content_hash,
                    account: discard.account,
                    kind: discard.kind,
                };
                Self::Discard(discarded, discard.label)
            }
            LogItem::Parked(_) | LogItem::Registry(_) if embedded => Self::Passed,
            LogItem::Parked(_) | LogItem::Registry(_) => bad(
                DeadLetterReason::Unsupported,
                "a record of the log file does not belong into this log".into(),
            ),
        }
    }
}

impl Leader {
    pub(super) fn start_fetch(&mut self, now: Mono, out: &mut Vec<Output>) {
        let id = self.next_request();
        let (count, bytes) = (self.config.batch_count_max, self.config.batch_bytes_max);
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let has_room = tenure.inbox.len() < count && tenure.inbox_bytes < bytes;
        let is_due = tenure.log_retry.is_due(now);
        if self.phase != Phase::Leading || tenure.fetch.is_some() || !has_room || !is_due {
            return;
        }
        tenure.fetch = Some(id);
        tenure.log_retry.at = None;
        out.push(Output::Fetch {
            id,
            count_max: count - tenure.inbox.len(),
            bytes_max: bytes - tenure.inbox_bytes,
        });
    }

    pub(super) fn on_fetched(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<Vec<Record>, log::Error>,
        out: &mut Vec<Output>,
    ) {
        let (shard, embedded) = (self.shard, self.config.embedded);
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        if tenure.fetch.take_if(|expected| *expected == id).is_none() {
            return;
        }
        match answer {
            Ok(records) => {
                tenure.log_retry.succeeded();
                tenure.log_seen_at = now;
                for record in records {
                    let next = tenure.inbox.back().map(|item| item.record.position.next());
                    if record.position < next.unwrap_or(tenure.building.to) {
                        continue; // read twice after a reconnect: it is on its way already
                    }
                    tenure.inbox_bytes += record.bytes();
                    tenure.inbox.push_back(Item::new(shard, embedded, record));
                }
            }
            Err(log::Error::Diverged(why) | log::Error::Refused(why)) => self.stop(why, out),
            Err(log::Error::Unavailable(_) | log::Error::QueueFull) => {
                tenure.log_retry.after_failure(now);
            }
        }
    }

    /// Plans what is in the inbox and applies what is planned, as far as it goes.
    pub(super) fn plan_and_apply(&mut self, now: Mono, out: &mut Vec<Output>) {
        while self.phase == Phase::Leading {
            let Some(tenure) = self.tenure.as_deref_mut() else {
                return;
            };
            if tenure.planned == 0 && (tenure.load.is_some() || !self.plan(now, out)) {
                return;
            }
            if !self.apply_planned(now, out) {
                return;
            }
        }
    }

    /// Finds what the inbox needs loaded. True when nothing has to be waited for.
    fn plan(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let id = self.next_request();
        let accounts_max = self.config.accounts_max;
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return false;
        };
        if tenure.inbox.is_empty() || !tenure.load_retry.is_due(now) {
            return false;
        }
        tenure.answers = Answers::default();
        // Only here, where no load is outstanding and nothing is planned, may an account leave.
        tenure.engine.trim(accounts_max);
        let request = tenure.needs();
        let count = tenure.inbox.len();
        if request == LoadRequest::default() {
            tenure.planned = count;
            return true;
        }
        tenure.load = Some((id, count));
        tenure.load_retry.at = None;
        tenure.requested = request.clone();
        out.push(Output::Load { id, request });
        false
    }

    pub(super) fn on_loaded(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<Loaded, store::Error>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let Some((_, count)) = tenure.load.take_if(|(expected, _)| *expected == id) else {
            return;
        };
        match answer {
            Ok(loaded) => {
                tenure.load_retry.succeeded();
                tenure.install(loaded);
                tenure.planned = count;
            }
            Err(_) => tenure.load_retry.after_failure(now),
        }
    }
}

impl Tenure {
    /// What the items of the inbox need that is not in memory. What is not committed yet is taken
    /// from memory now: it wins over a load sent now.
    fn needs(&mut self) -> LoadRequest {
        let mut request = LoadRequest::default();
        let mut unflushed = Vec::new();
        let shard = self.engine.shard();
        for item in &self.inbox {
            match &item.content {
                Content::Command(command) => {
                    let Some(id) = command.id else { continue };
                    if self.engine.applied().contains(id.sequence().0) {
                        // What is not flushed yet is no more in the journal than what was sealed.
                        let known = self.recent_hashes.get(id).is_some()
                            || self.find_unflushed(id).is_some();
                        if !known && request.hashes.len() < HASH_CHECKS_MAX {
                            request.hashes.push(id);
                        }
                        continue;
                    }
                    request.accounts.push(command.account);
                    request
                        .accounts
                        .extend(command.changes.iter().map(|change| change.account));
                    if let (CommandKind::Reverse, Some(target)) = (command.kind, command.reverses) {
                        match self.find_unflushed(target) {
                            Some(found) => unflushed.push(found),
                            None if target.shard() == shard => request.targets.push(target),
                            None => {}
                        }
                    }
                }
                Content::Bad { .. } => {
                    let named = item
                        .content
                        .names(&item.record)
                        .filter(|(id, _)| id.shard() == shard);
                    request.accepted.extend(named.map(|(id, _)| id));
                }
                Content::Tick(_)
                | Content::Seal { .. }
                | Content::Discard(..)
                | Content::Passed => {}
            }
        }
        self.answers
            .targets
            .extend(unflushed.into_iter().map(|target| (target.id, target)));
        request.accounts.sort_unstable();
        request.accounts.dedup();
        request
            .accounts
            .retain(|account| !self.engine.is_resident(*account));
        for ids in [
            &mut request.targets,
            &mut request.hashes,
            &mut request.accepted,
        ] {
            ids.sort_unstable();
            ids.dedup();
        }
        let applied = self.engine.applied();
        request
            .targets
            .retain(|id| applied.contains(id.sequence().0));
        request
            .accepted
            .retain(|id| !applied.contains(id.sequence().0));
        request
    }

    fn install(&mut self, loaded: Loaded) {
        let request = std::mem::take(&mut self.requested);
        let mut balances = loaded.balances;
        balances.sort_unstable_by_key(|balance| (balance.account, balance.asset));
        for account in loaded.accounts {
            let first = balances.partition_point(|balance| balance.account < account.id);
            let behind = balances.partition_point(|balance| balance.account <= account.id);
            self.engine.install(account, &balances[first..behind]);
        }
        for account in request.accounts {
            if !self.engine.is_resident(account) {
                self.engine.note_absent(account);
            }
        }
        for target in loaded.targets {
            self.answers.targets.entry(target.id).or_insert(target);
        }
        self.answers
            .hashes
            .extend(request.hashes.into_iter().map(|id| (id, None)));
        self.answers
            .hashes
            .extend(loaded.hashes.into_iter().map(|(id, hash)| (id, Some(hash))));
        self.answers.accepted.extend(loaded.accepted);
    }

    /// An outcome with its entries that no load sent earlier could have seen.
    pub fn find_unflushed(&self, id: CommandId) -> Option<Target> {
        if canary::is_off(Guard::ReverseOverlay) {
            return None;
        }
        let building = (&self.building.outcomes, &self.building.entries);
        let flushes = self.in_flight.iter().map(|flight| &flight.flush);
        let flushes = flushes.chain(&self.answers.committed);
        std::iter::once(building)
            .chain(flushes.map(|flush| (&flush.outcomes, &flush.entries)))
            .find_map(|(outcomes, entries)| {
                let mut first = 0_usize;
                for outcome in outcomes {
                    let behind = first + outcome.entries as usize;
                    if outcome.id == id {
                        return Some(Target {
                            id,
                            account: outcome.account,
                            kind: outcome.kind,
                            rejected: outcome.reject.is_some(),
                            entries: entries[first..behind].to_vec(),
                            reversed_by: None, // the engine knows its own reversals
                        });
                    }
                    first = behind;
                }
                None
            })
    }
}
