//! The engine's memory: what is resident, what the current batch changed, what is not flushed yet.
//! The rules that change it are in `rules`.
//!
//! Nothing is marked dirty. Positions rise, so that a balance was changed by the current batch if
//! its `last_position` is not below the batch's first position, and is not flushed if it is not
//! below the first position of the oldest batch under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::{
    canary::{self, Guard},
    engine::{
        Account, AccountWrite, Balance, BalanceWrite, Changes, Reversal, Start,
        cells::{AccountCell, BalanceCell, Cells},
        hash,
        rules::Scratch,
    },
    interval_set::IntervalSet,
    types::{AccountId, AssetId, CommandId, Position, SEQUENCE_MAX, Sequence, ShardId, Timestamp},
};

/// The balances and accounts of one shard, and the rules on them. One task owns it.
pub struct Engine {
    pub(super) shard: ShardId,
    pub(super) applied: IntervalSet,
    pub(super) applied_at: Timestamp,
    passed_at: Timestamp,
    pub(super) cells: Cells,
    /// Of the last command that was not skipped.
    pub(super) last_position: Position,
    pub(super) batch: Batch,
    /// Loaded for this batch and not found.
    pub(super) absent: BTreeSet<AccountId>,
    /// Target → (REVERSE, its batch), until flushed and trimmed.
    pub(super) reversals: BTreeMap<CommandId, (CommandId, u64)>,
    /// Batches taken and not flushed, with their first positions.
    unflushed: VecDeque<(u64, Option<Position>)>,
    flushed: u64,
    /// State hash without what the current batch touched.
    pub(super) untouched_hash: u128,
    /// Where the clock's hand stands among the account cells.
    hand: u32,
    pub(super) scratch: Scratch,
}

/// What the current batch changed.
pub(super) struct Batch {
    /// From 1.
    number: u64,
    /// Of its first command that was not skipped.
    pub(super) from: Option<Position>,
    pub(super) applied: IntervalSet,
    /// (cell, version before the batch).
    pub(super) balances: Vec<(u32, u64)>,
    /// (cell, opened by the batch).
    pub(super) accounts: Vec<(u32, bool)>,
    pub(super) reversals: Vec<Reversal>,
}

impl Batch {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Engine {
    /// An engine with nothing resident.
    pub fn new(start: Start) -> Self {
        Self {
            shard: start.shard,
            applied: start.applied,
            applied_at: start.applied_at,
            passed_at: start.passed_at,
            cells: Cells::new(),
            last_position: Position::NONE,
            batch: Batch {
                number: 1,
                from: None,
                applied: IntervalSet::new(),
                balances: Vec::new(),
                accounts: Vec::new(),
                reversals: Vec::new(),
            },
            absent: BTreeSet::new(),
            reversals: BTreeMap::new(),
            unflushed: VecDeque::new(),
            flushed: 0,
            untouched_hash: start.state_hash,
            hand: 0,
            scratch: Scratch::default(),
        }
    }

    /// Whose engine this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Every number applied, rejected, discarded or sealed.
    pub fn applied(&self) -> &IntervalSet {
        &self.applied
    }

    /// `applied_at` of the last outcome.
    pub fn applied_at(&self) -> Timestamp {
        self.applied_at
    }

    /// The greatest tick.
    pub fn passed_at(&self) -> Timestamp {
        self.passed_at
    }

    /// Of all balances and accounts of the shard, resident or not (see [`hash`]). Costs one hash
    /// for each balance and account that the current batch touched: cheap after `take_changes`.
    pub fn state_hash(&self) -> u128 {
        let balances = self
            .batch
            .balances
            .iter()
            .map(|&(cell, _)| self.balance_hash(cell));
        let accounts = self
            .batch
            .accounts
            .iter()
            .map(|&(cell, _)| self.account_hash(cell));
        balances
            .chain(accounts)
            .fold(self.untouched_hash, u128::wrapping_add)
    }

    /// Whether a command on this account can be applied: it is in memory, or was looked for and
    /// not found for this batch. Who plans the load of a later batch asks before this batch's
    /// load is installed or after `take_changes`: between the two, absence holds for this batch
    /// only.
    pub fn is_resident(&self, account: AccountId) -> bool {
        self.cells.find_account(account).is_some() || self.absent.contains(&account)
    }

    /// Takes an account with all its balances from a load; does nothing if it is present, because
    /// what is in memory is never older. A clearing account is installed the same way, as open with
    /// user 0; one without any balance may be noted as absent instead.
    pub fn install(&mut self, account: Account, balances: &[Balance]) {
        if self.cells.find_account(account.id).is_some() {
            return;
        }
        let owner = self.cells.insert_account(&account);
        for balance in balances {
            assert!(
                balance.account == account.id,
                "E8: a balance comes with its own account"
            );
            assert!(balance.version > 0, "E8: a stored balance was touched");
            self.cells.insert_balance(owner, balance);
        }
    }

    /// The load did not find this account. Forgotten by `trim`, not by `take_changes`: what was
    /// planned with one load may be flushed in several batches.
    pub fn note_absent(&mut self, account: AccountId) {
        if self.cells.find_account(account).is_none() {
            self.absent.insert(account);
        }
    }

    /// Moves the shard's time forward, never back.
    pub fn tick(&mut self, now: Timestamp) {
        self.passed_at = self.passed_at.max(now);
    }

    /// Adds the numbers of `first ..= last` that are not applied; how many these were. A range that
    /// is none (upside down, or beyond the numbers there are) adds nothing.
    pub fn seal(&mut self, first: Sequence, last: Sequence) -> u64 {
        if first.0 == 0 || first > last || last.0 > SEQUENCE_MAX {
            return 0;
        }
        let mut fresh = IntervalSet::new();
        for (first, last) in self.applied.gaps(first.0, last.0) {
            fresh.insert_range(first, last);
        }
        assert!(
            !self.applied.overlaps(&fresh),
            "E10: a number is applied once"
        );
        self.applied.extend(&fresh);
        self.batch.applied.extend(&fresh);
        fresh.count()
    }

    /// Ends the batch: everything changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        // Keys are sorted, each with its place, and not the values, which are six times as long. They
        // come first, because reading little of each cell brings the cells fast.
        let touched = self.batch.balances.iter();
        let mut order: Vec<u128> = (0_u32..)
            .zip(touched)
            .map(|(place, &(cell, _))| {
                let balance = self.cells.balance(cell);
                let key = u128::from(balance.account.0) << 32 | u128::from(balance.asset.0);
                key << 32 | u128::from(place)
            })
            .collect();
        order.sort_unstable();
        self.untouched_hash = self.state_hash();
        let cells = &self.cells;
        let balances = order.iter().map(|key| {
            let (cell, expected_version) = self.batch.balances[*key as u32 as usize];
            BalanceWrite {
                balance: cells.balance(cell).value(),
                expected_version,
            }
        });
        let balances = balances.collect();
        self.batch.balances.clear();
        let mut accounts: Vec<AccountWrite> = (self.batch.accounts.drain(..))
            .map(|(cell, opens)| AccountWrite {
                account: cells.account(cell).value(),
                opens,
            })
            .collect();
        accounts.sort_unstable_by_key(|write| write.account.id);
        let mut reversals = std::mem::take(&mut self.batch.reversals);
        reversals.sort_unstable_by_key(|reversal| reversal.target);

        let batch = self.batch.number;
        self.unflushed.push_back((batch, self.batch.from.take()));
        self.batch.number = batch.saturating_add(1);
        let applied = std::mem::take(&mut self.batch.applied);
        Changes {
            batch,
            applied,
            balances,
            accounts,
            reversals,
        }
    }

    /// `batch` and those before it are durable.
    pub fn flushed(&mut self, batch: u64) {
        assert!(
            batch < self.batch.number,
            "E11: only a taken batch is flushed"
        );
        self.flushed = self.flushed.max(batch);
        while self
            .unflushed
            .front()
            .is_some_and(|&(first, _)| first <= batch)
        {
            self.unflushed.pop_front();
        }
    }

    /// Forgets who was absent and the flushed reversals, and evicts flushed accounts, cold ones first, while more than
    /// `accounts_max` are resident. To be called between batches, while no load is under way: a
    /// load that was sent before may be older than what is forgotten here.
    pub fn trim(&mut self, accounts_max: usize) {
        self.absent.clear();
        self.reversals
            .retain(|_, &mut (_, batch)| batch > self.flushed);
        let cells = self.cells.account_cells();
        // The first round may only find that all were used lately.
        for _ in 0..cells.saturating_mul(2) {
            if self.cells.accounts() <= accounts_max {
                return;
            }
            let cell = self.hand;
            self.hand = self.hand.wrapping_add(1);
            if self.hand as usize >= cells {
                self.hand = 0;
            }
            self.pass(cell);
        }
    }

    /// The clock's hand passes an account: it is evicted unless it is free, in use or not flushed.
    fn pass(&mut self, cell: u32) {
        if self.cells.account(cell).id.0 == 0 || self.cells.take_used(cell) {
            return;
        }
        let clean_below = match canary::is_off(Guard::DirtyPin) {
            false => self.clean_below(),
            true => self.batch.from.unwrap_or(Position(i64::MAX)),
        };
        if self.cells.account(cell).changed_at < clean_below
            && self
                .cells
                .balances_of(cell)
                .all(|balance| balance.last_position < clean_below)
        {
            assert!(
                self.batch
                    .accounts
                    .iter()
                    .all(|&(touched, _)| touched != cell),
                "E12: an account of the current batch is not evicted"
            );
            self.cells.remove_account(cell);
        }
    }

    /// What was last changed below this position is flushed.
    fn clean_below(&self) -> Position {
        let batches = self.unflushed.iter().map(|&(_, from)| from);
        let oldest = batches.chain([self.batch.from]).flatten().next();
        oldest.unwrap_or(Position(i64::MAX))
    }

    /// An account in memory.
    pub fn account(&self, id: AccountId) -> Option<Account> {
        let cell = self.cells.find_account(id)?;
        Some(self.cells.account(cell).value())
    }

    /// Every account in memory, in no order that may decide anything.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        let cells = 0..u32::try_from(self.cells.account_cells()).expect("cells have 32 bits");
        cells
            .map(|cell| self.cells.account(cell))
            .filter(|account| account.id.0 != 0)
            .map(AccountCell::value)
    }

    /// A balance in memory.
    pub fn balance(&self, account: AccountId, asset: AssetId) -> Option<Balance> {
        let cell = self.cells.find_balance(account, asset)?;
        Some(self.cells.balance(cell).value())
    }

    /// The balances of an account in memory, by asset id; none if it is not resident.
    pub fn balances_of(&self, account: AccountId) -> impl Iterator<Item = Balance> + use<> {
        let mut balances: Vec<Balance> = match self.cells.find_account(account) {
            Some(cell) => self
                .cells
                .balances_of(cell)
                .map(BalanceCell::value)
                .collect(),
            None => Vec::new(),
        };
        balances.sort_unstable_by_key(|balance| balance.asset);
        balances.into_iter()
    }

    /// The balances of an account in memory that are as they were flushed or loaded, by asset id.
    pub fn flushed_balances_of(&self, account: AccountId) -> impl Iterator<Item = Balance> + use<> {
        let below = self.clean_below();
        self.balances_of(account)
            .filter(move |balance| balance.last_position < below)
    }

    /// How many accounts are in memory.
    pub fn accounts_resident(&self) -> usize {
        self.cells.accounts()
    }

    /// How many balances are in memory.
    pub fn balances_resident(&self) -> usize {
        self.cells.balances()
    }

    pub(super) fn balance_hash(&self, cell: u32) -> u128 {
        hash::of_balance(&self.cells.balance(cell).value())
    }

    pub(super) fn account_hash(&self, cell: u32) -> u128 {
        hash::of_account(&self.cells.account(cell).value())
    }
}
