//! The metrics: their names, what they mean, their buckets, and the recorder behind `/metrics`.
//!
//! Shard loops record once per batch, never per command. The only label is `shard`.

use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Error;

/// Records of the log that the shard's leader has not applied yet.
pub const SHARD_LAG: &str = "axs_shard_lag_records";
/// Epoch under which this process leads the shard; 0: it does not.
pub const SHARD_EPOCH: &str = "axs_shard_epoch";
/// Time of one flush, from sending to its answer.
pub const FLUSH_SECONDS: &str = "axs_flush_seconds";
/// Commands of one flush.
pub const FLUSH_COMMANDS: &str = "axs_flush_commands";
/// Commands applied.
pub const APPLIED: &str = "axs_commands_applied_total";
/// Commands rejected by the engine.
pub const REJECTED: &str = "axs_commands_rejected_total";
/// Records that became dead letters.
pub const DEAD_LETTERS: &str = "axs_dead_letters_total";
/// Unix time of the last successful flush; `time() - this` is its age.
pub const LAST_FLUSH: &str = "axs_last_flush_timestamp_seconds";
/// Seconds since the last successful flush, as of the last batch or idle tick.
pub const LAST_FLUSH_AGE: &str = "axs_last_flush_age_seconds";
/// Accepted commands without an outcome, as the outbox last saw them.
pub const PENDING: &str = "axs_commands_pending";
/// Commands accepted.
pub const ACCEPTED: &str = "axs_commands_accepted_total";
/// Commands of one acceptance statement.
pub const ACCEPT_COMMANDS: &str = "axs_accept_commands";
/// Time of one acceptance statement.
pub const ACCEPT_SECONDS: &str = "axs_accept_seconds";
/// Commands refused because the inbox was full.
pub const SHED: &str = "axs_commands_shed_total";
/// Commands that the outbox produced again.
pub const REPRODUCED: &str = "axs_commands_reproduced_total";

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
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(SHARD_LAG, "records of the log not applied yet");
    describe_gauge!(
        SHARD_EPOCH,
        "epoch this process leads the shard under, else 0"
    );
    describe_histogram!(FLUSH_SECONDS, Unit::Seconds, "time of one flush");
    describe_histogram!(FLUSH_COMMANDS, "commands of one flush");
    describe_counter!(APPLIED, "commands applied");
    describe_counter!(REJECTED, "commands rejected by the engine");
    describe_counter!(DEAD_LETTERS, "records that became dead letters");
    describe_gauge!(LAST_FLUSH, "unix time of the last successful flush");
    describe_gauge!(
        LAST_FLUSH_AGE,
        Unit::Seconds,
        "seconds since the last successful flush"
    );
    describe_gauge!(PENDING, "accepted commands without an outcome");
    describe_counter!(ACCEPTED, "commands accepted");
    describe_histogram!(ACCEPT_COMMANDS, "commands of one acceptance statement");
    describe_histogram!(
        ACCEPT_SECONDS,
        Unit::Seconds,
        "time of one acceptance statement"
    );
    describe_counter!(SHED, "commands refused because the inbox was full");
    describe_counter!(REPRODUCED, "commands that the outbox produced again");
}
