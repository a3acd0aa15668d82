//! What a process checks before it takes part: that the database did not go back in time.

use crate::core::{
    log::{self, Log},
    store::{self, ShardRow, Store},
    types::Position,
};

/// Why a process does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The log has results that the database knows nothing of.
    #[error(
        "the database went back in time: shard {shard} has published results up to position \
         {published} under epoch {published_epoch}, the database stands at position {next} under \
         epoch {epoch}\nhint: bring the newer database back; until then nothing may be accepted or \
         applied on this one, because command ids would be given out twice"
    )]
    WentBack {
        /// Which shard.
        shard: u16,
        /// Of the last result in the log.
        published: Position,
        /// Of the last result in the log.
        published_epoch: u64,
        /// `next_position` of the row.
        next: Position,
        /// Of the row.
        epoch: u64,
    },
}

/// Refuses a database that was restored to an earlier state: results are published after their
/// commit only, so that the last one in the log must be known to the row of its shard.
pub async fn check(store: &Store, log: &Log) -> Result<(), Error> {
    // In this order: what is published meanwhile is newer than what was read.
    let results = log.last_results().await?;
    let rows = store.shard_rows().await?;
    for (row, result) in rows.iter().zip(results) {
        if let Some(result) = result {
            check_shard(row, Position(result.position), result.epoch)?;
        }
    }
    Ok(())
}

fn check_shard(row: &ShardRow, published: Position, published_epoch: u64) -> Result<(), Error> {
    if published < row.next_position && published_epoch <= row.epoch.0 {
        return Ok(());
    }
    Err(Error::WentBack {
        shard: row.shard.0,
        published,
        published_epoch,
        next: row.next_position,
        epoch: row.epoch.0,
    })
}
