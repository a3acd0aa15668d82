//! Balance rows made as the journal says: the shard is paused, compared once more while it stands
//! still, repaired in one statement, and resumed.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Error, ShardReport, Watch, shard};
use crate::core::{
    assets::Assets,
    config,
    shards::hand_over,
    store::{self, Act, Store},
    types::{Nonce, ShardId},
};

/// A leader that has not handed its shard over after so long is fenced.
const HAND_OVER_MAX: Duration = Duration::from_secs(15);

/// What was done for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Which.
    pub shard: ShardId,
    /// Rows that are as the journal says since.
    pub balances: usize,
    /// It was paused before, and is left so.
    pub stays_paused: bool,
}

/// Repairs the balances of a shard. Nothing is done where nothing differs any more, or where the
/// journal itself turns out to be damaged.
///
/// # Errors
///
/// PostgreSQL went away, or refused. The shard is resumed all the same, unless that fails too.
pub async fn balances(
    settings: &config::Postgres,
    store: &Store,
    assets: &Assets,
    shard: ShardId,
    act: &Act,
) -> Result<Repaired, Error> {
    let stays_paused = !store.pause(shard, act).await?;
    let repaired = repair(settings, store, assets, shard, act).await;
    if !stays_paused {
        store.resume(shard, act).await?;
    }
    Ok(Repaired {
        shard,
        balances: repaired?,
        stays_paused,
    })
}

async fn repair(
    settings: &config::Postgres,
    store: &Store,
    assets: &Assets,
    shard: ShardId,
    act: &Act,
) -> Result<usize, Error> {
    let Store::Postgres(postgres) = store else {
        let why = "balances in memory follow the log: there is nothing to repair";
        return Err(store::Error::Mismatch(why.into()).into());
    };
    let nonce = getrandom::u64().map_err(|error| Error::Failed(error.to_string()))?;
    let nonce = Nonce(nonce.cast_signed());
    hand_over(store, shard, HAND_OVER_MAX, nonce, act).await?;
    // Nobody looks on: what differs was shown before.
    let (sender, _) = mpsc::channel(1);
    let report = shard::compare(settings, assets, shard, (None, None), &Watch(sender)).await?;
    let ShardReport { repairs, .. } = &report;
    if !repairs.is_empty() {
        let place = (shard, report.epoch, report.next_position);
        let hash = report.repaired_hash;
        postgres.repair_balances(place, repairs, hash, act).await?;
    }
    Ok(repairs.len())
}
