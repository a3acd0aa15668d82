//! The naive oracle: the same rules once more, written from their text and without any idea of
//! loading, batches, tables or speed. Tests, the simulation and replays compare the engine with it.
//!
//! It remembers everything, so that it needs no target and no load. A command is tried on a copy;
//! the copy is kept if nothing failed.

use std::collections::BTreeMap;

use self::books::Books;
use crate::core::{
    command::{Command, CommandKind},
    engine::{Account, Balance, Discarded, Entry, Outcome, Reject, RejectCode, Target, hash},
    interval_set::IntervalSet,
    types::{AccountId, CommandId, ContentHash, Position, ShardId, Timestamp},
};

mod books;
mod rules;

/// Every account, balance, outcome and entry of one shard.
#[derive(Clone, Debug)]
pub struct Model {
    shard: ShardId,
    applied: IntervalSet,
    applied_at: Timestamp,
    books: Books,
    history: BTreeMap<CommandId, (Outcome, Vec<Entry>)>,
    reversed: BTreeMap<CommandId, CommandId>,
}

impl Model {
    /// An empty shard.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            applied: IntervalSet::new(),
            applied_at: Timestamp(0),
            books: Books::default(),
            history: BTreeMap::new(),
            reversed: BTreeMap::new(),
        }
    }

    /// The outcome of a command and its entries; `None`: a duplicate.
    pub fn apply(
        &mut self,
        at: Position,
        log_time: Timestamp,
        command: &Command,
    ) -> Option<(Outcome, Vec<Entry>)> {
        let id = command.id?;
        if self.applied.contains(id.sequence().0) {
            return None;
        }
        self.applied_at = self.applied_at.max(log_time);
        let mut copy = self.books.clone();
        let tried = self.try_on(&mut copy, at, command);
        let (reject, entries) = match tried {
            Ok(entries) => {
                self.books = copy;
                (None, entries)
            }
            Err(reject) => (Some(reject), Vec::new()),
        };
        if let (None, Some(target)) = (reject, command.reverses) {
            self.reversed.insert(target, id);
        }
        let parts = (command.content_hash, command.account, command.kind);
        Some(self.remember(at, id, parts, reject, entries))
    }

    /// The outcome of a discarded command; `None`: it was applied already.
    pub fn discard(
        &mut self,
        at: Position,
        log_time: Timestamp,
        discard: Discarded,
    ) -> Option<Outcome> {
        let Discarded {
            command_id,
            content_hash,
            account,
            kind,
        } = discard;
        if self.applied.contains(command_id.sequence().0) {
            return None;
        }
        self.applied_at = self.applied_at.max(log_time);
        let reject = Some(Reject::new(RejectCode::Discarded, 0, account));
        let parts = (content_hash, account, kind);
        Some(self.remember(at, command_id, parts, reject, Vec::new()).0)
    }

    /// Numbers that nobody can use any more.
    pub fn seal(&mut self, first: u64, last: u64) {
        self.applied.insert_range(first, last);
    }

    fn remember(
        &mut self,
        position: Position,
        id: CommandId,
        parts: (ContentHash, AccountId, CommandKind),
        reject: Option<Reject>,
        entries: Vec<Entry>,
    ) -> (Outcome, Vec<Entry>) {
        let (content_hash, account, kind) = parts;
        let outcome = Outcome {
            id,
            position,
            content_hash,
            applied_at: self.applied_at,
            account,
            kind,
            reject: reject.map(Box::new),
            entries: u32::try_from(entries.len()).expect("a few"),
        };
        self.applied.insert(id.sequence().0);
        self.history.insert(id, (outcome.clone(), entries.clone()));
        (outcome, entries)
    }

    // ------------------------------------------------------------ what is there

    /// Numbers applied.
    pub fn applied(&self) -> &IntervalSet {
        &self.applied
    }

    /// Every account opened.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.books.accounts.values()
    }

    /// Every balance touched, by account and asset.
    pub fn balances(&self) -> impl Iterator<Item = &Balance> {
        self.books.balances.values()
    }

    /// What a REVERSE of `id` needs to know.
    pub fn target(&self, id: CommandId) -> Option<Target> {
        let (outcome, entries) = self.history.get(&id)?;
        Some(Target {
            id,
            account: outcome.account,
            kind: outcome.kind,
            rejected: outcome.reject.is_some(),
            entries: entries.clone(),
            reversed_by: self.reversed.get(&id).copied(),
        })
    }

    /// The state hash, summed up from nothing.
    pub fn state_hash(&self) -> u128 {
        let balances = self.balances().map(hash::of_balance);
        let accounts = self.accounts().map(hash::of_account);
        balances.chain(accounts).fold(0, u128::wrapping_add)
    }
}
