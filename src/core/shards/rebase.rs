//! A shard whose log was replaced, moved, or lost records: it goes on at a position of the next
//! generation. The applied set stays, so that nothing is applied twice; what is pending is produced
//! again by the outbox, so that nothing is lost.

use std::time::Duration;

use crate::core::{
    config,
    log::{self, kafka},
    store::{self, Act, ShardRow, Store, postgres},
    types::{GENERATION_MAX, Nonce, Position, ShardId},
};

/// The log that the positions will be of, where it is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// `kafka.topic_prefix` and the Kafka cluster's id so far.
    pub from: (String, String),
    /// From now on.
    pub to: (String, String),
}

/// One shard, and where it will go on.
#[derive(Clone, Debug)]
pub struct Step {
    /// As it is stored.
    pub row: ShardRow,
    /// First offset of the log, and the one behind its last record.
    pub range: (i64, i64),
    /// Why it does not go on where it stands; `None`: it does.
    pub why: Option<&'static str>,
    /// Accepted commands without an outcome; counted to a bound.
    pub pending_count: u64,
}

impl Step {
    /// Where it goes on: at the log's beginning where records between are gone, else at its end.
    /// `None`: there is no generation left.
    pub fn to(&self) -> Option<Position> {
        let next = self.row.next_position;
        let generation = next.generation().checked_add(1)?;
        let (first, end) = self.range;
        let offset = match next.offset() < first {
            true => first,
            false => end,
        };
        (generation <= GENERATION_MAX).then(|| Position::new(generation, offset))
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The log is another one.
    pub moves: Option<Move>,
    /// Topics to make.
    pub missing: Vec<String>,
    /// The shards asked for.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Shards that do not go on where they stand.
    pub fn due(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.why.is_some())
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log did not answer, or cannot be used.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Positions of all shards are of one log.
    #[error("the cluster moves to {0}, which all shards do together\nhint: give --all")]
    OneByOne(String),
    /// There is no next one.
    #[error("shard {0} has used up its {GENERATION_MAX} generations")]
    NoGeneration(ShardId),
}

/// Looks at the log and the shards asked for. Changes nothing, makes no topic.
pub async fn plan(
    settings: &config::Kafka,
    store: &postgres::Store,
    count: u16,
    only: Option<ShardId>,
) -> Result<Plan, Error> {
    let found = kafka::admin::describe(settings).await?;
    let missing: Vec<String> = (found.topics.iter())
        .filter(|(_, topic)| topic.is_none())
        .map(|(name, _)| name.clone())
        .collect();
    let moves = moves(settings, store, found.cluster_id).await?;
    if let (Some(moves), Some(_)) = (&moves, only) {
        let (prefix, id) = &moves.to;
        return Err(Error::OneByOne(format!(
            "the topics `{prefix}` of the Kafka cluster `{id}`"
        )));
    }
    let log = match missing.is_empty() {
        true => Some(kafka::Log::connect(settings, count, "axs-shards").await?),
        false => None,
    };
    let any = Store::Postgres(store.clone());
    let mut steps = Vec::new();
    for row in any.shard_rows().await? {
        if only.is_none_or(|only| only == row.shard) {
            steps.push(step(&any, log.as_ref(), moves.is_some(), row).await?);
        }
    }
    Ok(Plan {
        moves,
        missing,
        steps,
    })
}

async fn moves(
    settings: &config::Kafka,
    store: &postgres::Store,
    cluster_id: Option<String>,
) -> Result<Option<Move>, store::Error> {
    let stands = store.named_log().await?;
    let (Some(prefix), Some(id)) = (stands.prefix, stands.cluster_id) else {
        return Ok(None);
    };
    let to_id = cluster_id.unwrap_or_else(|| id.clone());
    let (from, to) = ((prefix, id), (settings.topic_prefix.clone(), to_id));
    Ok((from != to).then_some(Move { from, to }))
}

async fn step(
    store: &Store,
    log: Option<&kafka::Log>,
    moves: bool,
    row: ShardRow,
) -> Result<Step, Error> {
    let shard = row.shard;
    let view = store.outbox_view(shard, Duration::ZERO, 1).await?;
    let (range, why) = match log {
        None => ((0, 0), Some("the topic is not there")),
        Some(log) => {
            let range = log.range(shard).await?;
            let why = match moves {
                true => Some("the log is another one"),
                false => diverges(log, &row, range).await?,
            };
            (range, why)
        }
    };
    let step = Step {
        row,
        range,
        why,
        pending_count: view.pending_count,
    };
    match step.to() {
        Some(_) => Ok(step),
        None => Err(Error::NoGeneration(shard)),
    }
}

/// Why the shard cannot go on where it stands, as its leader would find.
async fn diverges(
    log: &kafka::Log,
    row: &ShardRow,
    (first, end): (i64, i64),
) -> Result<Option<&'static str>, log::Error> {
    let next = row.next_position;
    match log.open(row.shard, next, row.anchor).await {
        Ok(_) => Ok(None),
        Err(log::Error::Diverged(_)) => Ok(Some(match next.offset() {
            offset if offset < first => "the log begins behind it",
            offset if offset > end => "the log ends before it",
            _ => "another record stands before it",
        })),
        Err(error) => Err(error),
    }
}

/// Makes the topics that are missing, and says that the positions are of this log from now on.
/// Then the plan has to be made again: what stands in a new topic was not known.
pub async fn prepare(
    settings: &config::Kafka,
    store: &postgres::Store,
    plan: &Plan,
    act: &Act,
) -> Result<(), Error> {
    if !plan.missing.is_empty() {
        let shards = store.shards().await?;
        kafka::admin::ensure_topics(settings, shards).await?;
    }
    if let Some(Move {
        to: (prefix, id), ..
    }) = &plan.moves
    {
        store.move_log(prefix, Some(id.clone()), act).await?;
    }
    Ok(())
}

/// Lets one shard go on. False: somebody else has let it go on meanwhile.
pub async fn execute(
    store: &Store,
    step: &Step,
    nonce: Nonce,
    act: &Act,
) -> Result<bool, store::Error> {
    let to = step.to().expect("a plan has a position for each shard");
    let from = step.row.next_position;
    store.rebase(step.row.shard, from, to, nonce, act).await
}

/// From which log to which.
pub fn describe(moves: &Move) -> String {
    let name = |(prefix, id): &(String, String)| format!("`{prefix}` of Kafka cluster `{id}`");
    format!("from {} to {}", name(&moves.from), name(&moves.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        interval_set::IntervalSet,
        types::{Epoch, Timestamp},
    };

    fn step(at: Position, range: (i64, i64)) -> Step {
        Step {
            row: ShardRow {
                shard: ShardId(0),
                epoch: Epoch(1),
                leader: String::new(),
                lease_left: Duration::ZERO,
                next_position: at,
                published_to: at,
                passed_at: Timestamp(0),
                applied_at: Timestamp(0),
                state_hash: 0,
                applied: IntervalSet::new(),
                anchor: None,
                paused_by: None,
                interventions: 0,
                recovered_epoch: Epoch(0),
            },
            range,
            why: Some("the log is another one"),
            pending_count: 0,
        }
    }

    #[test]
    fn it_goes_on_behind_what_is_there_unless_records_before_were_lost() {
        let at = Position::new(3, 100);
        let to = |range| step(at, range).to();
        assert_eq!(to((0, 0)), Some(Position::new(4, 0)), "an empty log");
        assert_eq!(to((0, 40)), Some(Position::new(4, 40)), "shorter");
        assert_eq!(to((0, 400)), Some(Position::new(4, 400)), "of others");
        assert_eq!(to((120, 400)), Some(Position::new(4, 120)), "expired");
        let last = Position::new(GENERATION_MAX, 100);
        assert_eq!(step(last, (0, 0)).to(), None);
    }
}
