//! Leadership of shards, by their rows and the database's clock.

use std::{ops::Bound, time::Duration};

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    sql_types::{
        BigInt, Binary, Int8, Interval, Multirange, Nullable, SmallInt, Text, Timestamptz,
    },
};

use super::{
    Store,
    error::Effect,
    numeric::{
        big, duration_to_sql, hash16, set_from_sql, shard_from_sql, shard_to_sql, time_from_sql,
        unsigned,
    },
    statement::statement,
};
use crate::core::{
    store::{Error, ShardRow, ShardState},
    types::{Anchor, Epoch, Nonce, Position, ShardId},
};

statement! {
    /// Every shard.
    ShardRows {}
    -> (
        SmallInt, BigInt, Text, BigInt, BigInt, BigInt, Timestamptz, Timestamptz, Binary,
        Multirange<Int8>, Nullable<Binary>, Nullable<Text>, BigInt, BigInt,
    ) =
    "SELECT shard, epoch, leader,
            greatest(0, extract(epoch FROM lease_until - clock_timestamp()) * 1e6)::bigint,
            next_position, published_to, passed_at, applied_at, state_hash, applied, anchor,
            CASE WHEN paused_at IS NOT NULL THEN paused_by END, interventions, recovered_epoch
        FROM shard_position ORDER BY shard"
}

statement! {
    /// Takes a shard over.
    Acquire {
        shard: i16 => SmallInt,
        leader: String => Text,
        mine: Option<i64> => Nullable<BigInt>,
        nonce: i64 => BigInt,
        ttl: PgInterval => Interval,
    }
    -> (
        BigInt, BigInt, BigInt, BigInt, Nullable<Binary>, Multirange<Int8>, Timestamptz,
        Timestamptz, Binary,
    ) =
    "SELECT epoch, next_position, published_to, last_result, anchor, applied, applied_at,
            passed_at, state_hash
        FROM axs_acquire($1, $2, $3, $4, $5)"
}

statement! {
    /// Prolongs a lease.
    Renew {
        shard: i16 => SmallInt, epoch: i64 => BigInt, nonce: i64 => BigInt,
        ttl: PgInterval => Interval,
    } -> (BigInt) =
    "UPDATE shard_position SET lease_until = clock_timestamp() + $4
        WHERE shard = $1 AND epoch = $2 AND nonce = $3 RETURNING epoch"
}

statement! {
    /// Ends a lease.
    Release { shard: i16 => SmallInt, epoch: i64 => BigInt, nonce: i64 => BigInt } -> (BigInt) =
    "UPDATE shard_position SET lease_until = least(lease_until, clock_timestamp())
        WHERE shard = $1 AND epoch = $2 AND nonce = $3 RETURNING epoch"
}

statement! {
    /// Moves the mark of what is published.
    MarkPublished {
        shard: i16 => SmallInt, epoch: i64 => BigInt, nonce: i64 => BigInt,
        published_to: i64 => BigInt,
    } -> (BigInt) =
    "UPDATE shard_position SET published_to = greatest(published_to, $4)
        WHERE shard = $1 AND epoch = $2 AND nonce = $3 RETURNING epoch"
}

type Ranges = Vec<(Bound<i64>, Bound<i64>)>;
type Row = (
    i16,
    i64,
    String,
    i64,
    i64,
    i64,
    PgTimestamp,
    PgTimestamp,
    Vec<u8>,
    Ranges,
    Option<Vec<u8>>,
    Option<String>,
    i64,
    i64,
);
type State = (
    i64,
    i64,
    i64,
    i64,
    Option<Vec<u8>>,
    Ranges,
    PgTimestamp,
    PgTimestamp,
    Vec<u8>,
);

impl Store {
    /// See [`super::super::Store::shard_rows`].
    pub async fn shard_rows(&self) -> Result<Vec<ShardRow>, Error> {
        let rows: Vec<Row> = self.control.run(Effect::Reads, ShardRows {}).await?;
        rows.into_iter().map(shard_row).collect()
    }

    /// See [`super::super::Store::acquire`].
    pub async fn acquire(
        &self,
        shard: ShardId,
        leader: &str,
        mine: Option<Nonce>,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Option<ShardState>, Error> {
        let acquire = Acquire {
            shard: shard_to_sql(shard)?,
            leader: leader.to_owned(),
            mine: mine.map(|nonce| nonce.0),
            nonce: nonce.0,
            ttl: duration_to_sql(ttl),
        };
        let rows: Vec<State> = self.leader(shard).run(Effect::Writes, acquire).await?;
        let Some(row) = rows.into_iter().next() else {
            if mine.is_none() {
                self.forget_leader(shard);
            }
            return Ok(None);
        };
        let state = shard_state(shard, nonce, row)?;
        self.name_leader(shard, format!("axs-shard-{shard}-e{}", state.epoch));
        Ok(Some(state))
    }

    /// See [`super::super::Store::renew`].
    pub async fn renew(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<(), Error> {
        let renew = Renew {
            shard: shard_to_sql(shard)?,
            epoch: big(epoch.0)?,
            nonce: nonce.0,
            ttl: duration_to_sql(ttl),
        };
        let rows = self.leader(shard).run(Effect::Writes, renew).await?;
        ours(shard, epoch, rows)
    }

    /// See [`super::super::Store::release`].
    pub async fn release(&self, shard: ShardId, epoch: Epoch, nonce: Nonce) -> Result<(), Error> {
        let release = Release {
            shard: shard_to_sql(shard)?,
            epoch: big(epoch.0)?,
            nonce: nonce.0,
        };
        let rows: Vec<(i64,)> = self.leader(shard).run(Effect::Writes, release).await?;
        if !rows.is_empty() {
            self.forget_leader(shard);
        }
        Ok(())
    }

    /// See [`super::super::Store::mark_published`].
    pub async fn mark_published(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        published_to: Position,
    ) -> Result<(), Error> {
        let mark = MarkPublished {
            shard: shard_to_sql(shard)?,
            epoch: big(epoch.0)?,
            nonce: nonce.0,
            published_to: published_to.0,
        };
        let rows = self.leader(shard).run(Effect::Writes, mark).await?;
        ours(shard, epoch, rows)
    }
}

fn ours(shard: ShardId, epoch: Epoch, rows: Vec<(i64,)>) -> Result<(), Error> {
    match rows.is_empty() {
        true => Err(Error::Fenced(format!(
            "shard {shard} is not led under epoch {epoch} any more"
        ))),
        false => Ok(()),
    }
}

fn shard_row(row: Row) -> Result<ShardRow, Error> {
    let (shard, epoch, leader, lease_left, next, published, passed_at, applied_at, ..) = row;
    let (.., hash, set, anchor, paused_by, interventions, recovered_epoch) = row;
    Ok(ShardRow {
        shard: shard_from_sql(shard)?,
        epoch: Epoch(unsigned(epoch)?),
        leader,
        lease_left: Duration::from_micros(unsigned(lease_left)?),
        next_position: Position(next),
        published_to: Position(published),
        passed_at: time_from_sql(passed_at),
        applied_at: time_from_sql(applied_at),
        state_hash: u128::from_be_bytes(hash16(&hash)?),
        applied: set_from_sql(&set)?,
        anchor: anchor.map(|hash| hash16(&hash).map(Anchor)).transpose()?,
        paused_by,
        interventions: unsigned(interventions)?,
        recovered_epoch: Epoch(unsigned(recovered_epoch)?),
    })
}

fn shard_state(shard: ShardId, nonce: Nonce, row: State) -> Result<ShardState, Error> {
    let (epoch, next, published, last, anchor, set, applied_at, passed_at, hash) = row;
    Ok(ShardState {
        shard,
        epoch: Epoch(unsigned(epoch)?),
        nonce,
        next_position: Position(next),
        published_to: Position(published),
        last_result: Position(last),
        anchor: anchor.map(|hash| hash16(&hash).map(Anchor)).transpose()?,
        applied: set_from_sql(&set)?,
        applied_at: time_from_sql(applied_at),
        passed_at: time_from_sql(passed_at),
        state_hash: u128::from_be_bytes(hash16(&hash)?),
        parked: Default::default(),
    })
}
