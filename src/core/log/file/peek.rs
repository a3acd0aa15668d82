//! Reads a log file without taking part: no lock, no cut, no write, so that it may be done beside
//! the process that has the directory. Ends where the good frames ended when it was opened: what is
//! being written then is not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    frame::{self, Header},
    recover::{FILE, OpenError, TornTail, walk},
};
use crate::core::{
    command::record::{self, LogItem, Registry},
    log::Raw,
    store::DeadLetterReason,
    types::{Position, SHARDS_MAX, ShardId},
};

/// A log file as it was when it was looked at. Cheap to clone.
#[derive(Clone)]
pub struct Peek {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    path: PathBuf,
    /// Bytes of good frames.
    size: u64,
    seen: Seen,
    torn: Option<TornTail>,
}

/// What must be known before the first record is applied.
#[derive(Default)]
struct Seen {
    registry: Option<Registry>,
    parked: BTreeMap<(ShardId, Position), DeadLetterReason>,
    /// Records of each shard.
    records: Vec<i64>,
}

/// Looks at a log file, or at the one in a data directory.
///
/// # Errors
///
/// It cannot be read, or is damaged before its end.
pub fn peek(path: &Path) -> Result<Peek, OpenError> {
    let path = match path.is_dir() {
        true => path.join(FILE),
        false => path.to_owned(),
    };
    let failed = |what| {
        let path = path.clone();
        move |error| OpenError::Io(what, path, error)
    };
    let file = File::open(&path).map_err(failed("open"))?;
    let length = file.metadata().map_err(failed("read"))?.len();
    let mut seen = Seen::default();
    let size = walk(&file, &path, length, |_, body| {
        seen.take(body).map(ControlFlow::Continue)
    })?;
    let torn = (size < length).then_some(TornTail {
        offset: size,
        bytes: length - size,
    });
    let inner = Inner {
        file,
        path,
        size,
        seen,
        torn,
    };
    Ok(Peek {
        inner: Arc::new(inner),
    })
}

impl Seen {
    fn take(&mut self, body: Bytes) -> Result<(), String> {
        let items = frame::items(body).ok_or("a group is no sequence of records")?;
        for item in items {
            let shard = item.shard();
            if !item.is_about_the_file() {
                let records = self.records.get_mut(usize::from(shard.0));
                *records.ok_or_else(|| format!("a record is of shard {shard}"))? += 1;
                continue;
            }
            match record::decode(&Bytes::copy_from_slice(item.value())) {
                Ok(LogItem::Registry(registry)) if (1..=SHARDS_MAX).contains(&registry.shards) => {
                    self.records.resize(usize::from(registry.shards), 0);
                    self.registry = Some(registry);
                }
                Ok(LogItem::Parked(parked)) => {
                    let reason = DeadLetterReason::from_number(parked.reason);
                    let reason = reason.ok_or("a parked record has an unknown reason")?;
                    self.parked.insert((shard, parked.position), reason);
                }
                other => return Err(format!("a record about the file is not known: {other:?}")),
            }
        }
        Ok(())
    }
}

impl Peek {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Number of shards and assets; `None`: nothing was ever written.
    pub fn registry(&self) -> Option<&Registry> {
        self.inner.seen.registry.as_ref()
    }

    /// Behind the good frames: a write that is under way, or was when its process ended.
    pub fn torn(&self) -> Option<&TornTail> {
        self.inner.torn.as_ref()
    }

    /// Behind the last record of a shard.
    pub fn end(&self, shard: ShardId) -> Position {
        let records = self.inner.seen.records.get(usize::from(shard.0));
        Position::new(0, records.copied().unwrap_or_default())
    }

    /// Positions of a shard that are dead letters.
    pub fn parked(&self, shard: ShardId) -> BTreeSet<Position> {
        let of = (shard, Position::ZERO)..=(shard, Position(i64::MAX));
        let parked = self.inner.seen.parked.range(of);
        parked.map(|(&(_, position), _)| position).collect()
    }

    /// Gives each record of a shard from a position up to another one, or to the end of what was
    /// looked at, to `each`, until that says false. Blocks.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not what it was.
    pub fn sweep(
        &self,
        shard: ShardId,
        from: Position,
        end: Position,
        mut each: impl FnMut(&Raw<'_>) -> bool,
    ) -> Result<(), OpenError> {
        let mut next = Position::ZERO;
        let mut key = String::new();
        let mut take = |header: &Header, body: Bytes| -> Option<ControlFlow<()>> {
            for item in frame::items(body)? {
                if item.is_about_the_file() || item.shard() != shard {
                    continue;
                }
                let position = next;
                next = next.next();
                if position < from {
                    continue;
                }
                key.clear();
                if let Some(account) = item.account() {
                    write!(key, "{account}").expect("a text grows");
                }
                let raw = Raw {
                    position,
                    log_time: header.log_time,
                    key: key.as_bytes(),
                    value: item.value(),
                };
                if position >= end || !each(&raw) {
                    return Some(ControlFlow::Break(()));
                }
            }
            Some(ControlFlow::Continue(()))
        };
        let inner = &self.inner;
        walk(&inner.file, &inner.path, inner.size, |header, body| {
            take(header, body).ok_or_else(|| "a group is no sequence of records".into())
        })?;
        Ok(())
    }
}
