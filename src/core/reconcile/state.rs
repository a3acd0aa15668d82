//! What the fold keeps of a balance, an account, an asset and the shard. No I/O.

use crate::core::engine::AccountStatus;

/// A balance as its entries say.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cell {
    pub available: i128,
    pub frozen: i128,
    pub account: u64,
    pub version: u64,
    pub last_position: i64,
    pub asset: u32,
    /// Its entries do not follow from each other: what it must be is not known.
    pub is_torn: bool,
    /// Its row was compared.
    pub is_seen: bool,
}

const _: () = assert!(size_of::<Cell>() == 64);

/// An account as the outcomes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// As on the wire: microseconds since 2000.
    pub at: i64,
    pub status: AccountStatus,
    /// Its row was compared.
    pub is_seen: bool,
}

/// What entered and left of an asset; `None`: beyond 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub available: Option<i128>,
    pub frozen: Option<i128>,
}

/// The end of the shard's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub position: i64,
    pub epoch: i64,
    pub applied_at: i64,
}
