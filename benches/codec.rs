//! Times the way of a batch from the bytes of its records to the bytes of its results, as a whole and
//! by step. `axs bench codec` tells more of one build; this compares two:
//! `cargo bench --bench codec -- --save-baseline NAME`.

use axs::core::bench::{
    Shape,
    codec::{Bed, Options, Took},
    engine::BATCH,
};
use criterion::{Criterion, criterion_group, criterion_main};

use support::Part;

mod support;

const PARTS: [Part<Took>; 4] = [
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
        let batch = || bed.batch(BATCH as u64);
        support::time(criterion, &format!("codec/{shape}"), &PARTS, batch);
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
