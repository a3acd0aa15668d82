//! When a caller should send. In an open loop the times are fixed before the first answer, so that a
//! slow answer makes the following calls late and their lateness counts ("coordinated omission" is
//! what a closed loop suffers from: G. Tene, "How NOT to Measure Latency").

use std::time::Duration;

use tokio::time::Instant;

/// The times of one caller.
#[derive(Clone, Debug)]
pub struct Pace {
    begun: Instant,
    /// Between two sends; `None`: as soon as the last one is answered.
    interval: Option<Duration>,
    offset: Duration,
    sent: u32,
}

impl Pace {
    /// Those of caller `number` of `callers`, who together send `rate` calls a second, evenly; 0:
    /// each as fast as it is answered.
    pub fn new(begun: Instant, rate: f64, number: u32, callers: u32) -> Self {
        let interval = (rate > 0.0).then(|| Duration::from_secs_f64(f64::from(callers) / rate));
        Self {
            begun,
            interval,
            offset: interval.unwrap_or_default() * number / callers,
            sent: 0,
        }
    }

    /// Waits for the next time to send; that time, which latency counts from.
    pub async fn next(&mut self) -> Instant {
        let Some(interval) = self.interval else {
            return Instant::now();
        };
        let intended = self.begun + self.offset + interval * self.sent;
        self.sent += 1;
        // A time that has passed: at once, and late.
        tokio::time::sleep_until(intended).await;
        intended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_are_even_over_callers_and_do_not_move() {
        let begun = Instant::now();
        let mut second = Pace::new(begun, 2_000.0, 1, 4);
        let due = |micros| begun + Duration::from_micros(micros);
        assert_eq!(second.next().await, due(500));
        tokio::time::sleep_until(due(9_000)).await;
        assert_eq!(second.next().await, due(2_500));
        assert_eq!(second.next().await, due(4_500));
        assert!(Instant::now() >= due(9_000));
    }
}
