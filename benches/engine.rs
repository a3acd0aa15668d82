//! Times the rules alone: a batch applied, its changes taken, and the bare loop that only looks the
//! same kind of balances up, reads and writes them. `axs bench engine` has them side by side in one
//! run; this compares two builds: `cargo bench --bench engine -- --save-baseline NAME`.

use std::{hint::black_box, time::Duration};

use axs::core::bench::{
    Shape,
    engine::{BATCH, Bed, Round},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod support;

/// A part of a round: its name, and what it took.
type Part = (&'static str, fn(&Round) -> Duration);

const PARTS: [Part; 3] = [
    ("apply", |round| round.applying.iter().sum()),
    ("take_changes", |round| round.changing),
    ("bare_loop", |round| round.bare),
];

fn engine(criterion: &mut Criterion) {
    for shape in Shape::ALL {
        let workload = support::workload(shape);
        let mut bed = Bed::new(workload, workload.assets());
        let mut group = criterion.benchmark_group(format!("engine/{shape}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for (name, took) in PARTS {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    let round = |_| took(black_box(&bed.round(BATCH as u64)));
                    (0..rounds).map(round).sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
