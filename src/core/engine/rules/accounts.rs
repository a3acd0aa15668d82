//! The checks of a command's accounts: they exist, there is something to reverse, they are open.
//! Reads the state, writes the scratch and the marks of what is used only.

use crate::core::{
    command::{Command, CommandKind},
    engine::{
        AccountStatus, Engine, Reject, RejectCode, Target, cells::Cells, rules::Mention, table::NIL,
    },
    types::{AccountId, Money},
};

impl Engine {
    /// Whether every account of a CHANGE or TRANSFER is open, as its balances say by themselves:
    /// nothing more can fail in here then, and the accounts' own lines are not needed. `false`:
    /// not known.
    pub(super) fn surely_open(&mut self, command: &Command) -> bool {
        if !matches!(command.kind, CommandKind::Change | CommandKind::Transfer) {
            return false;
        }
        let mut names_own = false;
        for change in &command.changes {
            let draft = self.draft(change.account, change.primary.asset);
            if !self.scratch.balances[draft].open {
                return false;
            }
            names_own |= change.account == command.account;
        }
        names_own
    }

    pub(super) fn find_accounts(&mut self, command: &Command) -> Result<(), Reject> {
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
    pub(super) fn mention(&mut self, id: AccountId, leg: u16) -> Result<(), Reject> {
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
    pub(super) fn reversible<'a>(
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

    pub(super) fn check_status(&mut self, command: &Command) -> Result<(), Reject> {
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
