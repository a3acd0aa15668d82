//! The stored rows of a shard against the fold of its journal. No I/O.

use std::collections::BTreeMap;

use super::{
    finding::{Finding, Kind, amount_of, balance_of},
    fold::Fold,
    state::{Cell, Moved},
};
use crate::core::{
    assets::Assets,
    engine::{Account, AccountStatus, Balance, hash},
    store::BalanceRepair,
    types::{AccountId, AssetId, Money, Position, ShardId, Timestamp},
};

/// Most balances of a shard that one run repairs.
pub const REPAIRS_MAX: usize = 10_000;

/// What there is of an asset in a shard, in minor units; `None`: beyond 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Available, by the balance rows.
    pub available: Option<i128>,
    /// Frozen, by the balance rows.
    pub frozen: Option<i128>,
    /// What entered less what left, by the entries.
    pub moved: Option<i128>,
}

/// A stored account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRow {
    pub account: u64,
    pub user: u64,
    pub status: i16,
    /// As on the wire: microseconds since 2000.
    pub opened_at: i64,
}

/// Rows of a shard as they come, beside its fold.
pub struct Comparison<'a> {
    shard: ShardId,
    assets: &'a Assets,
    /// The whole journal was read.
    pub fold: Fold<'a>,
    /// Nothing of the journal is damaged: it says what the rows must be.
    pub is_whole: bool,
    pub balances: u64,
    pub accounts: u64,
    pub repairs: Vec<BalanceRepair>,
    /// What the repairs change of the hash.
    repairs_hash: u128,
    /// What the state hash must be; `None`: it cannot be known.
    hash: Option<u128>,
    stored: BTreeMap<u32, Moved>,
}

impl<'a> Comparison<'a> {
    /// With a journal that was read to its end, and what the shard's row says of that end.
    pub fn new(shard: ShardId, assets: &'a Assets, mut fold: Fold<'a>, last_result: i64) -> Self {
        if fold.end.position != last_result {
            let text = |position| format!("last result at {}", Position(position));
            let (stored, expected) = (text(fold.end.position), text(last_result));
            let finding = Finding::new(Kind::Results, shard, stored, expected);
            fold.find(finding.position(last_result));
        }
        Self::of_account(shard, assets, fold)
    }

    /// Of one account, without a word on the shard.
    pub fn of_account(shard: ShardId, assets: &'a Assets, fold: Fold<'a>) -> Self {
        Self {
            shard,
            assets,
            is_whole: !fold.is_damaged,
            fold,
            balances: 0,
            accounts: 0,
            repairs: Vec::new(),
            repairs_hash: 0,
            hash: Some(0),
            stored: BTreeMap::new(),
        }
    }

    /// A row of `balance`.
    pub fn balance(&mut self, row: &Balance) {
        self.balances += 1;
        let (available, frozen) = (row.available.minor_units(), row.frozen.minor_units());
        let stored = self.stored.entry(row.asset.0).or_insert(Moved {
            available: Some(0),
            frozen: Some(0),
        });
        let add = |sum: Option<i128>, amount| sum.and_then(|sum| sum.checked_add(amount));
        stored.available = add(stored.available, available);
        stored.frozen = add(stored.frozen, frozen);
        let (account, asset) = (row.account.0, row.asset.0);
        let other = self.fold.other(account, asset);
        let Some(cell) = self.fold.balance(account, asset) else {
            if !self.is_whole {
                self.add_hash(hash::of_balance(row));
            }
            return self.differs(account, asset, Some(row), None);
        };
        cell.is_seen = true;
        let is_torn = cell.is_torn;
        let place = (row.version, row.last_position.0) == (cell.version, cell.last_position);
        let amounts = [Some((cell.available, cell.frozen)), other];
        let agrees = place && amounts.contains(&Some((available, frozen)));
        let expected = balance_of_cell(cell);
        match expected.filter(|_| self.is_whole && !is_torn) {
            Some(expected) => self.add_hash(hash::of_balance(&expected)),
            None => self.add_hash(hash::of_balance(row)),
        }
        if !agrees {
            self.differs(account, asset, Some(row), expected);
        }
    }

    /// Behind the last row of `balance`: what the journal has and the table has not.
    pub fn balances_end(&mut self) {
        let unseen = self.fold.cells.iter().filter(|cell| !cell.is_seen);
        let missing: Vec<_> = unseen.map(|cell| (cell.account, cell.asset)).collect();
        for (account, asset) in missing {
            let cell = self.fold.balance(account, asset).expect("it was listed");
            let expected = balance_of_cell(cell);
            if let Some(expected) = expected.filter(|_| self.is_whole) {
                self.add_hash(hash::of_balance(&expected));
            }
            self.differs(account, asset, None, expected);
        }
    }

    fn differs(
        &mut self,
        account: u64,
        asset: u32,
        row: Option<&Balance>,
        expected: Option<Balance>,
    ) {
        let show = |balance: Option<&Balance>| {
            balance.map_or("no row".into(), |balance| balance_of(self.assets, balance))
        };
        let (stored, said) = (show(row), show(expected.as_ref()));
        let version = row.or(expected.as_ref()).map_or(0, |one| one.version);
        let position = row
            .or(expected.as_ref())
            .map_or(-1, |one| one.last_position.0);
        let finding = Finding::new(Kind::Balance, self.shard, stored, said)
            .balance(account, asset)
            .version(version)
            .position(position);
        self.fold.find(finding);
        if self.is_whole && self.repairs.len() < REPAIRS_MAX {
            let of = |balance: Option<&Balance>| balance.map_or(0, hash::of_balance);
            let change = of(expected.as_ref()).wrapping_sub(of(row));
            self.repairs_hash = self.repairs_hash.wrapping_add(change);
            self.repairs.push(BalanceRepair {
                account: AccountId(account),
                asset: AssetId(asset),
                becomes: expected,
            });
        }
    }

    /// A row of `account`.
    pub fn account(&mut self, row: &AccountRow) {
        self.accounts += 1;
        let text = |status: Option<AccountStatus>, at: i64| {
            let status = status.map_or("?", |status| status.as_str_name());
            let at = Timestamp(at.saturating_add(super::POSTGRES_EPOCH));
            format!(
                "{} since {at}",
                status.trim_start_matches("ACCOUNT_STATUS_")
            )
        };
        let status = AccountStatus::try_from(i32::from(row.status)).ok();
        let stored = text(status, row.opened_at);
        let opened = self.fold.accounts.get_mut(&row.account);
        let expected = opened.map(|opened| {
            opened.is_seen = true;
            *opened
        });
        let status = expected
            .filter(|_| self.is_whole)
            .map(|opened| opened.status)
            .or(status);
        match status {
            Some(status) => self.add_hash(hash::of_account(&Account {
                id: AccountId(row.account),
                user: row.user,
                status,
                opened_at: Timestamp(0),
            })),
            None => self.hash = None,
        }
        let said = expected.map(|opened| text(Some(opened.status), opened.at));
        if said.as_ref() != Some(&stored) {
            let said = said.unwrap_or("never opened".into());
            let finding = Finding::new(Kind::Account, self.shard, stored, said);
            self.fold.find(finding.account(row.account));
        }
    }

    /// Behind the last row of `account`.
    pub fn accounts_end(&mut self) {
        let unseen = self.fold.accounts.iter().filter(|(_, it)| !it.is_seen);
        let mut missing: Vec<u64> = unseen.map(|(account, _)| *account).collect();
        missing.sort_unstable();
        for account in missing {
            // Its user is known to nobody else.
            self.hash = None;
            let finding = Finding::new(Kind::Account, self.shard, "no row", "an account");
            self.fold.find(finding.account(account));
        }
    }

    /// A row of `balance_mark`; time as on the wire.
    pub fn mark(&mut self, account: u64, asset: u32, version: u64, mark: (i64, i64)) {
        let said = self.fold.marks.remove(&(account, asset, version));
        if said == Some(mark) || (said.is_none() && !self.is_whole) {
            return;
        }
        let show = |(position, at): (i64, i64)| {
            let at = Timestamp(at.saturating_add(super::POSTGRES_EPOCH));
            format!("position {} at {at}", Position(position))
        };
        let said = said.map_or("no entry of this version".into(), show);
        let finding = Finding::new(Kind::Mark, self.shard, show(mark), said);
        let finding = finding.balance(account, asset).version(version);
        self.fold.find(finding.position(mark.0));
    }

    /// Behind the last row of `balance_mark`.
    pub fn marks_end(&mut self) {
        let mut missing: Vec<_> = std::mem::take(&mut self.fold.marks).into_iter().collect();
        missing.sort_unstable();
        for ((account, asset, version), (position, _)) in missing {
            let expected = format!("position {}", Position(position));
            let finding = Finding::new(Kind::Mark, self.shard, "no row", expected);
            let finding = finding.balance(account, asset).version(version);
            self.fold.find(finding.position(position));
        }
    }

    /// Of all rows: each asset's total, by its id.
    pub fn totals(&mut self) -> BTreeMap<AssetId, Total> {
        let zero = Moved {
            available: Some(0),
            frozen: Some(0),
        };
        let assets = self.stored.keys().chain(self.fold.moved.keys());
        let assets: std::collections::BTreeSet<u32> = assets.copied().collect();
        let sum = |moved: Moved| moved.available?.checked_add(moved.frozen?);
        let mut totals = BTreeMap::new();
        for asset in assets {
            let stored = self.stored.get(&asset).copied().unwrap_or(zero);
            let moved = sum(self.fold.moved.get(&asset).copied().unwrap_or(zero));
            totals.insert(
                AssetId(asset),
                Total {
                    available: stored.available,
                    frozen: stored.frozen,
                    moved,
                },
            );
            let (there, moved) = match (sum(stored), moved) {
                (Some(there), Some(moved)) if there != moved => (there, moved),
                // Equal, or too large to say.
                _ => continue,
            };
            let show = |amount| amount_of(self.assets, asset, amount);
            let (stored, expected) = (show(there), show(moved));
            let mut finding = Finding::new(Kind::Total, self.shard, stored, expected);
            finding.asset = Some(AssetId(asset));
            self.fold.find(finding);
        }
        totals
    }

    /// The state hash that goes with the repairs: it stays where the journal says the same. Else it
    /// follows what is repaired, and what else is wrong with it stays to be seen.
    pub fn repaired_hash(&self, stored: u128) -> u128 {
        match self.hash {
            Some(hash) if hash == stored => stored,
            _ => stored.wrapping_add(self.repairs_hash),
        }
    }

    /// Of all rows: the state hash that the shard's row says.
    pub fn state_hash(&mut self, stored: u128) {
        if let Some(hash) = self.hash.filter(|hash| *hash != stored) {
            let text = |hash| format!("{hash:032x}");
            let finding = Finding::new(Kind::StateHash, self.shard, text(stored), text(hash));
            self.fold.find(finding);
        }
    }

    fn add_hash(&mut self, summand: u128) {
        self.hash = self.hash.map(|hash| hash.wrapping_add(summand));
    }
}

/// As a row would say it; `None`: beyond what a row can hold.
pub fn balance_of_cell(cell: &Cell) -> Option<Balance> {
    Some(Balance {
        account: AccountId(cell.account),
        asset: AssetId(cell.asset),
        available: Money::new(cell.available)?,
        frozen: Money::new(cell.frozen)?,
        version: cell.version,
        last_position: Position(cell.last_position),
    })
}
