//! The flush: one call of `axs_flush`, for one shard or for several. Who flushes with whom is in
//! `together`.

use std::ops::Bound;

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    sql_types::{
        Array, BigInt, Binary, Bool, Int8, Integer, Interval, Multirange, Nullable, Numeric,
        SmallInt, Text, Timestamptz,
    },
};

use super::{
    connection::Held,
    error::Effect,
    numeric::{
        Number, asset_to_sql, big, code_to_sql, duration_to_sql, set_to_sql, shard_to_sql,
        time_to_sql,
    },
    parts::Columns,
    registry::first,
    statement::statement,
    together::Request,
};
use crate::core::{
    store::{AccountWrite, BalanceWrite, DeadLetter, Error, Flush, Flushed},
    types::Position,
};

/// `axs_flush`, its arguments by what they are about.
#[derive(Default)]
struct FlushCall {
    flushes: FlushColumns,
    set: BalanceColumns,
    new: BalanceColumns,
    opens: AccountColumns,
    changes: AccountColumns,
    columns: Columns,
    reversal_target: Vec<i64>,
    reversed_by: Vec<i64>,
    dead: DeadLetterColumns,
}

/// A row for each flush.
#[derive(Default)]
struct FlushColumns {
    shard: Vec<i16>,
    epoch: Vec<i64>,
    nonce: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    anchor: Vec<Vec<u8>>,
    applied: Vec<Vec<(Bound<i64>, Bound<i64>)>>,
    passed_at: Vec<PgTimestamp>,
    applied_at: Vec<PgTimestamp>,
    last_result: Vec<i64>,
    state_hash: Vec<Vec<u8>>,
    published_to: Vec<i64>,
    ttl: Vec<PgInterval>,
}

#[derive(Default)]
struct BalanceColumns {
    shard: Vec<i16>,
    account_id: Vec<i64>,
    asset_id: Vec<i32>,
    expected: Vec<i64>,
    version: Vec<i64>,
    last_position: Vec<i64>,
    available: Vec<Number>,
    frozen: Vec<Number>,
}

#[derive(Default)]
struct AccountColumns {
    shard: Vec<i16>,
    account_id: Vec<i64>,
    user_id: Vec<Number>,
    status: Vec<i16>,
    opened_at: Vec<PgTimestamp>,
}

#[derive(Default)]
struct DeadLetterColumns {
    shard: Vec<i16>,
    position: Vec<i64>,
    reason: Vec<i16>,
    message: Vec<String>,
    parks: Vec<Option<i64>>,
    log_time: Vec<PgTimestamp>,
    key: Vec<Vec<u8>>,
    value: Vec<Vec<u8>>,
}

statement! {
    impl FlushCall [
        flushes.shard => Array<SmallInt>,
        flushes.epoch => Array<BigInt>,
        flushes.nonce => Array<BigInt>,
        flushes.from => Array<BigInt>,
        flushes.to => Array<BigInt>,
        flushes.anchor => Array<Binary>,
        flushes.applied => Array<Multirange<Int8>>,
        flushes.passed_at => Array<Timestamptz>,
        flushes.applied_at => Array<Timestamptz>,
        flushes.last_result => Array<BigInt>,
        flushes.state_hash => Array<Binary>,
        flushes.published_to => Array<BigInt>,
        flushes.ttl => Array<Interval>,
        set.shard => Array<SmallInt>,
        set.account_id => Array<BigInt>,
        set.asset_id => Array<Integer>,
        set.expected => Array<BigInt>,
        set.version => Array<BigInt>,
        set.last_position => Array<BigInt>,
        set.available => Array<Numeric>,
        set.frozen => Array<Numeric>,
        new.shard => Array<SmallInt>,
        new.account_id => Array<BigInt>,
        new.asset_id => Array<Integer>,
        new.version => Array<BigInt>,
        new.last_position => Array<BigInt>,
        new.available => Array<Numeric>,
        new.frozen => Array<Numeric>,
        opens.shard => Array<SmallInt>,
        opens.account_id => Array<BigInt>,
        opens.user_id => Array<Numeric>,
        opens.status => Array<SmallInt>,
        opens.opened_at => Array<Timestamptz>,
        changes.shard => Array<SmallInt>,
        changes.account_id => Array<BigInt>,
        changes.status => Array<SmallInt>,
        columns.part_shard => Array<SmallInt>,
        columns.part_from => Array<BigInt>,
        columns.part_epoch => Array<BigInt>,
        columns.part => Array<SmallInt>,
        columns.part_command_first => Array<Integer>,
        columns.part_command_last => Array<Integer>,
        columns.part_reject_first => Array<Integer>,
        columns.part_reject_last => Array<Integer>,
        columns.part_entry_first => Array<Integer>,
        columns.part_entry_last => Array<Integer>,
        columns.part_min_seq => Array<BigInt>,
        columns.part_max_seq => Array<BigInt>,
        columns.part_first => Array<BigInt>,
        columns.part_last => Array<BigInt>,
        columns.seq => Array<BigInt>,
        columns.position => Array<BigInt>,
        columns.previous_result => Array<BigInt>,
        columns.applied_at => Array<Timestamptz>,
        columns.account_id => Array<BigInt>,
        columns.kind => Array<SmallInt>,
        columns.outcome => Array<SmallInt>,
        columns.content_hash => Binary,
        columns.reject_command => Array<SmallInt>,
        columns.reject_leg => Array<SmallInt>,
        columns.reject_account_id => Array<BigInt>,
        columns.reject_asset_id => Array<Integer>,
        columns.reject_had => Array<Numeric>,
        columns.reject_needed => Array<Numeric>,
        columns.entry_command => Array<SmallInt>,
        columns.entry_leg => Array<SmallInt>,
        columns.entry_fallback => Array<Bool>,
        columns.entry_account_id => Array<BigInt>,
        columns.entry_asset_id => Array<Integer>,
        columns.entry_available_delta => Array<Numeric>,
        columns.entry_frozen_delta => Array<Numeric>,
        columns.entry_available_after => Array<Numeric>,
        columns.entry_frozen_after => Array<Numeric>,
        columns.entry_version => Array<BigInt>,
        columns.entry_previous => Array<BigInt>,
        columns.mark_shard => Array<SmallInt>,
        columns.mark_account_id => Array<BigInt>,
        columns.mark_asset_id => Array<Integer>,
        columns.mark_version => Array<BigInt>,
        columns.mark_position => Array<BigInt>,
        columns.mark_applied_at => Array<Timestamptz>,
        reversal_target => Array<BigInt>,
        reversed_by => Array<BigInt>,
        dead.shard => Array<SmallInt>,
        dead.position => Array<BigInt>,
        dead.reason => Array<SmallInt>,
        dead.message => Array<Text>,
        dead.parks => Array<Nullable<BigInt>>,
        dead.log_time => Array<Timestamptz>,
        dead.key => Array<Binary>,
        dead.value => Array<Binary>,
    ] -> (Bool) =
    "SELECT axs_flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
        $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35,
        $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53,
        $54, $55, $56, $57, $58, $59, $60, $61, $62, $63, $64, $65, $66, $67, $68, $69, $70, $71,
        $72, $73, $74, $75, $76, $77, $78, $79, $80, $81, $82, $83, $84, $85, $86, $87, $88, $89,
        $90, $91)"
}

/// Flushes them on a connection with one statement, all or none. Several: they are of different
/// shards, by shard, and one that is committed already is refused.
pub(super) async fn send(line: &mut Held, requests: &[&Request]) -> Result<Flushed, Error> {
    let mut call = FlushCall::default();
    for request in requests {
        call.push(request)?;
    }
    let rows: Vec<(bool,)> = line.run(Effect::Writes, call).await?;
    match first(rows)? {
        (true,) => Ok(Flushed::Already),
        (false,) => Ok(Flushed::Done),
    }
}

/// Positions rise within the flush's range, and there are as many entries and labels as the
/// outcomes say.
pub(super) fn check(flush: &Flush) -> Result<(), Error> {
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

impl FlushCall {
    fn push(&mut self, Request { flush, ttl }: &Request) -> Result<(), Error> {
        let shard = shard_to_sql(flush.shard)?;
        let flushes = &mut self.flushes;
        flushes.shard.push(shard);
        flushes.epoch.push(big(flush.epoch.0)?);
        flushes.nonce.push(flush.nonce.0);
        flushes.from.push(flush.from.0);
        flushes.to.push(flush.to.0);
        flushes.anchor.push(flush.anchor.0.to_vec());
        flushes.applied.push(set_to_sql(&flush.applied));
        flushes.passed_at.push(time_to_sql(flush.passed_at));
        flushes.applied_at.push(time_to_sql(flush.applied_at));
        flushes.last_result.push(flush.last_result.0);
        let state_hash = flush.state_hash.to_be_bytes();
        flushes.state_hash.push(state_hash.to_vec());
        flushes.published_to.push(flush.published_to.0);
        flushes.ttl.push(duration_to_sql(*ttl));
        for write in &flush.balances {
            let columns = match write.expected_version {
                0 => &mut self.new,
                _ => &mut self.set,
            };
            columns.push(shard, write)?;
        }
        for write in &flush.accounts {
            let columns = match write.opens {
                true => &mut self.opens,
                false => &mut self.changes,
            };
            columns.push(shard, write)?;
        }
        self.columns.push_flush(shard, flush)?;
        for reversal in &flush.reversals {
            self.reversal_target.push(reversal.target.0.cast_signed());
            self.reversed_by.push(reversal.by.0.cast_signed());
        }
        for letter in &flush.dead_letters {
            self.dead.push(shard, letter);
        }
        Ok(())
    }
}

impl BalanceColumns {
    fn push(&mut self, shard: i16, write: &BalanceWrite) -> Result<(), Error> {
        let balance = &write.balance;
        self.shard.push(shard);
        self.account_id.push(big(balance.account.0)?);
        self.asset_id.push(asset_to_sql(balance.asset)?);
        self.expected.push(big(write.expected_version)?);
        self.version.push(big(balance.version)?);
        self.last_position.push(balance.last_position.0);
        self.available.push(balance.available.into());
        self.frozen.push(balance.frozen.into());
        Ok(())
    }
}

impl AccountColumns {
    fn push(&mut self, shard: i16, write: &AccountWrite) -> Result<(), Error> {
        let account = &write.account;
        self.shard.push(shard);
        self.account_id.push(big(account.id.0)?);
        self.user_id.push(Number(account.user.into()));
        self.status.push(code_to_sql(account.status as i32));
        self.opened_at.push(time_to_sql(account.opened_at));
        Ok(())
    }
}

impl DeadLetterColumns {
    fn push(&mut self, shard: i16, letter: &DeadLetter) {
        self.shard.push(shard);
        self.position.push(letter.position.0);
        self.reason.push(letter.reason as i16);
        self.message.push(printable(letter));
        self.parks.push(letter.parks.map(|id| id.0.cast_signed()));
        self.log_time.push(time_to_sql(letter.log_time));
        self.key.push(letter.key.clone());
        self.value.push(letter.value.clone());
    }
}

/// PostgreSQL stores every character but one, and a bad record may say anything.
fn printable(letter: &DeadLetter) -> String {
    letter.message.replace('\0', "\u{fffd}")
}
