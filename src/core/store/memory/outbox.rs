//! What the outbox sees: commands that were passed over, and numbers that nobody can use.

use std::time::Duration;

use super::{
    super::{Error, OutboxView},
    tables::Tables,
};
use crate::core::{
    canary::{self, Guard},
    clock::micros,
    command::Command,
    interval_set::IntervalSet,
    types::{CommandId, Sequence, ShardId, Timestamp},
};

/// Most pending commands that one look counts, the lowest numbers first.
pub const PENDING_COUNT_MAX: usize = 100_000;

impl Tables {
    /// Pending and sealable numbers of a shard.
    pub fn outbox_view(
        &self,
        now: Timestamp,
        shard: ShardId,
        margin: Duration,
        limit: usize,
    ) -> Result<OutboxView, Error> {
        let row = self.shard(shard)?;
        let mut pending = self.pending(shard)?;
        pending.sort_by_key(|command| (command.accepted_at, command.id));
        let passed_at = match canary::is_off(Guard::LagAware) {
            false => row.passed_at,
            true => now,
        };
        let before = passed_at.plus_micros(-micros(margin));
        let passed_over = pending
            .iter()
            .take_while(|command| command.accepted_at < before);
        Ok(OutboxView {
            now,
            wal_position: 0,
            passed_at: row.passed_at,
            pending_count: pending.len() as u64,
            oldest_pending_at: pending.first().map(|command| command.accepted_at),
            pending: passed_over
                .take(limit)
                .map(|&command| command.clone())
                .collect(),
            sealable: self.sealable(shard)?,
        })
    }

    /// Commands whose number is not in the applied set, parked ones left out, by number.
    fn pending(&self, shard: ShardId) -> Result<Vec<&Command>, Error> {
        let row = self.shard(shard)?;
        let missing = (row.numbers.iter())
            .flat_map(|(first, last)| row.applied.gaps(first, last))
            .flat_map(|(first, last)| (first..=last).map(Sequence))
            .map(|number| CommandId::new(shard, number))
            .filter(|&id| self.parked_reason(id).is_none());
        let command = |id| &self.commands[&id];
        Ok(missing.take(PENDING_COUNT_MAX).map(command).collect())
    }

    /// Leased numbers outside the open blocks that are neither commands nor applied.
    fn sealable(&self, shard: ShardId) -> Result<Vec<(Sequence, Sequence)>, Error> {
        let row = self.shard(shard)?;
        let mut open = IntervalSet::new();
        for block in self.blocks.values() {
            if block.open && block.shard == shard && !canary::is_off(Guard::SealFence) {
                open.insert_range(block.first.0, block.last.0);
            }
        }
        if row.sequence_next == 1 {
            return Ok(Vec::new());
        }
        let closed = open.gaps(1, row.sequence_next - 1);
        let unused = (closed.into_iter())
            .flat_map(|(first, last)| row.numbers.gaps(first, last))
            .flat_map(|(first, last)| row.applied.gaps(first, last));
        Ok(unused
            .map(|(first, last)| (Sequence(first), Sequence(last)))
            .collect())
    }
}
