//! What the benches share: how much they measure, how, and the allocator of the program.

use std::{hint::black_box, time::Duration};

use axs::core::bench::{Shape, Workload, engine::BATCH};
use criterion::{Criterion, Throughput};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A part of what a batch is measured for: its name, and what it took.
pub type Part<T> = (&'static str, fn(&T) -> Duration);

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

/// Times each part of the batches that `batch` goes through, each of [`BATCH`] commands.
pub fn time<T>(
    criterion: &mut Criterion,
    group: &str,
    parts: &[Part<T>],
    mut batch: impl FnMut() -> T,
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, took) in parts {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|batches| (0..batches).map(|_| took(black_box(&batch()))).sum());
        });
    }
    group.finish();
}
