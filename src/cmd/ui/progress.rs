//! Progress of a long command: a bar on a terminal, else a line every 10 seconds.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{count, duration, eprint_line};

/// Without a terminal a line is printed this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// A bar is redrawn at most this often by its ticker, so that time passes on it.
const TICK: Duration = Duration::from_millis(200);

/// How far a command is. Ends its bar when dropped.
pub struct Progress {
    what: &'static str,
    total: Option<u64>,
    done: u64,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { next: Instant },
    Nothing,
}

impl Progress {
    pub(super) fn new(
        what: &'static str,
        total: Option<u64>,
        terminal: bool,
        quiet: bool,
        bars: &MultiProgress,
    ) -> Self {
        let started = Instant::now();
        let shown = match (quiet, terminal) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines {
                next: started + LINE_INTERVAL,
            },
            (false, true) => Shown::Bar(bar(what, total, bars)),
        };
        Self {
            what,
            total,
            done: 0,
            started,
            shown,
        }
    }

    /// So many steps more are done.
    pub fn add(&mut self, steps: u64) {
        self.done += steps;
        match &mut self.shown {
            Shown::Bar(bar) => bar.inc(steps),
            Shown::Lines { next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + LINE_INTERVAL;
                    self.print_line();
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn print_line(&self) {
        let elapsed = self.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.done as f64 / elapsed.as_secs_f64().max(1e-9);
        let of_total = match self.total {
            Some(total) => format!(" of {}", count(total)),
            None => String::new(),
        };
        eprint_line(&format_args!(
            "{}: {}{of_total} in {}, {rate:.0}/s",
            self.what,
            count(self.done),
            duration(elapsed),
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: Option<u64>, bars: &MultiProgress) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {msg} {human_pos} {per_sec} {elapsed}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("a constant template");
    let bar = bars.add(bar.with_style(style).with_message(what));
    bar.enable_steady_tick(TICK);
    bar
}
