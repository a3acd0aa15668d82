//! The store in PostgreSQL 15. Every write is one autocommitted statement, most of them a call of a
//! function in `migrations/postgres`, which hold the logic that must be atomic.
//!
//! - `connection`: pool, single connections, time-outs; `error`: what a SQLSTATE means;
//!   `statement`: prepared statements; `numeric`: values on the wire; `witness`: whether the server
//!   went back in time;
//! - `migrate`: the schema; `registry`: shards, assets, members, health;
//! - `accept`: blocks and acceptance; `lease`: leadership; `load`, `flush` and `together`: the
//!   leaders' work;
//! - `operate`: what operators do to a shard;
//! - `parts` and `journal`: the journal in and out; `results`, `read`, `history`, `outbox`: reads;
//!   `drift`: what the drift detector compares; `life`: what else is known of a command.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use self::{
    accept::KeysSeen,
    connection::{Line, Readers, Target},
    together::{TOGETHER_ROLE, Waiting},
};
use super::Error;
use crate::core::{config, types::ShardId};

mod accept;
pub(in crate::core) mod connection;
pub mod drift;
mod error;
mod flush;
mod history;
mod journal;
mod lease;
pub mod life;
mod load;
pub mod migrate;
pub(in crate::core) mod numeric;
mod operate;
mod outbox;
mod parts;
mod read;
mod registry;
mod repair;
mod results;
mod statement;
mod together;
mod witness;

pub use migrate::SCHEMA_VERSION;
pub use registry::LogName;

/// The store of one process. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Store {
    /// Reads of the APIs.
    readers: Readers,
    /// Acceptance: routes, and `axs_accept`.
    acceptance: Line,
    keys_seen: Arc<KeysSeen>,
    /// Blocks, members, shards, assets: what must not wait for reads or acceptance.
    control: Line,
    target: Arc<Target>,
    /// A connection for each shard that is led, so that a leader never waits for anybody else.
    leaders: Arc<Mutex<HashMap<ShardId, Line>>>,
    /// Flushes of several of them.
    together: Line,
    /// Small flushes that wait for one under way.
    waiting: Arc<Mutex<Waiting>>,
}

impl Store {
    /// Connects once, to say early what is wrong; later everything connects again by itself.
    /// `application_name` is what `pg_stat_activity` shows. `Mismatch`: the settings name no
    /// server; `Unavailable`: it does not answer.
    pub async fn connect(
        settings: &config::Postgres,
        application_name: &str,
    ) -> Result<Self, Error> {
        let target = Arc::new(Target::new(settings, application_name)?);
        target.connect(None).await?;
        Ok(Self {
            readers: Readers::new(target.clone(), settings.read_connections_max),
            acceptance: Line::new(target.clone(), None),
            keys_seen: Arc::default(),
            control: Line::new(target.clone(), None),
            together: Line::new(target.clone(), Some(TOGETHER_ROLE.to_owned())),
            target,
            leaders: Arc::default(),
            waiting: Arc::default(),
        })
    }

    /// The connection of a shard's leader.
    fn leader(&self, shard: ShardId) -> Line {
        let mut leaders = self.leaders.lock().expect("no holder panics");
        let role = || Some(format!("axs-shard-{shard}"));
        let line = || Line::new(self.target.clone(), role());
        leaders.entry(shard).or_insert_with(line).clone()
    }

    /// From now on the connection of a shard's leader is called this when it is made anew.
    fn name_leader(&self, shard: ShardId, role: String) {
        let line = self.leader(shard).renamed(role);
        let mut leaders = self.leaders.lock().expect("no holder panics");
        leaders.insert(shard, line);
    }

    /// Ends the connection of a shard's leader, once it is idle.
    fn forget_leader(&self, shard: ShardId) {
        let mut leaders = self.leaders.lock().expect("no holder panics");
        leaders.remove(&shard);
    }
}
