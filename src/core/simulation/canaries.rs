//! Every guard switched off: the suite must notice, within a bounded number of seeds.

use super::{Options, run};
use crate::core::canary::Guard;

/// Guards to switch off together, and what that shows.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Printed.
    pub name: String,
    /// Switched off.
    pub off: Vec<Guard>,
    /// It must be noticed. Else another guard stands before it, or it only makes things quick, and
    /// it must not be noticed.
    pub is_needed: bool,
}

/// Guards that others stand before: alone they are not missed, with those they are.
const SECOND_LINE: [Guard; 5] = [
    Guard::AccountVersion,
    Guard::AppliedOverlap,
    Guard::BumpFirst,
    Guard::FillOneRead,
    Guard::LeaseLocal,
];

/// How a canary was noticed.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Seeds run until then.
    pub seeds: u64,
    /// The first seed that failed, and what was wrong.
    pub found: Option<(u64, String)>,
}

/// All of them.
pub fn canaries() -> Vec<Canary> {
    let alone = |guard: Guard| Canary {
        name: format!("{guard:?}"),
        off: vec![guard],
        is_needed: !SECOND_LINE.contains(&guard),
    };
    let together = |off: &[Guard]| Canary {
        name: off
            .iter()
            .map(|guard| format!("{guard:?}"))
            .collect::<Vec<_>>()
            .join("+"),
        off: off.to_vec(),
        is_needed: true,
    };
    use Guard::*;
    let mut all: Vec<_> = Guard::ALL.iter().copied().map(alone).collect();
    all.push(together(&[AccountVersion, DirtyPin]));
    all.push(together(&[AppliedOverlap, AppliedSet]));
    all.push(together(&[FillOneRead, CachePass]));
    all.push(together(&[BumpFirst, PreviousPosition, AppliedOverlap]));
    all
}

/// Runs seeds from `first` on until one fails, at most `most`.
pub fn detect(canary: &Canary, first: u64, most: u64) -> Detection {
    let options = Options {
        off: canary.off.clone(),
        ..Options::default()
    };
    for seeds in 1..=most {
        let seed = first + seeds - 1;
        let report = run(seed, &options);
        if let Some(wrong) = report.wrong.into_iter().next() {
            let found = Some((seed, wrong));
            return Detection { seeds, found };
        }
    }
    Detection {
        seeds: most,
        found: None,
    }
}
