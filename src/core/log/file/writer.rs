//! Writes frames: one write and one fsync for all that waits, then the answers. What arrives
//! meanwhile shares the next frame.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use tokio::sync::oneshot;

use super::{
    frame::{self, Builder, HEADER_BYTES, ITEM_OVERHEAD_BYTES, NewItem},
    index::Index,
};
use crate::core::{clock::Clock, log::Error, types::Timestamp};

/// Most items that wait for a frame.
pub const QUEUE_COUNT_MAX: usize = 100_000;
/// Most bytes of values that wait for a frame.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// No frame is larger: all that waits fits in one.
pub const FRAME_BYTES_MAX: usize =
    HEADER_BYTES + QUEUE_BYTES_MAX + QUEUE_COUNT_MAX * ITEM_OVERHEAD_BYTES;

const _: () = assert!(QUEUE_BYTES_MAX >= crate::core::log::RECORD_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize);

/// Items that are answered together, once they are durable.
struct Request {
    items: Vec<NewItem>,
    bytes: usize,
    done: oneshot::Sender<()>,
}

/// Makes frames durable and shows them.
pub struct Writer {
    index: Arc<Index>,
    clock: Clock,
    /// Of the next frame.
    number: u64,
    log_time: Timestamp,
    /// `None`: in memory.
    file: Option<(File, PathBuf)>,
}

impl Writer {
    /// Goes on behind the last frame: its number and its log time.
    pub fn new(
        index: Arc<Index>,
        clock: Clock,
        last: (u64, Timestamp),
        file: Option<(File, PathBuf)>,
    ) -> Self {
        Self {
            index,
            clock,
            number: last.0 + 1,
            log_time: last.1,
            file,
        }
    }

    /// Returns once the items are durable; ends the process when that is not known.
    pub fn write<'a>(&mut self, items: impl Iterator<Item = &'a NewItem>) {
        let mut builder = Builder::default();
        items.for_each(|item| builder.push(item));
        self.log_time = self.log_time.max(self.clock.now());
        let frame = builder.finish(self.number, self.log_time);
        self.number += 1;
        if let Some((file, path)) = &mut self.file
            && let Err(error) = file.write_all(&frame).and_then(|()| file.sync_data())
        {
            // Part of it may be on the disk, and a second fsync may lie: nothing can be answered.
            eprintln!(
                "error: failed to write the log file `{}`: {error}\n\
                 hint: what was not answered may be lost; make room or repair the disk, then start \
                 again",
                path.display()
            );
            std::process::exit(1);
        }
        let body = frame.slice(HEADER_BYTES..);
        let mut items = frame::items(body).expect("just written");
        items.retain(|item| !item.is_about_the_file());
        self.index.publish(self.log_time, items);
    }
}

/// What waits for the writer of a file, which is a thread of its own because an fsync blocks.
#[derive(Default)]
pub struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    count: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Puts items in the queue, all or none; the receiver hears when they are durable.
    pub fn push(&self, items: Vec<NewItem>) -> Result<oneshot::Receiver<()>, Error> {
        let bytes = items.iter().map(NewItem::value_bytes).sum();
        if items.len() > QUEUE_COUNT_MAX || bytes > QUEUE_BYTES_MAX {
            return Err(Error::Refused(format!(
                "{} records of {bytes} bytes are more than the queue holds: append fewer at a time",
                items.len()
            )));
        }
        let mut waiting = self.lock();
        if waiting.count + items.len() > QUEUE_COUNT_MAX || waiting.bytes + bytes > QUEUE_BYTES_MAX
        {
            return Err(Error::QueueFull);
        }
        let (done, durable) = oneshot::channel();
        waiting.count += items.len();
        waiting.bytes += bytes;
        waiting.requests.push(Request { items, bytes, done });
        self.changed.notify_one();
        Ok(durable)
    }

    /// What waits is still written, then [`Queue::run`] returns.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes all that waits, again and again, until the queue is closed.
    pub fn run(&self, mut writer: Writer) {
        loop {
            let mut waiting = self.lock();
            while waiting.requests.is_empty() && !waiting.closed {
                waiting = self.changed.wait(waiting).expect("no holder panics");
            }
            let requests = std::mem::take(&mut waiting.requests);
            if requests.is_empty() {
                return;
            }
            drop(waiting);
            writer.write(requests.iter().flat_map(|request| &request.items));
            // What is being written counts as waiting, so that memory stays within the bounds.
            let mut waiting = self.lock();
            for request in &requests {
                waiting.count -= request.items.len();
                waiting.bytes -= request.bytes;
            }
            drop(waiting);
            for request in requests {
                // Whoever went away while it was written needs no answer.
                let _ = request.done.send(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().expect("no holder panics")
    }
}

impl NewItem {
    fn value_bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.value.len(),
            Self::AboutTheFile(_, value) => value.len(),
        }
    }
}
