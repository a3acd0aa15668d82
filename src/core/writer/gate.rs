//! Admission: how many commands, and how many bytes of them, are in the writer. A full gate refuses
//! at once and waits for nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::BATCH_COUNT_MAX;
use crate::core::command::{CHANGES_MAX, COMMAND_BYTES_MAX, Change, Command};

/// Most bytes of commands in the writer.
pub const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most records whose append to the log is not answered yet; above, nothing is accepted.
pub const APPENDS_MAX: usize = 50_000;
/// Nothing is accepted for so long after the log's own queue was full.
pub const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(250);

/// A full batch of the largest commands fits.
const _: () = assert!(BATCH_COUNT_MAX * LARGEST_COMMAND <= INBOX_BYTES_MAX);
const LARGEST_COMMAND: usize =
    size_of::<Command>() + CHANGES_MAX * size_of::<Change>() + COMMAND_BYTES_MAX;

/// Counts what is in the writer and behind it.
#[derive(Debug)]
pub(in crate::core) struct Gate {
    started: Instant,
    count_max: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
    appends: AtomicUsize,
    /// Milliseconds since `started` until which the log's queue counts as full.
    full_until: AtomicUsize,
    store_away: AtomicBool,
    stopping: AtomicBool,
    /// Told when the last record that was handed to the log is answered.
    idle: Notify,
}

/// A command's place; dropping it makes room.
#[derive(Debug)]
pub(in crate::core) struct Permit {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Permit {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.count.fetch_sub(1, Ordering::Relaxed);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Gate {
    pub fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            count_max,
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            appends: AtomicUsize::new(0),
            full_until: AtomicUsize::new(0),
            store_away: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            idle: Notify::new(),
        })
    }

    /// A permit for each command, or none at all.
    pub fn enter(self: &Arc<Self>, commands: &[Command]) -> Option<Vec<Permit>> {
        let log_is_full = self.appends.load(Ordering::Relaxed) >= APPENDS_MAX
            || self.full_until.load(Ordering::Relaxed) > self.now_ms();
        let sizes: Vec<_> = commands.iter().map(bytes_of).collect();
        let bytes: usize = sizes.iter().sum();
        if log_is_full || !add(&self.count, commands.len(), self.count_max) {
            return None;
        }
        if !add(&self.bytes, bytes, INBOX_BYTES_MAX) {
            self.count.fetch_sub(commands.len(), Ordering::Relaxed);
            return None;
        }
        let permit = |bytes| Permit {
            gate: self.clone(),
            bytes,
        };
        Some(sizes.into_iter().map(permit).collect())
    }

    /// Commands in the writer.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// So many records were handed to the log.
    pub fn appends_started(&self, count: usize) {
        self.appends.fetch_add(count, Ordering::Relaxed);
    }

    /// So many records were answered by the log.
    pub fn appends_ended(&self, count: usize) {
        if self.appends.fetch_sub(count, Ordering::SeqCst) == count {
            self.idle.notify_waiters();
        }
    }

    /// Waits until the log has answered every record that was handed to it.
    pub async fn appends_answered(&self) {
        loop {
            let idle = self.idle.notified();
            if self.appends.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Records that the log has not answered.
    pub fn appends(&self) -> usize {
        self.appends.load(Ordering::Relaxed)
    }

    /// The log's own queue was full.
    pub fn queue_was_full(&self) {
        let pause = usize::try_from(QUEUE_FULL_PAUSE.as_millis()).expect("a short time");
        self.full_until
            .store(self.now_ms() + pause, Ordering::Relaxed);
    }

    /// Whether the store was not reachable when it was last tried.
    pub fn store_is_away(&self) -> bool {
        self.store_away.load(Ordering::Relaxed)
    }

    pub fn set_store_away(&self, away: bool) {
        self.store_away.store(away, Ordering::Relaxed);
    }

    /// Whether the writer takes no more commands.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn now_ms(&self) -> usize {
        usize::try_from(self.started.elapsed().as_millis()).unwrap_or(usize::MAX / 2)
    }
}

/// Adds, unless the sum would be above `max`.
fn add(counter: &AtomicUsize, count: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(count).filter(|sum| *sum <= max)
        })
        .is_ok()
}

/// What a command counts against byte limits: its parts in memory.
fn bytes_of(command: &Command) -> usize {
    size_of::<Command>()
        + command.source.len()
        + command.idempotency_key.len()
        + command.reference.len()
        + command.changes.len() * size_of::<Change>()
        + command.ack.as_ref().map_or(0, |ack| ack.callback.len())
}
