//! What every shard is doing, for whoever is on call; takes part in nothing.
//!
//! - this file: looks only;
//! - `hand_over`: a paused shard until nobody leads it;
//! - [`rebase`]: its log was replaced, moved, or lost records;
//! - [`recover`]: after the database came back from an earlier time.

use std::time::Duration;

use crate::core::{
    log::Log,
    store::{self, DeadLetter, ShardRow, Store},
    types::{Position, ShardId},
};

mod hand_over;
pub mod rebase;
pub mod recover;

pub use hand_over::hand_over;

/// Dead letters of a shard that are looked at.
pub const LETTERS_MAX: usize = 100;

/// One shard, as store and log have it at about the same time.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Leader, lease, positions, hash, applied numbers.
    pub row: ShardRow,
    /// Behind the last record of its log; `None`: the log does not say.
    pub end: Option<Position>,
    /// Accepted commands without an outcome, parked ones left out; counted to a bound.
    pub pending_count: u64,
    /// How long the oldest of them waits, by the store's clock.
    pub oldest_pending: Option<Duration>,
    /// What could not be applied, by position: the first [`LETTERS_MAX`].
    pub dead_letters: Vec<DeadLetter>,
}

/// All that were asked for.
#[derive(Clone, Debug)]
pub struct Report {
    /// By number.
    pub shards: Vec<Shard>,
    /// Why the log's ends are not known.
    pub log_error: Option<String>,
}

impl Shard {
    /// Whether a process holds its lease.
    pub fn is_led(&self) -> bool {
        !self.row.lease_left.is_zero()
    }

    /// Records that are not applied yet, control records included.
    pub fn lag(&self) -> Option<u64> {
        let lag = self.end?.offset() - self.row.next_position.offset();
        Some(u64::try_from(lag).unwrap_or_default())
    }

    /// Ranges of numbers below the greatest applied one that are not applied: not decided yet,
    /// parked, or not sealed yet.
    pub fn gaps(&self) -> usize {
        let applied = &self.row.applied;
        applied.last().map_or(0, |last| applied.gaps(1, last).len())
    }
}

/// Looks at all shards, or at one.
///
/// # Errors
///
/// PostgreSQL did not answer. A log that does not is part of the report.
pub async fn look(
    store: &Store,
    log: Result<&Log, String>,
    only: Option<ShardId>,
) -> Result<Report, store::Error> {
    // The log first: what is applied meanwhile would look like a negative lag.
    let ends = match log {
        Ok(log) => log.ends().await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let mut shards = Vec::new();
    for row in store.shard_rows().await? {
        if only.is_some_and(|only| only != row.shard) {
            continue;
        }
        let view = store.outbox_view(row.shard, Duration::ZERO, 1).await?;
        let letters = store.dead_letters(row.shard, Position::ZERO, LETTERS_MAX);
        let micros = |from: i64| u64::try_from(view.now.0 - from).unwrap_or_default();
        shards.push(Shard {
            end: ends
                .as_ref()
                .ok()
                .and_then(|ends| ends.get(usize::from(row.shard.0)))
                // The log knows no generations: the row says which one it is.
                .map(|end| Position::new(row.next_position.generation(), end.offset())),
            pending_count: view.pending_count,
            oldest_pending: view
                .oldest_pending_at
                .map(|at| Duration::from_micros(micros(at.0))),
            dead_letters: letters.await?,
            row,
        });
    }
    Ok(Report {
        shards,
        log_error: ends.err(),
    })
}
