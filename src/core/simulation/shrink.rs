//! The fewest faults of a failing seed that still make it fail: one after the other is left out.

use super::{Options, Report, run};

/// Runs the seed again and again; its last failing report.
pub fn shrink(failed: &Report, options: &Options) -> Report {
    let mut best = failed.clone();
    let mut keep: Vec<usize> = failed.faults.iter().map(|(number, _)| *number).collect();
    for number in keep.clone() {
        let without: Vec<_> = keep
            .iter()
            .copied()
            .filter(|kept| *kept != number)
            .collect();
        let options = Options {
            keep: Some(without.clone()),
            ..options.clone()
        };
        let report = run(failed.seed, &options);
        if !report.wrong.is_empty() {
            keep = without;
            best = report;
        }
    }
    best
}
