//! What the drift detector reads and writes: balances beside their last entries in the journal, and
//! the table of what was found. It compares nothing.

use std::time::Duration;

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Numeric, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    error::Effect,
    numeric::{
        Number, accounts, asset_from_sql, asset_to_sql, big, command_id, shard_from_sql,
        shard_to_sql, time_from_sql, unsigned,
    },
    statement::statement,
};
use crate::core::{
    engine::{AccountStatus, Balance},
    store::{
        Error,
        drift::{
            After, Difference, DriftKind, FINDINGS_MAX, Finding, Standing, StandingAccount,
            StandingBalance,
        },
    },
    types::{AccountId, CommandId, Epoch, Position, ShardId},
};

statement! {
    /// Accounts with their balances, and for each the last entry of the command that its row names:
    /// all of one snapshot, so that a flush shows in both or in neither.
    Look { shard: i16 => SmallInt, account_id: Vec<i64> => Array<BigInt> }
    -> (
        (BigInt, BigInt, Nullable<SmallInt>),
        (
            Nullable<Integer>, Nullable<Numeric>, Nullable<Numeric>, Nullable<BigInt>,
            Nullable<BigInt>,
        ),
        (Nullable<Numeric>, Nullable<Numeric>, Nullable<BigInt>),
    ) =
    "SELECT p.epoch, u.account_id, a.status, b.asset_id, b.available, b.frozen, b.version,
            b.last_position, e.available, e.frozen, e.version
        FROM shard_position p
        CROSS JOIN unnest($2) WITH ORDINALITY AS u (account_id, n)
        LEFT JOIN account a ON a.shard = $1 AND a.account_id = u.account_id
        LEFT JOIN balance b ON b.shard = $1 AND b.account_id = u.account_id
        LEFT JOIN LATERAL (
            SELECT j.entry_available_after[i.e] AS available, j.entry_frozen_after[i.e] AS frozen,
                j.entry_version[i.e] AS version
            FROM journal j
            CROSS JOIN LATERAL array_position(j.position, b.last_position) AS c
            CROSS JOIN LATERAL unnest(array_positions(j.entry_command, c::smallint)) AS i (e)
            WHERE j.shard = $1
                AND j.flush_from = (SELECT max(f.flush_from) FROM journal f
                    WHERE f.shard = $1 AND f.flush_from <= b.last_position)
                AND b.last_position BETWEEN j.first_position AND j.last_position
                AND j.entry_account_id[i.e] = b.account_id AND j.entry_asset_id[i.e] = b.asset_id
            ORDER BY i.e DESC LIMIT 1
        ) AS e ON b.version IS NOT NULL
        WHERE p.shard = $1
        ORDER BY u.n, b.asset_id"
}

statement! {
    /// Findings whose balances were not seen whole again.
    Open { shard: i16 => SmallInt, limit: i64 => BigInt }
    -> (
        (BigInt, Timestamptz, BigInt, BigInt, Integer, SmallInt),
        (BigInt, Text, Text, Bool, Nullable<Timestamptz>, Nullable<BigInt>),
    ) =
    "SELECT id, found_at, (extract(epoch FROM clock_timestamp() - found_at) * 1000)::bigint, account_id,
            asset_id, shard, version, kind, detail, seen_at IS NOT NULL, whole_at, blocked_by
        FROM drift WHERE shard = $1 AND whole_at IS NULL ORDER BY id LIMIT $2"
}

statement! {
    /// Findings of an account, the latest first.
    OfAccount { account_id: i64 => BigInt, limit: i64 => BigInt }
    -> (
        (BigInt, Timestamptz, BigInt, BigInt, Integer, SmallInt),
        (BigInt, Text, Text, Bool, Nullable<Timestamptz>, Nullable<BigInt>),
    ) =
    "SELECT id, found_at, (extract(epoch FROM clock_timestamp() - found_at) * 1000)::bigint, account_id,
            asset_id, shard, version, kind, detail, seen_at IS NOT NULL, whole_at, blocked_by
        FROM drift WHERE account_id = $1 ORDER BY found_at DESC, id DESC LIMIT $2"
}

statement! {
    /// Notes a finding; one that stands and was whole meanwhile begins anew.
    Note {
        shard: i16 => SmallInt,
        account_id: i64 => BigInt,
        asset_id: i32 => Integer,
        version: i64 => BigInt,
        kind: String => Text,
        detail: String => Text,
    } -> (BigInt) =
    "INSERT INTO drift AS d (shard, account_id, asset_id, version, kind, detail)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (account_id, asset_id, version, kind) DO UPDATE
            SET found_at = clock_timestamp(), seen_at = NULL, whole_at = NULL,
                detail = EXCLUDED.detail
            WHERE d.whole_at IS NOT NULL
        RETURNING d.id"
}

statement! {
    /// The alarm was raised.
    Seen { id: i64 => BigInt, blocked_by: Option<i64> => Nullable<BigInt> } -> (BigInt) =
    "UPDATE drift SET seen_at = clock_timestamp(), blocked_by = coalesce($2, blocked_by)
        WHERE id = $1 RETURNING id"
}

statement! {
    /// The balances are whole again.
    Whole { id: Vec<i64> => Array<BigInt> } -> (BigInt) =
    "UPDATE drift SET whole_at = clock_timestamp()
        WHERE id = ANY ($1) AND whole_at IS NULL RETURNING id"
}

type RowColumns = (
    Option<i32>,
    Option<Number>,
    Option<Number>,
    Option<i64>,
    Option<i64>,
);
type EntryColumns = (Option<Number>, Option<Number>, Option<i64>);
type LookRow = ((i64, i64, Option<i16>), RowColumns, EntryColumns);
type FindingRow = (
    (i64, PgTimestamp, i64, i64, i32, i16),
    (i64, String, String, bool, Option<PgTimestamp>, Option<i64>),
);

impl Store {
    /// Accounts of a shard with their balances and what the journal says of them.
    pub async fn standing(&self, shard: ShardId, ids: &[AccountId]) -> Result<Standing, Error> {
        let look = Look {
            shard: shard_to_sql(shard)?,
            account_id: accounts(ids)?,
        };
        let rows: Vec<LookRow> = self.readers.run(look).await?;
        let mut standing = Standing {
            epoch: Epoch(0),
            accounts: Vec::with_capacity(ids.len()),
        };
        for ((epoch, id, status), balance, entry) in rows {
            standing.epoch = Epoch(unsigned(epoch)?);
            let id = AccountId(unsigned(id)?);
            if standing.accounts.last().is_none_or(|last| last.id != id) {
                standing.accounts.push(StandingAccount {
                    id,
                    status: status.map(status_from_sql).transpose()?,
                    balances: Vec::new(),
                });
            }
            if let (Some(account), Some(balance)) = (
                standing.accounts.last_mut(),
                standing_balance(id, balance, entry)?,
            ) {
                account.balances.push(balance);
            }
        }
        Ok(standing)
    }

    /// Findings of a shard whose balances were not seen whole again, at most [`FINDINGS_MAX`].
    pub async fn drift_open(&self, shard: ShardId) -> Result<Vec<Finding>, Error> {
        let open = Open {
            shard: shard_to_sql(shard)?,
            limit: FINDINGS_MAX,
        };
        let rows: Vec<FindingRow> = self.readers.run(open).await?;
        rows.into_iter().map(finding).collect()
    }

    /// Findings of an account, the latest first, at most `limit`.
    pub async fn drift_of(&self, account: AccountId, limit: u32) -> Result<Vec<Finding>, Error> {
        let wanted = OfAccount {
            account_id: big(account.0)?,
            limit: i64::from(limit),
        };
        let rows: Vec<FindingRow> = self.readers.run(wanted).await?;
        rows.into_iter().map(finding).collect()
    }

    /// Notes a difference, unless it stands already.
    pub async fn drift_note(&self, shard: ShardId, found: &Difference) -> Result<(), Error> {
        let note = Note {
            shard: shard_to_sql(shard)?,
            account_id: big(found.account.0)?,
            asset_id: asset_to_sql(found.asset)?,
            version: big(found.version)?,
            kind: found.kind.name().into(),
            detail: found.detail.clone(),
        };
        let _: Vec<(i64,)> = self.control.run(Effect::Writes, note).await?;
        Ok(())
    }

    /// The alarm of a finding was raised, and its account blocked by this command.
    pub async fn drift_seen(&self, id: i64, by: Option<CommandId>) -> Result<(), Error> {
        let seen = Seen {
            id,
            blocked_by: by.map(|id| id.0.cast_signed()),
        };
        let _: Vec<(i64,)> = self.control.run(Effect::Writes, seen).await?;
        Ok(())
    }

    /// The balances of these findings were seen whole again.
    pub async fn drift_whole(&self, ids: Vec<i64>) -> Result<(), Error> {
        let whole = Whole { id: ids };
        let _: Vec<(i64,)> = self.control.run(Effect::Writes, whole).await?;
        Ok(())
    }
}

fn status_from_sql(status: i16) -> Result<AccountStatus, Error> {
    AccountStatus::try_from(i32::from(status))
        .map_err(|_| Error::Mismatch(format!("account status {status}: run a newer `axs`")))
}

fn standing_balance(
    account: AccountId,
    (asset, available, frozen, version, last): RowColumns,
    entry: EntryColumns,
) -> Result<Option<StandingBalance>, Error> {
    let (Some(asset), Some(available), Some(frozen), Some(version), Some(last)) =
        (asset, available, frozen, version, last)
    else {
        return Ok(None);
    };
    let entry = match entry {
        (Some(available), Some(frozen), Some(version)) => Some(After {
            available: available.money()?,
            frozen: frozen.money()?,
            version: unsigned(version)?,
        }),
        _ => None,
    };
    Ok(Some(StandingBalance {
        balance: Balance {
            account,
            asset: asset_from_sql(asset)?,
            available: available.money()?,
            frozen: frozen.money()?,
            version: unsigned(version)?,
            last_position: Position(last),
        },
        entry,
    }))
}

fn finding(row: FindingRow) -> Result<Finding, Error> {
    let ((id, found_at, age, account, asset, shard), rest) = row;
    let (version, kind, detail, is_seen, whole_at, blocked_by) = rest;
    Ok(Finding {
        id,
        found_at: time_from_sql(found_at),
        age: Duration::from_millis(u64::try_from(age).unwrap_or_default()),
        account: AccountId(unsigned(account)?),
        asset: asset_from_sql(asset)?,
        shard: shard_from_sql(shard)?,
        version: unsigned(version)?,
        kind: DriftKind::parse(&kind)?,
        detail,
        is_seen,
        whole_at: whole_at.map(time_from_sql),
        blocked_by: blocked_by.map(command_id).transpose()?,
    })
}
