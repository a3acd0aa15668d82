//! What the APIs read: commands, keys, balances.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, Numeric, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    load::account,
    numeric::{
        Number, accounts, asset_from_sql, command_id, hash16, kind_from_sql, shard_from_sql,
        shard_to_sql, time_from_sql, unsigned,
    },
    statement::statement,
};
use crate::core::{
    command::record::{Columns, decode_body},
    engine::Balance,
    store::{AccountBalances, Error, StoredCommand},
    types::{AccountId, CommandId, ContentHash, Epoch, KeyHash, Position, ShardId},
};

statement! {
    /// Stored commands, by their place in the question.
    Commands { id: Vec<i64> => Array<BigInt> }
    -> (
        BigInt, BigInt, BigInt, SmallInt, Binary, Text, Text, Text, Nullable<Timestamptz>,
        Timestamptz, Binary, Nullable<Text>,
    ) =
    "SELECT u.n, u.id, c.account_id, c.kind, c.content_hash, c.source, c.idempotency_key,
            c.reference, c.created_at, c.accepted_at, c.body,
            (SELECT d.message FROM dead_letter d
                WHERE d.parks = u.id AND d.state = 'parked' AND NOT EXISTS (
                    SELECT FROM shard_position p WHERE p.shard = c.shard AND p.applied @> c.seq)
                ORDER BY d.position DESC LIMIT 1)
        FROM unnest($1) WITH ORDINALITY AS u (id, n)
        JOIN command c ON c.shard = axs_shard_of_command(u.id)
            AND c.seq = axs_seq_of_command(u.id)"
}

statement! {
    /// The command of a key.
    CommandOfKey { key_hash: Vec<u8> => Binary } -> (BigInt) =
    "SELECT command_id FROM idempotency WHERE key_hash = $1"
}

statement! {
    /// Accounts with their balances and the epoch of their shard, all of one snapshot; a row a
    /// balance, and one without for an account that has none.
    Balances { account_id: Vec<i64> => Array<BigInt> }
    -> (
        (BigInt, BigInt, Numeric, SmallInt, Timestamptz, SmallInt, BigInt, Timestamptz),
        (
            Nullable<Integer>, Nullable<Numeric>, Nullable<Numeric>, Nullable<BigInt>,
            Nullable<BigInt>,
        ),
    ) =
    "SELECT u.n, a.account_id, a.user_id, a.status, a.opened_at, a.shard, p.epoch,
            statement_timestamp(), b.asset_id, b.available, b.frozen, b.version, b.last_position
        FROM unnest($1) WITH ORDINALITY AS u (account_id, n)
        JOIN account a ON a.shard = axs_shard_of_account(u.account_id)
            AND a.account_id = u.account_id
        JOIN shard_position p ON p.shard = a.shard
        LEFT JOIN balance b ON b.shard = a.shard AND b.account_id = a.account_id
        ORDER BY u.n, b.asset_id"
}

statement! {
    /// The next page of a shard's accounts.
    AccountsBehind { shard: i16 => SmallInt, behind: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt) =
    "SELECT account_id FROM account WHERE shard = $1 AND account_id > $2
        ORDER BY account_id LIMIT $3"
}

type CommandRow = (
    i64,
    i64,
    i64,
    i16,
    Vec<u8>,
    String,
    String,
    String,
    Option<PgTimestamp>,
    PgTimestamp,
    Vec<u8>,
    Option<String>,
);
type AccountRow = (i64, i64, Number, i16, PgTimestamp, i16, i64, PgTimestamp);
type BalanceRow = (
    Option<i32>,
    Option<Number>,
    Option<Number>,
    Option<i64>,
    Option<i64>,
);

impl Store {
    /// See [`super::super::Store::commands`].
    pub async fn commands(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredCommand>>, Error> {
        let wanted = Commands {
            id: ids.iter().map(|id| id.0.cast_signed()).collect(),
        };
        let rows: Vec<CommandRow> = self.readers.run(wanted).await?;
        let mut commands = vec![None; ids.len()];
        for row in rows {
            let place = place(&mut commands, row.0)?;
            *place = Some(stored_command(row)?);
        }
        Ok(commands)
    }

    /// See [`super::super::Store::command_of_key`].
    pub async fn command_of_key(&self, key: KeyHash) -> Result<Option<CommandId>, Error> {
        let wanted = CommandOfKey {
            key_hash: key.0.to_vec(),
        };
        let rows: Vec<(i64,)> = self.readers.run(wanted).await?;
        rows.first().map(|row| command_id(row.0)).transpose()
    }

    /// See [`super::super::Store::accounts_behind`].
    pub async fn accounts_behind(
        &self,
        shard: ShardId,
        behind: AccountId,
        limit: usize,
    ) -> Result<Vec<AccountId>, Error> {
        let wanted = AccountsBehind {
            shard: shard_to_sql(shard)?,
            behind: behind.0.cast_signed(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let rows: Vec<(i64,)> = self.readers.run(wanted).await?;
        Ok(rows
            .into_iter()
            .map(|row| AccountId(row.0.cast_unsigned()))
            .collect())
    }

    /// See [`super::super::Store::balances`].
    pub async fn balances(&self, ids: &[AccountId]) -> Result<Vec<Option<AccountBalances>>, Error> {
        let wanted = Balances {
            account_id: accounts(ids)?,
        };
        let rows: Vec<(AccountRow, BalanceRow)> = self.readers.run(wanted).await?;
        let mut answers: Vec<Option<AccountBalances>> = vec![None; ids.len()];
        for (row, columns) in rows {
            let (n, id, user, status, opened_at, shard, epoch, as_of) = row;
            let place = place(&mut answers, n)?;
            if place.is_none() {
                *place = Some(AccountBalances {
                    account: account(id, user, status, opened_at)?,
                    shard: shard_from_sql(shard)?,
                    epoch: Epoch(unsigned(epoch)?),
                    balances: Vec::new(),
                    as_of: time_from_sql(as_of),
                });
            }
            if let Some(answer) = place {
                answer.balances.extend(balance(answer.account.id, columns)?);
            }
        }
        Ok(answers)
    }
}

/// Where the answer for the `n`th question stands, from 1.
fn place<T>(answers: &mut [T], n: i64) -> Result<&mut T, Error> {
    usize::try_from(n - 1)
        .ok()
        .and_then(|index| answers.get_mut(index))
        .ok_or_else(|| Error::Mismatch("an answer is for a question that was not asked".into()))
}

fn stored_command(row: CommandRow) -> Result<StoredCommand, Error> {
    let (_, id, account, kind, hash, source, key, reference, created_at, accepted_at, body, why) =
        row;
    let columns = Columns {
        id: command_id(id)?,
        content_hash: ContentHash(hash16(&hash)?),
        source: source.into(),
        idempotency_key: key.into(),
        account: AccountId(unsigned(account)?),
        kind: kind_from_sql(kind)?,
        reference: reference.into(),
        created_at: created_at.map(time_from_sql),
        accepted_at: time_from_sql(accepted_at),
    };
    let command = decode_body(&body, columns)
        .map_err(|error| Error::Mismatch(format!("command {id} cannot be read: {error}")))?;
    Ok(StoredCommand {
        command,
        parked: why,
    })
}

fn balance(account: AccountId, row: BalanceRow) -> Result<Option<Balance>, Error> {
    let (Some(asset), Some(available), Some(frozen), Some(version), Some(last)) = row else {
        return Ok(None);
    };
    Ok(Some(Balance {
        account,
        asset: asset_from_sql(asset)?,
        available: available.money()?,
        frozen: frozen.money()?,
        version: unsigned(version)?,
        last_position: Position(last),
    }))
}
