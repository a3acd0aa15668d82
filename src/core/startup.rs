//! What a process checks before it takes part: that the log is the one that the database's positions
//! are of, and that the database did not go back in time.

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
    /// The settings name other topics than those that the positions are of.
    #[error(
        "kafka.topic_prefix is `{ours}`, but the cluster's commands and results are in the topics of \
         `{stands}`\nhint: set it to `{stands}`; `axs shards rebase --all` moves to other topics"
    )]
    OtherTopics {
        /// Of the settings.
        ours: String,
        /// Of the database.
        stands: String,
    },
    /// The brokers are of another Kafka cluster than the one that the positions are of.
    #[error(
        "kafka.brokers leads to the Kafka cluster `{ours}`, but the cluster's commands and results \
         are in `{stands}`\nhint: correct kafka.brokers; `axs shards rebase --all` moves to another \
         Kafka cluster"
    )]
    OtherKafka {
        /// Of the brokers.
        ours: String,
        /// Of the database.
        stands: String,
    },
    /// The log has results that the database knows nothing of.
    #[error(
        "the database went back in time: shard {shard} has published results up to position \
         {published} under epoch {published_epoch}, the database stands at position {next} under \
         epoch {epoch}\nhint: bring the newer database back; until then nothing may be accepted or \
         applied on this one, because command ids would be given out twice; if it is lost, stop \
         every process and run `axs shards recover`, which goes on from the log"
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

impl Error {
    /// Nothing that waiting could change.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::OtherTopics { .. } | Self::OtherKafka { .. } | Self::WentBack { .. }
        )
    }
}

/// Refuses settings that name other topics than those in use. Topics that were not reached yet are
/// not noted: they may turn out not to fit.
pub async fn check_topics(store: &Store, prefix: &str) -> Result<(), Error> {
    // The store in memory has its log file.
    let Store::Postgres(store) = store else {
        return Ok(());
    };
    match store.named_log().await?.prefix {
        Some(stands) if stands != prefix => Err(Error::OtherTopics {
            ours: prefix.to_owned(),
            stands,
        }),
        _ => Ok(()),
    }
}

/// Refuses a log that is not the one in use any more: an operator may have moved to another while
/// this process was running.
pub async fn check_moved(store: &Store, log: &Log) -> Result<(), Error> {
    let (Log::Kafka(kafka), Store::Postgres(postgres)) = (log, store) else {
        return Ok(());
    };
    check_topics(store, kafka.topic_prefix()).await?;
    let stands = postgres.named_log().await?.cluster_id;
    match (kafka.cluster_id().await.ok(), stands) {
        (Some(ours), Some(stands)) if ours != stands => Err(Error::OtherKafka { ours, stands }),
        _ => Ok(()),
    }
}

/// Refuses another Kafka cluster than the one in use; notes it, and its topics, where none is.
async fn check_kafka(store: &Store, log: &Log, prefix: &str) -> Result<(), Error> {
    let (Log::Kafka(kafka), Store::Postgres(store)) = (log, store) else {
        return Ok(());
    };
    // Not every broker has an id to tell.
    let ours = kafka.cluster_id().await.ok();
    let stands = store.name_log(prefix, ours.clone()).await?;
    match (ours, stands.cluster_id) {
        (Some(ours), Some(stands)) if ours != stands => Err(Error::OtherKafka { ours, stands }),
        _ => Ok(()),
    }
}

/// Refuses another log, and a database that was restored to an earlier state: results are published after their
/// commit only, so that the last one in the log must be known to the row of its shard.
pub async fn check(store: &Store, log: &Log, prefix: &str) -> Result<(), Error> {
    // In this order: what is published meanwhile is newer than what was read.
    let results = log.last_results().await?;
    check_kafka(store, log, prefix).await?;
    let rows = store.shard_rows().await?;
    for (row, result) in rows.iter().zip(results) {
        if let Some(result) = result {
            check_shard(row, Position(result.position), result.epoch)?;
        }
    }
    Ok(())
}

fn check_shard(row: &ShardRow, published: Position, published_epoch: u64) -> Result<(), Error> {
    // What was published before a recovery is applied again.
    let is_known = published < row.next_position || published_epoch < row.recovered_epoch.0;
    if is_known && published_epoch <= row.epoch.0 {
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
