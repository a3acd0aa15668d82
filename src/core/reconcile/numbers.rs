//! Outcomes, accepted commands and the applied set of a shard, as sets of sequence numbers, and
//! whether outcome and command have the same content. No I/O.
//!
//! Contents are compared by sums over ranges of numbers, so that what is kept does not grow with the
//! commands: a sum that is not zero names the range to look at.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use crate::core::interval_set::IntervalSet;

/// Numbers of one sum: 2 to the power of this.
const RANGE_BITS: u32 = 10;

/// The numbers of one shard.
#[derive(Default)]
pub struct Numbers {
    /// Of outcomes in the journal.
    pub outcomes: IntervalSet,
    /// Of accepted commands.
    pub commands: IntervalSet,
    /// Those of outcomes less those of commands, by range.
    sums: BTreeMap<u64, u128>,
}

/// Numbers that are there and should not be, or the other way round; first and last of each range.
pub type Ranges = Vec<(u64, u64)>;

impl Numbers {
    /// An outcome; false: its number had one.
    pub fn outcome(&mut self, number: u64, hash: &[u8; 16]) -> bool {
        let is_new = self.outcomes.insert(number);
        if is_new {
            let sum = self.sums.entry(number >> RANGE_BITS).or_default();
            *sum = sum.wrapping_add(summand(number, hash));
        }
        is_new
    }

    /// An accepted command. After all outcomes.
    pub fn command(&mut self, number: u64, hash: &[u8; 16]) {
        self.commands.insert(number);
        if self.outcomes.contains(number) {
            let sum = self.sums.entry(number >> RANGE_BITS).or_default();
            *sum = sum.wrapping_sub(summand(number, hash));
        }
    }

    /// Outcomes of commands that nobody accepted.
    pub fn forged(&self) -> Ranges {
        without(&self.outcomes, &self.commands)
    }

    /// Outcomes whose number is not in the applied set.
    pub fn not_applied(&self, applied: &IntervalSet) -> Ranges {
        without(&self.outcomes, applied)
    }

    /// Accepted commands that are applied and have no outcome.
    pub fn lost(&self, applied: &IntervalSet) -> Ranges {
        let decided = without(applied, &self.outcomes);
        let unaccepted = self.sealed(applied).into_iter().collect::<Vec<_>>();
        let mut sealed = IntervalSet::new();
        for (first, last) in unaccepted {
            sealed.insert_range(first, last);
        }
        decided
            .into_iter()
            .flat_map(|(first, last)| sealed.gaps(first, last))
            .collect()
    }

    /// Applied numbers that are neither outcomes nor commands: sealed.
    pub fn sealed(&self, applied: &IntervalSet) -> Ranges {
        without(applied, &self.outcomes)
            .into_iter()
            .flat_map(|(first, last)| self.commands.gaps(first, last))
            .collect()
    }

    /// Ranges in which an outcome has another content than its command. Those with forged outcomes
    /// are among them.
    pub fn suspects(&self) -> Ranges {
        let differ = self.sums.iter().filter(|(_, sum)| **sum != 0);
        differ
            .map(|(range, _)| {
                let first = range << RANGE_BITS;
                (first, first + (1 << RANGE_BITS) - 1)
            })
            .collect()
    }
}

fn summand(number: u64, hash: &[u8; 16]) -> u128 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(hash);
    xxh3_128(&bytes)
}

/// What is in the first set only.
fn without(set: &IntervalSet, other: &IntervalSet) -> Ranges {
    set.iter()
        .flat_map(|(first, last)| other.gaps(first, last))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(outcomes: &[u64], commands: &[u64]) -> Numbers {
        let mut numbers = Numbers::default();
        for &number in outcomes {
            assert!(numbers.outcome(number, &[1; 16]));
        }
        for &number in commands {
            numbers.command(number, &[1; 16]);
        }
        numbers
    }

    fn set(numbers: &[u64]) -> IntervalSet {
        numbers.iter().copied().collect()
    }

    #[test]
    fn what_agrees_has_no_differences() {
        // 4 is pending, 3 was sealed.
        let (numbers, applied) = (numbers(&[2, 1, 5], &[1, 2, 4, 5]), set(&[1, 2, 3, 5]));
        assert_eq!(numbers.forged(), []);
        assert_eq!(numbers.not_applied(&applied), []);
        assert_eq!(numbers.lost(&applied), []);
        assert_eq!(numbers.suspects(), []);
        assert_eq!(numbers.sealed(&applied), [(3, 3)]);
    }

    #[test]
    fn each_kind_of_difference_is_found_at_its_number() {
        let applied = set(&[1, 2, 3, 5]);
        assert_eq!(numbers(&[1, 2, 3], &[1, 3]).forged(), [(2, 2)]);
        assert_eq!(numbers(&[1, 4], &[1, 4]).not_applied(&applied), [(4, 4)]);
        assert_eq!(
            numbers(&[1], &[1, 2, 3, 4]).lost(&applied),
            [(2, 3)],
            "5 is sealed, 4 is pending"
        );
        let mut numbers = numbers(&[1, 2000], &[1]);
        numbers.command(2000, &[2; 16]);
        assert_eq!(numbers.suspects(), [(1024, 2047)]);
        assert!(!numbers.outcome(1, &[1; 16]), "a second outcome is told");
    }
}
