//! Accounts and balances of the model, and what one change does to them.

use std::collections::BTreeMap;

use crate::core::{
    command::{Change, Move},
    engine::{Account, AccountStatus, Balance, Entry, Reject, RejectCode},
    types::{AccountId, AssetId, Money, Position},
};

/// What a command may change.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) balances: BTreeMap<(AccountId, AssetId), Balance>,
}

/// A move with what an entry says of it.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) leg: u16,
    pub(super) fallback: bool,
    pub(super) account: AccountId,
    pub(super) mv: Move,
}

impl Books {
    pub(super) fn status(&self, account: AccountId) -> Option<AccountStatus> {
        if account.clearing_shard().is_some() {
            return Some(AccountStatus::Open);
        }
        self.accounts.get(&account).map(|account| account.status)
    }

    pub(super) fn set(&mut self, account: AccountId, status: AccountStatus) {
        self.accounts.get_mut(&account).expect("it exists").status = status;
    }

    pub(super) fn empty(&self, account: AccountId) -> Result<(), Reject> {
        let range = (account, AssetId(0))..=(account, AssetId(u32::MAX));
        for balance in self.balances.range(range).map(|(_, balance)| balance) {
            for had in [balance.available, balance.frozen] {
                if had != Money::ZERO {
                    let plain = Reject::new(RejectCode::AccountNotEmpty, 0, account);
                    return Err(Reject {
                        asset: Some(balance.asset),
                        had,
                        ..plain
                    });
                }
            }
        }
        Ok(())
    }

    fn balance(&self, account: AccountId, asset: AssetId) -> Balance {
        self.balances
            .get(&(account, asset))
            .copied()
            .unwrap_or(Balance::untouched(account, asset))
    }

    pub(super) fn change(
        &mut self,
        at: Position,
        leg: u16,
        change: &Change,
    ) -> Result<Entry, Reject> {
        let account = change.account;
        let balance = self.balance(account, change.primary.asset);
        let fail = |code, had: i128, needed: i128| Reject {
            code,
            leg,
            account,
            asset: Some(change.primary.asset),
            had: Money::new(had).expect("within bounds"),
            needed: Money::new(needed).expect("within bounds"),
        };
        match change.if_version {
            Some(version) if balance.version != version => {
                let (had, needed) = (i128::from(balance.version), i128::from(version));
                return Err(fail(RejectCode::VersionMismatch, had, needed));
            }
            _ => {}
        }
        match change.if_min_available {
            Some(minimum) if balance.available < minimum => {
                let (had, needed) = (balance.available.minor_units(), minimum.minor_units());
                return Err(fail(RejectCode::BelowMinimum, had, needed));
            }
            _ => {}
        }
        let primary = Attempt {
            leg,
            fallback: false,
            account,
            mv: change.primary,
        };
        let first = self.attempt(at, primary);
        let short = matches!(
            first,
            Err(Reject {
                code: RejectCode::InsufficientAvailable | RejectCode::InsufficientFrozen,
                ..
            })
        );
        match change.fallback {
            Some(mv) if short => self
                .attempt(
                    at,
                    Attempt {
                        fallback: true,
                        mv,
                        ..primary
                    },
                )
                .or(first),
            _ => first,
        }
    }

    /// Moves one balance; nothing happens if it fails.
    pub(super) fn attempt(&mut self, at: Position, attempt: Attempt) -> Result<Entry, Reject> {
        let Attempt {
            leg,
            fallback,
            account,
            mv,
        } = attempt;
        let mut balance = self.balance(account, mv.asset);
        let fail = |code, had: Money, needed: Money| {
            Err(Reject {
                code,
                leg,
                account,
                asset: Some(mv.asset),
                had,
                needed,
            })
        };
        let before = [balance.available, balance.frozen];
        let deltas = [mv.available_delta, mv.frozen_delta];
        let mut after = [Money::ZERO; 2];
        for side in [0, 1] {
            match before[side].checked_add(deltas[side]) {
                Some(sum) => after[side] = sum,
                None => return fail(RejectCode::AmountOverflow, before[side], deltas[side]),
            }
        }
        let codes = [
            RejectCode::InsufficientAvailable,
            RejectCode::InsufficientFrozen,
        ];
        for side in [0, 1] {
            if after[side] < Money::ZERO && account.is_callers() {
                return fail(codes[side], before[side], deltas[side].negated());
            }
        }
        [balance.available, balance.frozen] = after;
        balance.version = balance.version.checked_add(1).expect("a model is small");
        balance.last_position = at;
        self.balances.insert((account, mv.asset), balance);
        Ok(Entry {
            leg,
            fallback,
            account,
            asset: mv.asset,
            available_delta: mv.available_delta,
            frozen_delta: mv.frozen_delta,
            available_after: after[0],
            frozen_after: after[1],
            version: balance.version,
            previous_position: Position::NONE,
        })
    }
}
