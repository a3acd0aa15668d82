//! Makes true what the checks decided. Nothing in here can fail, so that no command is half done;
//! what was decided is asserted before.

use crate::core::{
    command::{Command, CommandKind},
    engine::{Account, AccountStatus, Balance, Engine, Reversal, rules::Draft, table::NIL},
    types::{AccountId, AssetId, Position, Timestamp},
};

impl Engine {
    /// Of a command that is about to succeed with so many entries.
    pub(super) fn assert_decided(&self, entries: usize) {
        let mut raised = 0_u64;
        for Draft {
            cell,
            value,
            version,
            ..
        } in &self.scratch.balances
        {
            let floorless = value.account.clearing_shard().is_some();
            let negative = value.available.is_negative() || value.frozen.is_negative();
            let written = value.version != *version;
            assert!(
                !(written && negative) || floorless,
                "E5: a balance is not below its floor"
            );
            let stands = if *cell == NIL {
                0
            } else {
                self.cells.balance(*cell).version
            };
            assert!(
                stands == *version,
                "E7: a balance is as it was when this was decided"
            );
            raised = raised.saturating_add(value.version.saturating_sub(*version));
        }
        assert!(
            raised == entries as u64,
            "E6: each entry raises one version by one"
        );
    }

    /// Makes what was decided true.
    pub(super) fn commit(&mut self, at: Position, command: &Command) {
        match command.kind {
            CommandKind::OpenAccount => self.open(at, command),
            CommandKind::BlockAccount => self.set_status(at, AccountStatus::Blocked),
            CommandKind::UnblockAccount => self.set_status(at, AccountStatus::Open),
            CommandKind::CloseAccount => self.set_status(at, AccountStatus::Closed),
            CommandKind::Reverse => self.note_reversal(command),
            CommandKind::Change | CommandKind::Transfer | CommandKind::Unspecified => {}
        }
        for index in 0..self.scratch.balances.len() {
            let draft = self.scratch.balances[index];
            if draft.value.version > draft.version {
                self.write(at, &draft);
            }
        }
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
        self.cells.set_status(cell, status);
        self.cells.account_mut(cell).changed_at = at;
    }

    fn note_reversal(&mut self, command: &Command) {
        let (target, by) = (
            command.reverses.expect("checked"),
            command.id.expect("checked"),
        );
        self.reversals.insert(target, (by, self.batch.number()));
        self.batch.reversals.push(Reversal { target, by });
    }

    /// Writes what became of a balance.
    fn write(&mut self, at: Position, draft: &Draft) {
        let cell = match draft.cell {
            NIL => self.insert_balance(draft.value.account, draft.value.asset),
            cell => cell,
        };
        if Some(self.cells.balance(cell).last_position) < self.batch.from {
            self.untouched_hash = self.untouched_hash.wrapping_sub(self.balance_hash(cell));
            self.batch.balances.push((cell, draft.version));
        }
        let mut value = draft.value;
        value.last_position = at;
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
            .insert_balance(owner, &Balance::untouched(account, asset))
    }
}
