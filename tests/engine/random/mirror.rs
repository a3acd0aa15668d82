//! What is durable beside the log, with a store's checks, and no cleverness.

use std::collections::BTreeMap;

use axs::core::{
    engine::{Account, AccountStatus, Balance, Changes, Start, hash},
    interval_set::IntervalSet,
    types::{AccountId, AssetId, CommandId, Timestamp},
};

use crate::empty;

pub struct Mirror {
    /// The row of the shard.
    pub start: Start,
    /// The first line of the log that is not applied.
    pub next_line: usize,
    pub accounts: BTreeMap<AccountId, Account>,
    pub balances: BTreeMap<(AccountId, AssetId), Balance>,
    pub reversals: BTreeMap<CommandId, CommandId>,
}

/// A batch that ended, with the engine as it was then.
pub struct Flush {
    pub changes: Changes,
    pub next_line: usize,
    pub applied: IntervalSet,
    pub applied_at: Timestamp,
    pub state_hash: u128,
}

/// Accounts with their balances, of one moment; `None` for those that do not exist.
pub type Load = Vec<(AccountId, Option<(Account, Vec<Balance>)>)>;

impl Mirror {
    pub fn new() -> Self {
        Self {
            start: empty(),
            next_line: 0,
            accounts: BTreeMap::new(),
            balances: BTreeMap::new(),
            reversals: BTreeMap::new(),
        }
    }

    pub fn load(&self, accounts: Vec<AccountId>) -> Load {
        let one = |id: AccountId| {
            let range = (id, AssetId(0))..=(id, AssetId(u32::MAX));
            let balances: Vec<Balance> = self
                .balances
                .range(range)
                .map(|(_, balance)| *balance)
                .collect();
            let implicit =
                (id.clearing_shard().is_some() && !balances.is_empty()).then_some(Account {
                    id,
                    user: 0,
                    status: AccountStatus::Open,
                    opened_at: Timestamp(0),
                });
            let account = self.accounts.get(&id).copied().or(implicit);
            (id, account.map(|account| (account, balances)))
        };
        accounts.into_iter().map(one).collect()
    }

    pub fn commit(&mut self, flush: Flush) {
        let Flush {
            changes,
            next_line,
            applied,
            applied_at,
            state_hash,
        } = flush;
        assert!(
            !self.start.applied.overlaps(&changes.applied),
            "a number is applied once"
        );
        self.start.applied.extend(&changes.applied);
        assert_eq!(
            self.start.applied, applied,
            "the batches add up to the applied set"
        );
        let keys = changes
            .balances
            .iter()
            .map(|write| (write.balance.account, write.balance.asset));
        assert!(
            keys.is_sorted_by(|a, b| a < b),
            "balances are sorted, each once"
        );
        for write in changes.balances {
            let balance = write.balance;
            let before = self
                .balances
                .insert((balance.account, balance.asset), balance);
            let version = before.map_or(0, |before| before.version);
            assert_eq!(
                version, write.expected_version,
                "version conflict on {balance:?}"
            );
            assert!(
                balance.version > version,
                "a balance that did not change is not written"
            );
        }
        assert!(
            changes
                .accounts
                .is_sorted_by(|a, b| a.account.id < b.account.id)
        );
        for write in changes.accounts {
            let before = self.accounts.insert(write.account.id, write.account);
            assert_eq!(
                before.is_none(),
                write.opens,
                "conflict on {:?}",
                write.account
            );
        }
        assert!(changes.reversals.is_sorted_by(|a, b| a.target < b.target));
        for reversal in changes.reversals {
            let before = self.reversals.insert(reversal.target, reversal.by);
            assert_eq!(before, None, "reversed once");
        }
        self.next_line = next_line;
        self.start.applied_at = applied_at;
        self.start.state_hash = state_hash;
        assert_eq!(
            self.state_hash(),
            state_hash,
            "the hash is that of what is stored"
        );
    }

    fn state_hash(&self) -> u128 {
        let balances = self.balances.values().map(hash::of_balance);
        let accounts = self.accounts.values().map(hash::of_account);
        balances.chain(accounts).fold(0, u128::wrapping_add)
    }
}
