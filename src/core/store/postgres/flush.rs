//! The flush: one call of `axs_flush`.

use std::{ops::Bound, time::Duration};

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    sql_types::{
        Array, BigInt, Binary, Bool, Int8, Integer, Interval, Multirange, Nullable, Numeric,
        SmallInt, Text, Timestamptz,
    },
};

use super::{
    Store,
    error::Effect,
    numeric::{
        Number, asset_to_sql, big, code_to_sql, duration_to_sql, set_to_sql, shard_to_sql,
        time_to_sql,
    },
    parts::Columns,
    registry::first,
    statement::statement,
};
use crate::core::{
    store::{AccountWrite, BalanceWrite, DeadLetter, Error, Flush, Flushed},
    types::Position,
};

statement! {
    /// `axs_flush`, its arguments in their order.
    FlushCall {
        shard: i16 => SmallInt,
        epoch: i64 => BigInt,
        nonce: i64 => BigInt,
        from: i64 => BigInt,
        to: i64 => BigInt,
        anchor: Vec<u8> => Binary,
        applied: Vec<(Bound<i64>, Bound<i64>)> => Multirange<Int8>,
        passed_at: PgTimestamp => Timestamptz,
        applied_at: PgTimestamp => Timestamptz,
        last_result: i64 => BigInt,
        state_hash: Vec<u8> => Binary,
        published_to: i64 => BigInt,
        ttl: PgInterval => Interval,
        set_account_id: Vec<i64> => Array<BigInt>,
        set_asset_id: Vec<i32> => Array<Integer>,
        set_expected: Vec<i64> => Array<BigInt>,
        set_version: Vec<i64> => Array<BigInt>,
        set_last_position: Vec<i64> => Array<BigInt>,
        set_available: Vec<Number> => Array<Numeric>,
        set_frozen: Vec<Number> => Array<Numeric>,
        new_account_id: Vec<i64> => Array<BigInt>,
        new_asset_id: Vec<i32> => Array<Integer>,
        new_version: Vec<i64> => Array<BigInt>,
        new_last_position: Vec<i64> => Array<BigInt>,
        new_available: Vec<Number> => Array<Numeric>,
        new_frozen: Vec<Number> => Array<Numeric>,
        open_account_id: Vec<i64> => Array<BigInt>,
        open_user_id: Vec<Number> => Array<Numeric>,
        open_status: Vec<i16> => Array<SmallInt>,
        open_at: Vec<PgTimestamp> => Array<Timestamptz>,
        status_account_id: Vec<i64> => Array<BigInt>,
        status: Vec<i16> => Array<SmallInt>,
        part_command_last: Vec<i32> => Array<Integer>,
        part_reject_last: Vec<i32> => Array<Integer>,
        part_entry_last: Vec<i32> => Array<Integer>,
        part_min_seq: Vec<i64> => Array<BigInt>,
        part_max_seq: Vec<i64> => Array<BigInt>,
        part_first: Vec<i64> => Array<BigInt>,
        part_last: Vec<i64> => Array<BigInt>,
        seq: Vec<i64> => Array<BigInt>,
        position: Vec<i64> => Array<BigInt>,
        previous_result: Vec<i64> => Array<BigInt>,
        outcome_at: Vec<PgTimestamp> => Array<Timestamptz>,
        account_id: Vec<i64> => Array<BigInt>,
        kind: Vec<i16> => Array<SmallInt>,
        outcome: Vec<i16> => Array<SmallInt>,
        content_hash: Vec<u8> => Binary,
        reject_command: Vec<i16> => Array<SmallInt>,
        reject_leg: Vec<i16> => Array<SmallInt>,
        reject_account_id: Vec<i64> => Array<BigInt>,
        reject_asset_id: Vec<i32> => Array<Integer>,
        reject_had: Vec<Number> => Array<Numeric>,
        reject_needed: Vec<Number> => Array<Numeric>,
        entry_command: Vec<i16> => Array<SmallInt>,
        entry_leg: Vec<i16> => Array<SmallInt>,
        entry_fallback: Vec<bool> => Array<Bool>,
        entry_account_id: Vec<i64> => Array<BigInt>,
        entry_asset_id: Vec<i32> => Array<Integer>,
        entry_available_delta: Vec<Number> => Array<Numeric>,
        entry_frozen_delta: Vec<Number> => Array<Numeric>,
        entry_available_after: Vec<Number> => Array<Numeric>,
        entry_frozen_after: Vec<Number> => Array<Numeric>,
        entry_version: Vec<i64> => Array<BigInt>,
        entry_previous: Vec<i64> => Array<BigInt>,
        mark_account_id: Vec<i64> => Array<BigInt>,
        mark_asset_id: Vec<i32> => Array<Integer>,
        mark_version: Vec<i64> => Array<BigInt>,
        mark_position: Vec<i64> => Array<BigInt>,
        mark_applied_at: Vec<PgTimestamp> => Array<Timestamptz>,
        reversal_target: Vec<i64> => Array<BigInt>,
        reversed_by: Vec<i64> => Array<BigInt>,
        dead_position: Vec<i64> => Array<BigInt>,
        dead_reason: Vec<i16> => Array<SmallInt>,
        dead_message: Vec<String> => Array<Text>,
        dead_parks: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        dead_log_time: Vec<PgTimestamp> => Array<Timestamptz>,
        dead_key: Vec<Vec<u8>> => Array<Binary>,
        dead_value: Vec<Vec<u8>> => Array<Binary>,
    } -> (Bool) =
    "SELECT axs_flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
        $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35,
        $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53,
        $54, $55, $56, $57, $58, $59, $60, $61, $62, $63, $64, $65, $66, $67, $68, $69, $70, $71,
        $72, $73, $74, $75, $76, $77, $78)"
}

impl Store {
    /// See [`super::super::Store::flush`].
    pub async fn flush(&self, flush: &Flush, ttl: Duration) -> Result<Flushed, Error> {
        check(flush)?;
        let call = call(flush, ttl)?;
        let leader = self.leader(flush.shard);
        let rows: Vec<(bool,)> = leader.run(Effect::Writes, call).await?;
        match first(rows)? {
            (true,) => Ok(Flushed::Already),
            (false,) => Ok(Flushed::Done),
        }
    }
}

/// Positions rise within the flush's range, and there are as many entries and labels as the
/// outcomes say.
fn check(flush: &Flush) -> Result<(), Error> {
    let entries: u64 = (flush.outcomes.iter())
        .map(|outcome| u64::from(outcome.entries))
        .sum();
    let agrees = rises(flush, flush.outcomes.iter().map(|outcome| outcome.position))
        && rises(
            flush,
            flush.dead_letters.iter().map(|letter| letter.position),
        )
        && entries == flush.entries.len() as u64
        && flush.labels.len() == flush.outcomes.len();
    match agrees {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "flush of shard {} from {} to {} contradicts itself",
            flush.shard, flush.from, flush.to
        ))),
    }
}

fn rises(flush: &Flush, mut positions: impl Iterator<Item = Position>) -> bool {
    let mut least = flush.from;
    positions.all(|position| {
        let fits = least <= position && position < flush.to;
        least = if fits { position.next() } else { least };
        fits
    })
}

fn call(flush: &Flush, ttl: Duration) -> Result<FlushCall, Error> {
    let (new, set): (Vec<&BalanceWrite>, Vec<&BalanceWrite>) =
        (flush.balances.iter()).partition(|write| write.expected_version == 0);
    let (opens, changes): (Vec<&AccountWrite>, Vec<&AccountWrite>) =
        (flush.accounts.iter()).partition(|write| write.opens);
    let letters = &flush.dead_letters;
    let columns = Columns::of(flush)?;
    Ok(FlushCall {
        shard: shard_to_sql(flush.shard)?,
        epoch: big(flush.epoch.0)?,
        nonce: flush.nonce.0,
        from: flush.from.0,
        to: flush.to.0,
        anchor: flush.anchor.0.to_vec(),
        applied: set_to_sql(&flush.applied),
        passed_at: time_to_sql(flush.passed_at),
        applied_at: time_to_sql(flush.applied_at),
        last_result: flush.last_result.0,
        state_hash: flush.state_hash.to_be_bytes().to_vec(),
        published_to: flush.published_to.0,
        ttl: duration_to_sql(ttl),
        set_account_id: each(&set, |write| big(write.balance.account.0))?,
        set_asset_id: each(&set, |write| asset_to_sql(write.balance.asset))?,
        set_expected: each(&set, |write| big(write.expected_version))?,
        set_version: each(&set, |write| big(write.balance.version))?,
        set_last_position: each(&set, |write| Ok(write.balance.last_position.0))?,
        set_available: each(&set, |write| Ok(write.balance.available.into()))?,
        set_frozen: each(&set, |write| Ok(write.balance.frozen.into()))?,
        new_account_id: each(&new, |write| big(write.balance.account.0))?,
        new_asset_id: each(&new, |write| asset_to_sql(write.balance.asset))?,
        new_version: each(&new, |write| big(write.balance.version))?,
        new_last_position: each(&new, |write| Ok(write.balance.last_position.0))?,
        new_available: each(&new, |write| Ok(write.balance.available.into()))?,
        new_frozen: each(&new, |write| Ok(write.balance.frozen.into()))?,
        open_account_id: each(&opens, |write| big(write.account.id.0))?,
        open_user_id: each(&opens, |write| Ok(Number(write.account.user.into())))?,
        open_status: each(&opens, |write| Ok(code_to_sql(write.account.status as i32)))?,
        open_at: each(&opens, |write| Ok(time_to_sql(write.account.opened_at)))?,
        status_account_id: each(&changes, |write| big(write.account.id.0))?,
        status: each(&changes, |write| {
            Ok(code_to_sql(write.account.status as i32))
        })?,
        part_command_last: columns.part_command_last,
        part_reject_last: columns.part_reject_last,
        part_entry_last: columns.part_entry_last,
        part_min_seq: columns.part_min_seq,
        part_max_seq: columns.part_max_seq,
        part_first: columns.part_first,
        part_last: columns.part_last,
        seq: columns.seq,
        position: columns.position,
        previous_result: columns.previous_result,
        outcome_at: columns.applied_at,
        account_id: columns.account_id,
        kind: columns.kind,
        outcome: columns.outcome,
        content_hash: columns.content_hash,
        reject_command: columns.reject_command,
        reject_leg: columns.reject_leg,
        reject_account_id: columns.reject_account_id,
        reject_asset_id: columns.reject_asset_id,
        reject_had: columns.reject_had,
        reject_needed: columns.reject_needed,
        entry_command: columns.entry_command,
        entry_leg: columns.entry_leg,
        entry_fallback: columns.entry_fallback,
        entry_account_id: columns.entry_account_id,
        entry_asset_id: columns.entry_asset_id,
        entry_available_delta: columns.entry_available_delta,
        entry_frozen_delta: columns.entry_frozen_delta,
        entry_available_after: columns.entry_available_after,
        entry_frozen_after: columns.entry_frozen_after,
        entry_version: columns.entry_version,
        entry_previous: columns.entry_previous,
        mark_account_id: columns.mark_account_id,
        mark_asset_id: columns.mark_asset_id,
        mark_version: columns.mark_version,
        mark_position: columns.mark_position,
        mark_applied_at: columns.mark_applied_at,
        reversal_target: each(&flush.reversals, |one| Ok(one.target.0.cast_signed()))?,
        reversed_by: each(&flush.reversals, |one| Ok(one.by.0.cast_signed()))?,
        dead_position: each(letters, |letter| Ok(letter.position.0))?,
        dead_reason: each(letters, |letter| Ok(letter.reason as i16))?,
        dead_message: each(letters, |letter| Ok(printable(letter)))?,
        dead_parks: each(letters, |letter| {
            Ok(letter.parks.map(|id| id.0.cast_signed()))
        })?,
        dead_log_time: each(letters, |letter| Ok(time_to_sql(letter.log_time)))?,
        dead_key: each(letters, |letter| Ok(letter.key.clone()))?,
        dead_value: each(letters, |letter| Ok(letter.value.clone()))?,
    })
}

fn each<Item, T>(
    items: &[Item],
    field: impl Fn(&Item) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    items.iter().map(field).collect()
}

/// PostgreSQL stores every character but one, and a bad record may say anything.
fn printable(letter: &DeadLetter) -> String {
    letter.message.replace('\0', "\u{fffd}")
}
