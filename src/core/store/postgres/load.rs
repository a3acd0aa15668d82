//! What a leader loads before a batch, in one query of one snapshot.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Numeric, SmallInt, Timestamptz},
};

use super::{
    Store,
    error::Effect,
    journal::{EntryColumns, entries_of},
    numeric::{
        Number, accounts, asset_from_sql, command_id, hash16, kind_from_sql, shard_to_sql,
        time_from_sql, unsigned,
    },
    registry::first,
    statement::statement,
};
use crate::core::{
    engine::{Account, AccountStatus, Balance, Target},
    store::{Error, LoadRequest, Loaded},
    types::{AccountId, CommandId, ContentHash, Position, ShardId},
};

type Texts = Nullable<Array<Binary>>;
type Ids = Nullable<Array<BigInt>>;
type Smalls = Nullable<Array<SmallInt>>;
type Integers = Nullable<Array<Integer>>;
type Amounts = Nullable<Array<Numeric>>;

statement! {
    /// `axs_load`.
    Load {
        shard: i16 => SmallInt,
        accounts: Vec<i64> => Array<BigInt>,
        targets: Vec<i64> => Array<BigInt>,
        hashes: Vec<i64> => Array<BigInt>,
        accepted: Vec<i64> => Array<BigInt>,
    }
    -> (
        (Ids, Amounts, Smalls, Nullable<Array<Timestamptz>>),
        (Ids, Integers, Amounts, Amounts, Ids, Ids),
        (Ids, Ids, Smalls, Smalls, Ids),
        (
            Ids, Smalls, Nullable<Array<Bool>>, Ids, Integers, Amounts, Amounts, Amounts, Amounts,
            Ids, Ids,
        ),
        (Ids, Texts, Ids, Texts),
    ) =
    "SELECT * FROM axs_load($1, $2, $3, $4, $5)"
}

/// A column of an answer; an empty one is NULL.
type Column<T> = Option<Vec<T>>;
type AccountRows = (
    Column<i64>,
    Column<Number>,
    Column<i16>,
    Column<PgTimestamp>,
);
type BalanceRows = (
    Column<i64>,
    Column<i32>,
    Column<Number>,
    Column<Number>,
    Column<i64>,
    Column<i64>,
);
type TargetRows = (
    Column<i64>,
    Column<i64>,
    Column<i16>,
    Column<i16>,
    Column<i64>,
);
type EntryRows = (
    Column<i64>,
    Column<i16>,
    Column<bool>,
    Column<i64>,
    Column<i32>,
    Column<Number>,
    Column<Number>,
    Column<Number>,
    Column<Number>,
    Column<i64>,
    Column<i64>,
);
type HashRows = (Column<i64>, Column<Vec<u8>>, Column<i64>, Column<Vec<u8>>);

impl Store {
    /// See [`super::super::Store::load`].
    pub async fn load(&self, shard: ShardId, request: &LoadRequest) -> Result<Loaded, Error> {
        let mut wanted = accounts(&request.accounts)?;
        wanted.sort_unstable();
        wanted.dedup();
        let load = Load {
            shard: shard_to_sql(shard)?,
            accounts: wanted,
            targets: ids(&request.targets),
            hashes: ids(&request.hashes),
            accepted: ids(&request.accepted),
        };
        type Row = (AccountRows, BalanceRows, TargetRows, EntryRows, HashRows);
        let rows: Vec<Row> = self.leader(shard).run(Effect::Reads, load).await?;
        let (accounts, balances, targets, entries, hashes) = first(rows)?;
        let (hash_ids, hash, accepted_ids, accepted_hash) = hashes;
        Ok(Loaded {
            accounts: accounts_of(accounts)?,
            balances: balances_of(balances)?,
            targets: targets_of(targets, entries)?,
            hashes: hashes_of(hash_ids, hash)?,
            accepted: hashes_of(accepted_ids, accepted_hash)?,
        })
    }
}

/// Command ids as BIGINT, each once, in order.
fn ids(ids: &[CommandId]) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.iter().map(|id| id.0.cast_signed()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// An account as it is stored.
pub(super) fn account(
    id: i64,
    user: Number,
    status: i16,
    opened_at: PgTimestamp,
) -> Result<Account, Error> {
    let unreadable = || Error::Mismatch(format!("account {id} cannot be read: run a newer `axs`"));
    Ok(Account {
        id: AccountId(unsigned(id)?),
        user: u64::try_from(user.0).map_err(|_| unreadable())?,
        status: AccountStatus::try_from(i32::from(status)).map_err(|_| unreadable())?,
        opened_at: time_from_sql(opened_at),
    })
}

fn accounts_of((ids, users, statuses, times): AccountRows) -> Result<Vec<Account>, Error> {
    let rows = (ids.into_iter().flatten())
        .zip(users.into_iter().flatten())
        .zip(statuses.into_iter().flatten())
        .zip(times.into_iter().flatten());
    rows.map(|(((id, user), status), opened_at)| account(id, user, status, opened_at))
        .collect()
}

fn balances_of(rows: BalanceRows) -> Result<Vec<Balance>, Error> {
    let (accounts, assets, available, frozen, versions, positions) = rows;
    let rows = (accounts.into_iter().flatten())
        .zip(assets.into_iter().flatten())
        .zip(available.into_iter().flatten())
        .zip(frozen.into_iter().flatten())
        .zip(versions.into_iter().flatten())
        .zip(positions.into_iter().flatten());
    rows.map(
        |(((((account, asset), available), frozen), version), last)| {
            Ok(Balance {
                account: AccountId(unsigned(account)?),
                asset: asset_from_sql(asset)?,
                available: available.money()?,
                frozen: frozen.money()?,
                version: unsigned(version)?,
                last_position: Position(last),
            })
        },
    )
    .collect()
}

fn targets_of(targets: TargetRows, entries: EntryRows) -> Result<Vec<Target>, Error> {
    let (ids, accounts, kinds, outcomes, reversed) = targets;
    let rows = (ids.into_iter().flatten())
        .zip(accounts.into_iter().flatten())
        .zip(kinds.into_iter().flatten())
        .zip(outcomes.into_iter().flatten())
        .zip(reversed.into_iter().flatten());
    let target = |((((raw, account), kind), outcome), by)| {
        Ok(Target {
            id: command_id(raw)?,
            account: AccountId(unsigned(account)?),
            kind: kind_from_sql(kind)?,
            rejected: outcome != 0,
            entries: Vec::new(),
            reversed_by: if by == 0 { None } else { Some(command_id(by)?) },
        })
    };
    let mut targets: Vec<Target> = rows.map(target).collect::<Result<_, Error>>()?;
    let columns: EntryColumns<i64> = (
        entries.0.unwrap_or_default(),
        entries.1.unwrap_or_default(),
        entries.2.unwrap_or_default(),
        entries.3.unwrap_or_default(),
        entries.4.unwrap_or_default(),
        entries.5.unwrap_or_default(),
        entries.6.unwrap_or_default(),
        entries.7.unwrap_or_default(),
        entries.8.unwrap_or_default(),
        entries.9.unwrap_or_default(),
        entries.10.unwrap_or_default(),
    );
    for (owner, entry) in entries_of(columns)? {
        let owner = targets
            .iter_mut()
            .find(|target| target.id.0 == owner.cast_unsigned());
        let owner = owner.ok_or_else(|| Error::Mismatch("a load has entries of nobody".into()))?;
        owner.entries.push(entry);
    }
    Ok(targets)
}

fn hashes_of(
    ids: Column<i64>,
    hashes: Column<Vec<u8>>,
) -> Result<Vec<(CommandId, ContentHash)>, Error> {
    let rows = ids.into_iter().flatten().zip(hashes.into_iter().flatten());
    rows.map(|(raw, hash)| Ok((command_id(raw)?, ContentHash(hash16(&hash)?))))
        .collect()
}
