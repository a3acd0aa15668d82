//! What the benches share: how much they measure, and the allocator of the program.

use axs::core::bench::{Shape, Workload};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A million accounts where times are asked for; a few where `cargo test` only asks whether a bench
/// works (cargo says `--bench` in the first case).
pub fn workload(shape: Shape) -> Workload {
    let is_timed = std::env::args().any(|argument| argument == "--bench");
    Workload {
        shape,
        accounts: if is_timed { 1_000_000 } else { 1_000 },
        duplicates_percent: 0,
        seed: 1,
    }
}
