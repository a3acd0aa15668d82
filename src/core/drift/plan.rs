//! What to look at, and what a look says. Pure: no clock, no I/O.
//!
//! Reads are taken in one order: the leader's memory and Redis first, PostgreSQL last. Both follow
//! a commit, so what they have must be in PostgreSQL by then: an earlier version is only lag, the
//! same version must have the same amounts, and a later one cannot be.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{
    cache::Snapshot,
    engine::Balance,
    store::drift::{Difference, DriftKind, Standing, StandingBalance},
    types::{AccountId, AssetId, Epoch},
};

/// Accounts that changed lately are remembered for so many looks' worth: each of them is looked at
/// again within so many seconds.
pub const HOT_LOOKS: usize = 8;
/// Places that a newcomer may pass when all are taken.
const PASSED_MAX: usize = 8;
/// The part of a look for accounts in turn, whether they changed or not.
const TURN_PART: usize = 4;

/// Which accounts are looked at, of one shard.
#[derive(Debug)]
pub struct Plan {
    /// Most accounts of a look.
    accounts_max: usize,
    hot: Vec<Hot>,
    places: BTreeMap<AccountId, usize>,
    /// Where the next look goes on among `hot`.
    next: usize,
    /// Where the next newcomer looks for a place.
    hand: usize,
    /// The accounts in turn go on behind this one.
    behind: AccountId,
}

/// An account that changed lately.
#[derive(Debug)]
struct Hot {
    account: AccountId,
    /// Commits that changed it, halved with each look and each newcomer that wanted its place.
    heat: u32,
}

impl Plan {
    /// A plan that knows no account.
    pub fn new(accounts_max: usize) -> Self {
        Self {
            accounts_max,
            hot: Vec::new(),
            places: BTreeMap::new(),
            next: 0,
            hand: 0,
            behind: AccountId(0),
        }
    }

    /// A commit changed these accounts.
    pub fn changed(&mut self, accounts: &[AccountId]) {
        for account in accounts {
            if let Some(&place) = self.places.get(account) {
                self.hot[place].heat = self.hot[place].heat.saturating_add(1);
            } else {
                self.admit(*account);
            }
        }
    }

    /// Takes a free place, else that of an account that is colder.
    fn admit(&mut self, account: AccountId) {
        if self.hot.len() < self.accounts_max * HOT_LOOKS {
            self.places.insert(account, self.hot.len());
            self.hot.push(Hot { account, heat: 0 });
            return;
        }
        for _ in 0..PASSED_MAX.min(self.hot.len()) {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.hot.len();
            let stands = &mut self.hot[place];
            if stands.heat == 0 {
                self.places.remove(&stands.account);
                self.places.insert(account, place);
                stands.account = account;
                return;
            }
            stands.heat /= 2;
        }
    }

    /// How many accounts in turn the next look has room for, and behind which one they begin.
    pub fn turn(&self) -> (AccountId, usize) {
        let hot = self.hot.len().min(self.accounts_max - self.turn_min());
        (self.behind, self.accounts_max - hot)
    }

    fn turn_min(&self) -> usize {
        (self.accounts_max / TURN_PART).max(1)
    }

    /// The accounts of the next look: those found before, those that changed lately, and those in
    /// turn, as `turn` asked for them.
    pub fn accounts(&mut self, open: &[AccountId], in_turn: &[AccountId]) -> Vec<AccountId> {
        let (_, room) = self.turn();
        self.behind = match in_turn.last() {
            Some(last) if in_turn.len() == room => *last,
            _ => AccountId(0),
        };
        let mut wanted: BTreeSet<AccountId> = in_turn.iter().take(room).copied().collect();
        for _ in 0..self.hot.len().min(self.accounts_max - room) {
            let hot = &mut self.hot[self.next];
            hot.heat /= 2;
            wanted.insert(hot.account);
            self.next = (self.next + 1) % self.hot.len();
        }
        wanted.extend(open.iter().take(self.accounts_max));
        wanted.into_iter().collect()
    }
}

/// What was read before PostgreSQL.
#[derive(Debug)]
pub struct Before {
    /// The leader's epoch.
    pub epoch: Epoch,
    /// What it has flushed or loaded.
    pub memory: Vec<Balance>,
    /// Of the accounts that Redis has.
    pub cached: Vec<Snapshot>,
}

/// What differs; `None`: another leader took over meanwhile, and nothing can be said.
pub fn differences(before: &Before, standing: &Standing) -> Option<Vec<Difference>> {
    if standing.epoch != before.epoch {
        return None;
    }
    let rows = standing
        .accounts
        .iter()
        .flat_map(|account| &account.balances);
    let rows: BTreeMap<(AccountId, AssetId), &StandingBalance> = rows
        .map(|row| ((row.balance.account, row.balance.asset), row))
        .collect();
    let asked: BTreeSet<AccountId> = standing.accounts.iter().map(|one| one.id).collect();
    let mut found: Vec<Difference> = rows.values().filter_map(|row| from_journal(row)).collect();
    let memory = before.memory.iter().map(|one| (DriftKind::Memory, one));
    let cached = before.cached.iter().flat_map(|one| &one.balances);
    for (kind, ours) in memory.chain(cached.map(|one| (DriftKind::Redis, one))) {
        if asked.contains(&ours.account) {
            let row = rows
                .get(&(ours.account, ours.asset))
                .map(|row| &row.balance);
            found.extend(from_copy(kind, ours, row));
        }
    }
    // Where the row itself is wrong, Redis is not what needs repair.
    let is_wrong = |one: &Difference| one.kind != DriftKind::Redis;
    let wrong = found.iter().filter(|one| is_wrong(one));
    let wrong: BTreeSet<_> = wrong.map(|one| (one.account, one.asset)).collect();
    found.retain(|one| is_wrong(one) || !wrong.contains(&(one.account, one.asset)));
    Some(found)
}

/// The row must be what its last entry left: both were committed by one statement.
fn from_journal(row: &StandingBalance) -> Option<Difference> {
    let (ours, position) = (&row.balance, row.balance.last_position);
    let entry = row
        .entry
        .map(|entry| (entry.available, entry.frozen, entry.version));
    if entry == Some((ours.available, ours.frozen, ours.version)) {
        return None;
    }
    let says = match row.entry {
        None => format!("the journal has no entry of it at position {position}"),
        Some(entry) => format!(
            "its entry at position {position} left available {}, frozen {}, version {}",
            entry.available.minor_units(),
            entry.frozen.minor_units(),
            entry.version
        ),
    };
    Some(Difference {
        account: ours.account,
        asset: ours.asset,
        version: ours.version,
        kind: DriftKind::Journal,
        detail: format!("the row has {}; {says}", amounts(ours)),
    })
}

/// A copy that was made after a commit, and read before the row.
fn from_copy(kind: DriftKind, copy: &Balance, row: Option<&Balance>) -> Option<Difference> {
    let version = row.map_or(0, |row| row.version);
    let is_lag = copy.version < version;
    let is_same = row.is_some_and(|row| {
        (row.version, row.available, row.frozen) == (copy.version, copy.available, copy.frozen)
    });
    if is_lag || is_same {
        return None;
    }
    let holder = match kind {
        DriftKind::Redis => "Redis",
        _ => "the leader",
    };
    let stored = row.map_or("there is no row".into(), |row| {
        format!("the row has {}", amounts(row))
    });
    Some(Difference {
        account: copy.account,
        asset: copy.asset,
        version,
        kind,
        detail: format!("{stored}; {holder} has {}", amounts(copy)),
    })
}

fn amounts(balance: &Balance) -> String {
    format!(
        "available {}, frozen {}, version {}",
        balance.available.minor_units(),
        balance.frozen.minor_units(),
        balance.version
    )
}

/// What both looks found, as the second one has it.
pub fn confirmed(first: &[Difference], second: Vec<Difference>) -> Vec<Difference> {
    let name = |one: &Difference| (one.account, one.asset, one.kind);
    let before: BTreeSet<_> = first.iter().map(name).collect();
    let again = second.into_iter();
    again.filter(|one| before.contains(&name(one))).collect()
}

#[cfg(test)]
mod tests;
