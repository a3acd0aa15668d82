//! Brings what commands need from memory to the cache before they are applied. Decides nothing and
//! changes nothing: commands apply the same without it.
//!
//! A command on balances that stand reads two lines that are nowhere near each other: slot and cell
//! of the balance. One command after another waits for each of them in turn; here the loads of many
//! commands depend on nothing but each other's addresses, so that they overlap.

use std::hint::black_box;

use crate::core::{
    command::Command,
    engine::{
        Engine,
        cells::{Cells, balance_hash},
    },
};

/// Commands brought to the cache at a time: their lines, at most a few hundred, fit its first level.
pub const WARM_COMMANDS: usize = 64;

/// Balances brought to the cache at a time; further ones are read when they are needed.
const WARM_BALANCES: usize = 128;

const _: () = assert!(WARM_COMMANDS <= WARM_BALANCES);

impl Engine {
    /// To be called with the next commands, at most [`WARM_COMMANDS`], before they are applied.
    pub fn warm<'a>(&self, commands: impl Iterator<Item = &'a Command>) {
        let balances = commands.flat_map(|command| {
            let changes = command.changes.iter();
            changes.map(|change| (change.account, change.primary.asset))
        });
        let mut lines = [0; WARM_BALANCES];
        let mut count = 0_usize;
        for (line, (account, asset)) in lines.iter_mut().zip(balances) {
            *line = balance_hash(account, asset);
            count = count.saturating_add(1);
        }
        self.cells.warm(&mut lines[..count]);
    }
}

impl Cells {
    /// Takes hashes of balances. Each loop does as little as it can beside its loads: the fewer
    /// instructions lie between two of them, the more of them the processor has under way.
    fn warm(&self, lines: &mut [u32]) {
        if self.balances() == 0 {
            return;
        }
        let mut sum = 0_u64;
        for line in lines.iter() {
            sum ^= self.balance_slot(*line);
        }
        for line in lines.iter_mut() {
            *line = self.likely_balance(*line);
        }
        for line in lines.iter() {
            sum ^= self.balance(*line).version;
        }
        // Else the compiler would leave the loads out.
        black_box(sum);
    }
}
