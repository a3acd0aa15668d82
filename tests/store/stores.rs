//! A store of its own for each test.

use axs::core::{
    assets::Assets,
    clock::Clock,
    store::{Store, memory},
    types::ShardId,
};

/// Of each store.
pub const SHARDS: u16 = 4;
/// The shard that most functions use.
pub const SHARD: ShardId = ShardId(2);

/// An empty store in memory, on the machine's clock.
pub fn memory() -> Store {
    Store::Memory(memory::Store::new(SHARDS, Assets::default(), Clock::System))
}
