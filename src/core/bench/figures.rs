//! What a run measured, in one shape for all benches: the fields of `axs.bench.<name>/v1`.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::recorder::{INTERVAL_MS, Recorder};

/// A part of the work, and the processor time that it took.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Such as `decode`, or the process that does it, such as `postgres`.
    pub name: String,
    /// Of all its threads.
    pub cpu_seconds: f64,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The subcommand.
    pub bench: &'static str,
    /// What was done, by name.
    pub workload: Map<String, Value>,
    /// From the first to the last command.
    pub seconds: f64,
    /// What callers saw.
    pub seen: Recorder,
    /// What one latency is of, such as `a call of 1 command`.
    pub latency_of: String,
    /// Of what is measured, the load included where it is in the same process.
    pub cpu_seconds: f64,
    /// Of the process that does the work.
    pub peak_rss_bytes: u64,
    /// Cost by stage, in the order of the way of a command.
    pub stages: Vec<Stage>,
    /// What only this bench measures, by name; numbers, texts, or objects of them.
    pub more: Map<String, Value>,
}

impl Figures {
    /// Commands done.
    pub fn commands(&self) -> u64 {
        self.seen.commands()
    }

    /// Commands a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn per_second(&self) -> f64 {
        self.commands() as f64 / self.seconds.max(1e-9)
    }

    /// The latency, in microseconds, that so many of a hundred calls do not exceed.
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub fn percentile_us(&self, percent: f64) -> f64 {
        self.seen.latency().value_at_quantile(percent / 100.0) as f64 / 1_000.0
    }

    /// Microseconds of processor time of a stage for each command.
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub fn us_per_command(&self, stage: &Stage) -> f64 {
        stage.cpu_seconds * 1e6 / (self.commands() as f64).max(1.0)
    }

    /// Commands a second over time: (seconds since the beginning, rate).
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    pub fn over_time(&self) -> Vec<(f64, f64)> {
        let length = INTERVAL_MS as f64 / 1_000.0;
        let rate = |(index, count): (usize, &u64)| (index as f64 * length, *count as f64 / length);
        self.seen.intervals().iter().enumerate().map(rate).collect()
    }

    /// The document of `--json`. Its numbers are figures, far below 2^53, so numbers they are.
    pub fn to_json(&self) -> Value {
        let stages = self.stages.iter().map(|stage| {
            json!({
                "stage": stage.name,
                "cpu_seconds": rounded(stage.cpu_seconds),
                "us_per_command": rounded(self.us_per_command(stage)),
            })
        });
        let mut document = json!({
            "schema": format!("axs.bench.{}/v1", self.bench),
            "commands": self.commands(),
            "seconds": rounded(self.seconds),
            "commands_per_second": self.per_second().round(),
            "p50_us": rounded(self.percentile_us(50.0)),
            "p99_us": rounded(self.percentile_us(99.0)),
            "p999_us": rounded(self.percentile_us(99.9)),
            "max_us": rounded(self.percentile_us(100.0)),
            "latency_of": self.latency_of,
            "cpu_seconds": rounded(self.cpu_seconds),
            "peak_rss_bytes": self.peak_rss_bytes,
            "workload": self.workload,
            "stages": stages.collect::<Vec<_>>(),
        });
        let fields = document.as_object_mut().expect("an object");
        for (name, value) in &self.more {
            let before = fields.insert(name.clone(), value.clone());
            assert!(before.is_none(), "{name} is a field of every bench");
        }
        document
    }
}

/// What each step of a way took, by name: mean and percentiles of microseconds.
pub fn steps(names: &[&str], took: &[Histogram<u64>]) -> Value {
    let step = |(name, took): (&&str, &Histogram<u64>)| {
        let value = json!({
            "mean_us": rounded(took.mean()),
            "p50_us": took.value_at_quantile(0.5),
            "p90_us": took.value_at_quantile(0.9),
            "p99_us": took.value_at_quantile(0.99),
        });
        ((*name).to_owned(), value)
    };
    Value::Object(names.iter().zip(took).map(step).collect())
}

/// To thousandths: more digits than a measurement has.
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
