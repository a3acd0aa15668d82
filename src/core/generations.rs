//! A bounded map that forgets what was not used lately: two generations, the older dropped whole.
//! No I/O, no clock.

use std::{hash::Hash, mem};

use hashbrown::HashMap;

/// Keeps between `capacity / 2` and `capacity` of the entries used last. Every operation is O(1),
/// apart from dropping a generation.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Generations<K, V> {
    /// Holds at most `capacity` entries (at least 2).
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (capacity / 2).max(1),
        }
    }

    /// The value of `key`, which is used by that.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    /// The value of `key`, which does not count as a use.
    pub fn peek(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    /// Adds or replaces.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.age();
        }
        self.young.insert(key, value);
    }

    /// Forgets the older generation; the younger takes its place.
    pub fn age(&mut self) {
        self.old = mem::take(&mut self.young);
    }

    /// How many entries the younger generation has.
    pub fn young_len(&self) -> usize {
        self.young.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let mut map = Generations::new(8);
        map.insert(0, "kept");
        for key in 1..1_000 {
            map.insert(key, "passing");
            assert_eq!(map.get(&0), Some("kept"), "used after {key} inserts");
            assert!(map.young.len() + map.old.len() <= 8);
        }
        assert_eq!(map.get(&1), None, "not used for long");
    }
}
