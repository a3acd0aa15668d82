//! The state hash: a wrapping sum of one fixed 128-bit hash per balance and per account, so that
//! it does not depend on order, nor on what is in memory. The layouts are a format: they never
//! change.
//!
//! Each summand is XXH3-128 (seed 0) of these bytes, numbers little-endian, signed ones in two's
//! complement:
//!
//! | balance with version ≥ 1 | 53 bytes | account, clearing accounts left out | 18 bytes |
//! |---|---|---|---|
//! | tag `1` | 0 | tag `2` | 0 |
//! | account | 1..9 | account | 1..9 |
//! | asset | 9..13 | user | 9..17 |
//! | available | 13..29 | status, as in the protocol | 17 |
//! | frozen | 29..45 | | |
//! | version | 45..53 | | |
//!
//! Positions, times and epochs are not in it: the same history replayed elsewhere has the same
//! hash.

use xxhash_rust::xxh3::xxh3_128;

use crate::core::engine::{Account, Balance};

/// What a balance adds to the state hash; 0 while it was never touched.
pub fn of_balance(balance: &Balance) -> u128 {
    if balance.version == 0 {
        return 0;
    }
    let mut bytes = [0; 53];
    bytes[0] = 1;
    bytes[1..9].copy_from_slice(&balance.account.0.to_le_bytes());
    bytes[9..13].copy_from_slice(&balance.asset.0.to_le_bytes());
    bytes[13..29].copy_from_slice(&balance.available.minor_units().to_le_bytes());
    bytes[29..45].copy_from_slice(&balance.frozen.minor_units().to_le_bytes());
    bytes[45..53].copy_from_slice(&balance.version.to_le_bytes());
    xxh3_128(&bytes)
}

/// What an account adds to the state hash; 0 for a clearing account, which exists by itself.
pub fn of_account(account: &Account) -> u128 {
    if account.id.clearing_shard().is_some() {
        return 0;
    }
    let mut bytes = [0; 18];
    bytes[0] = 2;
    bytes[1..9].copy_from_slice(&account.id.0.to_le_bytes());
    bytes[9..17].copy_from_slice(&account.user.to_le_bytes());
    bytes[17] = account.status as u8;
    xxh3_128(&bytes)
}
