//! What callers saw: how long calls took, and how many commands were done when.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Of the relative error of a latency: three digits.
const DIGITS: u8 = 3;
/// Throughput is counted over so long, milliseconds.
pub const INTERVAL_MS: u64 = 100;

/// Of one caller, or of all once they are joined.
#[derive(Clone, Debug)]
pub struct Recorder {
    begun: Instant,
    /// Nanoseconds of each call.
    latency: Histogram<u64>,
    /// Commands done in each interval since the beginning.
    done: Vec<u64>,
    commands: u64,
}

impl Recorder {
    /// Nothing seen yet.
    pub fn new(begun: Instant) -> Self {
        Self {
            begun,
            latency: Histogram::new(DIGITS).expect("three digits are possible"),
            done: Vec::new(),
            commands: 0,
        }
    }

    /// A call that should have begun then is answered now, and did so many commands.
    pub fn done(&mut self, intended: Instant, commands: u64) {
        let now = Instant::now();
        let nanos = now.saturating_duration_since(intended).as_nanos();
        self.latency
            .record(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
            .expect("a histogram that resizes takes any time");
        self.count(now, commands);
    }

    /// A call took so long and ended then, on whatever clock the bench counts its time by.
    pub fn took(&mut self, took: Duration, until: Instant, commands: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency
            .record(nanos.max(1))
            .expect("a histogram that resizes takes any time");
        self.count(until, commands);
    }

    /// So many commands were done by then, without a latency of their own.
    pub fn count(&mut self, at: Instant, commands: u64) {
        let millis = at.saturating_duration_since(self.begun).as_millis();
        let interval = usize::try_from(millis).expect("a run is short") / INTERVAL_MS as usize;
        if self.done.len() <= interval {
            self.done.resize(interval + 1, 0);
        }
        self.done[interval] += commands;
        self.commands += commands;
    }

    /// Adds what another caller saw of the same run.
    pub fn join(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("a histogram that resizes takes any time");
        if self.done.len() < other.done.len() {
            self.done.resize(other.done.len(), 0);
        }
        for (mine, theirs) in self.done.iter_mut().zip(&other.done) {
            *mine += theirs;
        }
        self.commands += other.commands;
    }

    /// Commands done.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Nanoseconds of each call.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Commands done in each [`INTERVAL_MS`].
    pub fn intervals(&self) -> &[u64] {
        &self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_intended_start_and_recorders_add_up() {
        let begun = Instant::now()
            .checked_sub(Duration::from_secs(1))
            .expect("a second ago was");
        let (mut one, mut other) = (Recorder::new(begun), Recorder::new(begun));
        one.done(begun, 3);
        other.done(begun + Duration::from_millis(500), 4);
        one.join(&other);
        assert_eq!(one.commands(), 7);
        assert_eq!(one.intervals().iter().sum::<u64>(), 7);
        assert_eq!(one.intervals()[..9], [0; 9]);
        let (least, most) = (one.latency().min(), one.latency().max());
        assert!((490_000_000..900_000_000).contains(&least), "{least}");
        assert!(most >= 990_000_000, "{most}");
    }
}
