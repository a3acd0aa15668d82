//! The log file of `axs dev`, which is its database; and the same without a file.
//!
//! One file holds all shards: a sequence of frames, each a group of records that became durable
//! with one fsync. Nothing is answered or shown to a reader before that; a write that fails ends
//! the process, because what is durable is then unknown. A record's position is the number of
//! records of its shard before it. Records about the file itself (REGISTRY, PARKED) have none.
//!
//! - `frame`: the bytes; `recover`: reading them at the start; `writer`: group commit;
//! - `index`: what readers see; `peek`: reading a file beside the process that has it.

use std::{
    collections::BTreeSet,
    fs::File,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::{Error, NewRecord, RECORD_BYTES_MAX};
use crate::core::{
    clock::Clock,
    command::record::{self, Parked, Registry},
    result::{Encoded, Published},
    store::DeadLetter,
    types::{Anchor, Position, ShardId, Timestamp},
};

mod frame;
mod index;
mod peek;
mod recover;
mod writer;

pub use index::{Reader, ResultTail};
pub use peek::{Peek, peek};
pub use recover::{FILE, LOCK_FILE, OpenError, Recovered, TornTail, recover};
pub use writer::{QUEUE_BYTES_MAX, QUEUE_COUNT_MAX};

use frame::NewItem;
use index::Index;
use writer::{Queue, Writer};

/// The log. Cheap to clone; the last clone waits until all that was appended is durable, and
/// unlocks the directory.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    index: Arc<Index>,
    sink: Sink,
}

/// How items become durable.
enum Sink {
    /// At once, until the process ends.
    Memory(Mutex<Writer>),
    /// By a thread that shares one fsync among all that waits.
    File(FileSink),
}

struct FileSink {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Held, not used.
    _lock: File,
}

impl Log {
    /// A log without a file.
    pub fn memory(shards: u16, clock: Clock) -> Self {
        let found = (0..shards).map(|_| Vec::new()).collect();
        let index = Arc::new(Index::new(found, BTreeSet::new()));
        let writer = Writer::new(index.clone(), clock, (0, Timestamp(0)), None);
        let sink = Sink::Memory(Mutex::new(writer));
        Self {
            shared: Arc::new(Shared { index, sink }),
        }
    }

    /// Goes on with a recovered file.
    fn over(recovered: Recovered, registry: &Registry, clock: Clock) -> Self {
        let stands = recovered.registry.as_ref();
        assert!(
            stands.is_none_or(|stands| stands.shards == registry.shards),
            "a cluster never changes its number of shards"
        );
        let news = stands != Some(registry);
        let mut shards = recovered.shards;
        shards.resize_with(usize::from(registry.shards), Vec::new);
        let parked = recover::positions(&recovered.parked);
        let index = Arc::new(Index::new(shards, parked));
        let file = Some((recovered.file, recovered.path));
        let mut writer = Writer::new(index.clone(), clock, recovered.last, file);
        if news {
            let value = record::encode_registry(registry);
            writer.write([NewItem::AboutTheFile(ShardId(0), value)].iter());
        }
        let queue = Arc::new(Queue::default());
        let thread = std::thread::spawn({
            let queue = queue.clone();
            move || queue.run(writer)
        });
        let sink = Sink::File(FileSink {
            queue,
            thread: Some(thread),
            _lock: recovered.lock,
        });
        Self {
            shared: Arc::new(Shared { index, sink }),
        }
    }

    /// See [`super::Log::append`].
    pub async fn append(&self, records: Vec<NewRecord>) -> Vec<Result<(), Error>> {
        let mut answers: Vec<_> = records.iter().map(|record| self.check(record)).collect();
        let good = (records.into_iter().zip(&answers))
            .filter(|(_, answer)| answer.is_ok())
            .map(|(record, _)| NewItem::Record(record));
        if let Err(error) = self.write(good.collect()).await {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(error.clone());
            }
        }
        answers
    }

    fn check(&self, record: &NewRecord) -> Result<(), Error> {
        if !self.shared.index.has(record.shard) {
            return Err(Error::Refused(format!(
                "the log has no shard {}",
                record.shard
            )));
        }
        if record.value.len() > RECORD_BYTES_MAX {
            return Err(Error::Refused(format!(
                "a record of {} bytes is larger than {RECORD_BYTES_MAX}",
                record.value.len()
            )));
        }
        Ok(())
    }

    /// Returns once all items are durable.
    async fn write(&self, items: Vec<NewItem>) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        match &self.shared.sink {
            Sink::Memory(writer) => {
                let mut writer = writer.lock().expect("no holder panics");
                writer.write(items.iter());
                Ok(())
            }
            Sink::File(sink) => {
                let durable = sink.queue.push(items)?;
                let closed = |_| Error::Unavailable("its writer is gone".into());
                durable.await.map_err(closed)
            }
        }
    }

    /// See [`super::Log::open`].
    pub async fn open(
        &self,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Reader, Error> {
        Reader::open(&self.shared.index, shard, from, anchor)
    }

    /// See [`super::Log::ends`].
    pub async fn ends(&self) -> Result<Vec<Position>, Error> {
        Ok(self.shared.index.ends())
    }

    /// See [`super::Log::range`].
    pub fn range(&self, shard: ShardId) -> Result<(i64, i64), Error> {
        let ends = self.shared.index.ends();
        let end = ends.get(usize::from(shard.0));
        let end = end.ok_or_else(|| Error::Refused(format!("the log has no shard {shard}")))?;
        Ok((0, end.offset()))
    }

    /// See [`super::Log::publish`]. Whoever follows hears of it, or skips it when he lags.
    pub async fn publish(&self, results: Vec<Encoded>) -> Vec<Result<(), Error>> {
        let answers = vec![Ok(()); results.len()];
        if !results.is_empty() && self.shared.index.results.receiver_count() > 0 {
            let parse =
                |result: Encoded| Published::parse(result.value).expect("we encoded it ourselves");
            let results: Vec<_> = results.into_iter().map(parse).collect();
            // An error says that nobody follows.
            let _ = self.shared.index.results.send(results.into());
        }
        answers
    }

    /// See [`super::Log::publish_dead_letters`]. Those that park are durable when it answers; the
    /// others are found again when the log is applied again.
    pub async fn publish_dead_letters(
        &self,
        shard: ShardId,
        letters: &[DeadLetter],
    ) -> Vec<Result<(), Error>> {
        let parked = || self.shared.index.parked.lock().expect("no holder panics");
        let known = parked().clone();
        let news = letters.iter().filter(|letter| letter.parks.is_some());
        let news: Vec<_> = news
            .filter(|letter| !known.contains(&(shard, letter.position)))
            .collect();
        let items = news.iter().map(|letter| {
            let value = record::encode_parked(&Parked {
                position: letter.position,
                command: letter.parks,
                reason: letter.reason as u32,
            });
            NewItem::AboutTheFile(shard, value)
        });
        let written = self.write(items.collect()).await;
        if written.is_ok() {
            parked().extend(news.iter().map(|letter| (shard, letter.position)));
        }
        vec![written; letters.len()]
    }

    /// See [`super::Log::tail_results`].
    pub fn tail_results(&self) -> ResultTail {
        ResultTail::new(&self.shared.index)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
