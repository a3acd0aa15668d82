//! The rules of a whole command, tried on a copy of the books.

use crate::core::{
    command::{CHANGES_MAX, Command, CommandKind, Move},
    engine::{
        Account, AccountStatus, Entry, Reject, RejectCode,
        model::{
            Model,
            books::{Attempt, Books},
        },
    },
    types::{AccountId, AssetId, Money, Position},
};

impl Model {
    pub(super) fn try_on(
        &self,
        books: &mut Books,
        at: Position,
        command: &Command,
    ) -> Result<Vec<Entry>, Reject> {
        let plain = |code| Reject::new(code, 0, command.account);
        self.shape(command)?;
        if command.kind == CommandKind::OpenAccount {
            if books.accounts.contains_key(&command.account) {
                return Err(plain(RejectCode::AccountExists));
            }
            let account = Account {
                id: command.account,
                user: command.user,
                status: AccountStatus::Open,
                opened_at: self.applied_at,
            };
            books.accounts.insert(account.id, account);
        }
        let mut named = vec![(0, command.account)];
        named.extend((0..).zip(command.changes.iter().map(|change| change.account)));
        for &(leg, account) in &named {
            if books.status(account).is_none() {
                return Err(Reject::new(RejectCode::AccountNotFound, leg, account));
            }
        }
        let undone = self.undone(command)?;
        named.extend(undone.iter().map(|attempt| (attempt.leg, attempt.account)));
        for &(leg, account) in &named {
            let code = match (books.status(account), command.kind) {
                (None, _) => RejectCode::AccountNotFound,
                (Some(AccountStatus::Closed), _) => RejectCode::AccountClosed,
                (_, CommandKind::BlockAccount | CommandKind::UnblockAccount) => continue,
                (Some(AccountStatus::Blocked), _) => RejectCode::AccountBlocked,
                _ => continue,
            };
            return Err(Reject::new(code, leg, account));
        }
        match command.kind {
            CommandKind::BlockAccount => books.set(command.account, AccountStatus::Blocked),
            CommandKind::UnblockAccount => books.set(command.account, AccountStatus::Open),
            CommandKind::CloseAccount => {
                books.empty(command.account)?;
                books.set(command.account, AccountStatus::Closed);
            }
            _ => {}
        }
        let mut entries = Vec::new();
        for (leg, change) in (0..).zip(&command.changes) {
            entries.push(books.change(at, leg, change)?);
        }
        for attempt in undone {
            entries.push(books.attempt(at, attempt)?);
        }
        // A chain leads from command to command, not from entry to entry.
        for entry in &mut entries {
            let before = self.books.balances.get(&(entry.account, entry.asset));
            entry.previous_position = before.map_or(Position::NONE, |before| before.last_position);
        }
        Ok(entries)
    }

    fn shape(&self, command: &Command) -> Result<(), Reject> {
        let kind = command.kind;
        let own = |account: AccountId| account == AccountId::clearing(self.shard);
        let (fewest, most) = match kind {
            CommandKind::Unspecified => (1, 0),
            CommandKind::Change => (1, CHANGES_MAX),
            CommandKind::Transfer => (2, CHANGES_MAX),
            CommandKind::OpenAccount => (0, CHANGES_MAX),
            _ => (0, 0),
        };
        let moves_money = [
            CommandKind::Change,
            CommandKind::Transfer,
            CommandKind::Reverse,
        ]
        .contains(&kind);
        let good = command.changes.len() >= fewest
            && command.changes.len() <= most
            && (command.account.is_callers() || moves_money && own(command.account))
            && (kind == CommandKind::Reverse || command.reverses.is_none())
            && (kind != CommandKind::Reverse || command.reverses.is_some())
            && (kind == CommandKind::OpenAccount || command.user == 0 && command.pin.is_none());
        if !good {
            return Err(Reject::new(RejectCode::Invalid, 0, command.account));
        }
        for (leg, change) in (0..).zip(&command.changes) {
            let foreign = kind == CommandKind::OpenAccount && change.account != command.account;
            let unknown = !change.account.is_callers() && !own(change.account);
            let assetless = [Some(change.primary), change.fallback]
                .iter()
                .flatten()
                .any(|mv| mv.asset == AssetId(0));
            let two_ways = kind == CommandKind::Transfer && change.fallback.is_some();
            if foreign || unknown || assetless || two_ways {
                return Err(Reject::new(RejectCode::Invalid, leg, change.account));
            }
        }
        if kind == CommandKind::Transfer {
            transfer_sums(command)?;
        }
        Ok(())
    }

    /// What a REVERSE takes back, in its order; nothing for other kinds.
    fn undone(&self, command: &Command) -> Result<Vec<Attempt>, Reject> {
        let Some(reverses) = command.reverses else {
            return Ok(Vec::new());
        };
        let plain = |code| Reject::new(code, 0, command.account);
        let (outcome, entries) = self
            .history
            .get(&reverses)
            .ok_or(plain(RejectCode::NothingToReverse))?;
        let fits = outcome.reject.is_none()
            && outcome.account == command.account
            && [CommandKind::Change, CommandKind::Transfer].contains(&outcome.kind);
        if !fits {
            return Err(plain(RejectCode::NothingToReverse));
        }
        if self.reversed.contains_key(&reverses) {
            return Err(plain(RejectCode::AlreadyReversed));
        }
        let undo = |entry: &Entry| Attempt {
            leg: entry.leg,
            fallback: entry.fallback,
            account: entry.account,
            mv: Move {
                asset: entry.asset,
                available_delta: entry.available_delta.negated(),
                frozen_delta: entry.frozen_delta.negated(),
            },
        };
        Ok(entries.iter().rev().map(undo).collect())
    }
}

/// Per asset, in order of first mention: all deltas together are nothing.
fn transfer_sums(command: &Command) -> Result<(), Reject> {
    /// Deltas are cut into two "digits" of this base, so that no sum overflows.
    const BASE: i128 = 10_i128.pow(19);
    let mut sums: Vec<(AssetId, i128, i128)> = Vec::new();
    for mv in command.changes.iter().map(|change| change.primary) {
        let known = sums.iter().position(|&(asset, ..)| asset == mv.asset);
        let index = known.unwrap_or(sums.len());
        if known.is_none() {
            sums.push((mv.asset, 0, 0));
        }
        for delta in [
            mv.available_delta.minor_units(),
            mv.frozen_delta.minor_units(),
        ] {
            let (_, high, low) = &mut sums[index];
            *high = high.checked_add(delta / BASE).expect("128 short numbers");
            *low = low.checked_add(delta % BASE).expect("128 short numbers");
        }
    }
    for (asset, high, low) in sums {
        let carried = high.checked_add(low / BASE).expect("one more");
        let rest = low % BASE;
        if carried == 0 && rest == 0 {
            continue;
        }
        let exact = carried
            .checked_mul(BASE)
            .and_then(|sum| sum.checked_add(rest));
        let bound = if carried < 0 { Money::MIN } else { Money::MAX };
        let had = exact.and_then(Money::new).unwrap_or(bound);
        let plain = Reject::new(RejectCode::TransferNotBalanced, 0, command.account);
        return Err(Reject {
            asset: Some(asset),
            had,
            ..plain
        });
    }
    Ok(())
}
