//! The metrics: what each means, the buckets of histograms, and the recorder behind `/metrics`.
//!
//! Who measures names the metric where it is measured; [`METRICS`] says what the names mean. Shard
//! loops record once per batch, never per command.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Error;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// Every metric: kind, name, meaning. Seconds and records are base units.
pub const METRICS: [(Kind, &str, &str); 43] = [
    (
        Kind::Gauge,
        "axs_shard_leading",
        "1 while this process leads the shard",
    ),
    (
        Kind::Gauge,
        "axs_shard_epoch",
        "epoch this process leads the shard under, else 0",
    ),
    (
        Kind::Gauge,
        "axs_shard_stopped",
        "1 while this process has given the shard up for good: somebody must look",
    ),
    (
        Kind::Gauge,
        "axs_shard_lag_records",
        "records of the log not applied yet",
    ),
    (
        Kind::Gauge,
        "axs_shard_next_offset",
        "first offset of the log not applied yet",
    ),
    (
        Kind::Gauge,
        "axs_shard_unpublished_records",
        "records applied whose results are unpublished",
    ),
    (
        Kind::Gauge,
        "axs_shard_unflushed_records",
        "records applied in memory and not yet durable",
    ),
    (
        Kind::Gauge,
        "axs_shard_accounts_resident",
        "accounts in memory",
    ),
    (
        Kind::Gauge,
        "axs_shard_since_flush_seconds",
        "time since the last successful flush, or the take-over",
    ),
    (
        Kind::Gauge,
        "axs_shard_unowned",
        "1 while nobody holds the lease of the shard",
    ),
    (
        Kind::Gauge,
        "axs_shard_paused",
        "1 while an operator lets nobody lead the shard",
    ),
    (
        Kind::Gauge,
        "axs_shard_last_epoch",
        "epoch of the shard, whoever leads it; each take-over raises it",
    ),
    (
        Kind::Gauge,
        "axs_shard_gaps",
        "ranges of numbers below the greatest applied one that are not applied",
    ),
    (
        Kind::Gauge,
        "axs_shard_unsealed_seconds",
        "how long the lowest number that can be sealed waits for it",
    ),
    (
        Kind::Counter,
        "axs_shard_alarms_total",
        "what should never happen; see the log",
    ),
    (Kind::Histogram, "axs_flush_seconds", "time of one flush"),
    (
        Kind::Histogram,
        "axs_flush_commands",
        "commands of one flush",
    ),
    (
        Kind::Counter,
        "axs_commands_total",
        "commands decided, by status",
    ),
    (
        Kind::Counter,
        "axs_dead_letters_total",
        "records that became dead letters",
    ),
    (
        Kind::Gauge,
        "axs_pending_commands",
        "accepted commands without an outcome",
    ),
    (
        Kind::Gauge,
        "axs_pending_oldest_seconds",
        "age of the oldest of them",
    ),
    (
        Kind::Counter,
        "axs_outbox_resent_total",
        "commands that the outbox appended again",
    ),
    (
        Kind::Counter,
        "axs_outbox_passes_total",
        "passes over all shards, by result",
    ),
    (
        Kind::Counter,
        "axs_accept_commands_total",
        "commands answered by acceptance",
    ),
    (
        Kind::Histogram,
        "axs_accept_group_commands",
        "commands of one acceptance statement",
    ),
    (
        Kind::Histogram,
        "axs_accept_seconds",
        "time of one acceptance statement",
    ),
    (
        Kind::Histogram,
        "axs_submit_seconds",
        "time of a command from the inbox to its answer",
    ),
    (
        Kind::Gauge,
        "axs_accept_inbox_commands",
        "commands that wait for a statement",
    ),
    (
        Kind::Gauge,
        "axs_accept_appends_in_flight",
        "appends to the log without an answer",
    ),
    (
        Kind::Counter,
        "axs_accept_numbers_taken_total",
        "command ids found in use; page someone",
    ),
    (
        Kind::Counter,
        "axs_log_append_failures_total",
        "appends the log did not confirm",
    ),
    (
        Kind::Counter,
        "axs_outcome_lookups_total",
        "outcomes looked for in the journal",
    ),
    (
        Kind::Counter,
        "axs_results_tail_failures_total",
        "times the tail of results was opened again",
    ),
    (
        Kind::Counter,
        "axs_cache_read_failures_total",
        "reads that the cache did not answer",
    ),
    (
        Kind::Counter,
        "axs_cache_losses_total",
        "times the cache had lost what it acknowledged",
    ),
    (
        Kind::Counter,
        "axs_cache_write_failures_total",
        "snapshots the cache did not take",
    ),
    (
        Kind::Counter,
        "axs_cache_snapshots_dropped_total",
        "snapshots dropped, a newer one follows",
    ),
    (Kind::Gauge, "axs_cache_up", "1 while the cache answers"),
    (
        Kind::Gauge,
        "axs_ready",
        "1 while no readiness check fails and the process does not drain",
    ),
    (
        Kind::Gauge,
        "axs_check_ok",
        "1 while the readiness check does not fail",
    ),
    (
        Kind::Gauge,
        "axs_drift_balances",
        "balances that differ and were not seen whole again",
    ),
    (
        Kind::Counter,
        "axs_drift_checked_total",
        "balances compared with journal, memory and cache",
    ),
    (
        Kind::Counter,
        "axs_drift_found_total",
        "differences found, by kind",
    ),
];

/// The exporter keeps every sample of a histogram until it is drained.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const SECONDS: [f64; 14] = [
    0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0,
];
const COMMANDS: [f64; 13] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0,
];

/// Starts recording; the handle renders `/metrics`. Once per process, inside the runtime.
pub fn start() -> Result<PrometheusHandle, Error> {
    let setup = |error: &dyn std::fmt::Display| Error::Setup(format!("metrics: {error}"));
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|it| it.set_buckets_for_metric(Matcher::Suffix("_commands".into()), &COMMANDS))
        .map_err(|error| setup(&error))?
        .install_recorder()
        .map_err(|error| setup(&error))?;
    describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

fn describe() {
    for (kind, name, meaning) in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, meaning),
        }
    }
}
