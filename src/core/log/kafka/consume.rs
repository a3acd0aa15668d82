//! The one consumer of a process: partitions are assigned one by one at positions of ours, and
//! each has a queue of its own. What a reader makes of its queue is `reader`'s matter.
//!
//! Threads: the library's own, and one here that serves events that belong to no partition and
//! looks every two seconds whether the open partitions can be reached at all (a queue that stays
//! empty does not say why). The number of shards adds none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, base_consumer::PartitionQueue},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::sync::Notify;

use super::client::{Clients, Context, QUERY_TIMEOUT, failed};
use crate::core::{log::Error, types::ShardId};

/// How long the event thread sleeps at most.
const EVENT_INTERVAL: Duration = Duration::from_millis(500);
/// How often it looks whether open partitions can be reached.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the partitions of one topic.
pub struct Consumer {
    client: Arc<BaseConsumer<Context>>,
    topic: String,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    /// Told by the library when its queue is no longer empty.
    arrived: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Made once and kept: a second one for the same partition would silence the first.
    queue: Option<PartitionQueue<Context>>,
    /// Counts the claims; the latest one holds the partition.
    claim: u64,
    assigned: bool,
    probe: Option<Probe>,
}

/// What the last look at a partition found.
#[derive(Clone)]
pub struct Probe {
    /// When it was asked.
    pub asked: Instant,
    /// The end of the partition, or why it could not be had.
    pub end: Result<i64, Error>,
}

/// A reader's right to a partition, until somebody claims the partition anew.
pub struct Claim {
    consumer: Arc<Consumer>,
    shard: ShardId,
    number: u64,
    arrived: Arc<Notify>,
}

/// A claim in use: while this is held nobody else takes records from the queue, or claims it.
pub struct Hold<'a> {
    claim: &'a Claim,
    state: MutexGuard<'a, State>,
}

impl Consumer {
    /// Nothing is read until a partition is claimed.
    pub fn start(clients: &Clients, topic: &str, shards: u16) -> Result<Arc<Self>, Error> {
        let client = clients.consumer(shards).create_with_context(Context);
        let consumer = Arc::new(Self {
            client: Arc::new(
                client.map_err(|error| failed("the consumer does not start", &error))?,
            ),
            topic: topic.to_owned(),
            partitions: (0..shards).map(|_| Partition::default()).collect(),
        });
        let served = Arc::clone(&consumer);
        std::thread::Builder::new()
            .name("axs-kafka-events".into())
            .spawn(move || served.serve())
            .map_err(|error| Error::Unavailable(format!("no thread for events: {error}")))?;
        Ok(consumer)
    }

    /// The client, for questions about topics and offsets.
    pub fn client(&self) -> &BaseConsumer<Context> {
        &self.client
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Low and high watermark of a partition: its first record, and behind its last. Blocks.
    pub fn range(&self, shard: ShardId) -> Result<(i64, i64), Error> {
        self.client
            .fetch_watermarks(&self.topic, i32::from(shard.0), QUERY_TIMEOUT)
            .map_err(|error| failed(&format!("shard {shard} of {}", self.topic), &error))
    }

    /// The end of every partition, by number. Blocks.
    pub fn ends(&self) -> Result<Vec<i64>, Error> {
        let partitions: Vec<i32> = (0..self.partitions.len())
            .map(|shard| i32::try_from(shard).expect("at most 1024 shards"))
            .collect();
        ends(&self.client, &self.topic, &partitions)?
            .into_iter()
            .collect()
    }

    /// Takes a partition from whoever has it, and reads it from `offset`.
    pub fn claim(self: &Arc<Self>, shard: ShardId, offset: i64) -> Result<Claim, Error> {
        let partition = self.partition(shard);
        let mut state = lock(&partition.state);
        if state.queue.is_none() {
            // Before the assignment, so that no record goes to the common queue.
            state.queue = Some(self.split(shard, &partition.arrived)?);
        }
        state.claim += 1;
        let number = state.claim;
        state.probe = None;
        // From here on the former holder gets nothing.
        self.assign(shard, &mut state, offset)?;
        partition.arrived.notify_one();
        Ok(Claim {
            consumer: Arc::clone(self),
            shard,
            number,
            arrived: Arc::clone(&partition.arrived),
        })
    }

    fn partition(&self, shard: ShardId) -> &Partition {
        &self.partitions[usize::from(shard.0)]
    }

    fn split(
        &self,
        shard: ShardId,
        arrived: &Arc<Notify>,
    ) -> Result<PartitionQueue<Context>, Error> {
        let mut queue = self
            .client
            .split_partition_queue(&self.topic, i32::from(shard.0))
            .ok_or_else(|| Error::Unavailable(format!("no queue for shard {shard}")))?;
        let arrived = Arc::clone(arrived);
        queue.set_nonempty_callback(move || arrived.notify_one());
        Ok(queue)
    }

    /// Assigning anew raises the partition's version inside the library before it returns: records
    /// that were fetched under an older one are dropped when they come to the head of the queue.
    fn assign(&self, shard: ShardId, state: &mut State, offset: i64) -> Result<(), Error> {
        self.unassign(shard, state);
        let mut list = TopicPartitionList::with_capacity(1);
        let assigned = list
            .add_partition_offset(&self.topic, i32::from(shard.0), Offset::Offset(offset))
            .and_then(|()| self.client.incremental_assign(&list));
        assigned.map_err(|error| failed(&format!("shard {shard}: assigning"), &error))?;
        state.assigned = true;
        Ok(())
    }

    fn unassign(&self, shard: ShardId, state: &mut State) {
        if !std::mem::take(&mut state.assigned) {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, i32::from(shard.0));
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::warn!(kafka.partition = shard.0, "unassigning: {error}");
        }
    }

    /// Runs until nobody else holds the consumer, and then closes it.
    fn serve(self: Arc<Self>) {
        let mut probed = Instant::now();
        while Arc::strong_count(&self) > 1 {
            match self.client.poll(EVENT_INTERVAL) {
                None => {}
                Some(Err(error)) => tracing::debug!("consumer: {error}"),
                // Its reader sees the gap and reads again from there.
                Some(Ok(record)) => tracing::error!(
                    kafka.partition = record.partition(),
                    kafka.offset = record.offset(),
                    "a record came outside of its partition's queue"
                ),
            }
            if probed.elapsed() >= PROBE_INTERVAL {
                self.probe();
                probed = Instant::now();
            }
        }
    }

    fn probe(&self) {
        let open: Vec<i32> = (0..)
            .zip(&self.partitions)
            .filter(|(_, partition)| lock(&partition.state).assigned)
            .map(|(shard, _)| shard)
            .collect();
        if open.is_empty() {
            return;
        }
        let asked = Instant::now();
        let found = match ends(&self.client, &self.topic, &open) {
            Ok(found) => found,
            Err(error) => vec![Err(error); open.len()],
        };
        for (shard, end) in open.into_iter().zip(found) {
            let shard = usize::try_from(shard).expect("counted from 0");
            lock(&self.partitions[shard].state).probe = Some(Probe { asked, end });
        }
    }
}

impl Claim {
    /// Which shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The consumer behind it.
    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// Wakes when the queue may have something, or the claim is lost.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The latest look at the partition since it was claimed.
    pub fn probe(&self) -> Option<Probe> {
        lock(&self.consumer.partition(self.shard).state)
            .probe
            .clone()
    }

    /// The partition for ourselves, if the claim still holds.
    pub fn hold(&self) -> Result<Hold<'_>, Error> {
        let state = lock(&self.consumer.partition(self.shard).state);
        if state.claim == self.number {
            return Ok(Hold { claim: self, state });
        }
        Err(Error::Unavailable(format!(
            "shard {} was opened again in this process",
            self.shard
        )))
    }
}

impl Hold<'_> {
    /// What is at the head of the queue, without waiting.
    pub fn poll(&self) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        let queue = self.state.queue.as_ref().expect("made when it was claimed");
        queue.poll(Duration::ZERO)
    }

    /// Reads anew from `offset`. After an error nothing comes any more.
    pub fn restart(&mut self, offset: i64) -> Result<(), Error> {
        self.state.probe = None;
        let claim = self.claim;
        claim.consumer.assign(claim.shard, &mut self.state, offset)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = lock(&self.consumer.partition(self.shard).state);
        if state.claim == self.number {
            self.consumer.unassign(self.shard, &mut state);
        }
    }
}

/// The end of each partition, with one request to each broker.
pub fn ends(
    client: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Result<i64, Error>>, Error> {
    let ask = || -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            // In place of a time: the time that means the end.
            list.add_partition_offset(topic, partition, Offset::End)?;
        }
        client.offsets_for_times(list, QUERY_TIMEOUT)
    };
    let list = ask().map_err(|error| failed(topic, &error))?;
    let end = |&partition: &i32| {
        let missing = || Error::Unavailable(format!("{topic}: no answer for {partition}"));
        let found = list.find_partition(topic, partition).ok_or_else(missing)?;
        found.error().map_err(|error| failed(topic, &error))?;
        match found.offset() {
            Offset::Offset(end) => Ok(end),
            _ => Err(missing()),
        }
    };
    Ok(partitions.iter().map(end).collect())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
