//! `axs simulate`: the seeded simulation, its canaries and the exhaustive runs, on all processors.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::Result;
use axs::core::simulation::{self, Canary, Options, Report, Sum};

use super::{Ctx, Exit, Failure};

/// Seeds of a canary that nobody has to notice.
const UNNOTICED_SEEDS: u64 = 1_000;

/// Run the whole cluster under faults, in one thread, again and again.
///
/// Leaders, writers, outboxes, clients and readers over a store, a log and a cache in memory; a seed
/// decides everything. Afterwards all is compared with a naive model. A seed that fails is printed
/// with the fewest faults that still make it fail.
#[derive(clap::Args)]
pub struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Print every event of the first seed, and run only that
    #[arg(long)]
    trace: bool,
    /// Only these faults of the schedule, as a failing seed prints them
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    faults: Option<Vec<usize>>,
    /// Switch every guard off, one after the other: each must be noticed within --seeds
    #[arg(long, conflicts_with_all = ["trace", "faults", "exhaustive"])]
    canaries: bool,
    /// Kill and stop a leader after every step of many small scenarios
    #[arg(long, conflicts_with_all = ["trace", "faults"])]
    exhaustive: bool,
    /// Only the canary of this name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    // Ctrl-C is heard meanwhile.
    tokio::task::spawn_blocking(move || {
        if args.canaries {
            canaries(&args, &ctx)
        } else if args.exhaustive {
            exhaustive(&ctx)
        } else if args.trace || args.faults.is_some() {
            one(&args, &ctx)
        } else {
            seeds(&args, &ctx)
        }
    })
    .await?
}

/// Calls `work` with 0, 1, 2 … on every processor, until it says that there is no more.
fn on_all_processors(work: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while work(next.fetch_add(1, Ordering::Relaxed)) {});
        }
    });
}

fn one(args: &Args, ctx: &Ctx) -> Result<()> {
    let options = Options {
        trace: args.trace,
        keep: args.faults.clone(),
        ..Options::default()
    };
    let report = simulation::run(args.seed, &options);
    print(ctx, &report);
    finish(usize::from(!report.wrong.is_empty()))
}

fn seeds(args: &Args, ctx: &Ctx) -> Result<()> {
    let options = Options::default();
    let sum = Mutex::new(Sum::default());
    let progress = Mutex::new(ctx.ui.progress("seeds", Some(args.seeds)));
    let is_over = AtomicBool::new(false);
    let started = std::time::Instant::now();
    on_all_processors(|number| {
        if number >= args.seeds || is_over.load(Ordering::Relaxed) {
            return false;
        }
        let seed = args.seed + number;
        let report = simulation::run(seed, &options);
        // One in a hundred runs twice: the same seed must do the same.
        let again = seed
            .is_multiple_of(100)
            .then(|| simulation::run(seed, &options));
        let is_same = again.is_none_or(|again| again.hash == report.hash);
        let mut sum = sum.lock().expect("nothing panics while it is held");
        sum.add(&report);
        if !is_same {
            ctx.ui.line(format!("seed {seed}: two runs of it differ"));
            sum.failed.push(seed);
        }
        progress
            .lock()
            .expect("nothing panics while it is held")
            .add(1);
        if !report.wrong.is_empty() {
            print(ctx, &simulation::shrink(&report, &options));
            is_over.store(sum.failed.len() >= 5, Ordering::Relaxed);
        }
        true
    });
    drop(progress);
    let sum = sum.into_inner().expect("nothing panics while it is held");
    print_sum(ctx, &sum, started.elapsed());
    finish(sum.failed.len())
}

fn print(ctx: &Ctx, report: &Report) {
    let seed = report.seed;
    if report.wrong.is_empty() {
        ctx.ui.line(format!(
            "seed {seed}: all is well after {} events",
            report.counts.events
        ));
        return;
    }
    ctx.ui.line(format!("seed {seed} failed:"));
    for wrong in report.wrong.iter().take(5) {
        ctx.ui.line(format!("  {wrong}"));
    }
    let numbers: Vec<_> = report
        .faults
        .iter()
        .map(|(number, _)| number.to_string())
        .collect();
    for (number, fault) in &report.faults {
        ctx.ui.line(format!("  fault {number} at {fault}"));
    }
    let numbers = numbers.join(",");
    ctx.ui.line(format!(
        "  again: axs simulate --seed {seed} --faults '{numbers}' --trace"
    ));
}

fn print_sum(ctx: &Ctx, sum: &Sum, took: std::time::Duration) {
    let hours = sum.counts.simulated / 3_600_000_000;
    ctx.ui.line(format!(
        "{} seeds, {} failed; {hours} simulated hours in {:.1} s; {} commands, {} log records, {} \
         take-overs, {} kills, {} stops, {} stale flushes refused, {} results published again",
        sum.seeds,
        sum.failed.len(),
        took.as_secs_f64(),
        sum.counts.commands,
        sum.counts.records,
        sum.counts.take_overs,
        sum.counts.crashes,
        sum.counts.pauses,
        sum.counts.fenced,
        sum.counts.duplicate_results,
    ));
}

fn canaries(args: &Args, ctx: &Ctx) -> Result<()> {
    let mut all = simulation::canaries();
    if let Some(only) = &args.only {
        all.retain(|canary| canary.name == *only);
    }
    let lines = Mutex::new(Vec::new());
    on_all_processors(|number| {
        let Some(canary) = all.get(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return false;
        };
        let line = detect(canary, args);
        lines
            .lock()
            .expect("nothing panics while it is held")
            .push((number, line));
        true
    });
    let mut lines = lines.into_inner().expect("nothing panics while it is held");
    lines.sort_by_key(|(number, _)| *number);
    let mut failed = 0;
    for (_, (is_well, line)) in lines {
        failed += usize::from(!is_well);
        ctx.ui.line(line);
    }
    finish(failed)
}

fn detect(canary: &Canary, args: &Args) -> (bool, String) {
    let most = if canary.is_needed {
        args.seeds
    } else {
        UNNOTICED_SEEDS.min(args.seeds)
    };
    let detection = simulation::detect(canary, args.seed, most);
    let name = &canary.name;
    match (detection.found, canary.is_needed) {
        (Some((seed, wrong)), true) => {
            let wrong: String = wrong
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(110)
                .collect();
            (
                true,
                format!(
                    "{name:<30} noticed after {:>4} seeds (seed {seed}): {wrong}",
                    detection.seeds
                ),
            )
        }
        (None, true) => (false, format!("{name:<30} NOT NOTICED in {most} seeds")),
        (None, false) => (
            true,
            format!("{name:<30} not needed to be safe: {most} seeds are well"),
        ),
        (Some((seed, wrong)), false) => (
            false,
            format!("{name:<30} should not matter, but seed {seed} fails: {wrong}"),
        ),
    }
}

fn exhaustive(ctx: &Ctx) -> Result<()> {
    let (runs, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    on_all_processors(|number| {
        if number >= simulation::SCENARIOS {
            return false;
        }
        let done = simulation::exhaustive(number);
        runs.fetch_add(done.runs, Ordering::Relaxed);
        failed.fetch_add(done.failed.len() as u64, Ordering::Relaxed);
        ctx.ui.line(format!(
            "scenario {number}: {} strikes, {} failed",
            done.runs,
            done.failed.len()
        ));
        for report in done.failed.iter().take(2) {
            print(ctx, report);
        }
        true
    });
    let failed = failed.into_inner();
    ctx.ui
        .line(format!("{} strikes, {failed} failed", runs.into_inner()));
    finish(usize::try_from(failed).unwrap_or(usize::MAX))
}

fn finish(failed: usize) -> Result<()> {
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Difference, format!("{failed} failed")).into())
}
