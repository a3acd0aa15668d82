//! The values that PostgreSQL and AXS write differently: 128-bit integers and NUMERIC, microseconds
//! and timestamptz, interval sets and multiranges, unsigned ids and BIGINT. No I/O.

use std::{io::Write, ops::Bound, time::Duration};

use diesel::{
    data_types::{PgInterval, PgTimestamp},
    deserialize::{self, FromSql, FromSqlRow},
    pg::{Pg, PgValue},
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Numeric,
};

use crate::core::{
    command::CommandKind,
    interval_set::IntervalSet,
    store::Error,
    types::{AccountId, AssetId, CommandId, Money, ShardId, Timestamp},
};

/// 2000-01-01, where PostgreSQL counts from, in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// One digit of a NUMERIC on the wire.
const DIGIT: u128 = 10_000;
/// Sign of a NUMERIC on the wire.
const NEGATIVE: u16 = 0x4000;

/// An integer as NUMERIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromSqlRow)]
pub(super) struct Number(pub i128);

impl From<Money> for Number {
    fn from(money: Money) -> Self {
        Self(money.minor_units())
    }
}

impl Number {
    /// As an amount.
    pub fn money(self) -> Result<Money, Error> {
        Money::new(self.0).ok_or_else(|| Error::Mismatch(format!("`{}` is no amount", self.0)))
    }
}

impl ToSql<Numeric, Pg> for Number {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let mut digits = [0_u16; 10];
        let (mut count, mut rest) = (0_u16, self.0.unsigned_abs());
        while rest > 0 {
            digits[usize::from(count)] = u16::try_from(rest % DIGIT)?;
            rest /= DIGIT;
            count += 1;
        }
        let sign = if self.0 < 0 { NEGATIVE } else { 0 };
        out.write_all(&count.to_be_bytes())?;
        out.write_all(&count.saturating_sub(1).to_be_bytes())?;
        out.write_all(&sign.to_be_bytes())?;
        out.write_all(&0_u16.to_be_bytes())?;
        for digit in digits[..usize::from(count)].iter().rev() {
            out.write_all(&digit.to_be_bytes())?;
        }
        Ok(IsNull::No)
    }
}

impl FromSql<Numeric, Pg> for Number {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(integer_from_sql(value.as_bytes())?))
    }
}

/// An integer from NUMERIC as it is on the wire; `Err` says why it is none.
pub(in crate::core) fn integer_from_sql(bytes: &[u8]) -> Result<i128, &'static str> {
    let mut words = bytes.chunks_exact(2);
    let mut next = || {
        words
            .next()
            .map(|word| u16::from_be_bytes([word[0], word[1]]))
    };
    let (Some(count), Some(weight), Some(sign), Some(_scale)) = (next(), next(), next(), next())
    else {
        return Err("a NUMERIC is cut short");
    };
    if sign != 0 && sign != NEGATIVE {
        return Err("a NUMERIC is no number");
    }
    // Trailing zero digits are left out on the wire; a digit behind the point is no integer.
    let places = i32::from(weight.cast_signed()) + 1;
    let mut number = 0_i128;
    for place in 0..places.max(i32::from(count)) {
        let digit = if place < i32::from(count) {
            next().ok_or("a NUMERIC is cut short")?
        } else {
            0
        };
        if place >= places {
            if digit != 0 {
                return Err("a NUMERIC is no integer");
            }
            continue;
        }
        number = number
            .checked_mul(DIGIT.cast_signed())
            .and_then(|number| number.checked_add(i128::from(digit)))
            .ok_or("a NUMERIC is too large")?;
    }
    Ok(if sign == NEGATIVE { -number } else { number })
}

/// As timestamptz.
pub(super) fn time_to_sql(time: Timestamp) -> PgTimestamp {
    PgTimestamp(time.0.saturating_sub(POSTGRES_EPOCH))
}

/// From timestamptz.
pub(in crate::core) fn time_from_sql(time: PgTimestamp) -> Timestamp {
    Timestamp(time.0.saturating_add(POSTGRES_EPOCH))
}

/// As interval.
pub(super) fn duration_to_sql(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4))
}

/// As int8multirange, both ends inclusive.
pub(super) fn set_to_sql(set: &IntervalSet) -> Vec<(Bound<i64>, Bound<i64>)> {
    set.iter()
        .map(|(first, last)| {
            (
                Bound::Included(first.cast_signed()),
                Bound::Included(last.cast_signed()),
            )
        })
        .collect()
}

/// From int8multirange, which the server writes as `[first, behind)`.
pub(in crate::core) fn set_from_sql(
    ranges: &[(Bound<i64>, Bound<i64>)],
) -> Result<IntervalSet, Error> {
    let mut set = IntervalSet::new();
    for range in ranges {
        match *range {
            (Bound::Included(first), Bound::Excluded(behind)) if 0 <= first && first < behind => {
                set.insert_range(first.cast_unsigned(), behind.cast_unsigned() - 1);
            }
            _ => {
                return Err(Error::Mismatch(
                    "an applied set is no set of numbers".into(),
                ));
            }
        }
    }
    Ok(set)
}

/// An id, number or version as BIGINT: all of ours are below 2^63.
pub(super) fn big(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::Refused(format!("`{value}` is beyond 2^63")))
}

/// An id, number or version from BIGINT.
pub(super) fn unsigned(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Mismatch(format!("`{value}` is stored where an id is")))
}

/// Accounts as BIGINT.
pub(super) fn accounts(ids: &[AccountId]) -> Result<Vec<i64>, Error> {
    ids.iter().map(|id| big(id.0)).collect()
}

/// A hash of 16 bytes from bytea.
pub(super) fn hash16(bytes: &[u8]) -> Result<[u8; 16], Error> {
    bytes
        .try_into()
        .map_err(|_| Error::Mismatch(format!("a hash of {} bytes is stored", bytes.len())))
}

/// A shard's number as SMALLINT.
pub(super) fn shard_to_sql(shard: ShardId) -> Result<i16, Error> {
    i16::try_from(shard.0).map_err(|_| Error::Mismatch(format!("there is no shard {shard}")))
}

/// A shard's number from SMALLINT.
pub(super) fn shard_from_sql(number: i16) -> Result<ShardId, Error> {
    u16::try_from(number)
        .map(ShardId)
        .map_err(|_| Error::Mismatch(format!("shard {number} is stored")))
}

/// The number of an enum of the contract as SMALLINT.
pub(super) fn code_to_sql(code: i32) -> i16 {
    i16::try_from(code).expect("the contract's enums are small")
}

/// A kind from SMALLINT.
pub(super) fn kind_from_sql(kind: i16) -> Result<CommandKind, Error> {
    CommandKind::try_from(i32::from(kind))
        .ok()
        .filter(|kind| *kind != CommandKind::Unspecified)
        .ok_or_else(|| Error::Mismatch(format!("command kind {kind} is stored: run a newer `axs`")))
}

/// The index of a change as SMALLINT.
pub(super) fn leg_to_sql(leg: u16) -> Result<i16, Error> {
    i16::try_from(leg).map_err(|_| Error::Refused(format!("leg {leg} is beyond 2^15")))
}

/// The index of a change from SMALLINT.
pub(super) fn leg_from_sql(leg: i16) -> Result<u16, Error> {
    u16::try_from(leg).map_err(|_| Error::Mismatch(format!("leg {leg} is stored")))
}

/// An asset's id as INTEGER.
pub(super) fn asset_to_sql(asset: AssetId) -> Result<i32, Error> {
    i32::try_from(asset.0).map_err(|_| Error::Refused(format!("asset {asset} is beyond 2^31")))
}

/// An asset's id from INTEGER.
pub(super) fn asset_from_sql(asset: i32) -> Result<AssetId, Error> {
    u32::try_from(asset)
        .map(AssetId)
        .map_err(|_| Error::Mismatch(format!("asset {asset} is stored")))
}

/// A command's id from BIGINT.
pub(super) fn command_id(raw: i64) -> Result<CommandId, Error> {
    CommandId::parse(raw.cast_unsigned())
        .ok_or_else(|| Error::Mismatch(format!("`{raw}` is stored where a command id is")))
}
