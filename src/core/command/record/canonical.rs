//! The way of nearly every record: a command with its fields in the order of their numbers, each at
//! most once, as `encode` writes it. No allocation for a command of one change.
//!
//! Whatever is otherwise (a later field, another order, a value out of its range) gives `None`, and
//! the record takes the general way: nothing is refused in here, and what is read is exactly what
//! the general way would read (`tests` hold the one against the other).

use bytes::Bytes;

use super::RECORD_VERSION;
use crate::core::{
    command::{CHANGES_MAX, Change, ChangeList, Command, CommandKind, Move, Text, text},
    types::{AccountId, AssetId, CommandId, ContentHash, Money, SHARDS_MAX, ShardId, Timestamp},
};

/// Keys of fields: number << 3 | wire type, 0 for a varint and 2 for what has a length.
const fn number(field: u8) -> u8 {
    field << 3
}

const fn length(field: u8) -> u8 {
    field << 3 | 2
}

/// The command of a record.
pub(super) fn command(whole: &Bytes) -> Option<Command> {
    let mut record = Fields(whole);
    if record.number(number(1))? != u64::from(RECORD_VERSION) {
        return None;
    }
    let mut fields = record.fields(length(2))??;
    record.end()?;
    let id = CommandId::parse(fields.number(number(1))?)?;
    let content_hash = ContentHash(fields.bytes(length(2))??.try_into().ok()?);
    let source = fields.text(whole, length(3), text::SOURCE_BYTES)?;
    let idempotency_key = fields.text(whole, length(4), text::KEY_BYTES)?;
    let account = account(fields.number(number(5))?)?;
    let kind = match CommandKind::try_from(fields.number(number(6))? as i32) {
        Ok(CommandKind::Unspecified) | Err(_) => return None,
        Ok(kind) => kind,
    };
    let mut changes = ChangeList::new();
    while let Some(one) = fields.fields(length(7))? {
        if changes.len() == CHANGES_MAX {
            return None;
        }
        changes.push(change(one)?);
    }
    let reference = fields.text(whole, length(8), text::REFERENCE_BYTES)?;
    let created_at = match fields.fields(length(9))? {
        None => None,
        Some(fields) => Some(time(fields)?),
    };
    let accepted_at = time(fields.fields(length(10))??)?;
    let user = fields.number(number(11))?;
    let reverses = match fields.number(number(12))? {
        0 => None,
        raw => Some(CommandId::parse(raw)?),
    };
    let pin = match fields.optional_number(number(14))? {
        None => None,
        Some(raw) => Some(shard(raw as u32)?),
    };
    fields.end()?;
    Some(Command {
        id: Some(id),
        content_hash,
        source,
        idempotency_key,
        account,
        kind,
        changes,
        reference,
        created_at,
        accepted_at,
        user,
        reverses,
        ack: None, // one with an ACK has a field 13 and goes the general way
        pin,
    })
}

fn change(mut fields: Fields<'_>) -> Option<Change> {
    let account = account(fields.number(number(1))?)?;
    let primary = one_move(fields.fields(length(2))??)?;
    let fallback = match fields.fields(length(3))? {
        None => None,
        Some(fields) => Some(one_move(fields)?),
    };
    let if_version = fields.optional_number(number(4))?;
    let if_min_available = match fields.fields(length(5))? {
        None => None,
        Some(fields) => Some(amount(fields)?),
    };
    fields.end()?;
    Some(Change {
        account,
        primary,
        fallback,
        if_version,
        if_min_available,
    })
}

fn one_move(mut fields: Fields<'_>) -> Option<Move> {
    let asset = AssetId(fields.number(number(1))? as u32);
    let available_delta = delta(&mut fields, length(2))?;
    let frozen_delta = delta(&mut fields, length(3))?;
    fields.end()?;
    (asset.0 > 0).then_some(Move {
        asset,
        available_delta,
        frozen_delta,
    })
}

fn delta(fields: &mut Fields<'_>, key: u8) -> Option<Money> {
    match fields.fields(key)? {
        None => Some(Money::ZERO),
        Some(fields) => amount(fields),
    }
}

fn amount(mut fields: Fields<'_>) -> Option<Money> {
    let money = match fields.optional_number(number(1))? {
        Some(zigzag) => Money::from((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()),
        None => {
            let bytes = fields.bytes(length(2))??;
            Money::new(i128::from_le_bytes(bytes.try_into().ok()?))?
        }
    };
    fields.end()?;
    Some(money)
}

fn time(mut fields: Fields<'_>) -> Option<Timestamp> {
    let seconds = fields.number(number(1))?.cast_signed();
    let nanos = fields.number(number(2))? as i32;
    fields.end()?;
    Timestamp::from_proto(&prost_types::Timestamp { seconds, nanos })
}

fn account(raw: u64) -> Option<AccountId> {
    let account = AccountId(raw);
    (account.is_callers() || account.clearing_shard().is_some()).then_some(account)
}

fn shard(raw: u32) -> Option<ShardId> {
    let shard = u16::try_from(raw).ok()?;
    (shard < SHARDS_MAX).then_some(ShardId(shard))
}

/// The fields of a message that are not read yet. `None` from any of its functions: not canonical.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Whether the field with this key is next; then its value is.
    fn is_next(&mut self, key: u8) -> bool {
        match self.0.split_first() {
            Some((&first, rest)) if first == key => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// 0 if it is not next.
    fn number(&mut self, key: u8) -> Option<u64> {
        Some(self.optional_number(key)?.unwrap_or(0))
    }

    fn optional_number(&mut self, key: u8) -> Option<Option<u64>> {
        if self.is_next(key) {
            return Some(Some(self.varint()?));
        }
        Some(None)
    }

    fn bytes(&mut self, key: u8) -> Option<Option<&'a [u8]>> {
        if !self.is_next(key) {
            return Some(None);
        }
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(bytes))
    }

    fn fields(&mut self, key: u8) -> Option<Option<Self>> {
        Some(self.bytes(key)?.map(Self))
    }

    fn text(
        &mut self,
        whole: &Bytes,
        key: u8,
        bytes: std::ops::RangeInclusive<usize>,
    ) -> Option<Text> {
        let part = self.bytes(key)?.unwrap_or_default();
        let is_plain = part.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if !bytes.contains(&part.len()) {
            return None;
        }
        let text = Text::part_of(whole, part)?;
        (is_plain || text::check(&text, bytes).is_ok()).then_some(text)
    }

    /// At most ten bytes, the tenth with one bit.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return (index < 9 || byte < 2).then_some(value);
            }
        }
        None
    }
}
