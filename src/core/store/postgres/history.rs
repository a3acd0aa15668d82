//! A balance's history, from the journal by `axs_entries`.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{BigInt, Bool, Integer, Nullable, Numeric, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    numeric::{
        Number, asset_to_sql, big, command_id, leg_from_sql, time_from_sql, time_to_sql, unsigned,
    },
    statement::statement,
};
use crate::core::{
    engine::Entry,
    store::{Error, HistoryQuery, StoredEntry},
    types::{AccountId, AssetId, Position, Timestamp},
};

statement! {
    /// Versions `from_version` down to `to_version` of a balance, applied at `until` or before.
    Entries {
        account_id: i64 => BigInt,
        asset_id: i32 => Integer,
        from_version: Option<i64> => Nullable<BigInt>,
        to_version: i64 => BigInt,
        until: Option<PgTimestamp> => Nullable<Timestamptz>,
        limit: i32 => Integer,
    }
    -> (
        BigInt, BigInt, Timestamptz, Text, SmallInt, Bool, Numeric, Numeric, Numeric, Numeric,
        BigInt, BigInt,
    ) =
    "SELECT command_id, position, applied_at, reference, leg, fallback, available_delta,
            frozen_delta, available_after, frozen_after, version, previous_position
        FROM axs_entries($1, $2, $3, $4, $5, $6)"
}

type Row = (
    i64,
    i64,
    PgTimestamp,
    String,
    i16,
    bool,
    Number,
    Number,
    Number,
    Number,
    i64,
    i64,
);

impl Store {
    /// See [`super::super::Store::entries`].
    pub async fn entries(&self, query: &HistoryQuery) -> Result<Vec<StoredEntry>, Error> {
        let limit = i32::try_from(query.limit).unwrap_or(i32::MAX);
        let from = query
            .from_version
            .map(|version| i64::try_from(version).unwrap_or(i64::MAX));
        // Versions are dense, so the walk, which only goes down, knows where a rising page ends.
        let (from_version, to_version) = if query.oldest_first {
            let first = from.unwrap_or(1).max(1);
            (Some(first.saturating_add(i64::from(limit) - 1)), first)
        } else {
            (from, 1)
        };
        let page = Entries {
            account_id: big(query.account.0)?,
            asset_id: asset_to_sql(query.asset)?,
            from_version,
            to_version,
            until: None,
            limit,
        };
        let rows: Vec<Row> = self.readers.run(page).await?;
        let entry = |row| stored_entry(query.account, query.asset, row);
        match query.oldest_first {
            true => rows.into_iter().rev().map(entry).collect(),
            false => rows.into_iter().map(entry).collect(),
        }
    }

    /// See [`super::super::Store::entry_at`].
    pub async fn entry_at(
        &self,
        account: AccountId,
        asset: AssetId,
        at: Timestamp,
    ) -> Result<Option<StoredEntry>, Error> {
        let last = Entries {
            account_id: big(account.0)?,
            asset_id: asset_to_sql(asset)?,
            from_version: None,
            to_version: 1,
            until: Some(time_to_sql(at)),
            limit: 1,
        };
        let rows: Vec<Row> = self.readers.run(last).await?;
        let row = rows.into_iter().next();
        row.map(|row| stored_entry(account, asset, row)).transpose()
    }
}

fn stored_entry(account: AccountId, asset: AssetId, row: Row) -> Result<StoredEntry, Error> {
    let (
        id,
        position,
        applied_at,
        reference,
        leg,
        fallback,
        available,
        frozen,
        after,
        frozen_after,
        version,
        previous,
    ) = row;
    Ok(StoredEntry {
        id: command_id(id)?,
        position: Position(position),
        applied_at: time_from_sql(applied_at),
        reference,
        entry: Entry {
            leg: leg_from_sql(leg)?,
            fallback,
            account,
            asset,
            available_delta: available.money()?,
            frozen_delta: frozen.money()?,
            available_after: after.money()?,
            frozen_after: frozen_after.money()?,
            version: unsigned(version)?,
            previous_position: Position(previous),
        },
    })
}
