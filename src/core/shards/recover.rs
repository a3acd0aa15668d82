//! After the database came back from an earlier time: what log, results and cache have seen since
//! must not be used again for anything else, and commands whose rows are gone are adopted.

use crate::core::{
    command::record::LogItem,
    proto::CommandResult,
    store::Recovery,
    types::{CommandId, Epoch, Sequence, ShardId},
};

/// Recovery sets the epoch so far above all that was seen: take-overs that left no trace.
pub const EPOCHS_SKIPPED: u64 = 1_000;
/// Recovery skips so many numbers above all that were seen: accepted commands that left no trace,
/// whose records may still come from a producer that was forgotten.
pub const NUMBERS_SKIPPED: u64 = 1_000_000;
/// A number so far above those given out was made up by somebody.
const NUMBERS_PLAUSIBLE: u64 = 1 << 40;

/// What was seen of a shard outside its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The greatest sequence number.
    pub number: u64,
    /// The greatest epoch.
    pub epoch: u64,
}

impl Seen {
    /// A record of the shard's log.
    pub fn item(&mut self, shard: ShardId, item: &LogItem) {
        match item {
            LogItem::Command(command) => {
                if let Some(id) = command.id.filter(|id| id.shard() == shard) {
                    self.number(id.sequence().0);
                }
            }
            LogItem::Seal(seal) => self.number(seal.last.0),
            LogItem::Discard(discard) => self.number(discard.id.sequence().0),
            LogItem::Tick(_) | LogItem::Parked(_) | LogItem::Registry(_) => {}
        }
    }

    /// A published result.
    pub fn result(&mut self, result: &CommandResult) {
        self.number(CommandId(result.command_id).sequence().0);
        self.epoch(result.epoch);
    }

    /// The epoch that the cache has seen.
    pub fn epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    fn number(&mut self, number: u64) {
        if number < NUMBERS_PLAUSIBLE {
            self.number = self.number.max(number);
        }
    }

    /// What is not to be used again, beside what the row of the shard says (`epoch`).
    pub fn recovery(&self, epoch: Epoch) -> Recovery {
        Recovery {
            epoch: Epoch(self.epoch.max(epoch.0) + EPOCHS_SKIPPED),
            next: Sequence(self.number + NUMBERS_SKIPPED + 1),
        }
    }
}
