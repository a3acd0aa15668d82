//! What `axs inspect-command` finds out: the life of one command, from every place that knows it.
//! Reads only.

use std::time::Duration;

use crate::core::{
    cache::Cache,
    command::{Command, hash},
    log::{self, Log},
    store::{
        self, ShardRow, Store, StoredResult,
        postgres::life::{Beside, Letter},
    },
    types::{CommandId, Position, ShardId, Timestamp},
};

/// Most records that are looked through for a pending command.
pub const RECORDS_MAX: u64 = 50_000;
/// Records and bytes of one fetch.
const FETCH_COUNT_MAX: usize = 1_000;
const FETCH_BYTES_MAX: usize = 4 << 20;
/// A fetch may wait so long for the log.
const FETCH_WAIT: Duration = Duration::from_secs(2);
/// Fetches that bring nothing, before it is given up.
const EMPTY_FETCHES_MAX: u32 = 3;

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Accepted, and neither decided nor parked.
    Pending,
    /// Applied, for ever.
    Applied,
    /// Rejected, for ever.
    Rejected,
    /// A dead letter, which waits for an operator.
    Parked,
    /// Its number is used and was never a command's.
    Sealed,
    /// Its number is in the applied set, and the journal has no outcome: damage.
    Missing,
}

impl State {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Applied => "APPLIED",
            Self::Rejected => "REJECTED",
            Self::Parked => "PARKED",
            Self::Sealed => "SEALED",
            Self::Missing => "MISSING",
        }
    }
}

/// Where a pending command stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InLog {
    /// It is decided: the journal knows its position.
    NotAsked,
    /// The log could not be asked.
    Unknown(String),
    /// Records of it between what is applied and the end of the log.
    At(Vec<Position>),
    /// None there; `complete`: all of it was looked through.
    Nowhere {
        /// So many records were.
        records: u64,
        /// Up to the end.
        complete: bool,
    },
}

/// Whether Redis has what the command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InCache {
    /// There is nothing that it should have.
    NotAsked,
    /// It could not be asked.
    Unknown(String),
    /// It has no snapshot of the account: readers get it from PostgreSQL.
    Absent,
    /// The account as of this position, which is at or behind the command's.
    Has(Position),
    /// The account as of an earlier position.
    Behind(Position),
}

/// Everything known of a command.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its id.
    pub id: CommandId,
    /// How far it is.
    pub state: State,
    /// As accepted; `None`: there is no row.
    pub command: Option<Command>,
    /// As decided.
    pub outcome: Option<StoredResult>,
    /// The shard's row.
    pub shard: ShardRow,
    /// Its result is in the log of results.
    pub is_published: bool,
    /// Who reversed it.
    pub reversed_by: Option<CommandId>,
    /// Records that parked it.
    pub letters: Vec<Letter>,
    /// In the log of commands.
    pub log: InLog,
    /// In Redis.
    pub cache: InCache,
    /// The store's clock.
    pub now: Timestamp,
}

impl Life {
    /// How long it has been pending, by the store's clock.
    pub fn pending_for(&self) -> Option<Duration> {
        let accepted_at = self.command.as_ref()?.accepted_at;
        let micros = u64::try_from(self.now.0 - accepted_at.0).unwrap_or_default();
        let is_open = matches!(self.state, State::Pending | State::Parked);
        is_open.then(|| Duration::from_micros(micros))
    }
}

/// Which command is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Id(CommandId),
    /// The one that was accepted under this key.
    Key {
        /// The calling service.
        source: String,
        /// Its key.
        key: String,
    },
}

/// The life of a command; `None`: neither rows, nor journal, nor dead letters, nor the applied set
/// know it.
pub async fn look(
    store: &Store,
    log: Result<&Log, String>,
    cache: Option<&Cache>,
    which: &Which,
) -> Result<Option<Life>, store::Error> {
    let id = match which {
        Which::Id(id) => Some(*id),
        Which::Key { source, key } => store.command_of_key(hash::key_hash(source, key)).await?,
    };
    let Some(id) = id else { return Ok(None) };
    let Some(shard) = row(store, id.shard()).await? else {
        return Ok(None);
    };
    // The row of the shard first: what it says is published or applied must be found below.
    let outcome = store.outcomes(&[id]).await?.pop().flatten();
    let command = store.commands(&[id]).await?.pop().flatten();
    let Beside {
        now,
        reversed_by,
        letters,
    } = match store {
        Store::Postgres(store) => store.beside(id).await?,
        Store::Memory(_) => Beside {
            now: Timestamp::default(),
            reversed_by: None,
            letters: Vec::new(),
        },
    };
    let is_parked = command.as_ref().is_some_and(|it| it.parked.is_some());
    let is_used = shard.applied.contains(id.sequence().0);
    let state = match (&outcome, &command) {
        (Some(it), _) if it.outcome.reject.is_some() => State::Rejected,
        (Some(_), _) => State::Applied,
        (None, Some(_)) if is_used => State::Missing,
        (None, Some(_)) if is_parked => State::Parked,
        (None, Some(_)) => State::Pending,
        (None, None) if is_used => State::Sealed,
        (None, None) => return Ok(None),
    };
    let in_log = match (state, log) {
        (State::Pending, Ok(log)) => find(log, &shard, id).await,
        (State::Pending, Err(why)) => InLog::Unknown(why),
        _ => InLog::NotAsked,
    };
    let position = outcome.as_ref().map(|it| it.outcome.position);
    Ok(Some(Life {
        id,
        state,
        is_published: position.is_some_and(|at| at < shard.published_to),
        cache: cached(cache, outcome.as_ref()).await,
        log: in_log,
        command: command.map(|it| it.command),
        outcome,
        shard,
        reversed_by,
        letters,
        now,
    }))
}

async fn row(store: &Store, shard: ShardId) -> Result<Option<ShardRow>, store::Error> {
    let rows = store.shard_rows().await?;
    Ok(rows.into_iter().find(|row| row.shard == shard))
}

/// Looks through what is not applied yet.
async fn find(log: &Log, shard: &ShardRow, id: CommandId) -> InLog {
    match scan(log, shard, id).await {
        Ok(found) => found,
        Err(error) => InLog::Unknown(error.to_string()),
    }
}

async fn scan(log: &Log, shard: &ShardRow, id: CommandId) -> Result<InLog, log::Error> {
    let ends = log.ends().await?;
    let end = ends.get(usize::from(shard.shard.0)).copied();
    let end = end.unwrap_or(shard.next_position);
    let mut next = shard.next_position;
    let (mut found, mut records, mut empty) = (Vec::new(), 0, 0);
    if next < end {
        let mut reader = log.open(shard.shard, next, None).await?;
        while next < end && records < RECORDS_MAX && empty < EMPTY_FETCHES_MAX {
            let batch = reader
                .fetch(FETCH_COUNT_MAX, FETCH_BYTES_MAX, FETCH_WAIT)
                .await?;
            empty = if batch.is_empty() { empty + 1 } else { 0 };
            records += batch.len() as u64;
            if let Some(last) = batch.last() {
                next = last.position.next();
            }
            let ours = batch.iter().filter(|record| record.command_id == Some(id));
            found.extend(ours.map(|record| record.position));
        }
    }
    Ok(match found.is_empty() {
        false => InLog::At(found),
        true => InLog::Nowhere {
            records,
            complete: next >= end,
        },
    })
}

/// Only what changed a balance must be in a snapshot.
async fn cached(cache: Option<&Cache>, outcome: Option<&StoredResult>) -> InCache {
    let (Some(cache), Some(stored)) = (cache, outcome) else {
        return InCache::NotAsked;
    };
    let Some(account) = stored.entries.first().map(|entry| entry.account) else {
        return InCache::NotAsked;
    };
    let at = stored.outcome.position;
    match cache.read(&[(stored.outcome.id.shard(), account)]).await {
        Err(error) => InCache::Unknown(error.to_string()),
        Ok(snapshots) => match snapshots.into_iter().flatten().next() {
            None => InCache::Absent,
            Some(snapshot) if snapshot.position >= at => InCache::Has(snapshot.position),
            Some(snapshot) => InCache::Behind(snapshot.position),
        },
    }
}
