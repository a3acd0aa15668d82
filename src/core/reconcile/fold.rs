//! The fold of a shard's journal: what every balance and account must be, and what of the journal
//! does not follow from what stands before it. No I/O.
//!
//! Memory: a cell of 64 bytes and a place in an index for each balance of the one shard, with as much
//! again in reserve while they grow; 24 bytes for each account; 48 for each mark, one of 256 entries.

use std::collections::{BTreeMap, HashMap};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    finding::{Finding, Kind, amounts_of},
    numbers::Numbers,
    part::{Part, Unreadable},
    state::{Cell, End, Moved, Opened},
};
use crate::core::{
    assets::Assets,
    command::CommandKind,
    engine::AccountStatus,
    types::{CommandId, Position, Sequence, ShardId},
};

/// Every so many versions of a balance have a mark.
const MARK_EVERY: u64 = 256;

/// The journal of one shard, folded as far as it was read.
pub struct Fold<'a> {
    shard: ShardId,
    assets: &'a Assets,
    /// Only this account: then nothing is said of the shard's own chains.
    only: Option<u64>,
    /// First position that is not applied.
    next_position: i64,
    pub cells: Vec<Cell>,
    /// Of the cells, by balance.
    places: HashTable<u32>,
    pub accounts: HashMap<u64, Opened>,
    /// (account, asset, version) → (position, time).
    pub marks: HashMap<(u64, u32, u64), (i64, i64)>,
    pub moved: BTreeMap<u32, Moved>,
    pub numbers: Numbers,
    pub end: End,
    pub commands: u64,
    pub entries: u64,
    /// Something of the journal is damaged.
    pub is_damaged: bool,
    /// Not taken yet by who reads.
    pub findings: Vec<Finding>,
    /// Amounts of entries that do not follow: what comes next may follow from them all the same.
    other: HashMap<(u64, u32), (i128, i128)>,
    /// Balances of the command in hand, and the position of each one's last entry before it.
    touched: Vec<(u64, u32, i64)>,
}

/// One entry, and the command that it is of.
struct Step {
    command: CommandId,
    position: i64,
    account: u64,
    asset: u32,
    delta: (i128, i128),
    after: (i128, i128),
    version: u64,
    previous: i64,
}

impl<'a> Fold<'a> {
    /// Of nothing yet.
    pub fn new(
        shard: ShardId,
        next_position: Position,
        assets: &'a Assets,
        only: Option<u64>,
    ) -> Self {
        Self {
            shard,
            assets,
            only,
            next_position: next_position.0,
            cells: Vec::new(),
            places: HashTable::new(),
            accounts: HashMap::new(),
            marks: HashMap::new(),
            moved: BTreeMap::new(),
            numbers: Numbers::default(),
            end: End {
                position: Position::NONE.0,
                epoch: 0,
                applied_at: i64::MIN,
            },
            commands: 0,
            entries: 0,
            is_damaged: false,
            findings: Vec::new(),
            other: HashMap::new(),
            touched: Vec::new(),
        }
    }

    /// A part that cannot be read: what it held is missing from here on.
    pub fn unreadable(&mut self, part: &Unreadable) {
        let stored = format!("part {}: {}", part.part, part.why);
        let finding = Finding::new(Kind::Part, self.shard, stored, "columns that agree");
        self.find(finding.position(part.flush_from));
    }

    /// All parts of one flush. Flushes in their order.
    pub fn flush(&mut self, parts: &[Part]) {
        // Parts of a flush overlap where numbers stray, commands are taken as they were applied.
        let mut order = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            if let Some((stored, expected)) = part.contradiction() {
                let finding = Finding::new(Kind::Part, self.shard, stored, expected);
                self.find(finding.position(part.flush_from));
            }
            let mut from = 0;
            for (index, &position) in part.position.iter().enumerate() {
                let to = part.entries_end(index, from);
                order.push((position, number, index, from..to));
                from = to;
            }
        }
        order.sort_by_key(|(position, number, index, _)| (*position, *number, *index));
        for (_, number, index, entries) in order {
            self.command(&parts[number], index, entries);
        }
    }

    fn command(&mut self, part: &Part, index: usize, entries: std::ops::Range<usize>) {
        let owners = || {
            part.entry_account[entries.clone()]
                .iter()
                .chain([&part.account[index]])
        };
        let is_of = |only: u64| owners().any(|owner| owner.cast_unsigned() == only);
        self.commands += u64::from(self.only.is_none_or(is_of));
        let id = CommandId::new(self.shard, Sequence(part.seq[index].cast_unsigned()));
        let found = self.findings.len();
        if self.only.is_none() {
            self.chain(part, index, id);
        }
        self.account(part, index);
        self.touched.clear();
        let mut sums: Vec<(u32, i128)> = Vec::new();
        for at in entries {
            let (account, asset) = (
                part.entry_account[at].cast_unsigned(),
                part.entry_asset[at].cast_unsigned(),
            );
            let delta = (part.available_delta[at], part.frozen_delta[at]);
            match sums.iter_mut().find(|(of, _)| *of == asset) {
                Some((_, sum)) => *sum = sum.wrapping_add(delta.0).wrapping_add(delta.1),
                None => sums.push((asset, delta.0.wrapping_add(delta.1))),
            }
            if self.only.is_some_and(|only| only != account) {
                continue;
            }
            self.entries += 1;
            self.entry(&Step {
                command: id,
                position: part.position[index],
                account,
                asset,
                delta,
                after: (part.available_after[at], part.frozen_after[at]),
                version: part.version[at].cast_unsigned(),
                previous: part.previous[at],
            });
            if part.version[at].cast_unsigned().is_multiple_of(MARK_EVERY) {
                let key = (account, asset, part.version[at].cast_unsigned());
                let mark = (part.position[index], part.applied_at[index]);
                self.marks.insert(key, mark);
            }
        }
        // Where an entry was found to be wrong, that is why.
        let is_transfer = i32::from(part.kind[index]) == CommandKind::Transfer as i32;
        if is_transfer && self.findings.len() == found {
            self.transfer(id, part.position[index], &sums);
        }
    }

    fn transfer(&mut self, id: CommandId, position: i64, sums: &[(u32, i128)]) {
        for &(asset, sum) in sums.iter().filter(|(_, sum)| *sum != 0) {
            let stored = super::finding::amount_of(self.assets, asset, sum);
            let mut finding = Finding::new(Kind::Transfer, self.shard, stored, "0");
            finding.asset = Some(crate::core::types::AssetId(asset));
            self.find(finding.position(position).command(id));
        }
    }

    /// The order of the shard's results.
    fn chain(&mut self, part: &Part, index: usize, id: CommandId) {
        let (position, previous) = (part.position[index], part.previous_result[index]);
        let mut differ = |stored: String, expected: String| {
            let finding = Finding::new(Kind::Results, self.shard, stored, expected);
            self.is_damaged = true;
            self.findings.push(finding.position(position).command(id));
        };
        let end = self.end;
        if position <= end.position || position >= self.next_position {
            differ(
                format!("position {position}"),
                format!("above {}, below {}", end.position, self.next_position),
            );
        }
        if previous != end.position {
            differ(
                format!("follows the result at {}", Position(previous)),
                match previous > end.position {
                    true => format!("results behind {} are missing", Position(end.position)),
                    false => format!("follows the result at {}", Position(end.position)),
                },
            );
        }
        if part.epoch < end.epoch {
            differ(format!("epoch {}", part.epoch), format!("{}", end.epoch));
        }
        if part.applied_at[index] < end.applied_at {
            differ("applied before the result before it".into(), "later".into());
        }
        let number = part.seq[index].cast_unsigned();
        if !self.numbers.outcome(number, part.hash(index)) {
            differ(format!("number {number} twice"), "once".into());
        }
        self.end = End {
            position: position.max(end.position),
            epoch: part.epoch.max(end.epoch),
            applied_at: part.applied_at[index].max(end.applied_at),
        };
    }

    /// What the command did to its account.
    fn account(&mut self, part: &Part, index: usize) {
        let account = part.account[index].cast_unsigned();
        if part.outcome[index] != 0 || self.only.is_some_and(|only| only != account) {
            return;
        }
        let status = match CommandKind::try_from(i32::from(part.kind[index])) {
            Ok(CommandKind::OpenAccount | CommandKind::UnblockAccount) => AccountStatus::Open,
            Ok(CommandKind::BlockAccount) => AccountStatus::Blocked,
            Ok(CommandKind::CloseAccount) => AccountStatus::Closed,
            _ => return,
        };
        let at = part.applied_at[index];
        let opened = self.accounts.entry(account).or_insert(Opened {
            at,
            status,
            is_seen: false,
        });
        opened.status = status;
    }

    fn entry(&mut self, step: &Step) {
        let place = self.place(step.account, step.asset);
        let key = (step.account, step.asset);
        let before = self.cells[place];
        let other = self.other.remove(&key);
        let next = before.version + 1;
        if step.version != next {
            let stored = format!("version {}", step.version);
            let finding =
                Finding::new(Kind::Version, self.shard, stored, format!("version {next}"));
            self.find(at(finding, step));
            self.cells[place].is_torn = true;
            self.settle(place, step, step.after);
            return;
        }
        let add = |(available, frozen): (i128, i128)| {
            Some((
                available.checked_add(step.delta.0)?,
                frozen.checked_add(step.delta.1)?,
            ))
        };
        // Of two amounts that disagreed before, this entry says which was right.
        let follows = add((before.available, before.frozen));
        let is_right = follows == Some(step.after) || other.and_then(add) == Some(step.after);
        let earlier = self.earlier(&before, step);
        if !is_right {
            let show = |(available, frozen)| amounts_of(self.assets, step.asset, available, frozen);
            let expected = follows.map_or("an amount in range".into(), show);
            let finding = Finding::new(Kind::Entry, self.shard, show(step.after), expected);
            self.find(at(finding, step));
            self.other.insert(key, step.after);
        } else if step.previous != earlier {
            let text = |position| format!("last entry at {}", Position(position));
            let (stored, expected) = (text(step.previous), text(earlier));
            let finding = Finding::new(Kind::Previous, self.shard, stored, expected);
            self.find(at(finding, step));
        }
        let after = follows.filter(|_| !is_right).unwrap_or(step.after);
        self.settle(place, step, after);
    }

    /// Where the cell of a balance is; a new one where it has none.
    fn place(&mut self, account: u64, asset: u32) -> usize {
        let cells = &mut self.cells;
        let of = |place: &u32| (cells[*place as usize].account, cells[*place as usize].asset);
        let entry = self.places.entry(
            hash_of(account, asset),
            |place| of(place) == (account, asset),
            |place| hash_of(of(place).0, of(place).1),
        );
        let next = u32::try_from(cells.len()).expect("a shard has fewer than 2^32 balances");
        let place = *entry.or_insert(next).get();
        if place == next {
            cells.push(Cell {
                available: 0,
                frozen: 0,
                account,
                version: 0,
                last_position: Position::NONE.0,
                asset,
                is_torn: false,
                is_seen: false,
            });
        }
        place as usize
    }

    /// Position of the balance's last entry in an earlier command.
    fn earlier(&self, before: &Cell, step: &Step) -> i64 {
        let of_it = (step.account, step.asset);
        let mut touched = self.touched.iter();
        match before.last_position == step.position {
            true => touched
                .find(|(account, asset, _)| (*account, *asset) == of_it)
                .map_or(before.last_position, |(_, _, earlier)| *earlier),
            false => before.last_position,
        }
    }

    /// The step is taken.
    fn settle(&mut self, place: usize, step: &Step, after: (i128, i128)) {
        let cell = &mut self.cells[place];
        if cell.last_position != step.position {
            let touched = (step.account, step.asset, cell.last_position);
            self.touched.push(touched);
        }
        (cell.available, cell.frozen) = after;
        cell.version = step.version;
        cell.last_position = step.position;
        let moved = self.moved.entry(step.asset).or_insert(Moved {
            available: Some(0),
            frozen: Some(0),
        });
        let add = |sum: Option<i128>, delta| sum.and_then(|sum| sum.checked_add(delta));
        moved.available = add(moved.available, step.delta.0);
        moved.frozen = add(moved.frozen, step.delta.1);
    }

    /// The cell of a balance.
    pub fn balance(&mut self, account: u64, asset: u32) -> Option<&mut Cell> {
        let cells = &mut self.cells;
        let is_it = |place: &u32| {
            let cell = &cells[*place as usize];
            (cell.account, cell.asset) == (account, asset)
        };
        let place = *self.places.find(hash_of(account, asset), is_it)?;
        cells.get_mut(place as usize)
    }

    /// The amounts that the last entry says, where they do not follow.
    pub fn other(&self, account: u64, asset: u32) -> Option<(i128, i128)> {
        self.other.get(&(account, asset)).copied()
    }

    /// Notes a difference.
    pub fn find(&mut self, finding: Finding) {
        self.is_damaged |= finding.kind.is_of_journal();
        self.findings.push(finding);
    }
}

fn hash_of(account: u64, asset: u32) -> u64 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&account.to_le_bytes());
    bytes[8..].copy_from_slice(&asset.to_le_bytes());
    xxh3_64(&bytes)
}

fn at(finding: Finding, step: &Step) -> Finding {
    finding
        .balance(step.account, step.asset)
        .version(step.version)
        .position(step.position)
        .command(step.command)
}
