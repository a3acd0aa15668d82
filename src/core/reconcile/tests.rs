//! The fold and the comparison, on journals made here: what follows is taken, and each thing that
//! does not is named once, at its place.

use proptest::prelude::*;

use super::{
    compare::{AccountRow, Comparison},
    finding::{Finding, Kind},
    fold::Fold,
    part::Part,
};
use crate::core::{
    assets::{Asset, Assets},
    engine::{Account, AccountStatus, Balance, hash},
    types::{AccountId, AssetId, Money, Position, ShardId, Timestamp},
};

const SHARD: ShardId = ShardId(3);
const COMMANDS_OF_A_PART: usize = 4;

/// Credits: (account, asset, amount), one command each, behind the OPENs of the accounts.
type Credits = Vec<(u64, u32, i64)>;

fn assets() -> Assets {
    let asset = |id: u32| Asset {
        id: AssetId(id),
        code: format!("A{id}"),
        scale: 2,
    };
    (1..=2).map(asset).collect()
}

/// The rows that follow from it, and the shard's hash.
#[derive(Clone)]
struct Rows {
    balances: Vec<Balance>,
    accounts: Vec<AccountRow>,
    state_hash: u128,
    next: i64,
}

/// A journal of flushes of a part each, as a leader would write it, and the rows beside it.
fn journal(credits: &Credits) -> (Vec<Part>, Rows) {
    let mut ids: Vec<u64> = credits.iter().map(|(account, ..)| *account).collect();
    ids.sort_unstable();
    ids.dedup();
    let opens = ids.iter().map(|&account| (account, None));
    let changes = credits
        .iter()
        .map(|&(account, asset, amount)| (account, Some((asset, amount))));
    let commands: Vec<_> = opens.chain(changes).collect();
    let mut balances: Vec<Balance> = Vec::new();
    let mut parts = Vec::new();
    for (number, commands) in commands.chunks(COMMANDS_OF_A_PART).enumerate() {
        let first = i64::try_from(number * COMMANDS_OF_A_PART).unwrap();
        let mut part = Part {
            flush_from: first,
            part: 1,
            epoch: 1,
            min_seq: first + 1,
            max_seq: first + i64::try_from(commands.len()).unwrap(),
            first_position: first,
            last_position: first + i64::try_from(commands.len()).unwrap() - 1,
            ..Part::default()
        };
        for (position, &(account, change)) in (first..).zip(commands) {
            part.seq.push(position + 1);
            part.position.push(position);
            part.previous_result.push(position - 1);
            part.applied_at.push(position);
            part.account.push(account.cast_signed());
            part.kind.push(if change.is_none() { 3 } else { 1 });
            part.outcome.push(0);
            part.content_hash.extend_from_slice(&[7; 16]);
            if let Some((asset, amount)) = change {
                credit(&mut part, &mut balances, position, (account, asset, amount));
            }
        }
        parts.push(part);
    }
    let accounts: Vec<_> = ids
        .iter()
        .zip(0..)
        .map(|(&account, opened_at)| AccountRow {
            account,
            user: account + 1_000,
            status: 1,
            opened_at,
        })
        .collect();
    let of_accounts = accounts.iter().map(|row| {
        hash::of_account(&Account {
            id: AccountId(row.account),
            user: row.user,
            status: AccountStatus::Open,
            opened_at: Timestamp(0),
        })
    });
    let of_balances = balances.iter().map(hash::of_balance);
    let state_hash = of_accounts.chain(of_balances).fold(0, u128::wrapping_add);
    let next = i64::try_from(commands.len()).unwrap();
    let rows = Rows {
        balances,
        accounts,
        state_hash,
        next,
    };
    (parts, rows)
}

fn credit(part: &mut Part, balances: &mut Vec<Balance>, position: i64, of: (u64, u32, i64)) {
    let (account, asset, amount) = (AccountId(of.0), AssetId(of.1), Money::from(of.2));
    let is_it = |it: &&mut Balance| (it.account, it.asset) == (account, asset);
    let old = balances.iter_mut().find(is_it);
    let balance = match old {
        Some(balance) => balance,
        None => {
            balances.push(Balance::untouched(account, asset));
            balances.last_mut().unwrap()
        }
    };
    part.previous.push(balance.last_position.0);
    balance.available = balance.available.checked_add(amount).unwrap();
    balance.version += 1;
    balance.last_position = Position(position);
    part.entry_command
        .push(i16::try_from(part.seq.len()).unwrap());
    part.entry_account.push(account.0.cast_signed());
    part.entry_asset.push(asset.0.cast_signed());
    part.available_delta.push(amount.minor_units());
    part.frozen_delta.push(0);
    part.available_after.push(balance.available.minor_units());
    part.frozen_after.push(0);
    part.version.push(balance.version.cast_signed());
}

/// What is found, and what would be repaired.
fn compare(parts: &[Part], rows: &Rows) -> (Vec<Finding>, usize, u128) {
    let assets = assets();
    let mut fold = Fold::new(SHARD, Position(rows.next), &assets, None);
    for part in parts {
        fold.flush(std::slice::from_ref(part));
    }
    let mut comparison = Comparison::new(SHARD, &assets, fold, rows.next - 1);
    rows.balances.iter().for_each(|row| comparison.balance(row));
    comparison.balances_end();
    rows.accounts.iter().for_each(|row| comparison.account(row));
    comparison.accounts_end();
    comparison.marks_end();
    comparison.totals();
    comparison.state_hash(rows.state_hash);
    let hash = comparison.repaired_hash(rows.state_hash);
    let findings = std::mem::take(&mut comparison.fold.findings);
    (findings, comparison.repairs.len(), hash)
}

/// Kinds that are found, with the version of the first.
fn kinds(parts: &[Part], rows: &Rows) -> (Vec<Kind>, Option<u64>) {
    let (findings, ..) = compare(parts, rows);
    let kinds = findings.iter().map(|finding| finding.kind).collect();
    (kinds, findings.first().and_then(|finding| finding.version))
}

/// Two accounts, five entries on the first one's balance.
fn example() -> (Vec<Part>, Rows) {
    journal(&vec![
        (7, 1, 100),
        (8, 1, 5),
        (7, 1, 20),
        (7, 1, -50),
        (7, 2, 9),
        (7, 1, 1),
        (7, 1, 2),
    ])
}

#[test]
fn an_entry_that_does_not_follow_is_named_once_whatever_of_it_is_wrong() {
    let (parts, rows) = example();
    assert_eq!(kinds(&parts, &rows), (vec![], None));
    // Its third entry is the second of the second part.
    let wrong = |change: fn(&mut Part)| {
        let mut parts = parts.clone();
        change(&mut parts[1]);
        kinds(&parts, &rows)
    };
    assert_eq!(parts[1].version[1], 3);
    let is_entry = wrong(|part| part.available_after[1] += 1);
    assert_eq!(is_entry, (vec![Kind::Entry], Some(3)));
    // What moved is not what is there either.
    let is_delta = wrong(|part| part.available_delta[1] += 1);
    assert_eq!(is_delta, (vec![Kind::Entry, Kind::Total], Some(3)));
    let is_previous = wrong(|part| part.previous[1] = 0);
    assert_eq!(is_previous, (vec![Kind::Previous], Some(3)));
    let is_position = wrong(|part| part.first_position += 1);
    assert_eq!(is_position.0, [Kind::Part]);
    let is_number = wrong(|part| part.previous_result[2] = 1);
    assert_eq!(is_number.0, [Kind::Results]);
    let is_twice = wrong(|part| part.seq[1] = 1);
    assert_eq!(is_twice.0, [Kind::Part, Kind::Results]);
}

#[test]
fn the_last_entry_may_be_wrong_in_either_amount() {
    let (parts, rows) = example();
    let last = parts.len() - 1;
    for of_delta in [false, true] {
        let mut parts = parts.clone();
        let entry = parts[last].version.len() - 1;
        match of_delta {
            true => parts[last].available_delta[entry] += 1,
            false => parts[last].available_after[entry] += 1,
        }
        let (found, version) = kinds(&parts, &rows);
        assert_eq!((found[0], version), (Kind::Entry, Some(5)));
        assert!(!found.contains(&Kind::Balance), "the row is one of the two");
    }
}

#[test]
fn a_missing_part_is_a_hole_and_nothing_is_repaired_from_what_is_left() {
    let (parts, rows) = example();
    for missing in 0..parts.len() {
        let mut parts = parts.clone();
        parts.remove(missing);
        let (findings, repairs, _) = compare(&parts, &rows);
        let has = |kind| findings.iter().any(|finding| finding.kind == kind);
        assert!(has(Kind::Results), "part {missing}: {findings:#?}");
        assert_eq!(repairs, 0, "part {missing}");
    }
}

#[test]
fn a_shard_that_was_never_flushed_has_nothing_to_say() {
    let (parts, rows) = journal(&Vec::new());
    assert_eq!(kinds(&parts, &rows), (vec![], None));
}

#[test]
fn the_hash_after_a_repair_is_that_of_the_right_rows() {
    let (parts, rows) = example();
    // The row alone was changed: the hash is right and stays.
    let mut damaged = rows.clone();
    damaged.balances[0].available = Money::from(1);
    assert_eq!(compare(&parts, &damaged).2, rows.state_hash);
    // It was changed with the row, as by a flush that went wrong.
    let change =
        hash::of_balance(&damaged.balances[0]).wrapping_sub(hash::of_balance(&rows.balances[0]));
    damaged.state_hash = rows.state_hash.wrapping_add(change);
    let (findings, repairs, hash) = compare(&parts, &damaged);
    assert_eq!((repairs, hash), (1, rows.state_hash));
    assert!(findings.iter().any(|it| it.kind == Kind::StateHash));
    // What nothing explains is not written over.
    let mut damaged = rows.clone();
    damaged.state_hash ^= 1;
    let (findings, repairs, hash) = compare(&parts, &damaged);
    assert_eq!((findings.len(), repairs, hash), (1, 0, rows.state_hash ^ 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened: right rows are right, and a row that was changed, removed or added is
    /// found and would be repaired, with no word on any other.
    #[test]
    fn each_wrong_row_is_found_and_no_other(
        credits in prop::collection::vec((1_u64..6, 1_u32..3, 1_i64..1000), 1..40),
        pick: prop::sample::Index,
        how in 0..4,
    ) {
        let (parts, mut rows) = journal(&credits);
        prop_assert_eq!(compare(&parts, &rows).0, vec![]);
        let place = pick.index(rows.balances.len());
        let mut row = rows.balances[place];
        match how {
            0 => rows.balances[place].available = Money::from(-1),
            1 => rows.balances[place].version += 1,
            2 => drop(rows.balances.remove(place)),
            _ => {
                row.asset = AssetId(9);
                rows.balances.push(row);
            }
        }
        let (findings, repairs, hash) = compare(&parts, &rows);
        let of_rows: Vec<_> = findings.iter().filter(|it| it.kind != Kind::Total).collect();
        prop_assert_eq!(of_rows.len(), 1, "{:#?}", findings);
        prop_assert_eq!(of_rows[0].kind, Kind::Balance);
        prop_assert_eq!((of_rows[0].account, of_rows[0].asset), (Some(row.account), Some(row.asset)));
        prop_assert_eq!((repairs, hash), (1, rows.state_hash));
    }
}
