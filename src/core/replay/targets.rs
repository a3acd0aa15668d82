//! What a REVERSE needs of the command that it names, kept small: the entries of applied commands,
//! packed, in pages of consecutive numbers. Above a limit the lowest pages are dropped; who asks for
//! one of those is told that it is not here.

use std::collections::BTreeMap;

use crate::core::{
    command::CommandKind,
    engine::{Entry, Outcome, Target},
    types::{AccountId, AssetId, CommandId, Money, Position},
};

/// Numbers of a page.
const PAGE: u64 = 4_096;
/// What a page costs beside its bytes.
const PAGE_BYTES: usize = PAGE as usize * size_of::<u32>() + 128;
/// Instead of a kind: rejected, or of a kind that is never reversed.
const NOTHING: u8 = 0;
/// An applied CHANGE.
const CHANGE: u8 = 1;
/// An applied TRANSFER.
const TRANSFER: u8 = 2;

/// Packed entries of one shard's commands, by number.
pub(super) struct Targets {
    pages: BTreeMap<u64, Page>,
    bytes: usize,
    bytes_max: usize,
}

struct Page {
    /// Behind where each number's bytes begin; 0: there are none.
    starts: Box<[u32]>,
    bytes: Vec<u8>,
}

impl Targets {
    /// With a limit on its memory.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            pages: BTreeMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Keeps what became of a command.
    pub fn insert(&mut self, outcome: &Outcome, entries: &[Entry]) {
        let number = outcome.id.sequence().0;
        let page = self.pages.entry(number / PAGE).or_insert_with(|| {
            self.bytes += PAGE_BYTES;
            Page {
                starts: vec![0; PAGE as usize].into(),
                bytes: Vec::new(),
            }
        });
        let before = page.bytes.len();
        let start = u32::try_from(before + 1).expect("64 changes of a command are some KiB");
        page.starts[(number % PAGE) as usize] = start;
        pack(&mut page.bytes, outcome, entries);
        self.bytes += page.bytes.len() - before;
    }

    /// Drops pages down to the limit. Between batches only: what a batch applied, or looked up at
    /// its beginning, stays until its end.
    pub fn trim(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((_, page)) = self.pages.pop_first()
        {
            self.bytes -= PAGE_BYTES + page.bytes.len();
        }
    }

    /// A command as a REVERSE wants it; `None`: it is not here.
    pub fn find(&self, id: CommandId) -> Option<Target> {
        let number = id.sequence().0;
        let page = self.pages.get(&(number / PAGE))?;
        let start = page.starts[(number % PAGE) as usize].checked_sub(1)?;
        Some(unpack(id, &page.bytes[start as usize..]))
    }
}

fn pack(bytes: &mut Vec<u8>, outcome: &Outcome, entries: &[Entry]) {
    let kind = match (&outcome.reject, outcome.kind) {
        (None, CommandKind::Change) => CHANGE,
        (None, CommandKind::Transfer) => TRANSFER,
        _ => return bytes.push(NOTHING),
    };
    bytes.push(kind);
    put(bytes, u128::from(outcome.account.0));
    put(bytes, entries.len() as u128);
    for entry in entries {
        put(
            bytes,
            u128::from(entry.leg) << 1 | u128::from(entry.fallback),
        );
        put(bytes, u128::from(entry.account.0));
        put(bytes, u128::from(entry.asset.0));
        put(bytes, zigzag(entry.available_delta));
        put(bytes, zigzag(entry.frozen_delta));
    }
}

/// What a REVERSE does not look at (balances after, versions) is not kept.
fn unpack(id: CommandId, mut bytes: &[u8]) -> Target {
    let bytes = &mut bytes;
    let kind = take(bytes);
    let mut target = Target {
        id,
        account: AccountId(0),
        kind: CommandKind::Change,
        rejected: kind == u128::from(NOTHING),
        entries: Vec::new(),
        reversed_by: None,
    };
    if target.rejected {
        return target;
    }
    if kind == u128::from(TRANSFER) {
        target.kind = CommandKind::Transfer;
    }
    target.account = AccountId(small(take(bytes)));
    for _ in 0..take(bytes) {
        let leg = small(take(bytes));
        target.entries.push(Entry {
            leg: u16::try_from(leg >> 1).expect("packed from one"),
            fallback: leg & 1 == 1,
            account: AccountId(small(take(bytes))),
            asset: AssetId(u32::try_from(take(bytes)).expect("packed from one")),
            available_delta: unzigzag(take(bytes)),
            frozen_delta: unzigzag(take(bytes)),
            available_after: Money::ZERO,
            frozen_after: Money::ZERO,
            version: 0,
            previous_position: Position::NONE,
        });
    }
    target
}

fn small(number: u128) -> u64 {
    u64::try_from(number).expect("packed from one")
}

/// Small numbers of either sign become small numbers.
fn zigzag(money: Money) -> u128 {
    let units = money.minor_units();
    ((units << 1) ^ (units >> 127)).cast_unsigned()
}

fn unzigzag(packed: u128) -> Money {
    let units = (packed >> 1).cast_signed() ^ -((packed & 1).cast_signed());
    Money::new(units).expect("packed from one")
}

/// Seven bits a byte, the lowest first; the last byte has no high bit.
fn put(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> u128 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("packed whole");
        *bytes = rest;
        number |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        engine::{Reject, RejectCode},
        types::{ContentHash, Sequence, ShardId, Timestamp},
    };

    fn outcome(number: u64, kind: CommandKind) -> Outcome {
        Outcome {
            id: CommandId::new(ShardId(3), Sequence(number)),
            position: Position(7),
            content_hash: ContentHash([0; 16]),
            applied_at: Timestamp(0),
            account: AccountId((1 << 62) - 1),
            kind,
            reject: None,
            entries: 0,
        }
    }

    fn entry(leg: u16, available_delta: Money, frozen_delta: Money) -> Entry {
        Entry {
            leg,
            fallback: leg % 2 == 1,
            account: AccountId(1 << 62 | 3),
            asset: AssetId(u32::MAX),
            available_delta,
            frozen_delta,
            available_after: Money::ZERO,
            frozen_after: Money::ZERO,
            version: 0,
            previous_position: Position::NONE,
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut targets = Targets::new(usize::MAX);
        let entries = [
            entry(0, Money::MAX, Money::MIN),
            entry(63, Money::MIN, Money::MAX),
            entry(7, Money::from(-1), Money::ZERO),
            entry(8, Money::from(i64::MIN), Money::from(i64::MAX)),
        ];
        let kept = outcome(PAGE * 2 - 1, CommandKind::Transfer);
        targets.insert(&kept, &entries);
        let found = targets.find(kept.id).expect("it was kept");
        assert_eq!(found.entries, entries);
        assert_eq!((found.account, found.kind), (kept.account, kept.kind));
        assert!(!found.rejected);
        for beside in [PAGE * 2 - 2, PAGE * 2, 1] {
            let id = CommandId::new(ShardId(3), Sequence(beside));
            assert_eq!(targets.find(id), None, "{beside}");
        }
    }

    #[test]
    fn what_is_never_reversed_is_told_apart_from_what_is_not_here() {
        let mut targets = Targets::new(usize::MAX);
        let mut rejected = outcome(5, CommandKind::Change);
        let code = RejectCode::InsufficientAvailable;
        rejected.reject = Some(Box::new(Reject::new(code, 0, rejected.account)));
        for outcome in [rejected, outcome(6, CommandKind::BlockAccount)] {
            targets.insert(&outcome, &[]);
            let found = targets.find(outcome.id).expect("it was kept");
            assert!(found.rejected && found.entries.is_empty());
        }
    }

    #[test]
    fn memory_is_bounded_and_the_lowest_numbers_go_first() {
        // Three pages, full.
        let bytes_max = 16 * PAGE_BYTES;
        let mut targets = Targets::new(bytes_max);
        let entries = [entry(0, Money::from(5), Money::ZERO)];
        for number in 1..=PAGE * 10 {
            targets.insert(&outcome(number, CommandKind::Change), &entries);
            targets.trim();
            assert!(targets.bytes <= bytes_max);
        }
        let find = |number| targets.find(CommandId::new(ShardId(3), Sequence(number)));
        assert_eq!(find(1), None);
        assert!(find(PAGE * 10).is_some());
        assert!(find(PAGE * 10 - PAGE).is_some());
    }
}
