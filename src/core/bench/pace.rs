//! When a caller should send. In an open loop the times are fixed before the first answer, so that a
//! slow answer makes the following calls late and their lateness counts ("coordinated omission" is
//! what a closed loop suffers from: G. Tene, "How NOT to Measure Latency").

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// A pacemaker that is no longer wanted ends within this.
const NAP_MAX: Duration = Duration::from_millis(100);

/// Wakes callers who together send so many calls a second, evenly. From a thread of its own: the
/// runtime's timer wakes up to a millisecond late, and a command may take three.
pub struct Pacemaker {
    begun: Instant,
    /// Between two calls of one caller; `None`: as soon as the last one is answered.
    interval: Option<Duration>,
    /// For each caller, how many of its times have come and are not used.
    due: Vec<Arc<Semaphore>>,
    ended: Arc<AtomicBool>,
}

impl Pacemaker {
    /// For so many callers; a rate of 0: each as fast as it is answered.
    pub fn start(begun: Instant, rate: f64, callers: u32) -> Self {
        let interval = (rate > 0.0).then(|| Duration::from_secs_f64(f64::from(callers) / rate));
        let pacemaker = Self {
            begun,
            interval,
            due: (0..callers).map(|_| Arc::new(Semaphore::new(0))).collect(),
            ended: Arc::default(),
        };
        if let Some(interval) = interval {
            let (due, ended) = (pacemaker.due.clone(), Arc::clone(&pacemaker.ended));
            thread::Builder::new()
                .name("axs-bench-pace".into())
                .spawn(move || beat(begun, interval, &due, &ended))
                .expect("a thread can be started");
        }
        pacemaker
    }

    /// The times of one caller.
    pub fn pace(&self, number: u32) -> Pace {
        Pace {
            begun: self.begun,
            interval: self.interval,
            number,
            callers: u32::try_from(self.due.len()).expect("made of a u32"),
            due: Arc::clone(&self.due[number as usize]),
            sent: 0,
        }
    }
}

impl Drop for Pacemaker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// One caller after the other, again and again.
fn beat(begun: Instant, interval: Duration, due: &[Arc<Semaphore>], ended: &AtomicBool) {
    let callers = u32::try_from(due.len()).expect("made of a u32");
    for round in 0.. {
        for (number, caller) in (0..callers).zip(due) {
            let time = begun + interval * round + interval * number / callers;
            loop {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let left = time.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::sleep(left.min(NAP_MAX));
            }
            caller.add_permits(1);
        }
    }
}

/// The times of one caller.
pub struct Pace {
    begun: Instant,
    interval: Option<Duration>,
    number: u32,
    callers: u32,
    due: Arc<Semaphore>,
    sent: u32,
}

impl Pace {
    /// Waits for the next time to send; that time, which latency counts from.
    pub async fn next(&mut self) -> Instant {
        let Some(interval) = self.interval else {
            return Instant::now();
        };
        let intended = self.begun + interval * self.sent + interval * self.number / self.callers;
        self.sent += 1;
        // A time that has passed: at once, and late.
        let due = self.due.acquire().await;
        due.expect("it is never closed").forget();
        intended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_are_even_over_callers_and_do_not_move() {
        let begun = Instant::now();
        let pacemaker = Pacemaker::start(begun, 2_000.0, 4);
        let mut second = pacemaker.pace(1);
        let due = |micros| begun + Duration::from_micros(micros);
        assert_eq!(second.next().await, due(500));
        assert!(Instant::now() >= due(500), "not before its time");
        tokio::time::sleep_until(due(9_000)).await;
        assert_eq!(second.next().await, due(2_500));
        assert_eq!(second.next().await, due(4_500));
        assert!(Instant::now() >= due(9_000), "late, and at once");
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        let begun = Instant::now();
        let mut only = Pacemaker::start(begun, 0.0, 1).pace(0);
        for _ in 0..3 {
            assert!(only.next().await >= begun);
        }
    }
}
