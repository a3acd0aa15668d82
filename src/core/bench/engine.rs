//! The rules alone: commands in memory, applied by one thread, batch after batch, in turns with the
//! bare loop that only looks the same kind of balances up, reads and writes them.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Figures, Recorder, Stage, Workload,
    figures::rounded,
    usage::{Process, Usage},
};
use crate::core::engine::Memory;

pub(super) mod bed;

pub use bed::{Bed, Round};

/// Commands of a batch: what a leader under load flushes at a time.
pub const BATCH: usize = 8_192;
/// Commands of a turn: long enough that the caches are those of its own loop.
const TURN: u64 = 32 * BATCH as u64;
/// Most assets of an account.
pub const ASSETS_MAX: usize = 64;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many balances an account has; at least those of the workload.
    pub assets: usize,
    /// How many commands are applied.
    pub commands: u64,
    /// Applies as many on an engine with so many balances too, in turns with the first.
    pub compare_balances: Option<u64>,
}

impl Options {
    fn assets(&self) -> usize {
        self.assets.clamp(self.workload.assets(), ASSETS_MAX)
    }
}

/// What one engine did so far.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    commands: u64,
    applying: Duration,
    changing: Duration,
    bare: Duration,
}

impl Sums {
    fn add(&mut self, round: &Round) {
        self.commands += round.commands;
        self.applying += round.applying.iter().sum::<Duration>();
        self.changing += round.changing;
        self.bare += round.bare;
    }
}

/// Applies all commands; tells of each turn how many it had.
pub fn run(options: &Options, tell: &mut dyn FnMut(u64)) -> Figures {
    let own = Process::own("engine");
    let before = own.rss_bytes();
    let mut bed = Bed::new(options.workload, options.assets());
    let resident = own.rss_bytes().saturating_sub(before);
    let mut other = options.compare_balances.map(|balances| {
        let accounts = (balances / options.assets() as u64).max(1);
        let before = own.rss_bytes();
        let workload = Workload {
            accounts,
            ..options.workload
        };
        let bed = Bed::new(workload, options.assets());
        (bed, own.rss_bytes().saturating_sub(before))
    });
    let usage = Usage::begin(vec![own.clone()]);
    let begun = Instant::now();
    let mut seen = Recorder::new(begun);
    let (mut sums, mut other_sums) = (Sums::default(), Sums::default());
    while sums.commands < options.commands {
        let count = TURN.min(options.commands - sums.commands);
        let round = bed.round(count);
        let mut until = begun + sums.applying;
        for took in &round.applying {
            until += *took;
            // The last batch of a run may be shorter; that it counts as full moves no figure.
            seen.took(*took, until, 0);
        }
        seen.count(until, round.commands);
        sums.add(&round);
        if let Some((bed, _)) = &mut other {
            other_sums.add(&bed.round(count));
        }
        tell(round.commands);
    }
    let mut more = measured(&bed, &sums, resident);
    if let Some((bed, resident)) = &other {
        let mut fields = Map::new();
        fields.insert("balances".into(), json!(bed.balances()));
        fields.insert(
            "commands_per_second".into(),
            json!(per_second(other_sums.commands, other_sums.applying).round()),
        );
        fields.insert(
            "ratio_to_first".into(),
            ratio(sums.applying, other_sums.applying),
        );
        fields.extend(measured(bed, &other_sums, *resident));
        more.insert("compared".into(), Value::Object(fields));
    }
    Figures {
        bench: "engine",
        workload: described(options),
        seconds: sums.applying.as_secs_f64(),
        seen,
        latency_of: format!("a batch of {BATCH} commands"),
        cpu_seconds: usage.stages()[0].cpu_seconds,
        peak_rss_bytes: own.peak_rss_bytes(),
        stages: vec![
            stage("apply", sums.applying),
            stage("take changes", sums.changing),
        ],
        more,
    }
}

/// What only this bench measures, of one engine.
fn measured(bed: &Bed, sums: &Sums, resident: u64) -> Map<String, Value> {
    let whole = sums.applying + sums.changing;
    let Memory { balances, accounts } = bed.memory();
    let [balance, account] = [(balances, bed.balances()), (accounts, bed.accounts())];
    let fields = [
        (
            "bare_loop",
            json!({
                "commands_per_second": per_second(sums.commands, sums.bare).round(),
                "ratio": ratio(sums.bare, sums.applying),
            }),
        ),
        (
            "with_changes_taken",
            json!({
                "commands_per_second": per_second(sums.commands, whole).round(),
                "ratio": ratio(sums.bare, whole),
            }),
        ),
        (
            "bytes_per_balance",
            json!({
                "cell_and_index": each(balance.0 as u64, balance.1),
                "resident_with_accounts": each(resident, bed.balances()),
                "of_each_account": each(account.0 as u64, account.1),
            }),
        ),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn each(bytes: u64, count: u64) -> f64 {
    rounded(bytes as f64 / count.max(1) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(commands: u64, time: Duration) -> f64 {
    commands as f64 / time.as_secs_f64().max(1e-9)
}

/// Of rates over the same commands: the quotient of times.
fn ratio(of: Duration, to: Duration) -> Value {
    json!(rounded(of.as_secs_f64() / to.as_secs_f64().max(1e-9)))
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.workload.to_json();
    described.insert("assets".into(), json!(options.assets()));
    described.insert("batch".into(), json!(BATCH));
    described
}

fn stage(name: &str, time: Duration) -> Stage {
    Stage {
        name: name.into(),
        cpu_seconds: time.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::bench::Shape;

    #[test]
    fn every_shape_is_applied_and_compared() {
        for shape in Shape::ALL {
            let options = Options {
                workload: Workload {
                    shape,
                    accounts: 100,
                    duplicates_percent: 5,
                    seed: 3,
                },
                assets: 3,
                commands: TURN + 100,
                compare_balances: Some(900),
            };
            let mut told = 0;
            let figures = run(&options, &mut |count| told += count);
            assert_eq!(told, options.commands);
            let document = figures.to_json();
            assert_eq!(document["commands"], json!(options.commands));
            assert_eq!(document["compared"]["balances"], json!(900));
            let bytes = |of: &Value| of["bytes_per_balance"]["cell_and_index"].as_f64();
            // 64 bytes of cell, 10.7 to 21.3 of index.
            assert!(bytes(&document).is_some_and(|bytes| (74.0..=86.0).contains(&bytes)));
            assert!(document["bare_loop"]["ratio"].as_f64() > Some(0.0));
        }
    }
}
