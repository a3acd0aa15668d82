//! Makes true what the checks decided. Nothing in here can fail: what is asserted is our own work.

use crate::core::{
    command::{Command, CommandKind},
    engine::{
        Account, AccountStatus, Engine, Reversal, cells::BalanceCell, rules::Draft, table::NIL,
    },
    types::{AccountId, AssetId, Position, Timestamp},
};

impl Engine {
    /// Makes what was decided true.
    pub(super) fn commit(&mut self, at: Position, command: &Command, entries: usize) {
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
