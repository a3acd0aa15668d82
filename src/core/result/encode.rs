//! Results to bytes, without a message in between: what `render(..).encode_to_vec()` gives, byte for
//! byte (`tests` hold the one against the other), with no allocation for an applied command.

use bytes::Bytes;
use prost::{Message, encoding::encode_varint};

use super::reject_sentence;
use crate::core::{
    assets::Assets,
    command::{Label, amount},
    engine::{Entry, Outcome},
    proto::{CommandResult, CommandStatus},
    types::{AccountId, CommandId, Epoch, Money, Position, Timestamp},
};

/// Bytes of a result of one entry, about; a batch's buffer begins with so many for each.
const RESULT_BYTES: usize = 192;

/// A result as it is published, with what key and headers say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Of the command.
    pub id: CommandId,
    /// Of the command.
    pub account: AccountId,
    /// By the log's time.
    pub applied_at: Timestamp,
    /// The `CommandResult`.
    pub value: Bytes,
}

impl Encoded {
    /// Of a message.
    pub fn of(result: &CommandResult) -> Self {
        let applied_at = result.applied_at.as_ref().and_then(Timestamp::from_proto);
        Self {
            id: CommandId(result.command_id),
            account: AccountId(result.account_id),
            applied_at: applied_at.unwrap_or_default(),
            value: result.encode_to_vec().into(),
        }
    }

    /// Of outcomes with their labels, in their order, but for the first `skip`. `entries` are those
    /// of all of them; `previous` is the position of the result before the first.
    pub fn all<'a>(
        epoch: Epoch,
        outcomes: impl ExactSizeIterator<Item = (&'a Outcome, &'a Label)>,
        entries: &[Entry],
        mut previous: Position,
        skip: usize,
        assets: &Assets,
    ) -> Vec<Self> {
        let mut encoder = Encoder::with_capacity(outcomes.len().saturating_sub(skip));
        let mut first = 0;
        for (index, (outcome, label)) in outcomes.enumerate() {
            let behind = first + outcome.entries as usize;
            if index >= skip {
                let own = &entries[first..behind];
                encoder.add(epoch, outcome, own, label, previous, assets);
            }
            (first, previous) = (behind, outcome.position);
        }
        encoder.finish()
    }
}

/// Many results in one buffer, which they share.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    buffer: Vec<u8>,
    /// What each is of, and where it ends.
    results: Vec<(CommandId, AccountId, Timestamp, usize)>,
}

impl Encoder {
    pub(super) fn with_capacity(results: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(results * RESULT_BYTES),
            results: Vec::with_capacity(results),
        }
    }

    /// Adds what `render` would give.
    pub(super) fn add(
        &mut self,
        epoch: Epoch,
        outcome: &Outcome,
        entries: &[Entry],
        label: &Label,
        previous_position: Position,
        assets: &Assets,
    ) {
        let mut fields = Fields(&mut self.buffer);
        fields.number(1, outcome.id.0);
        fields.bytes(2, label.idempotency_key.as_bytes());
        fields.bytes(3, label.source.as_bytes());
        match &outcome.reject {
            None => fields.number(4, CommandStatus::Applied as u64),
            Some(reject) => {
                fields.number(4, CommandStatus::Rejected as u64);
                fields.number(5, reject.code as u64);
                fields.bytes(6, reject_sentence(reject, assets).as_bytes());
            }
        }
        fields.number(7, u64::from(outcome.id.shard().0));
        fields.number(8, outcome.position.0.cast_unsigned());
        fields.number(9, epoch.0);
        for entry in entries {
            fields.message(10, |fields| fields.entry(entry, assets));
        }
        if let Some(at) = label.created_at {
            fields.message(11, |fields| fields.time(at));
        }
        fields.message(12, |fields| fields.time(outcome.applied_at));
        fields.bytes(13, label.reference.as_bytes());
        fields.number(14, outcome.account.0);
        fields.number(15, previous_position.0.cast_unsigned());
        fields.number(16, outcome.kind as u64);
        let end = self.buffer.len();
        self.results
            .push((outcome.id, outcome.account, outcome.applied_at, end));
    }

    pub(super) fn finish(self) -> Vec<Encoded> {
        let buffer = Bytes::from(self.buffer);
        let mut first = 0;
        let encoded = self
            .results
            .into_iter()
            .map(|(id, account, applied_at, end)| {
                let value = buffer.slice(first..end);
                first = end;
                Encoded {
                    id,
                    account,
                    applied_at,
                    value,
                }
            });
        encoded.collect()
    }
}

/// Appends fields of a message; what is empty or 0 is left out, as proto3 does.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn key(&mut self, field: u64, wire_type: u64) {
        encode_varint(field << 3 | wire_type, self.0);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, 0);
            encode_varint(value, self.0);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.key(field, 2);
            encode_varint(bytes.len() as u64, self.0);
            self.0.extend_from_slice(bytes);
        }
    }

    /// Its length stands before it and is known behind it: nearly always it has one byte.
    fn message(&mut self, field: u64, write: impl FnOnce(&mut Fields<'_>)) {
        self.key(field, 2);
        let at = self.0.len();
        self.0.push(0);
        write(&mut Fields(self.0));
        let length = self.0.len() - at - 1;
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => self.0[at] = short,
            _ => {
                let end = self.0.len();
                encode_varint(length as u64, self.0);
                self.0[at + 1..].rotate_left(end - at - 1);
                self.0.remove(at);
            }
        }
    }

    fn entry(&mut self, entry: &Entry, assets: &Assets) {
        self.number(2, u64::from(entry.leg));
        self.number(3, entry.account.0);
        let asset = assets.by_id(entry.asset);
        match asset {
            Some(asset) => self.bytes(4, asset.code.as_bytes()),
            None => self.bytes(4, format!("asset {}", entry.asset).as_bytes()),
        }
        let scale = asset.map_or(0, |asset| asset.scale);
        self.amount(5, entry.available_delta, scale);
        self.amount(6, entry.frozen_delta, scale);
        self.amount(7, entry.available_after, scale);
        self.amount(8, entry.frozen_after, scale);
        self.number(9, entry.version);
        self.number(10, u64::from(entry.fallback));
    }

    fn amount(&mut self, field: u64, money: Money, scale: u8) {
        self.message(field, |fields| amount::append(money, scale, fields.0));
    }

    fn time(&mut self, at: Timestamp) {
        let time = at.to_proto();
        self.number(1, time.seconds.cast_unsigned());
        self.number(2, i64::from(time.nanos).cast_unsigned());
    }
}
