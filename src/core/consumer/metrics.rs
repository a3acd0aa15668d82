//! The figures of one shard, set once a batch. Names and units are listed in `docs/operations.md`.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::core::{
    leader::{Mono, Phase, Status},
    store::Flush,
    types::ShardId,
};

/// Handles to the metrics of a shard.
#[derive(Clone)]
pub(super) struct ShardMetrics {
    leading: Gauge,
    stopped: Gauge,
    epoch: Gauge,
    next_offset: Gauge,
    unpublished: Gauge,
    lag: Gauge,
    accounts_resident: Gauge,
    records_unflushed: Gauge,
    since_flush_seconds: Gauge,
    flush_seconds: Histogram,
    batch_commands: Histogram,
    applied: Counter,
    rejected: Counter,
    dead_letters: Counter,
    alarms: Counter,
    snapshots_dropped: Counter,
}

impl ShardMetrics {
    pub fn new(shard: ShardId) -> Self {
        let label = shard.to_string();
        let outcome =
            |status| counter!("axs_commands_total", "shard" => label.clone(), "status" => status);
        Self {
            leading: gauge!("axs_shard_leading", "shard" => label.clone()),
            stopped: gauge!("axs_shard_stopped", "shard" => label.clone()),
            epoch: gauge!("axs_shard_epoch", "shard" => label.clone()),
            next_offset: gauge!("axs_shard_next_offset", "shard" => label.clone()),
            unpublished: gauge!("axs_shard_unpublished_records", "shard" => label.clone()),
            lag: gauge!("axs_shard_lag_records", "shard" => label.clone()),
            accounts_resident: gauge!("axs_shard_accounts_resident", "shard" => label.clone()),
            records_unflushed: gauge!("axs_shard_unflushed_records", "shard" => label.clone()),
            since_flush_seconds: gauge!("axs_shard_since_flush_seconds", "shard" => label.clone()),
            flush_seconds: histogram!("axs_flush_seconds", "shard" => label.clone()),
            batch_commands: histogram!("axs_flush_commands", "shard" => label.clone()),
            applied: outcome("applied"),
            rejected: outcome("rejected"),
            dead_letters: counter!("axs_dead_letters_total", "shard" => label.clone()),
            alarms: counter!("axs_shard_alarms_total", "shard" => label.clone()),
            snapshots_dropped: counter!("axs_cache_snapshots_dropped_total", "shard" => label),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floats; nothing decides by them"
    )]
    pub fn status(&self, status: &Status) {
        self.leading.set(f64::from(u8::from(is_leading(status))));
        let is_stopped = status.phase == Phase::Stopped;
        self.stopped.set(f64::from(u8::from(is_stopped)));
        if !is_leading(status) {
            // Whoever leads it now measures it.
            self.lag.set(0.0);
        }
        self.epoch
            .set(status.epoch.map_or(0.0, |epoch| epoch.0 as f64));
        if let (Some(flushed), Some(published)) = (status.flushed_to, status.published_to) {
            self.next_offset.set(flushed.offset() as f64);
            // What is left of an earlier generation is few, and cannot be counted by offsets.
            let published = match flushed.generation() == published.generation() {
                true => published.offset(),
                false => 0,
            };
            self.unpublished
                .set((flushed.offset() - published).max(0) as f64);
        }
        self.accounts_resident.set(status.accounts_resident as f64);
        self.records_unflushed.set(status.records_unflushed as f64);
    }

    /// How long a led shard has not been flushed; grows while nothing else changes.
    pub fn age(&self, status: &Status, led_since: Option<Mono>, now: Mono) {
        let since = led_since.map_or(now, |since| {
            status.last_flush_at.unwrap_or(since).max(since)
        });
        self.since_flush_seconds
            .set(now.saturating_sub(since).as_secs_f64());
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "histograms are floats; nothing decides by them"
    )]
    pub fn flushed(&self, flush: &Flush, took: Duration) {
        self.flush_seconds.record(took.as_secs_f64());
        self.batch_commands.record(flush.outcomes.len() as f64);
        let rejected = flush
            .outcomes
            .iter()
            .filter(|outcome| outcome.reject.is_some())
            .count();
        self.rejected.increment(rejected as u64);
        self.applied
            .increment((flush.outcomes.len() - rejected) as u64);
        self.dead_letters.increment(flush.dead_letters.len() as u64);
    }

    pub fn alarm(&self) {
        self.alarms.increment(1);
    }

    pub fn snapshots_dropped(&self) {
        self.snapshots_dropped.increment(1);
    }
}

/// Whether the shard is this process's to flush.
pub(super) fn is_leading(status: &Status) -> bool {
    matches!(status.phase, Phase::Leading | Phase::Draining)
}
