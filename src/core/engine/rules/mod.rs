//! What a command does: every check in its fixed order, then the mutation, which cannot fail.
//!
//! The order is API, and the first failure is the answer: duplicate · shape (100, 103) · accounts
//! exist (200; OPEN: 201) · reversal (500, 501) · status of every account, in order of first
//! mention, its own first (202, 203; CLOSE: 204) · change by change: condition (300, 301), overflow
//! (402), available (400), frozen (401).
//!
//! - BLOCK and UNBLOCK ask only that the account is not closed; a blocked account must be unblocked
//!   before it can be closed (202).
//! - REVERSE takes its target's entries backwards, deltas negated. Their accounts are looked at
//!   after the reversal check, in that order.
//! - A change that fails by 400 or 401 takes its fallback on the same account, without conditions;
//!   if that fails too, by 400, 401 or 402, the primary's failure is the answer.
//!
//! - `shape`, `accounts` (existence, reversal, status), `funds` (the changes): the checks, in order;
//! - `commit`: the mutation.

use crate::core::{
    canary::{self, Guard},
    command::Command,
    engine::{Applied, Balance, Discarded, Engine, Entry, Outcome, Reject, RejectCode, Target},
    types::{AccountId, CommandId, Position, Timestamp},
};

mod accounts;
mod commit;
mod funds;
mod shape;

/// What the checks found and decided; used again for each command.
#[derive(Default)]
pub(super) struct Scratch {
    /// Every account of the command, in order of first mention, unless all are surely open.
    accounts: Vec<Mention>,
    /// Every balance looked at, as the changes so far left it.
    balances: Vec<Draft>,
}

#[derive(Clone, Copy)]
struct Mention {
    id: AccountId,
    /// `NIL`: a clearing account without balances, or one to be opened.
    cell: u32,
    /// The first change that names it.
    leg: u16,
}

#[derive(Clone, Copy)]
struct Draft {
    /// `NIL`: never touched.
    cell: u32,
    /// Its account is surely open.
    open: bool,
    /// With the position of the last earlier command.
    value: Balance,
    /// Before the command.
    version: u64,
}

impl Engine {
    /// Applies a command that stands at `at` with the log's time. `target` is what is known of the
    /// command that a REVERSE names: needed if that one is applied. Entries are appended to
    /// `entries`; if this panics, what it appended must be cut off, everything else is as before.
    pub fn apply(
        &mut self,
        at: Position,
        log_time: Timestamp,
        command: &Command,
        target: Option<&Target>,
        entries: &mut Vec<Entry>,
    ) -> Applied {
        let id = command.id.expect("E1: a command from the log has an id");
        if self.is_applied(at, id) {
            return Applied::Skipped;
        }
        let first = entries.len();
        let decided = self.decide(command, target, entries);
        match decided {
            Ok(()) => self.assert_decided(entries.len().saturating_sub(first)),
            Err(_) => entries.truncate(first),
        }
        #[cfg(feature = "simulation")]
        canary::panic_if_asked(&command.reference);

        // From here the command must succeed.
        self.count(at, log_time, id);
        if decided.is_ok() {
            self.commit(at, command);
        }
        Applied::Done(Outcome {
            id,
            position: at,
            content_hash: command.content_hash,
            applied_at: self.applied_at,
            account: command.account,
            kind: command.kind,
            reject: decided.err().map(Box::new),
            entries: u32::try_from(entries.len().saturating_sub(first)).expect("a few"),
        })
    }

    /// Rejects a parked command that an operator gave up, unless it is applied already.
    pub fn discard(&mut self, at: Position, log_time: Timestamp, discard: Discarded) -> Applied {
        if self.is_applied(at, discard.command_id) {
            return Applied::Skipped;
        }
        self.count(at, log_time, discard.command_id);
        Applied::Done(Outcome {
            id: discard.command_id,
            position: at,
            content_hash: discard.content_hash,
            applied_at: self.applied_at,
            account: discard.account,
            kind: discard.kind,
            reject: Some(Box::new(Reject::new(
                RejectCode::Discarded,
                0,
                discard.account,
            ))),
            entries: 0,
        })
    }

    fn is_applied(&self, at: Position, id: CommandId) -> bool {
        assert!(
            id.shard() == self.shard,
            "E1: a command is applied in its own shard"
        );
        assert!(at > self.last_position, "E2: positions rise");
        self.applied.contains(id.sequence().0) && !canary::is_off(Guard::AppliedSet)
    }

    /// Its number is applied from now on, whatever became of it.
    fn count(&mut self, at: Position, log_time: Timestamp, id: CommandId) {
        let sequence = id.sequence().0;
        let twice = canary::is_off(Guard::AppliedSet);
        assert!(
            self.applied.insert(sequence) || twice,
            "E10: a number is applied once"
        );
        assert!(
            self.batch.applied.insert(sequence) || twice,
            "E10: a number is flushed once"
        );
        self.last_position = at;
        self.batch.from.get_or_insert(at);
        self.applied_at = self.applied_at.max(log_time);
    }

    fn decide(
        &mut self,
        command: &Command,
        target: Option<&Target>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Reject> {
        self.scratch.accounts.clear();
        self.scratch.balances.clear();
        shape::check(command, self.shard)?;
        let mut reversed = None;
        if !self.surely_open(command) {
            self.find_accounts(command)?;
            reversed = self.reversible(command, target)?;
            for entry in reversed
                .iter()
                .flat_map(|target| target.entries.iter().rev())
            {
                self.mention(entry.account, entry.leg)?;
            }
            self.check_status(command)?;
        }
        for (leg, change) in (0_u16..).zip(&command.changes) {
            self.take_change(leg, change, entries)?;
        }
        for entry in reversed
            .iter()
            .flat_map(|target| target.entries.iter().rev())
        {
            self.take_back(entry, entries)?;
        }
        Ok(())
    }
}
