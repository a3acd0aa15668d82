//! Times the rules alone: a batch applied, its changes taken, and the bare loop that only looks the
//! same kind of balances up, reads and writes them. `axs bench engine` has them side by side in one
//! run; this compares two builds: `cargo bench --bench engine -- --save-baseline NAME`.

use axs::core::bench::{
    Shape,
    engine::{BATCH, Bed, Round},
};
use criterion::{Criterion, criterion_group, criterion_main};

use support::Part;

mod support;

const PARTS: [Part<Round>; 3] = [
    ("apply", |round| round.applying.iter().sum()),
    ("take_changes", |round| round.changing),
    ("bare_loop", |round| round.bare),
];

fn engine(criterion: &mut Criterion) {
    for shape in Shape::ALL {
        let workload = support::workload(shape);
        let mut bed = Bed::new(workload, workload.assets());
        let round = || bed.round(BATCH as u64);
        support::time(criterion, &format!("engine/{shape}"), &PARTS, round);
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
