//! How much happened, in one seed and in many.

use super::Report;

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Simulated microseconds.
    pub simulated: u64,
    /// Commands accepted.
    pub commands: u64,
    /// Records in the logs.
    pub records: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Processes stopped for a while.
    pub pauses: u64,
    /// Flushes refused because another leader was there.
    pub fenced: u64,
    /// Shards taken over.
    pub take_overs: u64,
    /// Results published more than once.
    pub duplicate_results: u64,
}

/// Totals of many reports.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds that failed.
    pub failed: Vec<u64>,
    /// Of all of them.
    pub counts: Counts,
}

impl Sum {
    /// Adds one seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if !report.wrong.is_empty() {
            self.failed.push(report.seed);
        }
        let (sum, one) = (&mut self.counts, &report.counts);
        sum.events += one.events;
        sum.simulated += one.simulated;
        sum.commands += one.commands;
        sum.records += one.records;
        sum.crashes += one.crashes;
        sum.pauses += one.pauses;
        sum.fenced += one.fenced;
        sum.take_overs += one.take_overs;
        sum.duplicate_results += one.duplicate_results;
    }
}
