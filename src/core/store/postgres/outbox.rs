//! What the outbox sees of a shard: `axs_outbox_view`, and the commands that it names.

use std::time::Duration;

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    sql_types::{Array, BigInt, Integer, Interval, Nullable, SmallInt, Timestamptz},
};

use super::{
    Store,
    numeric::{duration_to_sql, shard_to_sql, time_from_sql, unsigned},
    registry::first,
    statement::statement,
};
use crate::core::{
    store::{Error, OutboxView},
    types::{CommandId, Sequence, ShardId},
};

/// Most pending commands that one look counts, the lowest numbers first: an outbox that looks at a
/// shard far behind must not slow it down further.
pub const PENDING_COUNT_MAX: i32 = 5_000;

statement! {
    /// `axs_outbox_view`.
    View {
        shard: i16 => SmallInt,
        margin: PgInterval => Interval,
        limit: i32 => Integer,
        scan: i32 => Integer,
    }
    -> (
        Timestamptz, BigInt, Timestamptz, BigInt, Nullable<Timestamptz>, Array<BigInt>,
        Nullable<Array<BigInt>>, Nullable<Array<BigInt>>,
    ) =
    "SELECT now, wal_position, passed_at, pending_count, oldest_pending_at, pending, seal_first,
            seal_last
        FROM axs_outbox_view($1, $2, $3, $4)"
}

type Row = (
    PgTimestamp,
    i64,
    PgTimestamp,
    i64,
    Option<PgTimestamp>,
    Vec<i64>,
    Option<Vec<i64>>,
    Option<Vec<i64>>,
);

impl Store {
    /// See [`super::super::Store::outbox_view`].
    pub async fn outbox_view(
        &self,
        shard: ShardId,
        margin: Duration,
        limit: usize,
    ) -> Result<OutboxView, Error> {
        let view = View {
            shard: shard_to_sql(shard)?,
            margin: duration_to_sql(margin),
            limit: i32::try_from(limit).unwrap_or(i32::MAX),
            scan: PENDING_COUNT_MAX,
        };
        let rows: Vec<Row> = self.readers.run(view).await?;
        let (now, wal, passed_at, count, oldest, pending, seal_first, seal_last) = first(rows)?;
        let mut ids = Vec::with_capacity(pending.len());
        for seq in pending {
            ids.push(CommandId::new(shard, Sequence(unsigned(seq)?)));
        }
        // Commands never change, so a second statement reads the same.
        let commands = match ids.is_empty() {
            true => Vec::new(),
            false => self.commands(&ids).await?,
        };
        let sealable = (seal_first.into_iter().flatten())
            .zip(seal_last.into_iter().flatten())
            .map(|(first, last)| Ok((Sequence(unsigned(first)?), Sequence(unsigned(last)?))));
        Ok(OutboxView {
            now: time_from_sql(now),
            wal_position: unsigned(wal)?,
            passed_at: time_from_sql(passed_at),
            pending_count: unsigned(count)?,
            oldest_pending_at: oldest.map(time_from_sql),
            pending: (commands.into_iter().flatten())
                .map(|stored| stored.command)
                .collect(),
            sealable: sealable.collect::<Result<_, Error>>()?,
        })
    }
}
