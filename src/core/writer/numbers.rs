//! Sequence numbers from leased blocks: which are free, when a block is too old to be used, which
//! blocks are to be closed. Pure: the caller leases, closes and passes the time.

use std::{collections::BTreeSet, time::Duration};

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::core::{
    store::SequenceBlock,
    types::{CommandId, Nonce, Sequence, ShardId},
};

/// A block is used for so long by the monotonic clock; the outbox closes it after three times that.
pub const BLOCK_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// A new block is leased when less than this part of a block is left.
const REFILL_PART: u64 = 4;

/// The blocks of this writer.
#[derive(Debug, Default)]
pub struct Numbers {
    blocks: HashMap<ShardId, Vec<Block>>,
    closing: Vec<Nonce>,
}

#[derive(Debug)]
struct Block {
    nonce: Nonce,
    next: u64,
    last: u64,
    /// Numbers that were taken and not used.
    returned: BTreeSet<u64>,
    leased_at: Instant,
}

impl Block {
    fn free(&self) -> u64 {
        self.last + 1 - self.next + self.returned.len() as u64
    }

    fn take(&mut self) -> Option<u64> {
        if let Some(number) = self.returned.pop_first() {
            return Some(number);
        }
        (self.next <= self.last).then(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Numbers {
    /// Adds a lease that was asked for at `leased_at`.
    pub fn add(&mut self, block: SequenceBlock, leased_at: Instant) {
        self.blocks.entry(block.shard).or_default().push(Block {
            nonce: block.nonce,
            next: block.first.0,
            last: block.last.0,
            returned: BTreeSet::new(),
            leased_at,
        });
    }

    /// Stops using what is too old at `now`, and forgets what is used up: no number of it is left
    /// to be sealed, so that nobody waits for it to be closed.
    pub fn retire(&mut self, now: Instant) {
        for blocks in self.blocks.values_mut() {
            blocks.retain(|block| {
                let old = now.duration_since(block.leased_at) >= BLOCK_AGE_MAX;
                if old {
                    self.closing.push(block.nonce);
                }
                !old && block.free() > 0
            });
        }
    }

    /// How many numbers of `shard` are missing for `needed` commands.
    pub fn shortage(&self, shard: ShardId, needed: u64) -> u64 {
        needed.saturating_sub(self.free(shard))
    }

    /// Whether the next block of `shard` should be leased now, blocks being of `block_size`.
    pub fn is_low(&self, shard: ShardId, block_size: u32) -> bool {
        self.free(shard) < u64::from(block_size) / REFILL_PART
    }

    /// Takes a number; `None` when there is none left.
    pub fn take(&mut self, shard: ShardId) -> Option<(CommandId, Nonce)> {
        self.blocks.get_mut(&shard)?.iter_mut().find_map(|block| {
            let number = block.take()?;
            Some((CommandId::new(shard, Sequence(number)), block.nonce))
        })
    }

    /// Gives back a number that was surely not used. One of a block that is gone is left to be
    /// sealed.
    pub fn give_back(&mut self, id: CommandId, nonce: Nonce) {
        let block = self
            .blocks
            .get_mut(&id.shard())
            .and_then(|blocks| blocks.iter_mut().find(|block| block.nonce == nonce));
        if let Some(block) = block {
            block.returned.insert(id.sequence().0);
        }
    }

    /// Never uses these blocks again; they are to be closed.
    pub fn abandon(&mut self, nonces: &[Nonce]) {
        for blocks in self.blocks.values_mut() {
            blocks.retain(|block| {
                let abandoned = nonces.contains(&block.nonce);
                if abandoned {
                    self.closing.push(block.nonce);
                }
                !abandoned
            });
        }
    }

    /// Never uses any block again.
    pub fn abandon_all(&mut self) {
        for (_, blocks) in self.blocks.drain() {
            self.closing.extend(blocks.iter().map(|block| block.nonce));
        }
    }

    /// Never uses the blocks of a shard again.
    pub fn abandon_shard(&mut self, shard: ShardId) {
        if let Some(blocks) = self.blocks.remove(&shard) {
            self.closing.extend(blocks.iter().map(|block| block.nonce));
        }
    }

    /// The blocks that are to be closed; those that could not be are put back with
    /// [`Numbers::close_later`].
    pub fn take_closing(&mut self) -> Vec<Nonce> {
        std::mem::take(&mut self.closing)
    }

    /// Remembers blocks that could not be closed, up to a bound: the outbox closes the rest.
    pub fn close_later(&mut self, nonces: Vec<Nonce>) {
        const CLOSING_MAX: usize = 1_024;
        self.closing.extend(nonces);
        self.closing.truncate(CLOSING_MAX);
    }

    fn free(&self, shard: ShardId) -> u64 {
        self.blocks
            .get(&shard)
            .map_or(0, |blocks| blocks.iter().map(Block::free).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn block(nonce: i64, first: u64, last: u64) -> SequenceBlock {
        SequenceBlock {
            nonce: Nonce(nonce),
            shard: SHARD,
            first: Sequence(first),
            last: Sequence(last),
        }
    }

    #[test]
    fn numbers_come_from_one_block_after_the_other_and_are_used_once() {
        let mut numbers = Numbers::default();
        let now = Instant::now();
        numbers.add(block(7, 1, 2), now);
        numbers.add(block(8, 11, 12), now);
        assert_eq!(numbers.shortage(SHARD, 5), 1);
        assert!(!numbers.is_low(SHARD, 16) && numbers.is_low(SHARD, 20));
        let taken: Vec<_> = std::iter::from_fn(|| numbers.take(SHARD)).collect();
        let expected = [(1, 7), (2, 7), (11, 8), (12, 8)]
            .map(|(n, nonce)| (CommandId::new(SHARD, Sequence(n)), Nonce(nonce)));
        assert_eq!(taken, expected);
        numbers.give_back(expected[1].0, expected[1].1);
        assert_eq!(numbers.take(SHARD), Some(expected[1]), "not used, so next");
        numbers.retire(now);
        assert_eq!(numbers.take_closing(), [], "used up, nothing to seal");
    }

    #[test]
    fn an_old_block_is_not_used_and_its_numbers_do_not_come_back() {
        let mut numbers = Numbers::default();
        let now = Instant::now();
        numbers.add(block(7, 1, 100), now);
        let (id, nonce) = numbers.take(SHARD).expect("it has numbers");
        numbers.retire(now + BLOCK_AGE_MAX);
        assert_eq!(numbers.take(SHARD), None);
        numbers.give_back(id, nonce);
        assert_eq!(numbers.take(SHARD), None);
        assert_eq!(numbers.take_closing(), [Nonce(7)]);
    }

    #[test]
    fn an_abandoned_block_is_closed_and_never_used() {
        let mut numbers = Numbers::default();
        numbers.add(block(7, 1, 100), Instant::now());
        numbers.add(block(8, 101, 200), Instant::now());
        numbers.abandon(&[Nonce(7)]);
        assert_eq!(numbers.take(SHARD).map(|(_, nonce)| nonce), Some(Nonce(8)));
        assert_eq!(numbers.take_closing(), [Nonce(7)]);
        numbers.abandon_shard(SHARD);
        assert_eq!(numbers.take(SHARD), None);
        assert_eq!(numbers.take_closing(), [Nonce(8)]);
    }
}
