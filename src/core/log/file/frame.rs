//! The frames of the log file: how a group of records is written, found again and checked. Knows
//! bytes only.
//!
//! A frame is a header (magic, frame number, length of the body, log time, CRC-32 of all the rest
//! of header and body) and a body of items, one behind the other. All numbers are little-endian.

use bytes::Bytes;

use crate::core::{
    log::{NewRecord, Record},
    types::{AccountId, CommandId, ContentHash, Position, ShardId, Timestamp},
};

/// How a frame begins. 0xFF is in no UTF-8 text, so that no caller can write it into a record.
pub const MAGIC: [u8; 4] = [0xFF, b'A', b'X', b'1'];
/// Magic 4, frame number 8, length 4, log time 8, CRC 4.
pub const HEADER_BYTES: usize = 28;
/// Where the CRC stands; it covers everything else.
const CRC_AT: usize = 24;
/// Most bytes that an item has beside its value: flags 1, shard 2, length 4, account 8, command 24.
pub const ITEM_OVERHEAD_BYTES: usize = 39;

const HAS_ACCOUNT: u8 = 1;
const HAS_COMMAND: u8 = 2;
const ABOUT_THE_FILE: u8 = 4;

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// From 1, dense.
    pub number: u64,
    /// Of the body.
    pub length: usize,
    /// Of each record in it.
    pub log_time: Timestamp,
    crc: u32,
}

/// What goes into a frame.
#[derive(Debug)]
pub enum NewItem {
    /// The next record of its shard.
    Record(NewRecord),
    /// A record about the file itself (REGISTRY, PARKED): it has no position and no reader sees it.
    AboutTheFile(ShardId, Bytes),
}

/// One item of a body, still encoded.
#[derive(Clone, Debug)]
pub struct Item(Bytes);

/// Gathers the items of one frame.
pub struct Builder {
    buffer: Vec<u8>,
}

impl Header {
    /// `None`: these bytes begin no frame.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (log_time, rest) = rest.split_first_chunk()?;
        let (crc, _) = rest.split_first_chunk()?;
        (*magic == MAGIC).then_some(Self {
            number: u64::from_le_bytes(*number),
            length: usize::try_from(u32::from_le_bytes(*length)).ok()?,
            log_time: Timestamp(i64::from_le_bytes(*log_time)),
            crc: u32::from_le_bytes(*crc),
        })
    }

    /// Whether the frame is as it was written.
    pub fn fits(&self, bytes: &[u8; HEADER_BYTES], body: &[u8]) -> bool {
        crc(bytes, body) == self.crc
    }
}

fn crc(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CRC_AT]);
    hasher.update(body);
    hasher.finalize()
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            buffer: vec![0; HEADER_BYTES],
        }
    }
}

impl Builder {
    /// Adds an item behind the others.
    pub fn push(&mut self, item: &NewItem) {
        match item {
            NewItem::AboutTheFile(shard, value) => self.item(ABOUT_THE_FILE, *shard, value, &[]),
            NewItem::Record(record) => {
                let mut flags = 0;
                let mut fields = Vec::with_capacity(32);
                if let Some(account) = record.account {
                    flags |= HAS_ACCOUNT;
                    fields.extend(account.0.to_le_bytes());
                }
                if let Some((id, hash)) = record.command {
                    flags |= HAS_COMMAND;
                    fields.extend(id.0.to_le_bytes());
                    fields.extend(hash.0);
                }
                self.item(flags, record.shard, &record.value, &fields);
            }
        }
    }

    fn item(&mut self, flags: u8, shard: ShardId, value: &[u8], fields: &[u8]) {
        let length = u32::try_from(value.len()).expect("records are bounded");
        self.buffer.push(flags);
        self.buffer.extend(shard.0.to_le_bytes());
        self.buffer.extend(length.to_le_bytes());
        self.buffer.extend(fields);
        self.buffer.extend(value);
    }

    /// The whole frame.
    pub fn finish(mut self, number: u64, log_time: Timestamp) -> Bytes {
        let length = self.buffer.len() - HEADER_BYTES;
        let length = u32::try_from(length).expect("frames are bounded");
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(number.to_le_bytes());
        header.extend(length.to_le_bytes());
        header.extend(log_time.0.to_le_bytes());
        let crc = crc(&header, &self.buffer[HEADER_BYTES..]);
        header.extend(crc.to_le_bytes());
        self.buffer[..HEADER_BYTES].copy_from_slice(&header);
        self.buffer.into()
    }
}

/// The items of a body, each a slice of it. `None`: the body is no sequence of items.
pub fn items(mut body: Bytes) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while !body.is_empty() {
        let (start, length) = value_range(&body)?;
        let end = start.checked_add(length)?;
        if end > body.len() {
            return None;
        }
        items.push(Item(body.split_to(end)));
    }
    Some(items)
}

/// Where the value of the first item starts, and its length.
fn value_range(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&[flags, _, _], rest) = bytes.split_first_chunk()?;
    if flags & !(HAS_ACCOUNT | HAS_COMMAND | ABOUT_THE_FILE) != 0 {
        return None;
    }
    let (length, _) = rest.split_first_chunk()?;
    let mut start = 7;
    if flags & HAS_ACCOUNT != 0 {
        start += 8;
    }
    if flags & HAS_COMMAND != 0 {
        start += 24;
    }
    Some((start, usize::try_from(u32::from_le_bytes(*length)).ok()?))
}

impl Item {
    /// Whose.
    pub fn shard(&self) -> ShardId {
        ShardId(u16::from_le_bytes([self.0[1], self.0[2]]))
    }

    /// It has no position and is no reader's.
    pub fn is_about_the_file(&self) -> bool {
        self.0[0] & ABOUT_THE_FILE != 0
    }

    /// The encoded `LogRecord`.
    pub fn value(&self) -> &[u8] {
        &self.0[self.value_start()..]
    }

    fn value_start(&self) -> usize {
        let (start, _) = value_range(&self.0).expect("checked when it was cut");
        start
    }

    /// The record's account.
    pub fn account(&self) -> Option<AccountId> {
        let (id, _) = self.0[7..].split_first_chunk()?;
        (self.0[0] & HAS_ACCOUNT != 0).then(|| AccountId(u64::from_le_bytes(*id)))
    }

    /// What it counts against byte limits.
    pub fn bytes(&self) -> usize {
        self.0.len() + 64
    }

    /// As a reader gets it.
    pub fn record(&self, position: Position, log_time: Timestamp) -> Record {
        let flags = self.0[0];
        let mut fields = &self.0[7..];
        let mut account = None;
        let mut command = None;
        if flags & HAS_ACCOUNT != 0
            && let Some((id, rest)) = fields.split_first_chunk()
        {
            account = Some(AccountId(u64::from_le_bytes(*id)));
            fields = rest;
        }
        if flags & HAS_COMMAND != 0
            && let Some((id, rest)) = fields.split_first_chunk()
            && let Some((hash, _)) = rest.split_first_chunk()
        {
            let id = CommandId::parse(u64::from_le_bytes(*id));
            command = id.map(|id| (id, ContentHash(*hash)));
        }
        Record {
            position,
            log_time,
            key: account.map_or_else(Bytes::new, |account| account.to_string().into()),
            value: self.0.slice(self.value_start()..),
            command_id: command.map(|(id, _)| id),
            content_hash: command.map(|(_, hash)| hash),
        }
    }
}
