//! The two parts of a table: an [`Arena`] of cells that never move, and an [`Index`] from hash to
//! cell. What a cell means is in `cells`; nothing in here knows accounts or balances.
//!
//! Cells stand in chunks, so that growth copies nothing and the record of one balance is exactly
//! one cache line. The index holds 32 bits of hash beside each cell number, so that a probe reads
//! one line of eight slots and growth or removal never touches a cell. At most 3/4 full it costs
//! 10.7 to 21.3 bytes a cell.

/// "No cell".
pub(super) const NIL: u32 = u32::MAX;
/// Cell numbers are below: two bits of 32 are left to whoever keeps one.
pub(super) const CELLS_MAX: u32 = (1 << 30) - 1;
/// Cells of a chunk: 1 MiB of balances.
const CHUNK_CELLS: usize = 1 << 14;
/// Slots of a new index, as a power of two.
const BITS_MIN: u32 = 4;
/// A slot has 32 bits of hash, and they choose its home.
const BITS_MAX: u32 = 32;

/// Cells of one kind under stable numbers.
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    /// Cells ever used.
    used: usize,
    /// Removed cells, used again before new ones.
    free: Vec<u32>,
}

impl<T: Copy> Arena<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            free: Vec::new(),
        }
    }

    /// Cells ever used: every cell number is below.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Of the cells ever used.
    pub(super) fn bytes(&self) -> usize {
        self.used.saturating_mul(size_of::<T>())
    }

    pub(super) fn get(&self, cell: u32) -> &T {
        let cell = cell as usize;
        &self.chunks[cell / CHUNK_CELLS][cell % CHUNK_CELLS]
    }

    pub(super) fn get_mut(&mut self, cell: u32) -> &mut T {
        let cell = cell as usize;
        &mut self.chunks[cell / CHUNK_CELLS][cell % CHUNK_CELLS]
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(cell) = self.free.pop() {
            *self.get_mut(cell) = value;
            return cell;
        }
        let cell = u32::try_from(self.used).unwrap_or(NIL);
        assert!(cell < CELLS_MAX, "fewer than 2^30 cells");
        if self.used.is_multiple_of(CHUNK_CELLS) {
            self.chunks.push(Vec::with_capacity(CHUNK_CELLS));
        }
        self.chunks.last_mut().expect("just made").push(value);
        self.used = self.used.saturating_add(1);
        cell
    }

    /// The caller has marked the cell as free in its own terms.
    pub(super) fn remove(&mut self, cell: u32) {
        self.free.push(cell);
    }
}

/// Open addressing with linear probing; removal shifts back, so that there are no tombstones.
pub(super) struct Index {
    /// 0: empty; else hash << 32 | cell + 1.
    slots: Vec<u64>,
    bits: u32,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; 1 << BITS_MIN],
            bits: BITS_MIN,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len().saturating_mul(size_of::<u64>())
    }

    /// The cell under `hash` for which `is` holds.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if hash_of(slot) == hash && is(cell_of(slot)) {
                return Some(cell_of(slot));
            }
            at = self.after(at);
        }
    }

    /// Where a search for `hash` begins: reading it brings the line to the cache.
    pub(super) fn home_slot(&self, hash: u32) -> u64 {
        self.slots[self.home(hash)]
    }

    /// The first cell under `hash`, most likely the one that a search finds; no cell is read.
    pub(super) fn likely(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds a cell that is not in it.
    pub(super) fn insert(&mut self, hash: u32, cell: u32) {
        self.len = self.len.saturating_add(1);
        if self.len > (self.slots.len() / 4).saturating_mul(3) {
            self.grow();
        }
        self.place(u64::from(hash) << 32 | u64::from(cell).saturating_add(1));
    }

    /// Removes a cell that is in it.
    pub(super) fn remove(&mut self, hash: u32, cell: u32) {
        let mut hole = self.home(hash);
        while hash_of(self.slots[hole]) != hash || cell_of(self.slots[hole]) != cell {
            assert!(
                self.slots[hole] != 0,
                "E9: a cell to remove is in the index"
            );
            hole = self.after(hole);
        }
        let mut next = self.after(hole);
        while self.slots[next] != 0 {
            // It may move into the hole unless its home lies behind the hole.
            let home = self.home(hash_of(self.slots[next]));
            if self.distance(home, next) >= self.distance(hole, next) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = 0;
        self.len = self.len.saturating_sub(1);
    }

    fn place(&mut self, slot: u64) {
        let mut at = self.home(hash_of(slot));
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// The home is made of the hash's upper bits, so that this reads and writes in order.
    fn grow(&mut self) {
        assert!(self.bits < BITS_MAX, "fewer than 2^32 slots");
        self.bits = self.bits.saturating_add(1);
        let bigger = vec![0; self.slots.len().saturating_mul(2)];
        for slot in std::mem::replace(&mut self.slots, bigger) {
            if slot != 0 {
                self.place(slot);
            }
        }
    }

    fn home(&self, hash: u32) -> usize {
        (u64::from(hash) >> BITS_MAX.wrapping_sub(self.bits)) as usize
    }

    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.slots.len().wrapping_sub(1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.slots.len().wrapping_sub(1)
    }
}

fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// Of a slot that is not empty; [`NIL`] of an empty one.
fn cell_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

/// A fixed hash of two numbers: folded multiplication, the upper half of the fold.
pub(super) fn hash(a: u64, b: u64) -> u32 {
    // Fractional digits of pi, odd; only their lack of pattern matters.
    let a = u128::from(a ^ 0x243f_6a88_85a3_08d3);
    let b = u128::from(b ^ 0x1319_8a2e_0370_7345);
    let product = a.wrapping_mul(b);
    let fold = (product >> 64) as u64 ^ product as u64;
    (fold >> 32) as u32
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map; few hashes, at both ends of the range, so that runs are long and wrap.
        #[test]
        fn index_behaves_as_a_map(steps in prop::collection::vec((0_u32..40, 0_u32..6), 0..400)) {
            let (mut index, mut naive) = (Index::new(), BTreeMap::new());
            for (cell, hash) in steps {
                let hash = if hash < 3 { hash } else { u32::MAX - hash };
                match naive.remove(&cell) {
                    Some(hash) => index.remove(hash, cell),
                    None => {
                        index.insert(hash, cell);
                        naive.insert(cell, hash);
                    }
                }
                prop_assert_eq!(index.len(), naive.len());
                for cell in 0..40 {
                    for hash in [0, 1, 2, u32::MAX - 3, u32::MAX - 4, u32::MAX - 5] {
                        let expected = (naive.get(&cell) == Some(&hash)).then_some(cell);
                        prop_assert_eq!(index.find(hash, |found| found == cell), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn arena_keeps_numbers_and_uses_removed_cells_again() {
        let mut arena = Arena::new();
        for value in 0..CHUNK_CELLS as u32 + 3 {
            assert_eq!(arena.insert(value), value);
        }
        assert_eq!(*arena.get(CHUNK_CELLS as u32), CHUNK_CELLS as u32);
        arena.remove(7);
        assert_eq!(arena.insert(70), 7);
        assert_eq!((*arena.get(7), arena.used()), (70, CHUNK_CELLS + 3));
    }

    #[test]
    fn hash_spreads_neighbours() {
        let mut slots = vec![0_u32; 1 << 10];
        for account in 1..=1_u64 << 10 {
            slots[(hash(account, 1) >> 22) as usize] += 1;
        }
        let longest = slots.into_iter().max();
        assert!(
            longest <= Some(8),
            "1,024 neighbours in 1,024 slots: {longest:?} in one"
        );
    }
}
