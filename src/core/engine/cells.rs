//! Accounts and balances in memory: cells, how they are found, and the list of an account's
//! balances. Knows no rules and no batches.
//!
//! A balance's cell says whether its account is open, so that a command on balances that stand
//! needs their lines and none of the account's.

use crate::core::{
    engine::{
        Account, AccountStatus, Balance, Memory,
        table::{Arena, CELLS_MAX, Index, NIL, hash},
    },
    types::{AccountId, AssetId, Money, Position, Timestamp},
};

/// One balance: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct BalanceCell {
    pub(super) available: Money,
    pub(super) frozen: Money,
    pub(super) account: AccountId,
    pub(super) version: u64,
    /// [`Position::NONE`] while it was never touched.
    pub(super) last_position: Position,
    pub(super) asset: AssetId,
    link: Link,
}

const _: () = assert!(size_of::<BalanceCell>() == 64);

/// The account's next balance, in the order they came to memory, and two marks in its upper bits.
#[derive(Clone, Copy, Debug)]
struct Link(u32);

impl Link {
    /// Used since the hand of the clock last passed.
    const USED: u32 = 1 << 31;
    /// The account is not open: what may be done with it only its own cell says.
    const SHUT: u32 = 1 << 30;
    const MARKS: u32 = Self::USED | Self::SHUT;

    /// To this cell, or to none if it is [`NIL`].
    fn to(next: u32) -> Self {
        Self(next & !Self::MARKS)
    }

    fn next(self) -> u32 {
        match self.0 & !Self::MARKS {
            last if last == NIL & !Self::MARKS => NIL,
            next => next,
        }
    }

    fn has(self, mark: u32) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u32, on: bool) {
        self.0 = self.0 & !mark | if on { mark } else { 0 };
    }
}

// Every number of a cell, and none, fits beside the marks.
const _: () = assert!(CELLS_MAX == NIL & !Link::MARKS);

/// One account.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountCell {
    /// 0: the cell is free.
    pub(super) id: AccountId,
    pub(super) user: u64,
    pub(super) opened_at: Timestamp,
    /// The last command that changed the account itself since it was loaded, or
    /// [`Position::NONE`].
    pub(super) changed_at: Position,
    /// Its first balance, or [`NIL`].
    balances: u32,
    status: u8,
    /// Used since the hand of the clock last passed; so are its balances by themselves.
    pub(super) used: bool,
}

const _: () = assert!(size_of::<AccountCell>() == 40);

impl BalanceCell {
    /// Not yet hung on its account.
    fn of(balance: &Balance) -> Self {
        Self {
            available: balance.available,
            frozen: balance.frozen,
            account: balance.account,
            version: balance.version,
            last_position: balance.last_position,
            asset: balance.asset,
            link: Link::to(NIL),
        }
    }

    /// Takes over what a command decided.
    pub(super) fn set(&mut self, value: &Balance) {
        *self = Self {
            link: self.link,
            ..Self::of(value)
        };
    }

    /// Its account is open.
    pub(super) fn is_open(&self) -> bool {
        !self.link.has(Link::SHUT)
    }

    pub(super) fn value(&self) -> Balance {
        Balance {
            account: self.account,
            asset: self.asset,
            available: self.available,
            frozen: self.frozen,
            version: self.version,
            last_position: self.last_position,
        }
    }
}

impl AccountCell {
    /// As stored or just opened.
    pub(super) fn new(account: &Account) -> Self {
        let mut cell = Self {
            id: account.id,
            user: account.user,
            opened_at: account.opened_at,
            changed_at: Position::NONE,
            balances: NIL,
            status: 0,
            used: true,
        };
        cell.set_status(account.status);
        cell
    }

    pub(super) fn status(&self) -> AccountStatus {
        AccountStatus::try_from(i32::from(self.status)).expect("set from a status")
    }

    fn set_status(&mut self, status: AccountStatus) {
        assert!(
            status != AccountStatus::Unspecified,
            "E8: an account has a status"
        );
        self.status = u8::try_from(i32::from(status)).expect("statuses are small");
    }

    pub(super) fn value(&self) -> Account {
        Account {
            id: self.id,
            user: self.user,
            status: self.status(),
            opened_at: self.opened_at,
        }
    }
}

/// All accounts and balances in memory.
pub(super) struct Cells {
    accounts: Arena<AccountCell>,
    account_index: Index,
    balances: Arena<BalanceCell>,
    balance_index: Index,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self {
            accounts: Arena::new(),
            account_index: Index::new(),
            balances: Arena::new(),
            balance_index: Index::new(),
        }
    }

    pub(super) fn accounts(&self) -> usize {
        self.account_index.len()
    }

    pub(super) fn balances(&self) -> usize {
        self.balance_index.len()
    }

    /// Cell numbers of accounts, free ones included, are below.
    pub(super) fn account_cells(&self) -> usize {
        self.accounts.used()
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            balances: (self.balances.bytes()).saturating_add(self.balance_index.bytes()),
            accounts: (self.accounts.bytes()).saturating_add(self.account_index.bytes()),
        }
    }

    pub(super) fn find_account(&self, id: AccountId) -> Option<u32> {
        self.account_index
            .find(account_hash(id), |cell| self.accounts.get(cell).id == id)
    }

    pub(super) fn find_balance(&self, account: AccountId, asset: AssetId) -> Option<u32> {
        self.balance_index
            .find(balance_hash(account, asset), |cell| {
                let cell = self.balances.get(cell);
                cell.account == account && cell.asset == asset
            })
    }

    pub(super) fn balance_slot(&self, hash: u32) -> u64 {
        self.balance_index.home_slot(hash)
    }

    /// Most likely the cell of the balance with this hash; any cell if there is none.
    pub(super) fn likely_balance(&self, hash: u32) -> u32 {
        self.balance_index.likely(hash).unwrap_or(0)
    }

    pub(super) fn account(&self, cell: u32) -> &AccountCell {
        self.accounts.get(cell)
    }

    pub(super) fn account_mut(&mut self, cell: u32) -> &mut AccountCell {
        self.accounts.get_mut(cell)
    }

    pub(super) fn balance(&self, cell: u32) -> &BalanceCell {
        self.balances.get(cell)
    }

    pub(super) fn balance_mut(&mut self, cell: u32) -> &mut BalanceCell {
        self.balances.get_mut(cell)
    }

    /// A balance for a command: used from now on.
    pub(super) fn use_balance(&mut self, cell: u32) -> &BalanceCell {
        let balance = self.balances.get_mut(cell);
        balance.link.set(Link::USED, true);
        balance
    }

    /// Whether the account or one of its balances was used since this was last asked.
    pub(super) fn take_used(&mut self, account: u32) -> bool {
        let account = self.accounts.get_mut(account);
        let mut used = std::mem::take(&mut account.used);
        each_link(&mut self.balances, account.balances, |link| {
            used |= link.has(Link::USED);
            link.set(Link::USED, false);
        });
        used
    }

    /// Of an account, and what its balances say of it.
    pub(super) fn set_status(&mut self, account: u32, status: AccountStatus) {
        let account = self.accounts.get_mut(account);
        account.set_status(status);
        each_link(&mut self.balances, account.balances, |link| {
            link.set(Link::SHUT, status != AccountStatus::Open);
        });
    }

    /// Adds an account that is not there.
    pub(super) fn insert_account(&mut self, account: &Account) -> u32 {
        let cell = self.accounts.insert(AccountCell::new(account));
        self.account_index.insert(account_hash(account.id), cell);
        cell
    }

    /// Adds a balance that is not there to its account.
    pub(super) fn insert_balance(&mut self, account: u32, balance: &Balance) -> u32 {
        let owner = self.accounts.get_mut(account);
        assert!(
            owner.id == balance.account,
            "E9: a balance hangs on its own account"
        );
        let mut link = Link::to(owner.balances);
        link.set(Link::SHUT, owner.status() != AccountStatus::Open);
        let cell = self.balances.insert(BalanceCell {
            link,
            ..BalanceCell::of(balance)
        });
        owner.balances = cell;
        self.balance_index
            .insert(balance_hash(balance.account, balance.asset), cell);
        cell
    }

    /// Forgets an account with all its balances.
    pub(super) fn remove_account(&mut self, account: u32) {
        let AccountCell {
            id, mut balances, ..
        } = *self.accounts.get(account);
        while balances != NIL {
            let BalanceCell { asset, link, .. } = *self.balances.get(balances);
            self.balance_index.remove(balance_hash(id, asset), balances);
            self.balances.remove(balances);
            balances = link.next();
        }
        self.account_index.remove(account_hash(id), account);
        self.accounts.get_mut(account).id = AccountId(0);
        self.accounts.remove(account);
    }

    /// The balances of an account, in no order that may decide anything.
    pub(super) fn balances_of(&self, account: u32) -> impl Iterator<Item = &BalanceCell> {
        let mut next = self.accounts.get(account).balances;
        std::iter::from_fn(move || {
            if next == NIL {
                return None;
            }
            let cell = self.balances.get(next);
            next = cell.link.next();
            Some(cell)
        })
    }
}

/// Goes along an account's balances, from its first one.
fn each_link(balances: &mut Arena<BalanceCell>, mut next: u32, mut see: impl FnMut(&mut Link)) {
    while next != NIL {
        let link = &mut balances.get_mut(next).link;
        see(link);
        next = link.next();
    }
}

fn account_hash(account: AccountId) -> u32 {
    hash(account.0, 0)
}

pub(super) fn balance_hash(account: AccountId, asset: AssetId) -> u32 {
    hash(account.0, u64::from(asset.0))
}
