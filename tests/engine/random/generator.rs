//! A random log, biased to edges, with what the model says of each record.

use axs::core::{
    command::{Change, Command, CommandKind, Move},
    engine::{AccountStatus, Balance, Discarded, Entry, Outcome, model::Model},
    types::{
        AccountId, AssetId, CommandId, ContentHash, Money, Position, Sequence, ShardId, Timestamp,
    },
};

use super::rng::Rng;
use crate::{SHARD, command};

/// Accounts in use at a time, and assets.
const ACCOUNTS: u64 = 6;
const ASSETS: u64 = 3;
/// Closed accounts stay closed: after so many records the accounts in use move on.
const ACCOUNTS_MOVE_EVERY: u64 = 700;

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is a command"
)]
pub enum Record {
    Command(Command),
    Discard(Discarded),
    Seal(u64, u64),
}

pub struct Line {
    pub position: Position,
    pub log_time: Timestamp,
    pub record: Record,
    /// `None`: skipped, or no command.
    pub outcome: Option<Outcome>,
    pub entries: Vec<Entry>,
    /// After it.
    pub state_hash: u128,
}

pub struct Log {
    pub lines: Vec<Line>,
    pub model: Model,
}

struct Generator {
    rng: Rng,
    model: Model,
    written: u64,
    position: i64,
    time: i64,
    next_number: u64,
    /// Numbers that later commands use, or nobody.
    held: Vec<u64>,
    earlier: Vec<Command>,
    /// Applied changes and transfers.
    applied: Vec<CommandId>,
}

pub fn log(seed: u64, length: usize) -> Log {
    let mut generator = Generator {
        rng: Rng::new(seed),
        model: Model::new(SHARD),
        written: 0,
        position: 0,
        time: 1_000,
        next_number: 1,
        held: Vec::new(),
        earlier: Vec::new(),
        applied: Vec::new(),
    };
    let lines = (0..length).map(|_| generator.line()).collect();
    Log {
        lines,
        model: generator.model,
    }
}

impl Generator {
    fn line(&mut self) -> Line {
        self.written += 1;
        self.position += 1 + self.rng.below(3) as i64;
        if self.rng.below(3_000) == 0 {
            // Another generation of the log: offsets start again.
            self.position = ((self.position >> 48) + 1) << 48;
        }
        self.time += self.rng.below(30) as i64 - 10;
        let (position, log_time) = (Position(self.position), Timestamp(self.time));
        let record = self.record();
        let (outcome, entries) = match &record {
            Record::Command(command) => match self.model.apply(position, log_time, command) {
                Some((outcome, entries)) => (Some(outcome), entries),
                None => (None, Vec::new()),
            },
            Record::Discard(discard) => {
                (self.model.discard(position, log_time, *discard), Vec::new())
            }
            Record::Seal(first, last) => {
                self.model.seal(*first, *last);
                (None, Vec::new())
            }
        };
        if let Some(outcome) = outcome.as_ref().filter(|_| !entries.is_empty()) {
            self.applied.push(outcome.id);
        }
        let state_hash = self.model.state_hash();
        Line {
            position,
            log_time,
            record,
            outcome,
            entries,
            state_hash,
        }
    }

    fn record(&mut self) -> Record {
        match self.rng.below(100) {
            0 => {
                let first = 1 + self.rng.below(self.next_number);
                Record::Seal(first, first + self.rng.below(4))
            }
            1 => Record::Discard(Discarded {
                command_id: CommandId::new(SHARD, Sequence(self.any_number())),
                content_hash: ContentHash([7; 16]),
                account: self.account(),
                kind: CommandKind::Change,
            }),
            2..=6 if !self.earlier.is_empty() => {
                let back = if self.rng.percent(50) {
                    self.earlier.len() as u64
                } else {
                    30
                };
                let back = 1 + self.rng.below(back.min(self.earlier.len() as u64));
                Record::Command(self.earlier[self.earlier.len() - back as usize].clone())
            }
            _ => {
                let command = self.command();
                self.earlier.push(command.clone());
                Record::Command(command)
            }
        }
    }

    fn number(&mut self) -> u64 {
        if self.rng.percent(10) {
            self.held.push(self.next_number);
            self.next_number += 1;
        }
        if !self.held.is_empty() && self.rng.percent(9) {
            let index = self.rng.below(self.held.len() as u64) as usize;
            return self.held.swap_remove(index);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    fn any_number(&mut self) -> u64 {
        match self.held.last() {
            Some(&held) if self.rng.percent(50) => held,
            _ => 1 + self.rng.below(self.next_number + 3),
        }
    }

    fn account(&mut self) -> AccountId {
        if self.rng.percent(6) {
            return AccountId::clearing(SHARD);
        }
        let moved = self.written / ACCOUNTS_MOVE_EVERY * 3;
        let one = AccountId(1 + moved + self.rng.below(ACCOUNTS));
        if self.status(one) == Some(AccountStatus::Open) || self.rng.percent(30) {
            return one;
        }
        // Most of the time one that is open, or the next best.
        let open =
            |&offset: &u64| self.status(AccountId(1 + moved + offset)) == Some(AccountStatus::Open);
        (0..ACCOUNTS)
            .find(open)
            .map_or(one, |offset| AccountId(1 + moved + offset))
    }

    fn status(&self, account: AccountId) -> Option<AccountStatus> {
        self.model
            .accounts()
            .find(|known| known.id == account)
            .map(|known| known.status)
    }

    fn command(&mut self) -> Command {
        let kind = match self.rng.below(100) {
            0..50 => CommandKind::Change,
            50..68 => CommandKind::Transfer,
            68..77 => CommandKind::OpenAccount,
            77..79 => CommandKind::BlockAccount,
            79..84 => CommandKind::UnblockAccount,
            84..87 => CommandKind::CloseAccount,
            87..99 => CommandKind::Reverse,
            _ => CommandKind::Unspecified,
        };
        let (number, mut account) = (self.number(), self.account());
        let wanted = match kind {
            CommandKind::OpenAccount => Some(None),
            CommandKind::UnblockAccount => Some(Some(AccountStatus::Blocked)),
            _ => None,
        };
        if let Some(wanted) = wanted
            && self.rng.percent(80)
        {
            let moved = self.written / ACCOUNTS_MOVE_EVERY * 3;
            let mut accounts = (1..=ACCOUNTS).map(|offset| AccountId(moved + offset));
            account = accounts
                .find(|&one| self.status(one) == wanted)
                .unwrap_or(account);
        }
        let mut command = command(number, kind, account);
        command.content_hash = ContentHash(u128::from(self.rng.next()).to_le_bytes());
        match kind {
            CommandKind::Change => {
                for _ in 0..1 + self.rng.pick(&[0, 0, 0, 1, 2, 3, 7]) {
                    let account = if self.rng.percent(70) {
                        account
                    } else {
                        self.account()
                    };
                    command.changes.push(self.change(account));
                }
            }
            CommandKind::OpenAccount => {
                command.user = self.rng.below(3);
                for _ in 0..self.rng.pick(&[0, 0, 1, 2]) {
                    command.changes.push(self.change(account));
                }
            }
            CommandKind::Transfer => self.transfer(&mut command),
            CommandKind::Reverse => self.reverse(&mut command),
            _ => {}
        }
        if self.rng.percent(3) {
            self.spoil(&mut command);
        }
        command
    }

    fn balance(&self, account: AccountId, asset: AssetId) -> Option<&Balance> {
        self.model
            .balances()
            .find(|known| known.account == account && known.asset == asset)
    }

    fn change(&mut self, account: AccountId) -> Change {
        let primary = self.mv(account);
        let fallback = self.rng.percent(25).then(|| self.mv(account));
        let known = self.balance(account, primary.asset);
        let (version, available) = known.map_or((0, 0), |known| {
            (known.version, known.available.minor_units())
        });
        let near = self.rng.pick(&[0, 0, 0, 1, -1]);
        let if_version = (self.rng.percent(8)).then(|| version.saturating_add_signed(near as i64));
        let if_min_available = (self.rng.percent(8)).then(|| money(available + near));
        Change {
            account,
            primary,
            fallback,
            if_version,
            if_min_available,
        }
    }

    fn mv(&mut self, account: AccountId) -> Move {
        let asset = AssetId(1 + self.rng.below(ASSETS) as u32);
        let known = self.balance(account, asset);
        let (available, frozen) = known.map_or((0, 0), |b| {
            (b.available.minor_units(), b.frozen.minor_units())
        });
        let (some, other) = (self.rng.amount(), self.rng.amount());
        let (available_delta, frozen_delta) = match self.rng.below(16) {
            0..6 => (some.abs(), 0),
            6 => (some, other),
            7 => (-available, 0),
            8 => (-available - 1, 0),
            9 => (-available, -frozen),
            10 => (0, -frozen),
            11 => (0, -frozen - 1),
            12 => (frozen, -frozen),
            13 => (-some, some),
            14 => (some, -some),
            _ => (-some.abs(), 0),
        };
        Move {
            asset,
            available_delta: money(available_delta),
            frozen_delta: money(frozen_delta),
        }
    }

    /// Pairs of opposite moves, most of the time.
    fn transfer(&mut self, command: &mut Command) {
        let plain = |account, asset, available_delta, frozen_delta| Change {
            account,
            primary: Move {
                asset,
                available_delta,
                frozen_delta,
            },
            fallback: None,
            if_version: None,
            if_min_available: None,
        };
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 3, 32]) {
            let from = if self.rng.percent(60) {
                command.account
            } else {
                self.account()
            };
            let (to, mv) = (self.account(), self.mv(from));
            let (available, frozen) = (mv.available_delta, mv.frozen_delta);
            let there = plain(from, mv.asset, available, frozen);
            let back = match self.rng.below(10) {
                0 => plain(to, mv.asset, frozen.negated(), available.negated()),
                _ => plain(to, mv.asset, available.negated(), frozen.negated()),
            };
            command.changes.extend([there, back]);
        }
        if self.rng.percent(6) {
            let spoilt = self.rng.below(command.changes.len() as u64) as usize;
            let delta = self.rng.amount();
            command.changes[spoilt].primary.frozen_delta = money(delta);
        }
    }

    fn reverse(&mut self, command: &mut Command) {
        let recent = 1 + self.rng.below(20) as usize;
        let target = match self.rng.below(12) {
            0 => CommandId::new(SHARD, Sequence(self.any_number())),
            1 => CommandId::new(ShardId(4), Sequence(self.any_number())),
            2 if !self.earlier.is_empty() => self.earlier
                [self.earlier.len().saturating_sub(recent)]
            .id
            .expect("numbered"),
            _ if self.applied.is_empty() => CommandId::new(SHARD, Sequence(self.any_number())),
            _ => self.applied[self.applied.len().saturating_sub(recent)],
        };
        command.reverses = Some(target);
        if let Some(known) = self.model.target(target)
            && self.rng.percent(90)
        {
            command.account = known.account;
        }
    }

    /// Breaks the shape, as only a log written by somebody else would.
    fn spoil(&mut self, command: &mut Command) {
        let strange = self.rng.pick(&[
            AccountId(0),
            AccountId::clearing(ShardId(4)),
            AccountId(u64::MAX),
        ]);
        let extra = self.change(command.account);
        match self.rng.below(8) {
            0 => command.account = strange,
            1 => command.changes.push(Change {
                account: strange,
                ..extra
            }),
            2 => command.changes.push(extra),
            3 => command.changes.extend([extra; 65]),
            4 => command.changes.clear(),
            5 => command.user = 5,
            6 => {
                command.reverses = if command.reverses.is_some() {
                    None
                } else {
                    command.id
                }
            }
            _ => {
                if let Some(change) = command.changes.last_mut() {
                    change.primary.asset = AssetId(0);
                }
            }
        }
    }
}

/// Cut to the bounds.
fn money(amount: i128) -> Money {
    let bound = if amount < 0 { Money::MIN } else { Money::MAX };
    Money::new(amount).unwrap_or(bound)
}
