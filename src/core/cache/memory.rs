//! The cache in this process, with the answers of the Redis one. Never blocks for long: one lock,
//! no I/O under it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Pulse, Snapshot, Written};
use crate::core::{
    canary::{self, Guard},
    types::{AccountId, Epoch, Position, ShardId},
};

/// Snapshots and gates in memory. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct Cache {
    shards: Arc<Mutex<HashMap<ShardId, Shard>>>,
}

#[derive(Default)]
struct Shard {
    epoch: Option<Epoch>,
    pulse: Option<(Epoch, u64)>,
    snapshots: HashMap<AccountId, Snapshot>,
    gate: Option<Gate>,
}

struct Gate {
    who: String,
    until: Instant,
}

impl Cache {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`super::Cache::epoch`].
    pub fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        self.lock().get(&shard)?.epoch
    }

    /// See [`super::Cache::write`].
    pub fn write(
        &self,
        shard: ShardId,
        epoch: Epoch,
        pulse: Option<Pulse>,
        snapshots: &[Snapshot],
    ) -> Written {
        if snapshots.is_empty() && pulse.is_none() {
            return Written::default();
        }
        let mut shards = self.lock();
        let shard = shards.entry(shard).or_default();
        let is_old = shard.epoch.is_some_and(|known| known > epoch);
        if is_old && !canary::is_off(Guard::CacheEpoch) {
            return Written::default();
        }
        shard.epoch = Some(epoch);
        let mut written = Written::default();
        if let Some(Pulse {
            number,
            acknowledged,
        }) = pulse
        {
            let known = acknowledged.map(|known| (epoch, known));
            written.is_lost = shard.pulse < known && !canary::is_off(Guard::CachePulse);
            if shard.pulse >= known {
                shard.pulse = shard.pulse.max(Some((epoch, number)));
            }
        }
        for snapshot in snapshots {
            let stands = shard.snapshots.get(&snapshot.account);
            let is_newer = stands.is_none_or(|stands| order(stands) < order(snapshot));
            if is_newer || canary::is_off(Guard::CacheVersion) {
                shard.snapshots.insert(snapshot.account, snapshot.clone());
                written.newer += 1;
            }
        }
        written
    }

    /// See [`super::Cache::read`].
    pub fn read(&self, keys: &[(ShardId, AccountId)]) -> Vec<Option<Snapshot>> {
        let shards = self.lock();
        keys.iter()
            .map(|(shard, account)| shards.get(shard)?.snapshots.get(account).cloned())
            .collect()
    }

    /// See [`super::Cache::forget`]. Redis does so by itself when its memory is short.
    pub fn forget(&self, shard: ShardId, account: AccountId) {
        if let Some(shard) = self.lock().get_mut(&shard) {
            shard.snapshots.remove(&account);
        }
    }

    /// See [`super::Cache::gate_enter`].
    pub fn gate_enter(&self, shard: ShardId, who: &str, ttl: Duration) -> bool {
        let now = Instant::now();
        let mut shards = self.lock();
        let gate = &mut shards.entry(shard).or_default().gate;
        if gate
            .as_ref()
            .is_some_and(|gate| gate.until > now && gate.who != who)
        {
            return false;
        }
        *gate = Some(Gate {
            who: who.to_owned(),
            until: now + ttl,
        });
        true
    }

    /// See [`super::Cache::gate_leave`].
    pub fn gate_leave(&self, shard: ShardId, who: &str) {
        let mut shards = self.lock();
        let gate = &mut shards.entry(shard).or_default().gate;
        if gate.as_ref().is_some_and(|gate| gate.who == who) {
            *gate = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn order(snapshot: &Snapshot) -> (Epoch, Position) {
    (snapshot.epoch, snapshot.position)
}
