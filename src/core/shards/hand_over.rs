//! A paused shard until nobody leads it.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::{
    store::{self, Act, Store},
    types::{Nonce, ShardId},
};

/// Between two looks at the lease.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until nobody leads a paused shard; a leader that has not handed it over after `patience`
/// is fenced, and named in the answer.
///
/// # Errors
///
/// `Fenced`: it is not paused any more, or led again.
pub async fn hand_over(
    store: &Store,
    shard: ShardId,
    patience: Duration,
    nonce: Nonce,
    act: &Act,
) -> Result<Option<String>, store::Error> {
    let deadline = Instant::now() + patience;
    let mut fenced = None;
    loop {
        let rows = store.shard_rows().await?;
        let row = rows.into_iter().find(|row| row.shard == shard);
        let Some(row) = row.filter(|row| !row.lease_left.is_zero()) else {
            return Ok(fenced);
        };
        if fenced.is_some() || row.paused_by.is_none() {
            let why = format!("shard {shard} is led by {} again", row.leader);
            return Err(store::Error::Fenced(why));
        }
        if Instant::now() >= deadline {
            store.fence(shard, nonce, act).await?;
            fenced = Some(row.leader);
        } else {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
