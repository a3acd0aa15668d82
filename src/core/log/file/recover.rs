//! Reads the log file at the start: every frame in order, the torn end of the last write cut off,
//! anything else that does not fit refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader},
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Log,
    frame::{self, HEADER_BYTES, Header, Item, MAGIC},
    index::{Slot, position},
    writer::FRAME_BYTES_MAX,
};
use crate::core::{
    clock::Clock,
    command::record::{self, LogItem, Registry},
    log::Record,
    store::DeadLetterReason,
    types::{Position, SHARDS_MAX, ShardId, Timestamp},
};

/// The file in the data directory.
pub const FILE: &str = "axs.log";
/// Locked while a process has the directory.
pub const LOCK_FILE: &str = "axs.lock";
/// The lock is tried so often: a child process that was just forked, by us or by the owner that is
/// ending, holds it until it has become another program.
const LOCK_TRIES: u32 = 20;
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Bytes read at a time while a good frame is looked for behind a bad one.
const SEARCH_BYTES: usize = 1024 * 1024;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("`{0}` is in use by another process: stop that one, or take another directory")]
    Locked(PathBuf),
    /// The disk says no.
    #[error("failed to {0} `{1}`: {2}")]
    Io(&'static str, PathBuf, #[source] io::Error),
    /// Something between two good frames is not what was written.
    #[error(
        "`{file}` is damaged at byte {offset}: {what}, and good records follow it; nothing was \
         changed: put a copy of the file back, or move it away to begin with nothing"
    )]
    Corrupt {
        /// The log file.
        file: PathBuf,
        /// Where the bad frame begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

/// The end of a file that was cut off: the last write was under way when the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Length of the file since.
    pub offset: u64,
    /// How many bytes were cut off. None of them was ever acknowledged.
    pub bytes: u64,
}

/// A data directory as it was found, locked.
#[derive(Debug)]
pub struct Recovered {
    /// The last REGISTRY record; `None`: the directory is new.
    pub registry: Option<Registry>,
    /// From the PARKED records.
    pub parked: BTreeMap<(ShardId, Position), DeadLetterReason>,
    /// The end of the file was cut off.
    pub torn: Option<TornTail>,
    pub(super) shards: Vec<Vec<Slot>>,
    /// Number and log time of the last frame.
    pub(super) last: (u64, Timestamp),
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) lock: File,
}

impl Recovered {
    /// Every record of every shard, in the order of the shards and positions.
    pub fn records(&self) -> impl Iterator<Item = (ShardId, Record)> + '_ {
        let shards = (0..).map(ShardId).zip(&self.shards);
        shards.flat_map(|(shard, slots)| {
            let record = move |(index, slot): (usize, &Slot)| {
                (shard, slot.item.record(position(index), slot.log_time))
            };
            slots.iter().enumerate().map(record)
        })
    }

    /// Goes on with the file. `registry` is written if it is not the one that stands; a cluster
    /// never changes its number of shards.
    pub fn start(self, registry: &Registry, clock: Clock) -> Log {
        Log::over(self, registry, clock)
    }
}

/// Locks and reads a data directory, making it if it is not there.
pub fn recover(dir: &Path) -> Result<Recovered, OpenError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io(what, path, error)
    };
    fs::create_dir_all(dir).map_err(failed("make the directory", dir))?;
    let lock_path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let lock = options
        .open(&lock_path)
        .map_err(failed("open", &lock_path))?;
    let mut tries = 1;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
        }
    }
    let path = dir.join(FILE);
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).open(&path);
    let file = file.map_err(failed("open", &path))?;
    // A file whose name is lost with the power is lost too.
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(failed("sync the directory", dir))?;

    let mut scan = Scan::default();
    let size = file.metadata().map_err(failed("read", &path))?.len();
    let end = walk(&file, &path, size, |header, body| {
        scan.take(header, body).map(ControlFlow::Continue)
    })?;
    let torn = (end < size).then_some(TornTail {
        offset: end,
        bytes: size - end,
    });
    if torn.is_some() {
        let cut = file.set_len(end).and_then(|()| file.sync_all());
        cut.map_err(failed("cut the torn end of", &path))?;
    }
    Ok(Recovered {
        registry: scan.registry,
        parked: scan.parked,
        torn,
        shards: scan.shards,
        last: scan.last,
        file,
        path,
        lock,
    })
}

/// Gives the good frames of the first `size` bytes to `each`, which may end it, or say what is wrong
/// with one. Where they end.
pub(super) fn walk(
    file: &File,
    path: &Path,
    size: u64,
    mut each: impl FnMut(&Header, Bytes) -> Result<ControlFlow<()>, String>,
) -> Result<u64, OpenError> {
    let failed = |error| OpenError::Io("read", path.to_owned(), error);
    let corrupt = |offset, what| OpenError::Corrupt {
        file: path.to_owned(),
        offset,
        what,
    };
    let mut reader = BufReader::with_capacity(SEARCH_BYTES, At { file, offset: 0 });
    let mut offset = 0;
    while offset < size {
        let read = read_frame(&mut reader, size - offset).map_err(failed)?;
        let Some((header, body)) = read else {
            if good_frame_behind(file, offset, size).map_err(failed)? {
                return Err(corrupt(
                    offset,
                    "a record group does not match its checksum".into(),
                ));
            }
            break;
        };
        let length = (HEADER_BYTES + body.len()) as u64;
        let flow = each(&header, body).map_err(|what| corrupt(offset, what))?;
        offset += length;
        if flow.is_break() {
            break;
        }
    }
    Ok(offset)
}

/// What was read so far.
#[derive(Default)]
struct Scan {
    registry: Option<Registry>,
    parked: BTreeMap<(ShardId, Position), DeadLetterReason>,
    shards: Vec<Vec<Slot>>,
    last: (u64, Timestamp),
}

impl Scan {
    fn take(&mut self, header: &Header, body: Bytes) -> Result<(), String> {
        let expected = self.last.0 + 1;
        if header.number != expected {
            return Err(format!(
                "group {} stands where {expected} belongs",
                header.number
            ));
        }
        let items = frame::items(body).ok_or("a group is no sequence of records")?;
        for item in items {
            self.item(item, header.log_time)?;
        }
        self.last = (header.number, header.log_time);
        Ok(())
    }

    fn item(&mut self, item: Item, log_time: Timestamp) -> Result<(), String> {
        let shard = item.shard();
        if item.is_about_the_file() {
            return match record::decode(&Bytes::copy_from_slice(item.value())) {
                Ok(LogItem::Registry(registry)) => self.registry(registry),
                Ok(LogItem::Parked(parked)) => {
                    let reason = DeadLetterReason::from_number(parked.reason);
                    let reason = reason.ok_or("a parked record has an unknown reason")?;
                    self.parked.insert((shard, parked.position), reason);
                    Ok(())
                }
                other => Err(format!("a record about the file is not known: {other:?}")),
            };
        }
        let slots = self.shards.get_mut(usize::from(shard.0));
        let slots = slots.ok_or_else(|| format!("a record is of shard {shard}"))?;
        slots.push(Slot { log_time, item });
        Ok(())
    }

    fn registry(&mut self, registry: Registry) -> Result<(), String> {
        let stands = self.registry.as_ref().map(|registry| registry.shards);
        if stands.is_some_and(|shards| shards != registry.shards) {
            return Err("the number of shards changes".into());
        }
        if !(1..=SHARDS_MAX).contains(&registry.shards) {
            return Err(format!("there are {} shards", registry.shards));
        }
        self.shards
            .resize_with(usize::from(registry.shards), Vec::new);
        self.registry = Some(registry);
        Ok(())
    }
}

/// The frame that begins here; `None`: there is none that is whole and as it was written.
fn read_frame(reader: &mut impl io::Read, left: u64) -> io::Result<Option<(Header, Bytes)>> {
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    reader.read_exact(&mut bytes)?;
    let Some(header) = plausible(&bytes, left) else {
        return Ok(None);
    };
    let mut body = vec![0; header.length];
    reader.read_exact(&mut body)?;
    Ok(header.fits(&bytes, &body).then(|| (header, body.into())))
}

/// A header whose frame may lie within what is left of the file.
fn plausible(bytes: &[u8; HEADER_BYTES], left: u64) -> Option<Header> {
    let header = Header::parse(bytes)?;
    let whole = HEADER_BYTES + header.length;
    (whole <= FRAME_BYTES_MAX && whole as u64 <= left).then_some(header)
}

/// Whether a good frame begins anywhere behind `bad`. A write is only begun when the one before
/// it is durable: behind a torn one there is nothing.
fn good_frame_behind(file: &File, bad: u64, size: u64) -> io::Result<bool> {
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut offset = bad + 1;
    while offset < size {
        let length = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        file.read_exact_at(&mut buffer[..length], offset)?;
        let starts = buffer[..length].windows(MAGIC.len()).enumerate();
        for (start, _) in starts.filter(|(_, window)| **window == MAGIC) {
            let at = offset + start as u64;
            let mut reader = At { file, offset: at };
            if read_frame(&mut reader, size - at)?.is_some() {
                return Ok(true);
            }
        }
        if length <= MAGIC.len() {
            break;
        }
        // The next window begins with the end of this one: a magic may lie across them.
        offset += (length - MAGIC.len() + 1) as u64;
    }
    Ok(false)
}

/// Reads a file from an offset, without moving it for others.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The positions alone, as the index wants them.
pub(super) fn positions(
    parked: &BTreeMap<(ShardId, Position), DeadLetterReason>,
) -> BTreeSet<(ShardId, Position)> {
    parked.keys().copied().collect()
}
