//! A result as it was published: what it is of stands in its first fields, and the rest is decoded
//! only when somebody asks for it. Whoever follows all results needs few of them.

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::core::{
    proto::CommandResult,
    types::{CommandId, Position, ShardId},
};

/// Numbers of `CommandResult`'s fields.
const COMMAND_ID: u32 = 1;
const POSITION: u32 = 8;

/// The bytes of a `CommandResult`, with what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    id: CommandId,
    position: Position,
    value: Bytes,
}

impl Published {
    /// Of these bytes; an error where they are no message, or of no command.
    pub fn parse(value: Bytes) -> Result<Self, String> {
        let (id, position) = head(&value).map_err(|error| error.to_string())?;
        let id = CommandId::parse(id).ok_or_else(|| format!("{id} is no command id"))?;
        Ok(Self {
            id,
            position: Position(position.cast_signed()),
            value,
        })
    }

    /// Of which command.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// In which shard.
    pub fn shard(&self) -> ShardId {
        self.id.shard()
    }

    /// Where the command stands in its shard's log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.value.len()
    }

    /// All of it.
    pub fn decode(&self) -> Result<CommandResult, DecodeError> {
        CommandResult::decode(self.value.clone())
    }
}

/// Of a message that was rendered from the journal.
impl From<&CommandResult> for Published {
    fn from(result: &CommandResult) -> Self {
        Self {
            id: CommandId(result.command_id),
            position: Position(result.position),
            value: result.encode_to_vec().into(),
        }
    }
}

/// Id and position as they stand there. Of what comes twice the last counts, as for every decoder.
fn head(mut rest: &[u8]) -> Result<(u64, u64), DecodeError> {
    let (mut id, mut position) = (0, 0);
    while rest.has_remaining() {
        match decode_key(&mut rest)? {
            (COMMAND_ID, WireType::Varint) => id = decode_varint(&mut rest)?,
            (POSITION, WireType::Varint) => position = decode_varint(&mut rest)?,
            (field, kind) => skip_field(kind, field, &mut rest, DecodeContext::default())?,
        }
    }
    Ok((id, position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::Sequence;

    fn result() -> CommandResult {
        CommandResult {
            command_id: CommandId::new(ShardId(3), Sequence(7)).0,
            idempotency_key: "key".into(),
            source: "service".into(),
            reject_reason: "why".into(),
            position: (1 << 48) + 5,
            reference: "text".into(),
            ..CommandResult::default()
        }
    }

    #[test]
    fn what_it_is_of_is_known_before_it_is_decoded() {
        let bytes = result().encode_to_vec();
        let published = Published::parse(bytes.clone().into()).expect("a result");
        assert_eq!(published, Published::from(&result()));
        assert_eq!(published.id().0, result().command_id);
        assert_eq!(published.shard(), ShardId(3));
        assert_eq!(published.position().0, result().position);
        assert_eq!(published.bytes(), bytes.len());
        assert_eq!(published.decode(), Ok(result()));
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let good = result().encode_to_vec();
        let nameless = CommandResult {
            command_id: 0,
            ..result()
        };
        let cut = &good[..good.len() - 1];
        for bad in [&[][..], &[0xff, 0xff], cut, &nameless.encode_to_vec()] {
            let parsed = Published::parse(Bytes::copy_from_slice(bad));
            assert!(parsed.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_a_field_that_comes_twice_the_last_counts() {
        let mut bytes = result().encode_to_vec();
        let other = CommandResult {
            command_id: CommandId::new(ShardId(1), Sequence(2)).0,
            position: 9,
            ..CommandResult::default()
        };
        other.encode(&mut bytes).expect("a Vec takes everything");
        let published = Published::parse(bytes.into()).expect("a result");
        let decoded = published.decode().expect("a result");
        assert_eq!(published.id().0, decoded.command_id);
        assert_eq!(published.position().0, decoded.position);
    }
}
