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
    types::{CommandId, Position},
};

/// `axs_flush`, its arguments by what they are about.
struct FlushCall {
    shard: i16,
    epoch: i64,
    nonce: i64,
    from: i64,
    to: i64,
    anchor: Vec<u8>,
    applied: Vec<(Bound<i64>, Bound<i64>)>,
    passed_at: PgTimestamp,
    applied_at: PgTimestamp,
    last_result: i64,
    state_hash: Vec<u8>,
    published_to: i64,
    ttl: PgInterval,
    reversal_target: Vec<i64>,
    reversed_by: Vec<i64>,
    set: BalanceColumns,
    new: BalanceColumns,
    opens: AccountColumns,
    changes: AccountColumns,
    columns: Columns,
    dead: DeadLetterColumns,
}

#[derive(Default)]
struct BalanceColumns {
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
    account_id: Vec<i64>,
    user_id: Vec<Number>,
    status: Vec<i16>,
    opened_at: Vec<PgTimestamp>,
}

#[derive(Default)]
struct DeadLetterColumns {
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
        shard => SmallInt,
        epoch => BigInt,
        nonce => BigInt,
        from => BigInt,
        to => BigInt,
        anchor => Binary,
        applied => Multirange<Int8>,
        passed_at => Timestamptz,
        applied_at => Timestamptz,
        last_result => BigInt,
        state_hash => Binary,
        published_to => BigInt,
        ttl => Interval,
        set.account_id => Array<BigInt>,
        set.asset_id => Array<Integer>,
        set.expected => Array<BigInt>,
        set.version => Array<BigInt>,
        set.last_position => Array<BigInt>,
        set.available => Array<Numeric>,
        set.frozen => Array<Numeric>,
        new.account_id => Array<BigInt>,
        new.asset_id => Array<Integer>,
        new.version => Array<BigInt>,
        new.last_position => Array<BigInt>,
        new.available => Array<Numeric>,
        new.frozen => Array<Numeric>,
        opens.account_id => Array<BigInt>,
        opens.user_id => Array<Numeric>,
        opens.status => Array<SmallInt>,
        opens.opened_at => Array<Timestamptz>,
        changes.account_id => Array<BigInt>,
        changes.status => Array<SmallInt>,
        columns.part_command_last => Array<Integer>,
        columns.part_reject_last => Array<Integer>,
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
        columns.mark_account_id => Array<BigInt>,
        columns.mark_asset_id => Array<Integer>,
        columns.mark_version => Array<BigInt>,
        columns.mark_position => Array<BigInt>,
        columns.mark_applied_at => Array<Timestamptz>,
        reversal_target => Array<BigInt>,
        reversed_by => Array<BigInt>,
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
    let ids = |ids: &mut dyn Iterator<Item = CommandId>| ids.map(|id| id.0.cast_signed()).collect();
    let (mut set, mut new) = (BalanceColumns::default(), BalanceColumns::default());
    for write in &flush.balances {
        let columns = if write.expected_version == 0 {
            &mut new
        } else {
            &mut set
        };
        columns.push(write)?;
    }
    let (mut opens, mut changes) = (AccountColumns::default(), AccountColumns::default());
    for write in &flush.accounts {
        let columns = if write.opens {
            &mut opens
        } else {
            &mut changes
        };
        columns.push(write)?;
    }
    let mut dead = DeadLetterColumns::default();
    for letter in &flush.dead_letters {
        dead.push(letter);
    }
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
        set,
        new,
        opens,
        changes,
        columns: Columns::of(flush)?,
        reversal_target: ids(&mut flush.reversals.iter().map(|one| one.target)),
        reversed_by: ids(&mut flush.reversals.iter().map(|one| one.by)),
        dead,
    })
}

impl BalanceColumns {
    fn push(&mut self, write: &BalanceWrite) -> Result<(), Error> {
        let balance = &write.balance;
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
    fn push(&mut self, write: &AccountWrite) -> Result<(), Error> {
        let account = &write.account;
        self.account_id.push(big(account.id.0)?);
        self.user_id.push(Number(account.user.into()));
        self.status.push(code_to_sql(account.status as i32));
        self.opened_at.push(time_to_sql(account.opened_at));
        Ok(())
    }
}

impl DeadLetterColumns {
    fn push(&mut self, letter: &DeadLetter) {
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
