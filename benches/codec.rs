//! Times the way of a batch from the bytes of its records to the bytes of its results, as a whole and
//! by step. `axs bench codec` tells more of one build; this compares two:
//! `cargo bench --bench codec -- --save-baseline NAME`.

use std::{hint::black_box, time::Duration};

use axs::core::bench::{
    Shape,
    codec::{Bed, Options, Took},
    engine::BATCH,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod support;

/// A part of a batch's way: its name, and what it took.
type Part = (&'static str, fn(&Took) -> Duration);

const PARTS: [Part; 4] = [
    ("decode", |took| took.decode),
    ("apply", |took| took.apply),
    ("encode", |took| took.encode),
    ("whole", Took::whole),
];

fn codec(criterion: &mut Criterion) {
    for shape in Shape::ALL {
        let mut bed = Bed::new(&Options {
            workload: support::workload(shape),
            commands: 0,
            allocations: None,
        });
        let mut group = criterion.benchmark_group(format!("codec/{shape}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for (name, took) in PARTS {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|batches| {
                    let batch = |_| took(black_box(&bed.batch(BATCH as u64)));
                    (0..batches).map(batch).sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
