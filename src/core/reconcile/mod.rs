//! Reconciliation: the journal folded and compared with everything that follows from it. Looks, and
//! changes nothing unless a repair is asked for.
//!
//! Each shard is read in one snapshot, so that live traffic gives no false alarm:
//! - `session` and `copy`: the snapshot, and rows as they arrive; `part`: a part of the journal;
//! - `fold`: what balances and accounts must be; `numbers`: outcomes, commands and applied set;
//!   `compare`: rows against the fold; `finding`: what differs, and where. These do no I/O;
//! - `shard` and `accepted`: one shard, from its snapshot to its report; `cache`: the cache against the store;
//! - `repair`: balance rows made as the journal says.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::{
    assets::Assets,
    config,
    replay::Sources,
    store,
    types::{AccountId, ShardId},
};

mod accepted;
mod cache;
mod compare;
mod copy;
mod finding;
mod fold;
mod log;
mod numbers;
mod part;
mod repair;
pub(in crate::core) mod session;
mod shard;
mod state;
#[cfg(test)]
mod tests;

pub use cache::{CacheReport, compare as compare_cache, repair as repair_cache};
pub use compare::{REPAIRS_MAX, Total};
pub use finding::{Finding, Kind, amount_of, balance_of};
pub use log::LogReport;
pub use repair::{Repaired, balances as repair_balances};
pub use shard::ShardReport;

/// 2000-01-01, where PostgreSQL counts from, in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// Shards that are read at a time: each needs memory for its balances, and a processor.
pub const SHARDS_AT_ONCE: usize = 2;

/// Why it could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server does not answer.
    #[error("not reachable: {0}")]
    Unavailable(String),
    /// What was read makes no sense to this program, or the server refused.
    #[error("{0}")]
    Failed(String),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // Told to end, or out of something: it may work the next time.
            Some(said) if matches!(&said.code().code()[..2], "08" | "53" | "57") => {
                Self::Unavailable(format!("PostgreSQL: {}", said.message()))
            }
            Some(said) => Self::Failed(format!("PostgreSQL: {}", said.message())),
            None => Self::Unavailable(format!("PostgreSQL: {error}")),
        }
    }
}

impl From<copy::Malformed> for Error {
    fn from(error: copy::Malformed) -> Self {
        Self::Failed(format!("what PostgreSQL sent cannot be read: {error}"))
    }
}

/// What to compare.
#[derive(Clone)]
pub struct Request {
    /// These shards.
    pub shards: Vec<ShardId>,
    /// Of this account only; then `shards` is its shard.
    pub account: Option<AccountId>,
    /// With a replay of this log too. Not of one account.
    pub log: Option<Sources>,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many commands of the journal more were read.
    Read(u64),
    /// So many accounts more were compared with the cache.
    Cached(u64),
    /// So many commands of the log were decided once more.
    Replayed(u64),
    /// Something differs.
    Found(Finding),
}

/// Whoever looks on.
#[derive(Clone)]
pub struct Watch(pub mpsc::Sender<Event>);

impl Watch {
    /// Nobody needs to look on.
    async fn tell(&self, event: Event) {
        let _ = self.0.send(event).await;
    }
}

/// Compares; the reports by shard.
///
/// # Errors
///
/// PostgreSQL went away, or does not fit this program. What was found until then was told.
pub async fn run(
    settings: &config::Postgres,
    assets: &Assets,
    request: &Request,
    watch: &Watch,
) -> Result<Vec<ShardReport>, Error> {
    let mut left = request.shards.iter().copied();
    let (mut running, mut reports) = (JoinSet::new(), Vec::new());
    loop {
        while running.len() < SHARDS_AT_ONCE
            && let Some(shard) = left.next()
        {
            let (settings, assets) = (settings.clone(), assets.clone());
            let (with, watch) = ((request.account, request.log.clone()), watch.clone());
            running.spawn(
                async move { shard::compare(&settings, &assets, shard, with, &watch).await },
            );
        }
        match running.join_next().await {
            Some(Ok(report)) => reports.push(report?),
            Some(Err(error)) => return Err(Error::Failed(error.to_string())),
            None => break,
        }
    }
    reports.sort_by_key(|report| report.shard);
    Ok(reports)
}

/// How long ago, by one clock.
fn age(now: i64, then: i64) -> Duration {
    Duration::from_micros(u64::try_from(now - then).unwrap_or_default())
}
