//! After the database came back from an earlier time: what log, results and cache have seen since
//! must not be used again for anything else, and commands whose rows are gone are adopted.

use std::{collections::BTreeSet, time::Duration};

use crate::core::{
    cache::{self, Cache},
    command::{
        Command,
        record::{self, LogItem},
    },
    interval_set::IntervalSet,
    log::{self, Log, kafka},
    proto::CommandResult,
    store::{self, Act, Known, Recovery, ShardRow, Store},
    types::{CommandId, Epoch, Nonce, Position, Sequence, ShardId},
};

/// Records read at a time, and commands asked for or adopted at a time.
const BATCH: usize = 1_000;
/// Bytes read at a time.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The next record, which is there, must come within this.
const FETCH_MAX: Duration = Duration::from_secs(20);
/// Conflicts of a shard that are kept to be shown.
const CONFLICTS_MAX: usize = 50;

/// Recovery sets the epoch so far above all that was seen: take-overs that left no trace.
pub const EPOCHS_SKIPPED: u64 = 1_000;
/// Recovery skips so many numbers above all that were seen: accepted commands that left no trace,
/// whose records may still come from a producer that was forgotten.
pub const NUMBERS_SKIPPED: u64 = 1_000_000;
/// A number so far above those given out was made up by somebody.
const NUMBERS_PLAUSIBLE: u64 = 1 << 40;

/// What was seen of a shard outside its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The greatest sequence number.
    pub number: u64,
    /// The greatest epoch.
    pub epoch: u64,
}

impl Seen {
    /// A record of the shard's log.
    pub fn item(&mut self, shard: ShardId, item: &LogItem) {
        match item {
            LogItem::Command(command) => {
                if let Some(id) = command.id.filter(|id| id.shard() == shard) {
                    self.number(id.sequence().0);
                }
            }
            LogItem::Seal(seal) => self.number(seal.last.0),
            LogItem::Discard(discard) => self.number(discard.id.sequence().0),
            LogItem::Tick(_) | LogItem::Parked(_) | LogItem::Registry(_) => {}
        }
    }

    /// A published result.
    pub fn result(&mut self, result: &CommandResult) {
        self.number(CommandId(result.command_id).sequence().0);
        self.epoch(result.epoch);
    }

    /// The epoch that the cache has seen.
    pub fn epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    fn number(&mut self, number: u64) {
        if number < NUMBERS_PLAUSIBLE {
            self.number = self.number.max(number);
        }
    }

    /// What is not to be used again, beside what the row of the shard says (`epoch`).
    pub fn recovery(&self, epoch: Epoch) -> Recovery {
        Recovery {
            epoch: Epoch(self.epoch.max(epoch.0) + EPOCHS_SKIPPED),
            next: Sequence(self.number + NUMBERS_SKIPPED + 1),
        }
    }
}

/// A command of the log that contradicts the database: something was accepted since it came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where it stands in the log.
    pub position: Position,
    /// Its id there.
    pub id: CommandId,
    /// How.
    pub known: Known,
}

/// One shard: what the database has, and what the log has beyond it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// As it is stored.
    pub row: ShardRow,
    /// First offset of the log, and the one behind its last record.
    pub range: (i64, i64),
    /// The offset that it is read from: where the database stands, or its beginning if the record
    /// before is not the one that the database has applied.
    pub from: i64,
    /// Records of the log from there on.
    pub records: u64,
    /// Numbers of the commands among them that have no row.
    pub unknown: IntervalSet,
    /// Commands among them that contradict what is stored: the first ones.
    pub conflicts: Vec<Conflict>,
    /// All that was seen.
    pub seen: Seen,
}

impl Finding {
    /// The shard cannot go on where the database stands: records that it had to apply are gone, or
    /// it is another log than the one it has applied.
    pub fn diverges(&self) -> bool {
        self.from != self.row.next_position.offset()
    }

    /// Something has seen more than the database has.
    pub fn went_back(&self) -> bool {
        !self.unknown.is_empty() || !self.conflicts.is_empty() || self.seen.epoch > self.row.epoch.0
    }
}

/// Why it could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The cache did not answer: it may have seen an epoch that nothing else has.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

/// Where a shard is looked for.
pub struct Sources<'a> {
    /// The database that came back.
    pub store: &'a Store,
    /// The log.
    pub log: &'a kafka::Log,
    /// The cache, if there is one.
    pub cache: Option<&'a Cache>,
    /// The last published result of each shard.
    pub results: &'a [Option<CommandResult>],
}

/// Reads what the log has beyond the database. `each` hears of every batch how many records it had.
pub async fn find(
    sources: &Sources<'_>,
    row: ShardRow,
    mut each: impl FnMut(u64),
) -> Result<Finding, Error> {
    let shard = row.shard;
    let range = sources.log.range(shard).await?;
    let next = row.next_position;
    let from = match sources.log.open(shard, next, row.anchor).await {
        Ok(_) => next.offset(),
        Err(log::Error::Diverged(_)) => range.0,
        Err(error) => return Err(error.into()),
    };
    let mut finding = Finding {
        range,
        from,
        row,
        records: 0,
        unknown: IntervalSet::new(),
        conflicts: Vec::new(),
        seen: Seen::default(),
    };
    if let Some(result) = sources
        .results
        .get(usize::from(shard.0))
        .and_then(Option::as_ref)
    {
        finding.seen.result(result);
    }
    if let Some(cache) = sources.cache {
        let epoch = cache.epoch(shard).await?;
        finding.seen.epoch(epoch.map_or(0, |epoch| epoch.0));
    }
    let mut beyond = Beyond::open(sources.log, &finding).await?;
    while let Some(items) = beyond.next().await? {
        finding.records += items.records;
        for (_, item) in &items.items {
            finding.seen.item(shard, item);
        }
        let (positions, commands) = commands(shard, items.items);
        let known = sources.store.known(shard, &commands).await?;
        for ((position, command), known) in positions.iter().zip(&commands).zip(known) {
            let id = command.id.expect("only those with an id are asked for");
            match known {
                Known::Accepted => {}
                Known::Nothing => {
                    finding.unknown.insert(id.sequence().0);
                }
                Known::OtherContent | Known::OtherCommand => {
                    if finding.conflicts.len() < CONFLICTS_MAX {
                        let position = *position;
                        finding.conflicts.push(Conflict {
                            position,
                            id,
                            known,
                        });
                    }
                }
            }
        }
        each(items.records);
    }
    Ok(finding)
}

/// Stores the commands whose rows are gone; how many. Safe to do twice.
pub async fn adopt(
    sources: &Sources<'_>,
    finding: &Finding,
    mut each: impl FnMut(u64),
) -> Result<u64, Error> {
    let shard = finding.row.shard;
    let mut adopted = 0;
    let mut beyond = Beyond::open(sources.log, finding).await?;
    while let Some(items) = beyond.next().await? {
        let (_, commands) = commands(shard, items.items);
        let known = sources.store.adopt(shard, &commands).await?;
        let new = known.iter().filter(|known| **known == Known::Nothing);
        adopted += new.count() as u64;
        each(items.records);
    }
    Ok(adopted)
}

/// Lets the shard go on above everything that was seen. After [`adopt`]; safe to do twice.
pub async fn go_on(
    store: &Store,
    finding: &Finding,
    nonce: Nonce,
    act: &Act,
) -> Result<Recovery, store::Error> {
    let recovery = finding.seen.recovery(finding.row.epoch);
    store
        .recover(finding.row.shard, recovery, nonce, act)
        .await?;
    Ok(recovery)
}

/// Commands of a shard, each once, in the order of the log: what comes first counts.
fn commands(shard: ShardId, items: Vec<(Position, LogItem)>) -> (Vec<Position>, Vec<Command>) {
    let mut ids = BTreeSet::new();
    let commands = items.into_iter().filter_map(|(position, item)| match item {
        LogItem::Command(command) => {
            let id = command.id.filter(|id| id.shard() == shard)?;
            ids.insert(id).then_some((position, command))
        }
        _ => None,
    });
    commands.unzip()
}

/// Records that could be decoded, and how many were read for them.
struct Items {
    items: Vec<(Position, LogItem)>,
    records: u64,
}

/// The log from where it is read to its end, both as of the finding.
struct Beyond {
    reader: Option<log::Reader>,
    end: i64,
}

impl Beyond {
    async fn open(log: &kafka::Log, finding: &Finding) -> Result<Self, log::Error> {
        let (_, end) = finding.range;
        let generation = finding.row.next_position.generation();
        let from = Position::new(generation, finding.from);
        let log = Log::Kafka(log.clone());
        let reader = match from.offset() < end {
            true => Some(log.open(finding.row.shard, from, None).await?),
            false => None,
        };
        Ok(Self { reader, end })
    }

    async fn next(&mut self) -> Result<Option<Items>, log::Error> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let mut records = reader.fetch(BATCH, BATCH_BYTES, FETCH_MAX).await?;
        let Some(last) = records.last() else {
            return Err(log::Error::Unavailable(
                "records that are in the log do not come".into(),
            ));
        };
        if last.position.offset() + 1 >= self.end {
            self.reader = None;
        }
        records.retain(|record| record.position.offset() < self.end);
        let decoded = records.iter().filter_map(|record| {
            let item = record::decode(&record.value).ok()?;
            Some((record.position, item))
        });
        Ok(Some(Items {
            items: decoded.collect(),
            records: records.len() as u64,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_skipped_and_what_was_made_up_is_not() {
        let shard = ShardId(3);
        let mut seen = Seen::default();
        let seal = |last| {
            LogItem::Seal(record::Seal {
                first: Sequence(1),
                last: Sequence(last),
            })
        };
        seen.item(shard, &seal(500));
        seen.item(shard, &seal(NUMBERS_PLAUSIBLE));
        seen.result(&CommandResult {
            command_id: CommandId::new(shard, Sequence(700)).0,
            epoch: 9,
            ..CommandResult::default()
        });
        seen.epoch(4);
        assert_eq!((seen.number, seen.epoch), (700, 9));
        let recovery = seen.recovery(Epoch(5));
        assert_eq!(recovery.epoch, Epoch(9 + EPOCHS_SKIPPED));
        assert_eq!(recovery.next, Sequence(701 + NUMBERS_SKIPPED));
        assert_eq!(seen.recovery(Epoch(50)).epoch, Epoch(50 + EPOCHS_SKIPPED));
    }
}
