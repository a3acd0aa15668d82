//! Balance rows made as the journal says, by an operator.

use diesel::sql_types::{Array, BigInt, Binary, Integer, Numeric, SmallInt, Text};

use super::{
    Store,
    error::Effect,
    numeric::{Number, asset_to_sql, big, shard_to_sql},
    registry::first,
    statement::statement,
};
use crate::core::{
    store::{Act, BalanceRepair, Error},
    types::{Epoch, Money, Position, ShardId},
};

statement! {
    /// All of it or nothing; how many.
    RepairBalances {
        shard: i16 => SmallInt,
        epoch: i64 => BigInt,
        next_position: i64 => BigInt,
        account_id: Vec<i64> => Array<BigInt>,
        asset_id: Vec<i32> => Array<Integer>,
        version: Vec<i64> => Array<BigInt>,
        last_position: Vec<i64> => Array<BigInt>,
        available: Vec<Number> => Array<Numeric>,
        frozen: Vec<Number> => Array<Numeric>,
        state_hash: Vec<u8> => Binary,
        operator: String => Text,
        reason: String => Text,
    } -> (BigInt) =
    "SELECT axs_repair_balances($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
}

impl Store {
    /// Makes balance rows as the journal says, of a paused shard that nobody leads, if it is still
    /// at this epoch and position; `Fenced` if not. Leaves a row in `audit`.
    pub async fn repair_balances(
        &self,
        (shard, epoch, next_position): (ShardId, Epoch, Position),
        repairs: &[BalanceRepair],
        state_hash: u128,
        act: &Act,
    ) -> Result<(), Error> {
        let of = |amount: fn(&BalanceRepair) -> Money| -> Vec<Number> {
            repairs.iter().map(|it| amount(it).into()).collect()
        };
        let statement = RepairBalances {
            shard: shard_to_sql(shard)?,
            epoch: big(epoch.0)?,
            next_position: next_position.0,
            account_id: repairs
                .iter()
                .map(|it| big(it.account.0))
                .collect::<Result<_, _>>()?,
            asset_id: repairs
                .iter()
                .map(|it| asset_to_sql(it.asset))
                .collect::<Result<_, _>>()?,
            version: repairs
                .iter()
                .map(|it| it.becomes.map_or(Ok(0), |it| big(it.version)))
                .collect::<Result<_, _>>()?,
            last_position: repairs
                .iter()
                .map(|it| it.becomes.map_or(0, |it| it.last_position.0))
                .collect(),
            available: of(|it| it.becomes.map_or(Money::ZERO, |it| it.available)),
            frozen: of(|it| it.becomes.map_or(Money::ZERO, |it| it.frozen)),
            state_hash: state_hash.to_be_bytes().to_vec(),
            operator: act.operator.clone(),
            reason: act.reason.clone(),
        };
        let rows: Vec<(i64,)> = self.control.run(Effect::Writes, statement).await?;
        first(rows).map(drop)
    }
}
