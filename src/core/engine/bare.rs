//! What the engine is measured against: the least that any engine does with the same table, and the
//! memory that its tables take. Changes nothing.

use std::hint::black_box;

use crate::core::{
    engine::Engine,
    types::{AccountId, AssetId},
};

/// Memory of the tables, without what they have in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Cells and index of balances, bytes.
    pub balances: usize,
    /// Cells and index of accounts, bytes.
    pub accounts: usize,
}

impl Engine {
    /// Looks each balance up, reads it and writes it back as it is; how many there are. What every
    /// engine on this table costs at least.
    pub fn read_write(&mut self, balances: &[(AccountId, AssetId)]) -> usize {
        let mut found = 0_usize;
        for &(account, asset) in balances {
            if let Some(cell) = self.cells.find_balance(account, asset) {
                let balance = self.cells.balance_mut(cell);
                balance.available = black_box(balance.available);
                balance.version = black_box(balance.version);
                found = found.saturating_add(1);
            }
        }
        found
    }

    /// What accounts and balances take.
    pub fn memory(&self) -> Memory {
        self.cells.memory()
    }
}
