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

use crate::core::{
    command::{Change, Command, CommandKind, Move},
    engine::{
        Account, AccountStatus, Applied, Discarded, Engine, Entry, Outcome, Reject, RejectCode,
        Reversal, Target,
        cells::{BalanceCell, Cells},
        shape,
        table::NIL,
    },
    types::{AccountId, AssetId, CommandId, Money, Position, Timestamp},
};

/// What the checks found and decided; used again for each command.
#[derive(Default)]
pub(super) struct Scratch {
    /// Every account of the command, in order of first mention.
    accounts: Vec<Mention>,
    /// Every balance looked at, as the changes so far left it.
    balances: Vec<Draft>,
}

#[derive(Clone, Copy)]
struct Mention {
    id: AccountId,
    /// [`NIL`]: a clearing account without balances, or one to be opened.
    cell: u32,
    /// The first change that names it.
    leg: u16,
}

#[derive(Clone, Copy)]
struct Draft {
    /// [`NIL`]: never touched.
    cell: u32,
    /// With the position of the last earlier command.
    value: BalanceCell,
    /// Before the command.
    version: u64,
}

/// One step of a command: a change, or an entry taken back.
struct Step {
    leg: u16,
    fallback: bool,
    account: AccountId,
    mv: Move,
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

        // From here the command must succeed.
        self.count(at, log_time, id);
        match decided {
            Ok(()) => self.commit(at, command, entries.len().saturating_sub(first)),
            Err(_) => entries.truncate(first),
        }
        Applied::Done(Outcome {
            id,
            position: at,
            content_hash: command.content_hash,
            applied_at: self.applied_at,
            account: command.account,
            kind: command.kind,
            reject: decided.err(),
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
            reject: Some(Reject::new(RejectCode::Discarded, 0, discard.account)),
            entries: 0,
        })
    }

    fn is_applied(&self, at: Position, id: CommandId) -> bool {
        assert!(
            id.shard() == self.shard,
            "E1: a command is applied in its own shard"
        );
        assert!(at > self.last_position, "E2: positions rise");
        self.applied.contains(id.sequence().0)
    }

    /// Its number is applied from now on, whatever became of it.
    fn count(&mut self, at: Position, log_time: Timestamp, id: CommandId) {
        let sequence = id.sequence().0;
        assert!(
            self.applied.insert(sequence),
            "E10: a number is applied once"
        );
        assert!(
            self.batch.applied.insert(sequence),
            "E10: a number is flushed once"
        );
        self.last_position = at;
        self.batch.from.get_or_insert(at);
        self.applied_at = self.applied_at.max(log_time);
    }

    // ------------------------------------------------------------ decide

    fn decide(
        &mut self,
        command: &Command,
        target: Option<&Target>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Reject> {
        self.scratch.accounts.clear();
        self.scratch.balances.clear();
        shape::check(command, self.shard)?;
        self.find_accounts(command)?;
        let target = self.reversible(command, target)?;
        if let Some(target) = target {
            for entry in target.entries.iter().rev() {
                self.mention(entry.account, entry.leg)?;
            }
        }
        self.check_status(command)?;
        for (leg, change) in (0_u16..).zip(&command.changes) {
            self.take_change(leg, change, entries)?;
        }
        for entry in target.iter().flat_map(|target| target.entries.iter().rev()) {
            self.take_back(entry, entries)?;
        }
        Ok(())
    }

    fn find_accounts(&mut self, command: &Command) -> Result<(), Reject> {
        if command.kind == CommandKind::OpenAccount {
            let present = self.cells.find_account(command.account).is_some();
            assert!(
                present || self.absent.contains(&command.account),
                "E3: an account is known before it is opened"
            );
            if present {
                return Err(Reject::new(RejectCode::AccountExists, 0, command.account));
            }
            return Ok(());
        }
        self.mention(command.account, 0)?;
        for (leg, change) in (0_u16..).zip(&command.changes) {
            self.mention(change.account, leg)?;
        }
        Ok(())
    }

    /// An account of the command: it must exist.
    fn mention(&mut self, id: AccountId, leg: u16) -> Result<(), Reject> {
        if self.scratch.accounts.iter().any(|mention| mention.id == id) {
            return Ok(());
        }
        let cell = match self.cells.find_account(id) {
            Some(cell) => cell,
            None => {
                assert!(
                    self.absent.contains(&id),
                    "E3: an account is known before a command"
                );
                if id.clearing_shard().is_none() {
                    return Err(Reject::new(RejectCode::AccountNotFound, leg, id));
                }
                NIL
            }
        };
        self.scratch.accounts.push(Mention { id, cell, leg });
        Ok(())
    }

    /// The target of a REVERSE, if it can be reversed.
    fn reversible<'a>(
        &self,
        command: &Command,
        target: Option<&'a Target>,
    ) -> Result<Option<&'a Target>, Reject> {
        let Some(reverses) = command.reverses else {
            return Ok(None);
        };
        let nothing = Reject::new(RejectCode::NothingToReverse, 0, command.account);
        if reverses.shard() != self.shard || !self.applied.contains(reverses.sequence().0) {
            return Err(nothing);
        }
        // A number may be applied without a command behind it: it was sealed.
        let target = target.ok_or(nothing)?;
        assert!(
            target.id == reverses,
            "E4: the target is the one that is named"
        );
        if target.rejected
            || target.account != command.account
            || !matches!(target.kind, CommandKind::Change | CommandKind::Transfer)
        {
            return Err(nothing);
        }
        if target.reversed_by.is_some() || self.reversals.contains_key(&reverses) {
            return Err(Reject {
                code: RejectCode::AlreadyReversed,
                ..nothing
            });
        }
        Ok(Some(target))
    }

    fn check_status(&mut self, command: &Command) -> Result<(), Reject> {
        let may_be_blocked = matches!(
            command.kind,
            CommandKind::BlockAccount | CommandKind::UnblockAccount
        );
        for mention in &self.scratch.accounts {
            if mention.cell == NIL {
                continue;
            }
            let account = self.cells.account_mut(mention.cell);
            account.used = true;
            let code = match account.status() {
                AccountStatus::Blocked if !may_be_blocked => RejectCode::AccountBlocked,
                AccountStatus::Closed => RejectCode::AccountClosed,
                _ => continue,
            };
            return Err(Reject::new(code, mention.leg, mention.id));
        }
        if command.kind == CommandKind::CloseAccount {
            check_empty(&self.cells, command.account)?;
        }
        Ok(())
    }

    fn take_change(
        &mut self,
        leg: u16,
        change: &Change,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Reject> {
        let account = change.account;
        let draft = self.draft(account, change.primary.asset);
        check_condition(leg, change, &self.scratch.balances[draft].value)?;
        let primary = Step {
            leg,
            fallback: false,
            account,
            mv: change.primary,
        };
        match (self.take(&primary, entries), change.fallback) {
            (Err(reject), Some(mv)) if reject.code != RejectCode::AmountOverflow => {
                let fallback = Step {
                    leg,
                    fallback: true,
                    account,
                    mv,
                };
                self.take(&fallback, entries).map_err(|_| reject)
            }
            (taken, _) => taken,
        }
    }

    fn take_back(&mut self, entry: &Entry, entries: &mut Vec<Entry>) -> Result<(), Reject> {
        let step = Step {
            leg: entry.leg,
            fallback: entry.fallback,
            account: entry.account,
            mv: Move {
                asset: entry.asset,
                available_delta: entry.available_delta.negated(),
                frozen_delta: entry.frozen_delta.negated(),
            },
        };
        self.take(&step, entries)
    }

    /// Moves a draft, or leaves it as it was.
    fn take(&mut self, step: &Step, entries: &mut Vec<Entry>) -> Result<(), Reject> {
        let draft = self.draft(step.account, step.mv.asset);
        let value = &mut self.scratch.balances[draft].value;
        let (available, frozen) = sums(step, value)?;
        value.available = available;
        value.frozen = frozen;
        value.version = value
            .version
            .checked_add(1)
            .expect("fewer than 2^64 entries");
        entries.push(Entry {
            leg: step.leg,
            fallback: step.fallback,
            account: step.account,
            asset: step.mv.asset,
            available_delta: step.mv.available_delta,
            frozen_delta: step.mv.frozen_delta,
            available_after: available,
            frozen_after: frozen,
            version: value.version,
            previous_position: value.last_position,
        });
        Ok(())
    }

    /// Which draft is that of a balance.
    fn draft(&mut self, account: AccountId, asset: AssetId) -> usize {
        let drafts = &mut self.scratch.balances;
        let known = drafts
            .iter()
            .position(|draft| draft.value.account == account && draft.value.asset == asset);
        known.unwrap_or_else(|| {
            let (cell, value) = match self.cells.find_balance(account, asset) {
                Some(cell) => (cell, *self.cells.balance(cell)),
                None => (NIL, BalanceCell::new(account, asset)),
            };
            drafts.push(Draft {
                cell,
                value,
                version: value.version,
            });
            drafts.len().saturating_sub(1)
        })
    }

    // ------------------------------------------------------------ do

    /// Makes what was decided true.
    fn commit(&mut self, at: Position, command: &Command, entries: usize) {
        match command.kind {
            CommandKind::OpenAccount => self.open(at, command),
            CommandKind::BlockAccount => self.set_status(at, AccountStatus::Blocked),
            CommandKind::UnblockAccount => self.set_status(at, AccountStatus::Open),
            CommandKind::CloseAccount => self.set_status(at, AccountStatus::Closed),
            CommandKind::Reverse => self.note_reversal(command),
            CommandKind::Change | CommandKind::Transfer | CommandKind::Unspecified => {}
        }
        let mut raised = 0_u64;
        for index in 0..self.scratch.balances.len() {
            let Draft {
                cell,
                mut value,
                version,
            } = self.scratch.balances[index];
            if value.version > version {
                raised = raised.saturating_add(value.version.saturating_sub(version));
                value.last_position = at;
                self.write(cell, value, version);
            }
        }
        assert!(
            raised == entries as u64,
            "E6: each entry raises one version by one"
        );
    }

    fn open(&mut self, at: Position, command: &Command) {
        let cell = self.cells.insert_account(&Account {
            id: command.account,
            user: command.user,
            status: AccountStatus::Open,
            opened_at: self.applied_at,
        });
        self.cells.account_mut(cell).changed_at = at;
        self.batch.accounts.push((cell, true));
    }

    /// Of the command's own account.
    fn set_status(&mut self, at: Position, status: AccountStatus) {
        let cell = self.scratch.accounts[0].cell;
        let account = self.cells.account(cell);
        if account.status() == status {
            return;
        }
        if Some(account.changed_at) < self.batch.from {
            self.untouched_hash = self.untouched_hash.wrapping_sub(self.account_hash(cell));
            self.batch.accounts.push((cell, false));
        }
        let account = self.cells.account_mut(cell);
        account.set_status(status);
        account.changed_at = at;
    }

    fn note_reversal(&mut self, command: &Command) {
        let (target, by) = (
            command.reverses.expect("checked"),
            command.id.expect("checked"),
        );
        self.reversals.insert(target, (by, self.batch.number()));
        self.batch.reversals.push(Reversal { target, by });
    }

    /// Writes a balance over the `version` that it was computed on.
    fn write(&mut self, cell: u32, value: BalanceCell, version: u64) {
        let floorless = value.account.clearing_shard().is_some();
        assert!(
            floorless || !(value.available.is_negative() || value.frozen.is_negative()),
            "E5: a balance is not below its floor"
        );
        let cell = match cell {
            NIL => self.insert_balance(value.account, value.asset),
            cell => cell,
        };
        let before = self.cells.balance(cell);
        assert!(
            before.version == version,
            "E7: a balance is as it was when this was decided"
        );
        if Some(before.last_position) < self.batch.from {
            self.untouched_hash = self.untouched_hash.wrapping_sub(self.balance_hash(cell));
            self.batch.balances.push((cell, version));
        }
        self.cells.balance_mut(cell).set(&value);
    }

    /// A balance's first entry; the first of a clearing account brings the account too.
    fn insert_balance(&mut self, account: AccountId, asset: AssetId) -> u32 {
        let owner = self.cells.find_account(account).unwrap_or_else(|| {
            self.cells.insert_account(&Account {
                id: account,
                user: 0,
                status: AccountStatus::Open,
                opened_at: Timestamp(0),
            })
        });
        self.cells
            .insert_balance(owner, BalanceCell::new(account, asset))
    }
}

/// The lowest asset decides, not the order in which balances came to memory.
fn check_empty(cells: &Cells, account: AccountId) -> Result<(), Reject> {
    let cell = cells
        .find_account(account)
        .expect("E3: it was found before");
    let full = cells
        .balances_of(cell)
        .filter(|balance| balance.available != Money::ZERO || balance.frozen != Money::ZERO)
        .min_by_key(|balance| balance.asset);
    let Some(full) = full else {
        return Ok(());
    };
    let free = full.available != Money::ZERO;
    Err(Reject {
        asset: Some(full.asset),
        had: if free { full.available } else { full.frozen },
        ..Reject::new(RejectCode::AccountNotEmpty, 0, account)
    })
}

fn check_condition(leg: u16, change: &Change, balance: &BalanceCell) -> Result<(), Reject> {
    let failed = |code, had, needed| {
        let asset = Some(change.primary.asset);
        Err(Reject {
            asset,
            had,
            needed,
            ..Reject::new(code, leg, change.account)
        })
    };
    if let Some(version) = change.if_version
        && version != balance.version
    {
        return failed(
            RejectCode::VersionMismatch,
            count(balance.version),
            count(version),
        );
    }
    if let Some(minimum) = change.if_min_available
        && minimum > balance.available
    {
        return failed(RejectCode::BelowMinimum, balance.available, minimum);
    }
    Ok(())
}

fn count(version: u64) -> Money {
    Money::new(i128::from(version)).expect("64 bits fit")
}

/// Available and frozen after a step: overflow first, then the floors.
fn sums(step: &Step, balance: &BalanceCell) -> Result<(Money, Money), Reject> {
    let failed = |code, had, needed| Reject {
        asset: Some(step.mv.asset),
        had,
        needed,
        ..Reject::new(code, step.leg, step.account)
    };
    let Move {
        available_delta,
        frozen_delta,
        ..
    } = step.mv;
    let overflow = |had, delta| failed(RejectCode::AmountOverflow, had, delta);
    let available = (balance.available.checked_add(available_delta))
        .ok_or(overflow(balance.available, available_delta))?;
    let frozen =
        (balance.frozen.checked_add(frozen_delta)).ok_or(overflow(balance.frozen, frozen_delta))?;
    if step.account.clearing_shard().is_some() {
        return Ok((available, frozen));
    }
    if available.is_negative() {
        let needed = available_delta.negated();
        return Err(failed(
            RejectCode::InsufficientAvailable,
            balance.available,
            needed,
        ));
    }
    if frozen.is_negative() {
        return Err(failed(
            RejectCode::InsufficientFrozen,
            balance.frozen,
            frozen_delta.negated(),
        ));
    }
    Ok((available, frozen))
}
