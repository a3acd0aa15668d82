//! The first checks of a command: its shape, as the API has checked it already. They look at the
//! command alone; labels, hash, times and ACK decide nothing and are not looked at.

use crate::core::{
    command::{CHANGES_MAX, Change, Command, CommandKind},
    engine::{Reject, RejectCode},
    types::{AccountId, AssetId, Money, ShardId},
};

/// INVALID with the change at fault, else TRANSFER_NOT_BALANCED with the first asset whose deltas
/// do not sum to zero.
pub(super) fn check(command: &Command, shard: ShardId) -> Result<(), Reject> {
    let invalid = |leg, account| Err(Reject::new(RejectCode::Invalid, leg, account));
    if !own_account_fits(command, shard) || !count_fits(command) || !extras_fit(command) {
        return invalid(0, command.account);
    }
    for (leg, change) in (0_u16..).zip(&command.changes) {
        if !change_fits(command, change, shard) {
            return invalid(leg, change.account);
        }
    }
    if command.kind == CommandKind::Transfer {
        balanced(command)?;
    }
    Ok(())
}

fn own_account_fits(command: &Command, shard: ShardId) -> bool {
    match command.kind {
        CommandKind::Change | CommandKind::Transfer | CommandKind::Reverse => {
            account_fits(command.account, shard)
        }
        // A clearing account exists by itself, open for ever.
        CommandKind::OpenAccount
        | CommandKind::BlockAccount
        | CommandKind::UnblockAccount
        | CommandKind::CloseAccount => command.account.is_callers(),
        CommandKind::Unspecified => false,
    }
}

fn account_fits(account: AccountId, shard: ShardId) -> bool {
    account.is_callers() || account.clearing_shard() == Some(shard)
}

fn count_fits(command: &Command) -> bool {
    let allowed = match command.kind {
        CommandKind::Change => 1..=CHANGES_MAX,
        CommandKind::Transfer => 2..=CHANGES_MAX,
        CommandKind::OpenAccount => 0..=CHANGES_MAX,
        _ => 0..=0,
    };
    allowed.contains(&command.changes.len())
}

/// What belongs to one kind only.
fn extras_fit(command: &Command) -> bool {
    let owned = command.user != 0 || command.pin.is_some();
    (command.kind == CommandKind::OpenAccount || !owned)
        && (command.kind == CommandKind::Reverse) == command.reverses.is_some()
}

fn change_fits(command: &Command, change: &Change, shard: ShardId) -> bool {
    let fallback_fits = change
        .fallback
        .is_none_or(|fallback| fallback.asset.0 > 0 && command.kind != CommandKind::Transfer);
    let account_fits = match command.kind {
        CommandKind::OpenAccount => change.account == command.account,
        _ => account_fits(change.account, shard),
    };
    account_fits && change.primary.asset.0 > 0 && fallback_fits
}

fn balanced(command: &Command) -> Result<(), Reject> {
    for (leg, change) in command.changes.iter().enumerate() {
        let asset = change.primary.asset;
        let seen = command
            .changes
            .iter()
            .take(leg)
            .any(|earlier| earlier.primary.asset == asset);
        if seen {
            continue;
        }
        let sum = sum(&command.changes, asset);
        if sum != Money::ZERO {
            return Err(Reject {
                asset: Some(asset),
                had: sum,
                ..Reject::new(RejectCode::TransferNotBalanced, 0, command.account)
            });
        }
    }
    Ok(())
}

/// The sum of all deltas of an asset, cut to the bounds of money; zero only if it is zero.
fn sum(changes: &[Change], asset: AssetId) -> Money {
    // 128 amounts do not fit an i128: lower and upper 64 bits are summed apart.
    let (mut lower, mut upper) = (0_i128, 0_i128);
    for change in changes
        .iter()
        .filter(|change| change.primary.asset == asset)
    {
        for delta in [change.primary.available_delta, change.primary.frozen_delta] {
            let delta = delta.minor_units();
            lower = lower.wrapping_add(delta & i128::from(u64::MAX));
            upper = upper.wrapping_add(delta >> 64);
        }
    }
    upper = upper.wrapping_add(lower >> 64);
    lower &= i128::from(u64::MAX);
    let exact = (upper.checked_mul(1 << 64)).and_then(|upper| upper.checked_add(lower));
    let bound = if upper < 0 { Money::MIN } else { Money::MAX };
    exact.and_then(Money::new).unwrap_or(bound)
}
