//! Everything that is printed. stdout is data: a table, or JSON; stderr is progress, warnings and
//! errors. Colours and bars on terminals only; a closed pipe ends the printing and nothing else.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indicatif::MultiProgress;
use serde::Serialize;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::{Failure, Global, When};

pub use progress::Progress;
pub use table::Table;

mod progress;
mod table;

/// How and where this process prints. Cheap to clone.
#[derive(Clone)]
pub struct Ui {
    json: bool,
    quiet: bool,
    color: bool,
    terminal: bool,
    stdout_terminal: bool,
    stdout_closed: Arc<AtomicBool>,
    bars: MultiProgress,
}

impl Ui {
    pub fn new(global: &Global) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => !is_set("NO_COLOR") && !is_dumb,
        };
        let always = global.color == When::Always;
        Self {
            json: global.json,
            quiet: global.quiet,
            color: color && (always || io::stdout().is_terminal()),
            terminal: io::stderr().is_terminal() && !is_dumb,
            stdout_terminal: io::stdout().is_terminal(),
            stdout_closed: Arc::new(AtomicBool::new(false)),
            bars: MultiProgress::new(),
        }
    }

    /// Whether data is printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stderr is a terminal that can redraw.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether logs and tables may be coloured.
    pub fn has_color(&self) -> bool {
        self.color && self.terminal
    }

    /// A line of data.
    pub fn line(&self, text: impl fmt::Display) {
        if self.stdout_closed.load(Ordering::Relaxed) {
            return;
        }
        let print = || writeln!(io::stdout().lock(), "{text}");
        let printed = if self.terminal {
            self.bars.suspend(print)
        } else {
            print()
        };
        // Who reads us had enough, as `head` does. The work goes on, its exit code tells the rest.
        if printed.is_err() {
            self.stdout_closed.store(true, Ordering::Relaxed);
        }
    }

    /// One JSON document, or one line of JSON Lines.
    pub fn document(&self, document: &impl Serialize) {
        let text = serde_json::to_string(document).expect("documents are plain data");
        self.line(text);
    }

    /// A table with a header.
    pub fn table(&self, table: Table) {
        let text = table.render(self);
        for line in text.lines() {
            self.line(line.trim_end());
        }
    }

    /// A sentence for the operator, on stderr; not under `--json` or `--quiet`.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.json && !self.quiet {
            self.bars.suspend(|| eprint_line(&text));
        }
    }

    /// Progress over `total` steps, if that is known.
    pub fn progress(&self, what: &'static str, total: Option<u64>) -> Progress {
        Progress::new(what, total, self.terminal, self.quiet, &self.bars)
    }

    /// Why the command failed, on stderr.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            return print_json_failure(failure);
        }
        let (bold, plain) = match self.has_color() {
            true => ("\x1b[1;31m", "\x1b[0m"),
            false => ("", ""),
        };
        self.bars.suspend(|| {
            eprint_line(&format_args!("{bold}error:{plain} {failure}"));
            if let Some(hint) = &failure.hint {
                eprint_line(&format_args!("hint: {hint}"));
            }
        });
    }

    /// Log lines appear above the bars instead of tearing them.
    pub fn log_writer(&self) -> BoxMakeWriter {
        let bars = self.bars.clone();
        BoxMakeWriter::new(move || LogWriter(bars.clone()))
    }
}

/// An error under `--json`.
pub fn print_json_failure(failure: &Failure) {
    let error = serde_json::json!({"error": {
        "code": failure.exit.code(),
        "message": failure.message,
        "hint": failure.hint,
        "retryable": failure.retryable,
    }});
    eprint_line(&error);
}

/// Such as `0.21 ms`, `340 ms`, `3.4 s`, `2m 5s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds < 0.01 => format!("{:.2} ms", seconds * 1e3),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ => humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    }
}

/// Such as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A closed stderr is nobody's problem.
fn eprint_line(text: &dyn fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

struct LogWriter(MultiProgress);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
