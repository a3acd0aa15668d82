//! The log of a shard once more, on the naive model, beside what the run left behind: journal,
//! balances, results and Redis must say the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use prost::Message as _;

use super::{
    Error,
    ground::ASSETS,
    history,
    plan::Net,
    verdict::{Check, Told},
};
use crate::core::{
    assets::Assets,
    command::{
        Label,
        record::{self, LogItem},
    },
    engine::{Balance, Discarded, Entry, Outcome, model::Model},
    log::{Log, Record},
    result,
    store::{ShardRow, Store, StoredResult},
    types::{AccountId, Position, ShardId},
};

/// Records read at a time.
const RECORDS_MAX: usize = 2_000;
/// Bytes read at a time.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Dead letters read; a shard stops long before.
const LETTERS_MAX: usize = 1_000_000;
/// Rows of the journal, or accounts, read at a time.
const PAGE: usize = 500;
/// The log must give its next record within this.
const FETCH_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// What the log of a shard holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Records with a command.
    pub command_records: u64,
    /// Different commands.
    pub commands: u64,
    /// Ticks, seals and other control records.
    pub control_records: u64,
}

/// Checks that the replay fills.
pub struct Checks {
    /// Journal against model.
    pub journal: Check,
    /// PostgreSQL's balances against model.
    pub balances: Check,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            journal: Check::new("the journal is what the model makes of the log"),
            balances: Check::new("balances and accounts are what the model makes of the log"),
        }
    }
}

/// One shard after the replay.
pub struct Replayed {
    /// For the comparison with what clients were told.
    pub told: Told,
    /// Of the log.
    pub counts: Counts,
    /// Balances of each account, by the model.
    pub balances: BTreeMap<AccountId, Vec<Balance>>,
}

/// Where a shard is read from.
pub struct Sources<'a> {
    /// The log.
    pub log: &'a Log,
    /// Journal, balances, dead letters.
    pub store: &'a Store,
    /// To render results.
    pub assets: &'a Assets,
}

/// Replays what is applied of a shard, and compares. Outboxes seal numbers whenever they like: the
/// replay ends where the row of the shard stands that it is compared with.
pub async fn shard(
    sources: &Sources<'_>,
    shard: ShardId,
    checks: &mut Checks,
) -> Result<Replayed, Error> {
    let letters = sources
        .store
        .dead_letters(shard, Position::ZERO, LETTERS_MAX);
    let parked = letters.await?.into_iter().map(|letter| letter.position);
    let mut replay = Replay {
        model: Model::new(shard),
        parked: parked.collect(),
        journal: Journal {
            store: sources.store,
            shard,
            page: VecDeque::new(),
            next: Position::ZERO,
        },
        assets: sources.assets,
        counts: Counts::default(),
        results: HashMap::new(),
        previous: Position::NONE,
    };
    let mut next = Position::ZERO;
    let row = loop {
        let row = row(sources.store, shard).await?;
        if row.next_position <= next {
            break row;
        }
        next = replay
            .read(sources.log, next, row.next_position, checks)
            .await?;
    };
    if let Some(more) = replay.journal.next().await? {
        let id = more.outcome.id;
        checks
            .journal
            .compare(false, || format!("command {id} is in no record of the log"));
    }
    replay.compare_state(sources.store, &row, checks).await?;
    Ok(replay.end())
}

async fn row(store: &Store, shard: ShardId) -> Result<ShardRow, Error> {
    let rows = store.shard_rows().await?;
    let row = rows.into_iter().find(|row| row.shard == shard);
    row.ok_or_else(|| Error::Failed(format!("shard {shard} has no row")))
}

struct Replay<'a> {
    model: Model,
    parked: BTreeSet<Position>,
    journal: Journal<'a>,
    assets: &'a Assets,
    counts: Counts,
    results: HashMap<u64, (i64, u128)>,
    previous: Position,
}

impl Replay<'_> {
    /// Applies the log from one position up to another; where it stands then.
    async fn read(
        &mut self,
        log: &Log,
        from: Position,
        end: Position,
        checks: &mut Checks,
    ) -> Result<Position, Error> {
        let (shard, mut next) = (self.journal.shard, from);
        let mut reader = log.open(shard, from, None).await?;
        while next < end {
            let mut records = reader.fetch(RECORDS_MAX, BYTES_MAX, FETCH_MAX).await?;
            records.retain(|record| record.position < end);
            let Some(last) = records.last() else {
                return Err(Error::Unavailable(format!(
                    "the log of shard {shard} does not go on behind {next}"
                )));
            };
            next = last.position.next();
            for record in &records {
                self.apply(record, checks).await?;
            }
        }
        Ok(next)
    }

    async fn apply(&mut self, record: &Record, checks: &mut Checks) -> Result<(), Error> {
        if self.parked.contains(&record.position) {
            return Ok(());
        }
        let (at, time) = (record.position, record.log_time);
        let item = match record::decode(&record.value) {
            Ok(item) => item,
            Err(error) => {
                checks.journal.compare(false, || format!("{at}: {error}"));
                return Ok(());
            }
        };
        let outcome = match item {
            LogItem::Command(command) => {
                self.counts.command_records += 1;
                let outcome = self.model.apply(at, time, &command);
                outcome.map(|(outcome, entries)| (outcome, entries, command.label()))
            }
            LogItem::Discard(discard) => {
                self.counts.control_records += 1;
                let discarded = Discarded {
                    command_id: discard.id,
                    content_hash: discard.content_hash,
                    account: discard.account,
                    kind: discard.kind,
                };
                let outcome = self.model.discard(at, time, discarded);
                outcome.map(|outcome| (outcome, Vec::new(), discard.label))
            }
            LogItem::Seal(seal) => {
                self.counts.control_records += 1;
                self.model.seal(seal.first.0, seal.last.0);
                None
            }
            LogItem::Tick(_) | LogItem::Parked(_) | LogItem::Registry(_) => {
                self.counts.control_records += 1;
                None
            }
        };
        match outcome {
            Some((outcome, entries, label)) => {
                self.decided(&outcome, &entries, &label, checks).await
            }
            None => Ok(()),
        }
    }

    async fn decided(
        &mut self,
        outcome: &Outcome,
        entries: &[Entry],
        label: &Label,
        checks: &mut Checks,
    ) -> Result<(), Error> {
        self.counts.commands += 1;
        let Some(stored) = self.journal.next().await? else {
            let id = outcome.id;
            checks
                .journal
                .compare(false, || format!("command {id} is not in the journal"));
            return Ok(());
        };
        let same = stored.outcome == *outcome
            && stored.entries == entries
            && stored.label == *label
            && stored.previous_position == self.previous;
        checks.journal.compare(same, || {
            format!("the journal has {stored:?}, the model says {outcome:?} {entries:?}")
        });
        self.previous = outcome.position;
        let rendered = result::render_stored(&stored, self.assets).encode_to_vec();
        let told = (stored.outcome.position.0, history::hash(&rendered));
        self.results.insert(stored.outcome.id.0, told);
        Ok(())
    }

    /// Balances, accounts and state hash of the store against the model's.
    async fn compare_state(
        &self,
        store: &Store,
        row: &ShardRow,
        checks: &mut Checks,
    ) -> Result<(), Error> {
        let check = &mut checks.balances;
        let accounts: Vec<_> = self.model.accounts().copied().collect();
        let balances = by_account(&self.model);
        for page in accounts.chunks(PAGE) {
            let ids: Vec<AccountId> = page.iter().map(|account| account.id).collect();
            for (account, stored) in page.iter().zip(store.balances(&ids).await?) {
                let expected = balances.get(&account.id).map_or(&[][..], Vec::as_slice);
                let same = stored.as_ref().is_some_and(|stored| {
                    stored.account == *account && stored.balances == expected
                });
                check.compare(same, || {
                    format!("{stored:?} is stored, the model says {account:?} {expected:?}")
                });
            }
        }
        let shard = row.shard;
        check.compare(row.state_hash == self.model.state_hash(), || {
            format!("shard {shard}: the state hash is not the model's")
        });
        let applied = self.model.applied();
        check.compare(row.applied == *applied, || {
            let stored = &row.applied;
            format!("shard {shard}: {stored} are stored as applied, the model says {applied}")
        });
        Ok(())
    }

    fn end(self) -> Replayed {
        let mut totals = Net::default();
        for balance in self.model.balances() {
            // The run adds its assets first, in their order.
            let asset = balance.asset.0 as usize - 1;
            if asset < ASSETS.len() {
                totals[asset] += balance.available.minor_units() + balance.frozen.minor_units();
            }
        }
        Replayed {
            balances: by_account(&self.model),
            told: Told {
                results: self.results,
                totals,
            },
            counts: self.counts,
        }
    }
}

fn by_account(model: &Model) -> BTreeMap<AccountId, Vec<Balance>> {
    let mut by_account: BTreeMap<AccountId, Vec<Balance>> = BTreeMap::new();
    for balance in model.balances() {
        by_account
            .entry(balance.account)
            .or_default()
            .push(*balance);
    }
    by_account
}

/// The journal of a shard in order, page by page.
struct Journal<'a> {
    store: &'a Store,
    shard: ShardId,
    page: VecDeque<StoredResult>,
    next: Position,
}

impl Journal<'_> {
    async fn next(&mut self) -> Result<Option<StoredResult>, Error> {
        if self.page.is_empty() {
            let page = self.store.results(self.shard, self.next, PAGE).await?;
            if let Some(last) = page.last() {
                self.next = last.outcome.position.next();
            }
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::core::{
        clock::Clock,
        config,
        consumer::{self, Shards},
        embedded::{self, Embedded},
        log::NewRecord,
        registry::Registry,
        types::{Sequence, Timestamp},
    };

    const SHARD: ShardId = ShardId(0);

    /// Seals a number as an outbox does, and waits until it is applied.
    async fn seal(axs: &Embedded, number: u64) {
        let seal = record::Seal {
            first: Sequence(number),
            last: Sequence(number),
        };
        let record = NewRecord {
            shard: SHARD,
            account: None,
            value: record::encode_seal(&seal),
            command: None,
            source: "axs".into(),
            time: Timestamp(0),
        };
        assert_eq!(axs.log.append(vec![record]).await, [Ok(())]);
        while !row(&axs.store, SHARD)
            .await
            .expect("it has a row")
            .applied
            .contains(number)
        {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn numbers_sealed_after_the_rest_are_no_difference() {
        let axs = embedded::open(None, Some(1), &[], Clock::System).expect("it is in memory");
        let registry = Registry::load(axs.store.clone()).await.expect("no assets");
        let parts = consumer::Parts {
            store: axs.store.clone(),
            log: axs.log.clone(),
            cache: None,
            registry: registry.clone(),
            name: "consume".into(),
        };
        let stop = CancellationToken::new();
        let leading = tokio::spawn({
            let stop = stop.clone();
            let settings = config::Settings::default().consume;
            async move { consumer::run(parts, &settings, Shards::default(), stop).await }
        });
        let assets = registry.assets();
        let sources = Sources {
            log: &axs.log,
            store: &axs.store,
            assets: &assets,
        };
        for number in [7, 8] {
            seal(&axs, number).await;
            let mut checks = Checks::default();
            let replayed = shard(&sources, SHARD, &mut checks).await;
            assert_eq!(
                replayed.expect("an answer").counts.control_records,
                number - 6
            );
            assert!(checks.balances.holds(), "{:?}", checks.balances.by);
        }
        stop.cancel();
        leading.await.expect("no panic").expect("an end");
    }
}
