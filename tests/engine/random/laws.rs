//! What must hold of every log, whatever the model thinks.

use std::collections::BTreeMap;

use axs::core::{
    command::CommandKind,
    engine::AccountStatus,
    types::{AccountId, AssetId, Position},
};

use super::generator::Log;

/// Chains of versions and positions, floors, and sums.
pub fn check_log(log: &Log) {
    let mut chains: BTreeMap<(AccountId, AssetId), (u64, Position)> = BTreeMap::new();
    let mut totals: BTreeMap<AssetId, i128> = BTreeMap::new();
    for line in &log.lines {
        let Some(outcome) = &line.outcome else {
            continue;
        };
        let mut touched = BTreeMap::new();
        let mut sums: BTreeMap<AssetId, i128> = BTreeMap::new();
        for entry in &line.entries {
            let key = (entry.account, entry.asset);
            let (version, position) = chains.get(&key).copied().unwrap_or((0, Position::NONE));
            assert_eq!(entry.version, version + 1, "versions rise by one per entry");
            let before = *touched.entry(key).or_insert(position);
            assert_eq!(
                entry.previous_position, before,
                "chains lead to earlier commands"
            );
            chains.insert(key, (entry.version, outcome.position));
            // Modulo 2^128: enough to see a difference.
            for delta in [entry.available_delta, entry.frozen_delta] {
                let sum = sums.entry(entry.asset).or_default();
                *sum = sum.wrapping_add(delta.minor_units());
                let total = totals.entry(entry.asset).or_default();
                *total = total.wrapping_add(delta.minor_units());
            }
            let floorless = entry.account.clearing_shard().is_some();
            let negative = entry.available_after.is_negative() || entry.frozen_after.is_negative();
            assert!(floorless || !negative, "no balance is below its floor");
        }
        if outcome.kind == CommandKind::Transfer {
            assert!(
                sums.values().all(|&sum| sum == 0),
                "a transfer sums to zero: {sums:?}"
            );
        }
    }
    for balance in log.model.balances() {
        let total = totals
            .get_mut(&balance.asset)
            .expect("a balance comes from entries");
        *total = total.wrapping_sub(balance.available.minor_units());
        *total = total.wrapping_sub(balance.frozen.minor_units());
        assert_eq!(chains[&(balance.account, balance.asset)].0, balance.version);
    }
    assert!(
        totals.values().all(|&total| total == 0),
        "balances are the sum of entries"
    );
    assert!(
        log.model
            .accounts()
            .all(|account| account.status != AccountStatus::Unspecified)
    );
}
