//! What the outbox sees of all shards, as figures for alerts: it is the one service that looks at
//! shards which nobody leads. Decides nothing.

use std::{collections::BTreeMap, time::Duration};

use metrics::{counter, gauge};

use super::Error;
use crate::core::{
    store::{OutboxView, ShardRow},
    types::{Sequence, ShardId},
};

/// What one process remembers between passes, for ages that the store does not keep.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The lowest number of each shard that waits for its seal, and since when we see it.
    unsealed: BTreeMap<ShardId, (Sequence, Duration)>,
}

impl Watch {
    /// Counters that stand at zero from the start: of one that begins at 1 nobody sees the rise.
    pub fn new() -> Self {
        for result in ["complete", "failed"] {
            passes(result).increment(0);
        }
        counter!("axs_outbox_resent_total").increment(0);
        Self::default()
    }

    /// What waits in one shard, at `now` of this process's monotonic clock.
    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floats; nothing decides by them"
    )]
    pub fn view(&mut self, shard: ShardId, view: &OutboxView, now: Duration) {
        let age = view
            .oldest_pending_at
            .map_or(0, |at| (view.now.0 - at.0).max(0));
        let label = shard.to_string();
        gauge!("axs_pending_commands", "shard" => label.clone()).set(view.pending_count as f64);
        gauge!("axs_pending_oldest_seconds", "shard" => label.clone()).set(age as f64 / 1e6);
        let unsealed = self.unsealed_for(shard, view, now);
        gauge!("axs_shard_unsealed_seconds", "shard" => label).set(unsealed.as_secs_f64());
    }

    /// How long the lowest number that can be sealed has waited for it.
    fn unsealed_for(&mut self, shard: ShardId, view: &OutboxView, now: Duration) -> Duration {
        let Some(&(lowest, _)) = view.sealable.first() else {
            self.unsealed.remove(&shard);
            return Duration::ZERO;
        };
        let seen = self.unsealed.entry(shard).or_insert((lowest, now));
        if seen.0 != lowest {
            *seen = (lowest, now);
        }
        now.saturating_sub(seen.1)
    }

    /// A pass ended. Only a complete one says anything about all shards.
    pub fn passed<T>(pass: &Result<T, Error>) {
        passes(match pass {
            Ok(_) => "complete",
            Err(_) => "failed",
        })
        .increment(1);
    }
}

/// Who leads, and what is not decided, by the rows.
#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; nothing decides by them"
)]
pub(super) fn rows(rows: &[ShardRow]) {
    for row in rows {
        let label = row.shard.to_string();
        let is_unowned = row.lease_left.is_zero();
        gauge!("axs_shard_unowned", "shard" => label.clone()).set(f64::from(u8::from(is_unowned)));
        let is_paused = row.paused_by.is_some();
        gauge!("axs_shard_paused", "shard" => label.clone()).set(f64::from(u8::from(is_paused)));
        gauge!("axs_shard_last_epoch", "shard" => label.clone()).set(row.epoch.0 as f64);
        let gaps = (row.applied.last()).map_or(0, |last| row.applied.gaps(1, last).len());
        gauge!("axs_shard_gaps", "shard" => label).set(gaps as f64);
    }
}

fn passes(result: &'static str) -> metrics::Counter {
    counter!("axs_outbox_passes_total", "result" => result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::Timestamp;

    #[test]
    fn a_number_waits_for_its_seal_from_when_it_is_the_lowest_until_it_is_sealed() {
        let mut watch = Watch::default();
        let mut wait = |second: u64, sealable: &[u64]| {
            let view = OutboxView {
                now: Timestamp(0),
                wal_position: 0,
                passed_at: Timestamp(0),
                pending_count: 0,
                oldest_pending_at: None,
                pending: Vec::new(),
                sealable: sealable
                    .iter()
                    .map(|&number| (Sequence(number), Sequence(number + 1)))
                    .collect(),
            };
            let now = Duration::from_secs(second);
            watch.unsealed_for(ShardId(3), &view, now).as_secs()
        };
        assert_eq!(wait(10, &[]), 0);
        assert_eq!(wait(11, &[7]), 0, "it begins");
        assert_eq!(wait(15, &[7, 20]), 4, "a later one changes nothing");
        assert_eq!(
            wait(16, &[20]),
            0,
            "7 is sealed: 20 is seen as the lowest now"
        );
        assert_eq!(wait(18, &[20]), 2);
        assert_eq!(wait(19, &[]), 0);
        assert_eq!(wait(20, &[20]), 0, "nothing is left of the earlier wait");
    }
}
