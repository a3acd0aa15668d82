//! The log in Kafka: commands, results and dead letters, one partition of each topic per shard.
//!
//! - `client`: settings of every client, errors, log lines.
//! - [`admin`]: topics, made and looked at.
//! - `produce`, `delivery`, `headers`: what we write. `consume`, `reader`, `tail`: what we read; `sweep`, `fold`:
//!   what is gone through as a whole.
//!
//! No group protocol, no committed offsets, no transactions: the position is in the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rdkafka::consumer::Consumer as _;

use super::{Error, NewRecord, RECORD_BYTES_MAX, Raw, Record};
use crate::core::{
    config,
    proto::CommandResult,
    result::{Encoded, Published},
    store::DeadLetter,
    types::{Anchor, Position, ShardId},
};

pub mod admin;
mod client;
mod consume;
mod delivery;
mod fold;
mod headers;
mod last;
mod produce;
mod reader;
mod sweep;
mod tail;

use client::{Clients, QUERY_TIMEOUT, blocking, failed};
use consume::Consumer;
use produce::{Outgoing, Producer};

/// Most bytes of a dead letter's key in its copy; ours have 20.
const LETTER_KEY_MAX: usize = 16 * 1024;

/// The topics of one cluster of AXS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What the leaders apply.
    pub commands: String,
    /// What came of it.
    pub results: String,
    /// Copies of dead letters.
    pub dead_letters: String,
}

impl Topics {
    /// By `kafka.topic_prefix`.
    pub fn new(prefix: &str) -> Self {
        Self {
            commands: format!("{prefix}commands"),
            results: format!("{prefix}results"),
            dead_letters: format!("{prefix}commands.dlq"),
        }
    }

    /// Each of them.
    pub fn all(&self) -> [&str; 3] {
        [&self.commands, &self.results, &self.dead_letters]
    }
}

/// Kafka, for this process. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    clients: Clients,
    topics: Topics,
    shards: u16,
    producer: Producer,
    consumer: Arc<Consumer>,
    /// The topics were seen to fit; until then nothing is written or read.
    fits: AtomicBool,
}

/// Reads one shard's records in order.
pub struct Reader(Box<reader::Reader>);

/// Follows the results of all shards.
pub struct ResultTail(tail::ResultTail);

impl Log {
    /// Connects, and refuses topics that are missing or have another number of partitions than
    /// there are shards. A cluster that does not answer is no error: it is looked at again before
    /// the first record is written or read.
    pub async fn connect(
        settings: &config::Kafka,
        shards: u16,
        application_name: &str,
    ) -> Result<Self, Error> {
        let clients = Clients::new(settings, application_name)?;
        let topics = Topics::new(&settings.topic_prefix);
        let log = Self {
            inner: Arc::new(Inner {
                producer: Producer::new(clients.clone())?,
                consumer: Consumer::start(&clients, &topics.commands, shards)?,
                clients,
                topics,
                shards,
                fits: AtomicBool::new(false),
            }),
        };
        match log.check().await {
            Ok(()) => {}
            Err(Error::Unavailable(why)) => tracing::warn!("{why}"),
            Err(error) => return Err(error),
        }
        Ok(log)
    }

    /// See [`super::Log::append`].
    pub async fn append(&self, records: Vec<NewRecord>) -> Vec<Result<(), Error>> {
        let outgoing = records
            .into_iter()
            .map(|record| {
                let key = record.account.map(|account| account.to_string());
                Outgoing {
                    partition: i32::from(record.shard.0),
                    headers: headers::of_record(&record, key.as_deref()),
                    key: key.map(Bytes::from),
                    value: record.value,
                }
            })
            .collect();
        self.send(&self.inner.topics.commands, outgoing).await
    }

    /// See [`super::Log::open`].
    pub async fn open(
        &self,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Reader, Error> {
        assert!(
            shard.0 < self.inner.shards,
            "shard {shard} is not of this cluster"
        );
        self.check_once().await?;
        let reader = reader::Reader::open(&self.inner.consumer, shard, from, anchor).await?;
        Ok(Reader(Box::new(reader)))
    }

    /// See [`super::Log::ends`]; of generation 0.
    pub async fn ends(&self) -> Result<Vec<Position>, Error> {
        self.check_once().await?;
        let consumer = Arc::clone(&self.inner.consumer);
        let ends = blocking(move || consumer.ends()).await?;
        Ok(ends.into_iter().map(|end| Position::new(0, end)).collect())
    }

    /// Gives each record of a shard from a position up to another one, both of them within the log,
    /// to `each`, until that says false. Takes the shard from no reader.
    pub async fn sweep(
        &self,
        shard: ShardId,
        from: Position,
        end: Position,
        each: impl FnMut(&Raw<'_>) -> bool + Send + 'static,
    ) -> Result<(), Error> {
        self.check_once().await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let topic = &inner.topics.commands;
            sweep::sweep(&inner.clients, topic, shard, (from, end), each)
        })
        .await
    }

    /// See [`super::Log::publish`].
    pub async fn publish(&self, results: Vec<Encoded>) -> Vec<Result<(), Error>> {
        let outgoing = results
            .into_iter()
            .map(|result| {
                let key = result.account.to_string();
                Outgoing {
                    partition: i32::from(result.id.shard().0),
                    headers: headers::of_result(&result, &key),
                    key: Some(Bytes::from(key)),
                    value: result.value,
                }
            })
            .collect();
        self.send(&self.inner.topics.results, outgoing).await
    }

    /// See [`super::Log::publish_dead_letters`].
    pub async fn publish_dead_letters(
        &self,
        shard: ShardId,
        letters: &[DeadLetter],
    ) -> Vec<Result<(), Error>> {
        let outgoing = letters
            .iter()
            .map(|letter| Outgoing {
                partition: i32::from(shard.0),
                headers: headers::of_dead_letter(letter, &self.inner.topics.commands, shard),
                // A copy that the topic refuses would hold up the shard's results for ever; the row
                // in the database keeps every byte.
                key: (!letter.key.is_empty())
                    .then(|| Bytes::copy_from_slice(cut(&letter.key, LETTER_KEY_MAX))),
                value: Bytes::copy_from_slice(cut(&letter.value, RECORD_BYTES_MAX)),
            })
            .collect();
        self.send(&self.inner.topics.dead_letters, outgoing).await
    }

    /// See [`super::Log::tail_results`].
    pub async fn tail_results(&self) -> Result<ResultTail, Error> {
        self.check_once().await?;
        let inner = &self.inner;
        let tail = tail::ResultTail::start(&inner.clients, &inner.topics.results, inner.shards);
        tail.await.map(ResultTail)
    }

    /// See [`super::Log::last_results`].
    pub async fn last_results(&self) -> Result<Vec<Option<CommandResult>>, Error> {
        self.check_once().await?;
        let inner = &self.inner;
        last::last_results(&inner.clients, &inner.topics.results, inner.shards).await
    }

    /// The offset behind the last result of each shard, by shard number.
    pub async fn result_ends(&self) -> Result<Vec<i64>, Error> {
        self.check_once().await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let partitions: Vec<i32> = (0..i32::from(inner.shards)).collect();
            let client = inner.consumer.client();
            consume::ends(client, &inner.topics.results, &partitions)?
                .into_iter()
                .collect()
        })
        .await
    }

    /// Every result of a shard that the topic holds now, oldest first, folded into one value.
    pub async fn fold_results<T: Send + 'static>(
        &self,
        shard: ShardId,
        start: T,
        each: impl FnMut(&mut T, &[u8]) + Send + 'static,
    ) -> Result<T, Error> {
        self.check_once().await?;
        let topic = self.inner.topics.results.clone();
        fold::fold(&self.inner.clients, topic, shard, start, each).await
    }

    /// Whether the cluster answers, and the topics still fit.
    pub async fn ping(&self) -> Result<(), Error> {
        self.check().await
    }

    /// `kafka.topic_prefix`.
    pub fn topic_prefix(&self) -> &str {
        let commands = &self.inner.topics.commands;
        commands.strip_suffix("commands").unwrap_or(commands)
    }

    /// First offset of a shard that is still there, and the one behind its last record.
    pub async fn range(&self, shard: ShardId) -> Result<(i64, i64), Error> {
        self.check_once().await?;
        let consumer = Arc::clone(&self.inner.consumer);
        blocking(move || consumer.range(shard)).await
    }

    /// The cluster's own id: another one is another log.
    pub async fn cluster_id(&self) -> Result<String, Error> {
        let consumer = Arc::clone(&self.inner.consumer);
        blocking(move || {
            let id = consumer.client().client().fetch_cluster_id(QUERY_TIMEOUT);
            id.ok_or_else(|| Error::Unavailable("the cluster does not tell its id".into()))
        })
        .await
    }

    async fn send(&self, topic: &str, records: Vec<Outgoing>) -> Vec<Result<(), Error>> {
        if let Err(error) = self.check_once().await {
            return records.iter().map(|_| Err(error.clone())).collect();
        }
        self.inner.producer.send(topic, records).await
    }

    async fn check_once(&self) -> Result<(), Error> {
        match self.inner.fits.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.check().await,
        }
    }

    async fn check(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            for topic in inner.topics.all() {
                check_topic(&inner.consumer, topic, inner.shards)?;
            }
            inner.fits.store(true, Ordering::Relaxed);
            Ok(())
        })
        .await
    }
}

fn check_topic(consumer: &Consumer, topic: &str, shards: u16) -> Result<(), Error> {
    let metadata = consumer
        .client()
        .fetch_metadata(Some(topic), QUERY_TIMEOUT)
        .map_err(|error| failed(topic, &error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    if let Some(error) = found.and_then(|found| found.error()) {
        return Err(failed(
            topic,
            &rdkafka::error::KafkaError::MetadataFetch(error.into()),
        ));
    }
    let partitions = found.map_or(0, |found| found.partitions().len());
    if partitions == usize::from(shards) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the topic `{topic}` has {partitions} partitions, but the cluster has {shards} shards: \
         partitions cannot be taken away, and accounts do not move to new ones; bring a topic with \
         {shards} back; `axs shards rebase` makes topics that are missing, and moves to others"
    )))
}

impl Reader {
    /// See [`super::Reader::fetch`].
    pub async fn fetch(
        &mut self,
        count_max: usize,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        self.0.fetch(count_max, bytes_max, wait).await
    }
}

impl ResultTail {
    /// See [`super::ResultTail::next`].
    pub async fn next(&mut self) -> Result<Vec<Published>, Error> {
        self.0.next().await
    }
}

/// The first bytes, to a bound.
fn cut(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}
