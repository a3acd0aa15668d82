//! Sequence blocks, routes and acceptance.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    sql_types::{
        Array, BigInt, Binary, Bool, Integer, Interval, Nullable, SmallInt, Text, Timestamptz,
    },
};

use super::{
    Store,
    error::Effect,
    numeric::{
        accounts, big, code_to_sql, duration_to_sql, shard_from_sql, shard_to_sql, time_from_sql,
        time_to_sql, unsigned,
    },
    registry::first,
    statement::statement,
};
use crate::core::{
    command::record,
    store::{AcceptAnswer, AcceptGroup, AcceptItem, AcceptedGroup, Error, SequenceBlock},
    types::{AccountId, CommandId, Nonce, Sequence, ShardId},
};

statement! {
    /// The route of each account, in their order.
    Routes { accounts: Vec<i64> => Array<BigInt> } -> (Nullable<SmallInt>) =
    "SELECT r.shard FROM unnest($1) WITH ORDINALITY AS u (account_id, n)
        LEFT JOIN account_route r ON r.account_id = u.account_id ORDER BY u.n"
}

statement! {
    /// Leases sequence numbers.
    LeaseBlock { shard: i16 => SmallInt, nonce: i64 => BigInt, size: i32 => Integer }
    -> (SmallInt, BigInt, BigInt) =
    "SELECT shard, first, last FROM axs_lease_block($1, $2, $3)"
}

statement! {
    /// Closes blocks.
    CloseBlocks { nonces: Vec<i64> => Array<BigInt> } -> (BigInt) =
    "SELECT axs_close_blocks($1)"
}

statement! {
    /// Closes blocks by their age.
    CloseOldBlocks { age: PgInterval => Interval } -> (BigInt) =
    "SELECT axs_close_old_blocks($1)"
}

statement! {
    /// Accepts a group.
    Accept {
        block_shard: Vec<i16> => Array<SmallInt>,
        block_nonce: Vec<i64> => Array<BigInt>,
        key_hash: Vec<Vec<u8>> => Array<Binary>,
        content_hash: Vec<Vec<u8>> => Array<Binary>,
        command_id: Vec<i64> => Array<BigInt>,
        account_id: Vec<i64> => Array<BigInt>,
        kind: Vec<i16> => Array<SmallInt>,
        source: Vec<String> => Array<Text>,
        idempotency_key: Vec<String> => Array<Text>,
        reference: Vec<String> => Array<Text>,
        created_at: Vec<Option<PgTimestamp>> => Array<Nullable<Timestamptz>>,
        body: Vec<Vec<u8>> => Array<Binary>,
        expects_new: bool => Bool,
    } -> (Timestamptz, Array<SmallInt>, Array<BigInt>) =
    "SELECT accepted_at, status, value
        FROM axs_accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
}

/// A smaller group gains nothing by the way for new keys.
const NEW_KEYS_MIN: usize = 4;
/// After a group with a known key so many without one pass before that way is taken again.
const CAUTIOUS_GROUPS: u32 = 64;

/// How acceptance looks at the keys of its next group: where the last ones were new, so are most
/// likely these. It decides what a group costs, not what becomes of it.
#[derive(Default)]
pub(super) struct KeysSeen {
    cautious_groups: AtomicU32,
}

impl KeysSeen {
    fn expects_new(&self, group: &AcceptGroup) -> bool {
        group.items.len() >= NEW_KEYS_MIN && self.cautious_groups.load(Relaxed) == 0
    }

    fn note(&self, answers: &[AcceptAnswer]) {
        let is_known = |answer: &AcceptAnswer| {
            matches!(
                answer,
                AcceptAnswer::Duplicate(_) | AcceptAnswer::Conflict(_)
            )
        };
        let left = match answers.iter().any(is_known) {
            true => CAUTIOUS_GROUPS,
            false => self.cautious_groups.load(Relaxed).saturating_sub(1),
        };
        self.cautious_groups.store(left, Relaxed);
    }
}

impl Store {
    /// See [`super::super::Store::routes`].
    pub async fn routes(&self, ids: &[AccountId]) -> Result<Vec<Option<ShardId>>, Error> {
        let routes = Routes {
            accounts: accounts(ids)?,
        };
        let rows: Vec<(Option<i16>,)> = self.acceptance.run(Effect::Reads, routes).await?;
        rows.into_iter()
            .map(|(shard,)| shard.map(shard_from_sql).transpose())
            .collect()
    }

    /// See [`super::super::Store::lease_block`].
    pub async fn lease_block(
        &self,
        shard: ShardId,
        nonce: Nonce,
        size: u32,
    ) -> Result<SequenceBlock, Error> {
        let lease = LeaseBlock {
            shard: shard_to_sql(shard)?,
            nonce: nonce.0,
            size: i32::try_from(size)
                .map_err(|_| Error::Refused(format!("a block of {size} numbers is too large")))?,
        };
        let rows: Vec<(i16, i64, i64)> = self.control.run(Effect::Writes, lease).await?;
        let (shard, first, last) = first(rows)?;
        Ok(SequenceBlock {
            nonce,
            shard: shard_from_sql(shard)?,
            first: Sequence(unsigned(first)?),
            last: Sequence(unsigned(last)?),
        })
    }

    /// See [`super::super::Store::close_blocks`].
    pub async fn close_blocks(&self, nonces: &[Nonce]) -> Result<(), Error> {
        let close = CloseBlocks {
            nonces: nonces.iter().map(|nonce| nonce.0).collect(),
        };
        let _: Vec<(i64,)> = self.control.run(Effect::Writes, close).await?;
        Ok(())
    }

    /// See [`super::super::Store::close_old_blocks`].
    pub async fn close_old_blocks(&self, age: Duration) -> Result<u64, Error> {
        let close = CloseOldBlocks {
            age: duration_to_sql(age),
        };
        let rows: Vec<(i64,)> = self.control.run(Effect::Writes, close).await?;
        unsigned(first(rows)?.0)
    }

    /// See [`super::super::Store::accept`].
    pub async fn accept(&self, group: &AcceptGroup) -> Result<AcceptedGroup, Error> {
        let expects_new = self.keys_seen.expects_new(group);
        let rows: Vec<(PgTimestamp, Vec<i16>, Vec<i64>)> = self
            .acceptance
            .run(Effect::Writes, binds(group, expects_new)?)
            .await?;
        let (accepted_at, status, value) = first(rows)?;
        let answers: Vec<AcceptAnswer> = (status.into_iter().zip(value))
            .map(|(status, value)| answer(status, value))
            .collect::<Result<_, _>>()?;
        self.keys_seen.note(&answers);
        if answers.len() != group.items.len() {
            return Err(Error::Mismatch(
                "acceptance answers for other items than were sent".into(),
            ));
        }
        Ok(AcceptedGroup {
            accepted_at: time_from_sql(accepted_at),
            answers,
        })
    }
}

fn binds(group: &AcceptGroup, expects_new: bool) -> Result<Accept, Error> {
    fn each<T>(items: &[AcceptItem], field: impl Fn(&AcceptItem) -> T) -> Vec<T> {
        items.iter().map(field).collect()
    }
    let items = &group.items;
    for item in items {
        let command = &item.command;
        for text in [
            &command.source,
            &command.idempotency_key,
            &command.reference,
        ] {
            // Refused with the whole message otherwise, and nobody could say what for.
            if text.contains('\0') {
                return Err(Error::Refused(format!(
                    "`{}` has U+0000 in it",
                    text.escape_debug()
                )));
            }
        }
    }
    let shards = group.blocks.iter().map(|(shard, _)| shard_to_sql(*shard));
    let account = |item: &AcceptItem| big(item.command.account.0);
    Ok(Accept {
        block_shard: shards.collect::<Result<_, _>>()?,
        block_nonce: group.blocks.iter().map(|(_, nonce)| nonce.0).collect(),
        key_hash: each(items, |item| item.key_hash.0.to_vec()),
        content_hash: each(items, |item| item.command.content_hash.0.to_vec()),
        command_id: each(items, |item| {
            item.command.id.map_or(0, |id| id.0.cast_signed())
        }),
        account_id: items.iter().map(account).collect::<Result<_, _>>()?,
        kind: each(items, |item| code_to_sql(item.command.kind as i32)),
        source: each(items, |item| item.command.source.to_string()),
        idempotency_key: each(items, |item| item.command.idempotency_key.to_string()),
        reference: each(items, |item| item.command.reference.to_string()),
        created_at: each(items, |item| item.command.created_at.map(time_to_sql)),
        body: each(items, |item| record::encode_body(&item.command)),
        expects_new,
    })
}

fn answer(status: i16, value: i64) -> Result<AcceptAnswer, Error> {
    let impossible = || Error::Mismatch(format!("acceptance answers {status} with {value}"));
    let id = || {
        u64::try_from(value)
            .ok()
            .and_then(CommandId::parse)
            .ok_or_else(impossible)
    };
    match status {
        0 => Ok(AcceptAnswer::Accepted),
        1 => Ok(AcceptAnswer::Duplicate(id()?)),
        2 => Ok(AcceptAnswer::Conflict(id()?)),
        3 => match u16::try_from(value) {
            Ok(shard) => Ok(AcceptAnswer::Routed(ShardId(shard))),
            Err(_) => Err(impossible()),
        },
        4 => Ok(AcceptAnswer::KeyUnknown),
        _ => Err(impossible()),
    }
}
