//! A set of sequence numbers as sorted, disjoint, non-adjacent intervals: exact for ever, and one
//! interval with a few gaps whatever the age of a shard.

use std::{collections::BTreeMap, fmt};

/// A set of numbers, kept as inclusive intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// First number → last number of each interval.
    intervals: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        // Most numbers asked for are new.
        if self.last().is_none_or(|last| last < number) {
            return false;
        }
        self.intervals
            .range(..=number)
            .next_back()
            .is_some_and(|(_, &last)| number <= last)
    }

    /// Adds one number; false if it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        // Most numbers follow the greatest one.
        if let Some(mut last) = self.intervals.last_entry()
            && last.get().checked_add(1) == Some(number)
        {
            last.insert(number);
            return true;
        }
        if self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds `first ..= last`.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        assert!(first <= last, "an interval runs upwards");
        let (mut start, mut end) = (first, last);
        if let Some((&before, &before_end)) = self.intervals.range(..=first).next_back()
            && before_end.saturating_add(1) >= first
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.intervals.range(start..).next() {
            if next > end.saturating_add(1) {
                break;
            }
            end = end.max(next_end);
            self.intervals.remove(&next);
        }
        self.intervals.insert(start, end);
    }

    /// Adds every number of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert_range(first, last);
        }
    }

    /// Whether the two sets share a number.
    pub fn overlaps(&self, other: &Self) -> bool {
        other
            .iter()
            .any(|(first, last)| self.overlaps_range(first, last))
    }

    /// Whether a number of `first ..= last` is in the set.
    pub fn overlaps_range(&self, first: u64, last: u64) -> bool {
        self.intervals
            .range(..=last)
            .next_back()
            .is_some_and(|(_, &end)| end >= first)
    }

    /// The parts of `first ..= last` that are not in the set, in order.
    pub fn gaps(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = first;
        let from = self
            .intervals
            .range(..=first)
            .next_back()
            .map_or(first, |(&start, _)| start);
        for (&start, &end) in self.intervals.range(from..=last) {
            if start > next {
                gaps.push((next, start - 1));
            }
            next = next.max(end.saturating_add(1));
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }

    /// The intervals, in order, both ends inclusive.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.intervals.iter().map(|(&first, &last)| (first, last))
    }

    /// How many intervals.
    pub fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The greatest number.
    pub fn last(&self) -> Option<u64> {
        self.intervals.last_key_value().map(|(_, &last)| last)
    }

    /// No number at all.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }
}

impl FromIterator<u64> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

/// `1-3,7`.
impl fmt::Display for IntervalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain set of numbers.
        #[test]
        fn behaves_as_a_set(ranges in prop::collection::vec((0_u64..60, 0_u64..6), 0..40)) {
            let (mut set, mut naive) = (IntervalSet::new(), BTreeSet::new());
            for (first, length) in ranges {
                let fresh = !(first..=first + length).any(|number| naive.contains(&number));
                prop_assert_eq!(set.overlaps_range(first, first + length), !fresh);
                if length == 0 {
                    prop_assert_eq!(set.insert(first), naive.insert(first));
                } else {
                    set.insert_range(first, first + length);
                    naive.extend(first..=first + length);
                }
                prop_assert_eq!(set.count(), naive.len() as u64);
                prop_assert_eq!(set.last(), naive.last().copied());
            }
            for number in 0..70 {
                prop_assert_eq!(set.contains(number), naive.contains(&number));
            }
            let gaps: Vec<u64> = set.gaps(3, 64).into_iter().flat_map(|(a, b)| a..=b).collect();
            let expected: Vec<u64> = (3..=64).filter(|number| !naive.contains(number)).collect();
            prop_assert_eq!(gaps, expected);
            let apart = set.iter().zip(set.iter().skip(1)).all(|(a, b)| a.1 + 1 < b.0);
            prop_assert!(apart, "intervals must neither overlap nor touch: {}", set);
            prop_assert_eq!(naive.into_iter().collect::<IntervalSet>(), set);
        }
    }
}
