//! Counts and times of what clients see, for one phase of a run.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Samples kept of each kind; above, every second one is dropped and half as many are taken.
const SAMPLES_MAX: usize = 200_000;

/// Times, of which percentiles are wanted.
#[derive(Clone, Debug)]
pub struct Samples {
    taken: Vec<Duration>,
    /// One of so many is taken.
    every: u64,
    seen: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            taken: Vec::new(),
            every: 1,
            seen: 0,
        }
    }
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) {
            return;
        }
        self.taken.push(time);
        if self.taken.len() == SAMPLES_MAX {
            let mut keep = false;
            self.taken.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
    }

    /// Adds those of somebody else.
    pub fn join(&mut self, other: Self) {
        for time in other.taken {
            self.add(time);
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.seen
    }

    /// The value that so many of a hundred do not exceed; `None`: there are no samples.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.taken.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        self.taken.iter().max().copied()
    }
}

/// What happened in a phase.
#[derive(Clone, Debug)]
pub struct Window {
    /// When it began.
    pub since: Instant,
    /// Calls that waited until commands were stored.
    pub accepted: Samples,
    /// Calls that waited for outcomes.
    pub applied: Samples,
    /// Calls or commands that were refused: UNAVAILABLE, RESOURCE_EXHAUSTED, and their like.
    pub refused: Samples,
    /// Commands decided.
    pub decided: u64,
    /// Commands stored, by the answers.
    pub stored: u64,
    /// Commands whose outcome did not come while their call waited.
    pub late: u64,
    /// Commands sent, again ones included.
    pub sent: u64,
    /// Commands sent again because it was unknown what became of them, or they were refused.
    pub retried: u64,
    /// Answers that leave open whether a command was stored.
    pub unknown: u64,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            accepted: Samples::default(),
            applied: Samples::default(),
            refused: Samples::default(),
            decided: 0,
            stored: 0,
            late: 0,
            sent: 0,
            retried: 0,
            unknown: 0,
        }
    }

    /// Adds what other clients saw in the same phase.
    pub fn join(&mut self, other: Self) {
        self.accepted.join(other.accepted);
        self.applied.join(other.applied);
        self.refused.join(other.refused);
        self.decided += other.decided;
        self.stored += other.stored;
        self.late += other.late;
        self.sent += other.sent;
        self.retried += other.retried;
        self.unknown += other.unknown;
    }

    /// Commands decided in a second.
    pub fn goodput(&self, over: Duration) -> f64 {
        per_second(self.decided, over)
    }
}

/// A rate.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn per_second(count: u64, over: Duration) -> f64 {
    count as f64 / over.as_secs_f64().max(1e-9)
}

/// Shared by all clients.
pub struct Meter(Mutex<Window>);

impl Default for Meter {
    fn default() -> Self {
        Self(Mutex::new(Window::new()))
    }
}

impl Meter {
    /// Notes something.
    pub fn note(&self, note: impl FnOnce(&mut Window)) {
        note(&mut self.0.lock().expect("no holder panics"));
    }

    /// Reads something.
    pub fn read<T>(&self, read: impl FnOnce(&Window) -> T) -> T {
        read(&self.0.lock().expect("no holder panics"))
    }

    /// Ends the phase and begins another one.
    pub fn take(&self) -> Window {
        let mut window = self.0.lock().expect("no holder panics");
        std::mem::replace(&mut window, Window::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_and_memory_is_bounded() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentile(99), None);
        for millis in 1..=100 {
            samples.add(Duration::from_millis(millis));
        }
        assert_eq!(samples.percentile(50), Some(Duration::from_millis(50)));
        assert_eq!(samples.percentile(99), Some(Duration::from_millis(99)));
        assert_eq!(samples.max(), Some(Duration::from_millis(100)));
        for _ in 0..3 * SAMPLES_MAX {
            samples.add(Duration::from_millis(1));
        }
        assert!(samples.taken.len() < SAMPLES_MAX);
        assert_eq!(samples.count(), 100 + 3 * SAMPLES_MAX as u64);
    }
}
