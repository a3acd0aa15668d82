//! A part of the journal: read from its row, and whether its columns agree with each other. No I/O.

use super::copy::{Malformed, Row};

/// What is read of a part, in the order of [`Part::read`].
pub const COLUMNS: &str = "flush_from, part, epoch, min_seq, max_seq, first_position,
    last_position, seq, position, previous_result, applied_at, account_id, kind, outcome,
    content_hash, entry_command, entry_account_id, entry_asset_id, entry_available_delta,
    entry_frozen_delta, entry_available_after, entry_frozen_after, entry_version, entry_previous";

/// Sequence numbers of a part lie within so many.
const PART_SPAN: i64 = 65_536;

/// A part as it is stored: a column an array, of commands, then of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub flush_from: i64,
    pub part: i16,
    pub epoch: i64,
    pub min_seq: i64,
    pub max_seq: i64,
    pub first_position: i64,
    pub last_position: i64,
    pub seq: Vec<i64>,
    pub position: Vec<i64>,
    pub previous_result: Vec<i64>,
    /// As on the wire: microseconds since 2000.
    pub applied_at: Vec<i64>,
    pub account: Vec<i64>,
    pub kind: Vec<i16>,
    pub outcome: Vec<i16>,
    pub content_hash: Vec<u8>,
    pub entry_command: Vec<i16>,
    pub entry_account: Vec<i64>,
    pub entry_asset: Vec<i32>,
    pub available_delta: Vec<i128>,
    pub frozen_delta: Vec<i128>,
    pub available_after: Vec<i128>,
    pub frozen_after: Vec<i128>,
    pub version: Vec<i64>,
    pub previous: Vec<i64>,
}

/// Which part cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub flush_from: i64,
    pub part: i16,
    pub why: &'static str,
}

impl Part {
    /// From its row; the inner `Err` is damage within the row.
    pub fn read(mut row: Row) -> Result<Result<Self, Unreadable>, Malformed> {
        let (flush_from, part) = (row.number()?, row.number()?);
        let unreadable = |why| Unreadable {
            flush_from,
            part,
            why,
        };
        let read = Self::read_columns(row, flush_from, part);
        Ok(read
            .map_err(|Malformed(why)| unreadable(why))
            .and_then(|read| match read.shape() {
                None => Ok(read),
                Some(why) => Err(unreadable(why)),
            }))
    }

    fn read_columns(mut row: Row, flush_from: i64, part: i16) -> Result<Self, Malformed> {
        Ok(Self {
            flush_from,
            part,
            epoch: row.number()?,
            min_seq: row.number()?,
            max_seq: row.number()?,
            first_position: row.number()?,
            last_position: row.number()?,
            seq: row.array()?,
            position: row.array()?,
            previous_result: row.array()?,
            applied_at: row.array()?,
            account: row.array()?,
            kind: row.array()?,
            outcome: row.array()?,
            content_hash: row.bytes()?,
            entry_command: row.array()?,
            entry_account: row.array()?,
            entry_asset: row.array()?,
            available_delta: row.array()?,
            frozen_delta: row.array()?,
            available_after: row.array()?,
            frozen_after: row.array()?,
            version: row.array()?,
            previous: row.array()?,
        })
    }

    /// What keeps its columns from being read as commands with their entries.
    fn shape(&self) -> Option<&'static str> {
        let commands = self.seq.len();
        let of_commands = [
            self.position.len(),
            self.previous_result.len(),
            self.applied_at.len(),
            self.account.len(),
            self.kind.len(),
            self.outcome.len(),
            self.content_hash.len() / 16,
        ];
        let of_entries = [
            self.entry_account.len(),
            self.entry_asset.len(),
            self.available_delta.len(),
            self.frozen_delta.len(),
            self.available_after.len(),
            self.frozen_after.len(),
            self.version.len(),
            self.previous.len(),
        ];
        let owners = &self.entry_command;
        if of_commands.iter().any(|&length| length != commands) {
            return Some("columns of commands have unequal lengths");
        }
        if of_entries.iter().any(|&length| length != owners.len()) {
            return Some("columns of entries have unequal lengths");
        }
        let is_known = |&owner: &i16| owner >= 1 && owner.cast_unsigned() as usize <= commands;
        if !owners.iter().all(is_known) || !owners.is_sorted() {
            return Some("entries do not follow their commands");
        }
        let ids = self.seq.iter().chain(&self.account).chain(&self.position);
        let is_negative = |number: &i64| *number < 0;
        if ids.copied().any(|id| is_negative(&id))
            || self.entry_account.iter().any(is_negative)
            || self.version.iter().any(is_negative)
            || self.entry_asset.iter().any(|asset| *asset < 0)
        {
            return Some("an id is negative");
        }
        None
    }

    /// What the part says of itself and its columns do not: what is stored, what follows from them.
    pub fn contradiction(&self) -> Option<(String, String)> {
        let least = |values: &[i64]| values.iter().min().copied().unwrap_or_default();
        let greatest = |values: &[i64]| values.iter().max().copied().unwrap_or_default();
        let said = [
            self.min_seq,
            self.max_seq,
            self.first_position,
            self.last_position,
        ];
        let found = [
            least(&self.seq),
            greatest(&self.seq),
            least(&self.position),
            greatest(&self.position),
        ];
        let text = |[min_seq, max_seq, first, last]: [i64; 4]| {
            format!("numbers {min_seq} to {max_seq}, positions {first} to {last}")
        };
        if said != found {
            return Some((text(said), text(found)));
        }
        (found[1] - found[0] >= PART_SPAN).then(|| (text(said), "fewer numbers in a part".into()))
    }

    /// The hash of a command, by its index.
    pub fn hash(&self, index: usize) -> &[u8; 16] {
        let hash = &self.content_hash[16 * index..16 * index + 16];
        hash.try_into().expect("16 bytes were taken")
    }

    /// Where the entries of each command are: from behind those of the one before to its own end.
    pub fn entries_end(&self, index: usize, from: usize) -> usize {
        let owners = &self.entry_command[from..];
        let is_own = |owner: &&i16| usize::from(owner.cast_unsigned()) <= index + 1;
        from + owners.iter().take_while(is_own).count()
    }
}
