//! What the shards of a process are doing, as its drivers say it and its health checks read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use crate::core::{
    leader::{Phase, Status},
    types::ShardId,
};

/// What the shards of this process are doing; shared with health checks.
#[derive(Clone, Default)]
pub struct Shards {
    statuses: Arc<Mutex<BTreeMap<ShardId, Status>>>,
    lost: Arc<Mutex<BTreeSet<ShardId>>>,
}

impl Shards {
    /// By shard, as of the last change.
    pub fn statuses(&self) -> BTreeMap<ShardId, Status> {
        self.statuses
            .lock()
            .expect("nothing panics while it is held")
            .clone()
    }

    /// Shards led now.
    pub fn leading(&self) -> Vec<ShardId> {
        let is_leading = |status: &Status| status.phase == Phase::Leading;
        self.statuses()
            .into_iter()
            .filter(|(_, status)| is_leading(status))
            .map(|(id, _)| id)
            .collect()
    }

    /// Shards that need an operator.
    pub fn stopped(&self) -> Vec<ShardId> {
        let is_stopped = |status: &Status| status.phase == Phase::Stopped;
        self.statuses()
            .into_iter()
            .filter(|(_, status)| is_stopped(status))
            .map(|(id, _)| id)
            .collect()
    }

    /// Shards that another leader took over while this process led them, and that it does not lead
    /// again.
    pub fn lost(&self) -> BTreeSet<ShardId> {
        self.lost
            .lock()
            .expect("nothing panics while it is held")
            .clone()
    }

    pub(super) fn note_lost(&self, shard: ShardId) {
        self.lost
            .lock()
            .expect("nothing panics while it is held")
            .insert(shard);
    }

    pub(super) fn set(&self, shard: ShardId, status: Status) {
        if status.phase == Phase::Leading {
            self.lost
                .lock()
                .expect("nothing panics while it is held")
                .remove(&shard);
        }
        self.statuses
            .lock()
            .expect("nothing panics while it is held")
            .insert(shard, status);
    }
}
