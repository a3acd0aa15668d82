//! A strike after every step of a leader and of a writer, in many small scenarios without any other trouble.

use std::time::Duration;

use super::{
    MILLISECOND, Options, Report, SECOND,
    faults::Strike,
    profile::{Noise, Profile},
    run,
};

/// Scenarios: each is a seed with its own mix of commands and limits.
pub const SCENARIOS: u64 = 24;
/// Who is struck: of two consumers the first, and the only writer.
const LEADER: usize = 0;
const WRITER: usize = 2;
/// Steps of a scenario that are struck at most.
const STEPS_MAX: u64 = 5_000;

/// What the strikes of one scenario came to.
#[derive(Clone, Debug)]
pub struct Exhaustive {
    /// Number of the scenario.
    pub scenario: u64,
    /// Strikes.
    pub runs: u64,
    /// Those after which something was wrong.
    pub failed: Vec<Report>,
}

/// Strikes after every step of the first leader and of the writer of a scenario.
pub fn exhaustive(scenario: u64) -> Exhaustive {
    let mut done = Exhaustive {
        scenario,
        runs: 0,
        failed: Vec::new(),
    };
    for (process, pauses) in [LEADER, WRITER]
        .into_iter()
        .flat_map(|p| [(p, false), (p, true)])
    {
        for at in 1..=STEPS_MAX {
            let strike = Strike {
                process,
                steps: 0,
                at,
                pauses,
            };
            let options = Options {
                strike: Some(strike),
                ..Options::default()
            };
            let report = run(scenario, &options);
            done.runs += 1;
            let is_over = report.steps < at;
            if !report.wrong.is_empty() {
                done.failed.push(report);
            }
            if is_over {
                break;
            }
        }
    }
    done
}

/// A small scenario without noise: two consumers, one shard, a few commands.
pub(super) fn narrow(profile: &mut Profile, scenario: u64) {
    profile.shards = 1;
    profile.consumers = 2;
    profile.writers = 1;
    profile.outboxes = 1;
    profile.clients = 1 + (scenario % 2) as usize;
    profile.commands = 5 + scenario % 4;
    profile.noise = Noise {
        latency_max: MILLISECOND,
        ..Noise::default()
    };
    profile.leader.accounts_max = 1 + (scenario % 3) as usize;
    profile.leader.batch_count_max = [1, 2, 64][(scenario % 3) as usize];
    profile.leader.batch_age_max = Duration::ZERO;
    profile.chaos = 3 * SECOND;
}
