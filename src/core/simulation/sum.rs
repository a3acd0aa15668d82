//! What many seeds come to.

use super::Report;

/// Totals of many reports.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds that failed, the first ones.
    pub failed: Vec<u64>,
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
    /// Processes stopped.
    pub pauses: u64,
    /// Stale flushes refused.
    pub fenced: u64,
    /// Shards taken over.
    pub take_overs: u64,
    /// Results published more than once.
    pub duplicate_results: u64,
}

impl Sum {
    /// Adds one seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if !report.wrong.is_empty() {
            self.failed.push(report.seed);
        }
        self.events += report.events;
        self.simulated += report.simulated;
        self.commands += report.commands;
        self.records += report.records;
        self.crashes += report.crashes;
        self.pauses += report.pauses;
        self.fenced += report.fenced;
        self.take_overs += report.take_overs;
        self.duplicate_results += report.duplicate_results;
    }
}
