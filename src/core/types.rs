//! Newtypes for every id, position and quantity. No I/O, no clock.

use std::{fmt, num::NonZeroU64};

/// Most shards a cluster may have (a command id holds 15 bits of shard).
pub const SHARDS_MAX: u16 = 1024;
/// Account ids from here on are AXS's own: the clearing account of shard `s` is this plus `s`.
pub const ACCOUNT_RESERVED_FIRST: u64 = 1 << 62;
/// Largest sequence number of a shard: 48 bits.
pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;
/// Largest Kafka offset a [`Position`] can hold: 48 bits.
pub const OFFSET_MAX: i64 = (1 << 48) - 1;
/// The last generation of a log: positions stay positive.
pub const GENERATION_MAX: u16 = (1 << 15) - 1;

/// A shard: one partition of the log, one single-threaded leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// An account, `1 ..= 2^62 - 1`; above are the clearing accounts of AXS itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

/// An asset's numeric id in the registry, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId(pub u32);

/// The number of a command in its shard, from 1, dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// `shard << 48 | sequence`; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// `generation << 48 | offset`: a place in a shard's log. Ordered; never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

/// Counts the take-overs of a shard; a flush under an older epoch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A random number beside an epoch or a block lease, so that a reused number is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub i64);

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Identifies what a command says: see `command::hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 16]);

/// Identifies a (source, idempotency key): see `command::hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 16]);

/// Hash of the raw last consumed record: shows that the log is still the one we consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Anchor(pub [u8; 16]);

/// An amount in minor units of its asset, within [`Money::MIN`] `..=` [`Money::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

impl AccountId {
    /// The account of AXS itself that balances transfers between shards, for `shard`.
    pub fn clearing(shard: ShardId) -> Self {
        Self(ACCOUNT_RESERVED_FIRST + u64::from(shard.0))
    }

    /// The shard that [`AccountId::clearing`] belongs to, for a clearing account.
    pub fn clearing_shard(self) -> Option<ShardId> {
        let shard = u16::try_from(self.0.checked_sub(ACCOUNT_RESERVED_FIRST)?).ok()?;
        (shard < SHARDS_MAX).then_some(ShardId(shard))
    }

    /// Whether a caller may name this account.
    pub fn is_callers(self) -> bool {
        self.0 > 0 && self.0 < ACCOUNT_RESERVED_FIRST
    }

    /// The shard of an account that was never routed: XXH3-64 (seed 0) of the id as 8 bytes
    /// little-endian, modulo the number of shards.
    pub fn default_shard(self, shards: u16) -> ShardId {
        let hash = xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes());
        ShardId(u16::try_from(hash % u64::from(shards)).expect("a remainder of a u16"))
    }
}

impl CommandId {
    /// The id of number `sequence` in `shard`.
    pub fn new(shard: ShardId, sequence: Sequence) -> Self {
        assert!(sequence.0 <= SEQUENCE_MAX, "sequence number out of range");
        Self(u64::from(shard.0) << 48 | sequence.0)
    }

    /// Parses an id as it came from outside; `None` for 0 and for impossible shards.
    pub fn parse(raw: u64) -> Option<Self> {
        let id = Self(raw);
        NonZeroU64::new(raw)?;
        (raw >> 48 < u64::from(SHARDS_MAX) && id.sequence().0 > 0).then_some(id)
    }

    /// The shard that assigned it.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 48) as u16)
    }

    /// Its number in that shard.
    pub fn sequence(self) -> Sequence {
        Sequence(self.0 & SEQUENCE_MAX)
    }
}

impl Position {
    /// "No position": below every real one.
    pub const NONE: Self = Self(-1);
    /// The beginning of generation 0.
    pub const ZERO: Self = Self(0);

    /// The place of `offset` in `generation` of the log.
    pub fn new(generation: u16, offset: i64) -> Self {
        assert!((0..=OFFSET_MAX).contains(&offset), "offset out of range");
        assert!(generation <= GENERATION_MAX, "generation out of range");
        Self(i64::from(generation) << 48 | offset)
    }

    /// Which log (topic or cluster) the offset counts in.
    pub fn generation(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The offset in that log.
    pub fn offset(self) -> i64 {
        self.0 & OFFSET_MAX
    }

    /// The first position after this one in the same generation.
    pub fn next(self) -> Self {
        Self::new(self.generation(), self.offset() + 1)
    }
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 10^38 - 1: the bound of `NUMERIC(38,0)`.
    pub const MAX: Self = Self(10_i128.pow(38) - 1);
    /// -(10^38 - 1).
    pub const MIN: Self = Self(-(10_i128.pow(38) - 1));

    /// `None` outside the bounds.
    pub fn new(minor_units: i128) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&minor_units)
            .then_some(Self(minor_units))
    }

    /// The minor units.
    pub fn minor_units(self) -> i128 {
        self.0
    }

    /// `None` when the sum leaves the bounds.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0.checked_add(other.0)?)
    }

    /// The bounds are symmetric, so that this cannot fail.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(-self.0)
    }

    /// Below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl From<i64> for Money {
    fn from(minor_units: i64) -> Self {
        Self(i128::from(minor_units))
    }
}

impl Timestamp {
    /// As the protobuf type.
    pub fn to_proto(self) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: self.0.div_euclid(1_000_000),
            nanos: i32::try_from(self.0.rem_euclid(1_000_000) * 1_000).expect("below one second"),
        }
    }

    /// From the protobuf type, cut to microseconds; `None` if it is no valid timestamp or outside
    /// the years 1 to 9999.
    pub fn from_proto(proto: &prost_types::Timestamp) -> Option<Self> {
        const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
        if !SECONDS.contains(&proto.seconds) || !(0..1_000_000_000).contains(&proto.nanos) {
            return None;
        }
        Some(Self(
            proto.seconds * 1_000_000 + i64::from(proto.nanos / 1_000),
        ))
    }

    /// This moment plus (or minus) so many microseconds, saturating.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
display!(
    ShardId, AccountId, AssetId, Sequence, CommandId, Epoch, Nonce
);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.generation()) {
            (Self::NONE, _) => f.write_str("none"),
            (_, 0) => write!(f, "{}", self.offset()),
            (_, generation) => write!(f, "{generation}:{}", self.offset()),
        }
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_proto(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_shards_are_those_of_the_design() {
        for (account, of_4, of_16) in [(1, 2, 14), (9, 3, 7), (1000, 1, 13), ((1 << 53) + 1, 0, 0)]
        {
            assert_eq!(
                AccountId(account).default_shard(4),
                ShardId(of_4),
                "account {account}"
            );
            assert_eq!(
                AccountId(account).default_shard(16),
                ShardId(of_16),
                "account {account}"
            );
        }
    }

    #[test]
    fn ids_and_positions_round_trip() {
        let id = CommandId::new(ShardId(1023), Sequence(SEQUENCE_MAX));
        assert_eq!(
            (id.shard(), id.sequence()),
            (ShardId(1023), Sequence(SEQUENCE_MAX))
        );
        assert_eq!(CommandId::parse(id.0), Some(id));
        assert_eq!(CommandId::parse(0), None);
        assert_eq!(CommandId::parse(1 << 48), None, "sequence 0");
        assert_eq!(CommandId::parse(1 << 62 | 1), None, "shard out of range");
        let position = Position::new(3, 77);
        assert_eq!((position.generation(), position.offset()), (3, 77));
        assert!(Position::NONE < Position::ZERO);
    }

    #[test]
    fn money_stays_within_the_column() {
        assert_eq!(Money::MAX.checked_add(Money::from(1)), None);
        assert_eq!(Money::MIN.checked_add(Money::from(-1)), None);
        assert_eq!(Money::MAX.negated(), Money::MIN);
        assert_eq!(Money::new(i128::MAX), None);
    }
}
