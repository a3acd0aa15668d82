//! One shard, from its snapshot to its report.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Error, Event, Watch,
    compare::{AccountRow, Comparison, Total},
    copy::Malformed,
    finding::Finding,
    fold::Fold,
    log::LogReport,
    part::{self, Part},
    session::Snapshot,
};
use crate::core::{
    assets::Assets,
    config,
    engine::Balance,
    interval_set::IntervalSet,
    replay::Sources,
    store::BalanceRepair,
    types::{AccountId, AssetId, Epoch, Money, Position, ShardId},
};

/// What was compared of a shard.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which.
    pub shard: ShardId,
    /// Of the snapshot.
    pub epoch: Epoch,
    /// Of the snapshot: everything below it was compared.
    pub next_position: Position,
    /// As stored.
    pub state_hash: u128,
    /// Outcomes read.
    pub commands: u64,
    /// Entries read.
    pub entries: u64,
    /// Rows compared.
    pub balances: u64,
    /// Rows compared.
    pub accounts: u64,
    /// Accepted commands without an outcome.
    pub pending: u64,
    /// How long the oldest of them waits, by the server's clock.
    pub oldest_pending: Option<Duration>,
    /// Accepted commands that wait for an operator.
    pub parked: u64,
    /// What there is of each asset.
    pub totals: BTreeMap<AssetId, Total>,
    /// What was replayed, if it was asked for and could be.
    pub log: Option<LogReport>,
    /// Nothing of the journal is damaged.
    pub is_whole: bool,
    /// Balance rows that the journal can repair: none where it is damaged itself.
    pub repairs: Vec<BalanceRepair>,
    /// The state hash that goes with them.
    pub repaired_hash: u128,
}

/// The shard's row, and what else is small.
pub(super) struct Head {
    epoch: i64,
    next_position: i64,
    last_result: i64,
    state_hash: u128,
    /// The first number that no block has.
    pub(super) next_number: u64,
    /// Microseconds since 2000.
    pub(super) now: i64,
    pub(super) applied: IntervalSet,
    /// Commands that dead letters park, with the positions of these.
    pub(super) parked: BTreeMap<u64, i64>,
    /// Numbers of blocks that are still in use.
    pub(super) open: IntervalSet,
}

/// A shard, and where it is read.
pub(super) struct Work<'a> {
    pub(super) shard: ShardId,
    assets: &'a Assets,
    only: Option<AccountId>,
    pub(super) snapshot: Snapshot,
    watch: &'a Watch,
}

/// Compares a shard, or one account of it.
pub async fn compare(
    settings: &config::Postgres,
    assets: &Assets,
    shard: ShardId,
    (only, log): (Option<AccountId>, Option<Sources>),
    watch: &Watch,
) -> Result<ShardReport, Error> {
    let snapshot = Snapshot::begin(settings).await?;
    let work = Work {
        shard,
        assets,
        only,
        snapshot,
        watch,
    };
    let head = work.head().await?;
    let fold = work.journal(&head).await?;
    let mut comparison = match only {
        None => Comparison::new(shard, assets, fold, head.last_result),
        Some(_) => Comparison::of_account(shard, assets, fold),
    };
    work.balances(&mut comparison).await?;
    work.accounts(&mut comparison).await?;
    work.marks(&mut comparison).await?;
    let mut report = ShardReport {
        shard,
        epoch: Epoch(head.epoch.unsigned_abs()),
        next_position: Position(head.next_position),
        state_hash: head.state_hash,
        commands: comparison.fold.commands,
        entries: comparison.fold.entries,
        balances: comparison.balances,
        accounts: comparison.accounts,
        pending: 0,
        oldest_pending: None,
        parked: 0,
        totals: BTreeMap::new(),
        log: None,
        is_whole: comparison.is_whole,
        repairs: Vec::new(),
        repaired_hash: head.state_hash,
    };
    if only.is_none() {
        report.totals = comparison.totals();
        comparison.state_hash(head.state_hash);
        report.repaired_hash = comparison.repaired_hash(head.state_hash);
        work.tell(&mut comparison.fold).await;
        work.commands(&head, &mut comparison.fold.numbers, &mut report)
            .await?;
        work.numbers(&head, &comparison.fold.numbers).await?;
        work.routes().await?;
    }
    work.tell(&mut comparison.fold).await;
    // Of one account alone it cannot be said that nothing else is wrong with the shard.
    if only.is_none() {
        report.repairs = std::mem::take(&mut comparison.repairs);
    }
    if let Some(sources) = log.filter(|_| only.is_none()) {
        let end = (report.next_position, head.state_hash);
        let mut fold = comparison.fold;
        // Whatever the server keeps for the snapshot may go.
        work.snapshot.end().await;
        report.log = super::log::compare(&sources, shard, end, &mut fold, assets, watch).await?;
        work.tell(&mut fold).await;
    }
    Ok(report)
}

impl Work<'_> {
    async fn tell(&self, fold: &mut Fold<'_>) {
        for finding in fold.findings.drain(..) {
            self.watch.tell(Event::Found(finding)).await;
        }
    }

    pub(super) async fn found(&self, finding: Finding) {
        self.watch.tell(Event::Found(finding)).await;
    }

    pub(super) fn shard_sql(&self) -> i16 {
        i16::try_from(self.shard.0).expect("a shard's number is small")
    }

    async fn head(&self) -> Result<Head, Error> {
        let shard = self.shard_sql();
        let sql = "SELECT p.epoch, p.next_position, p.last_result, p.state_hash, s.next,
                (extract(epoch FROM clock_timestamp() - '2000-01-01Z') * 1000000)::bigint
            FROM shard_position p JOIN sequence s ON s.shard = p.shard WHERE p.shard = $1";
        let rows = self.snapshot.query(sql, &[&shard]).await?;
        let Some(row) = rows.first() else {
            return Err(Error::Failed(format!("there is no shard {shard}")));
        };
        let hash: &[u8] = row.get(3);
        let hash = hash
            .try_into()
            .map_err(|_| Malformed("a hash has not 16 bytes"))?;
        let sql = "SELECT d.parks, max(d.position) FROM dead_letter d
            WHERE d.shard = $1 AND d.parks IS NOT NULL AND d.state = 'parked' GROUP BY 1";
        let parked = self.snapshot.query(sql, &[&shard]).await?;
        let applied = "SELECT lower(r), upper(r) - 1 FROM shard_position p, unnest(p.applied) AS r
            WHERE p.shard = $1";
        let open = "SELECT first, last FROM sequence_block WHERE shard = $1 AND state = 'open'";
        Ok(Head {
            epoch: row.get(0),
            next_position: row.get(1),
            last_result: row.get(2),
            state_hash: u128::from_be_bytes(hash),
            next_number: row.get::<_, i64>(4).unsigned_abs(),
            now: row.get(5),
            applied: self.set(applied).await?,
            parked: parked
                .iter()
                .map(|row| (row.get::<_, i64>(0).unsigned_abs(), row.get(1)))
                .collect(),
            open: self.set(open).await?,
        })
    }

    /// A set of numbers, from the first and last of its ranges.
    async fn set(&self, sql: &str) -> Result<IntervalSet, Error> {
        let mut set = IntervalSet::new();
        for row in self.snapshot.query(sql, &[&self.shard_sql()]).await? {
            let (first, last): (i64, i64) = (row.get(0), row.get(1));
            if 0 <= first && first <= last {
                set.insert_range(first.unsigned_abs(), last.unsigned_abs());
            }
        }
        Ok(set)
    }

    /// A table's rows of the shard, or of the account.
    fn of(&self, columns: &str, table: &str) -> String {
        let shard = self.shard;
        let only = self.only.map_or(String::new(), |account| {
            format!(" AND account_id = {account}")
        });
        format!("SELECT {columns} FROM {table} WHERE shard = {shard}{only}")
    }

    async fn journal(&self, head: &Head) -> Result<Fold<'_>, Error> {
        let only = self.only.map(|account| account.0);
        let next = Position(head.next_position);
        let mut fold = Fold::new(self.shard, next, self.assets, only);
        let filter = only.map_or(String::new(), |account| {
            format!(" AND ({account} = ANY (account_id) OR {account} = ANY (entry_account_id))")
        });
        let (columns, shard) = (part::COLUMNS, self.shard);
        let sql = format!(
            "SELECT {columns} FROM journal WHERE shard = {shard}{filter} ORDER BY flush_from, part"
        );
        let mut rows = self.snapshot.rows(&sql).await?;
        let mut parts: Vec<Part> = Vec::new();
        while let Some(row) = rows.next().await? {
            let part = match Part::read(row)? {
                Ok(part) => part,
                Err(unreadable) => {
                    fold.unreadable(&unreadable);
                    continue;
                }
            };
            if parts
                .first()
                .is_some_and(|one| one.flush_from != part.flush_from)
            {
                self.flush(&mut fold, &mut parts).await;
            }
            parts.push(part);
        }
        self.flush(&mut fold, &mut parts).await;
        Ok(fold)
    }

    async fn flush(&self, fold: &mut Fold<'_>, parts: &mut Vec<Part>) {
        let before = fold.commands;
        fold.flush(parts);
        parts.clear();
        self.tell(fold).await;
        self.watch.tell(Event::Read(fold.commands - before)).await;
    }

    async fn balances(&self, comparison: &mut Comparison<'_>) -> Result<(), Error> {
        let columns = "account_id, asset_id, available, frozen, version, last_position";
        let mut rows = self.snapshot.rows(&self.of(columns, "balance")).await?;
        let money = |minor_units| Money::new(minor_units).ok_or(Malformed("no amount"));
        while let Some(mut row) = rows.next().await? {
            comparison.balance(&Balance {
                account: AccountId(row.number::<i64>()?.unsigned_abs()),
                asset: AssetId(row.number::<i32>()?.unsigned_abs()),
                available: money(row.number()?)?,
                frozen: money(row.number()?)?,
                version: row.number::<i64>()?.unsigned_abs(),
                last_position: Position(row.number()?),
            });
            self.tell(&mut comparison.fold).await;
        }
        comparison.balances_end();
        self.tell(&mut comparison.fold).await;
        Ok(())
    }

    async fn accounts(&self, comparison: &mut Comparison<'_>) -> Result<(), Error> {
        let columns = "account_id, user_id, status, opened_at";
        let mut rows = self.snapshot.rows(&self.of(columns, "account")).await?;
        while let Some(mut row) = rows.next().await? {
            let account = row.number::<i64>()?.unsigned_abs();
            let user = u64::try_from(row.number::<i128>()?);
            comparison.account(&AccountRow {
                account,
                user: user.map_err(|_| Malformed("a user id is beyond 2^64"))?,
                status: row.number()?,
                opened_at: row.number()?,
            });
        }
        comparison.accounts_end();
        self.tell(&mut comparison.fold).await;
        Ok(())
    }

    async fn marks(&self, comparison: &mut Comparison<'_>) -> Result<(), Error> {
        let columns = "account_id, asset_id, version, position, applied_at";
        let mut rows = self
            .snapshot
            .rows(&self.of(columns, "balance_mark"))
            .await?;
        while let Some(mut row) = rows.next().await? {
            let account = row.number::<i64>()?.unsigned_abs();
            let asset = row.number::<i32>()?.unsigned_abs();
            let version = row.number::<i64>()?.unsigned_abs();
            comparison.mark(account, asset, version, (row.number()?, row.number()?));
        }
        comparison.marks_end();
        self.tell(&mut comparison.fold).await;
        Ok(())
    }
}
