//! Watches the records of a run on their way: a consumer of its own sees each command and each
//! result when others can see them. All times are of one machine's clock, as microseconds.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::Value;

use crate::core::{
    bench::figures,
    config,
    log::kafka::Topics,
    proto::{CommandResult, LogRecord, log_record::Payload},
    testbed::Error,
};

/// How soon the thread notices that the run is over.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The last results are seen within this.
const REST: Duration = Duration::from_millis(500);
/// A question to the cluster may take so long.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The steps, in the order of the way.
const STEPS: [&str; 5] = [
    "sent_to_accepted",
    "accepted_to_in_log",
    "in_log_to_result",
    "result_to_answered",
    "sent_to_answered",
];

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(now.as_micros()).expect("before the year 294,000")
}

/// When each call was sent and answered, by command id.
#[derive(Default)]
pub struct Calls(Mutex<Vec<(u64, i64, i64)>>);

impl Calls {
    /// A call that was sent then is answered now.
    pub fn answered(&self, command: u64, sent: i64) {
        let call = (command, sent, now_us());
        self.0.lock().expect("no holder panics").push(call);
    }

    /// What was before does not count.
    pub fn forget(&self) {
        self.0.lock().expect("no holder panics").clear();
    }
}

/// Times of one command.
#[derive(Clone, Copy, Default)]
struct Times {
    /// By PostgreSQL's clock.
    accepted: i64,
    /// A consumer has the command.
    in_log: i64,
    /// A consumer has the result.
    result: i64,
}

/// A consumer of all commands and results.
pub struct Watch {
    seen: Arc<Mutex<HashMap<u64, Times>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Sees what is appended after this.
    pub async fn start(settings: &config::Kafka, shards: u16) -> Result<Self, Error> {
        let settings = settings.clone();
        let start = tokio::task::spawn_blocking(move || Self::follow(&settings, shards));
        start
            .await
            .map_err(|error| Error::Failed(error.to_string()))?
    }

    fn follow(settings: &config::Kafka, shards: u16) -> Result<Self, Error> {
        let failed = |error: rdkafka::error::KafkaError| Error::Unavailable(error.to_string());
        let mut config = ClientConfig::new();
        for (name, value) in &settings.properties {
            config.set(name, value);
        }
        let brokers = settings.brokers.clone().unwrap_or_default();
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", "axs-bench")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50");
        let client: BaseConsumer = config.create().map_err(failed)?;
        let topics = Topics::new(&settings.topic_prefix);
        let mut list = TopicPartitionList::new();
        for topic in [&topics.commands, &topics.results] {
            for partition in 0..i32::from(shards) {
                let (_, end) = client
                    .fetch_watermarks(topic, partition, QUERY_TIMEOUT)
                    .map_err(failed)?;
                list.add_partition_offset(topic, partition, Offset::Offset(end))
                    .map_err(failed)?;
            }
        }
        client.assign(&list).map_err(failed)?;
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (to, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("axs-bench-watch".into());
        let thread = thread.spawn(move || watch(&client, &topics, &to, &until));
        Ok(Self {
            seen,
            stop,
            thread: thread.map_err(|error| Error::Failed(error.to_string()))?,
        })
    }

    /// What each step took, of the calls that were answered.
    pub async fn steps(self, calls: &Calls) -> Result<Value, Error> {
        tokio::time::sleep(REST).await;
        self.stop.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = ended.await;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut steps = [(); STEPS.len()]
            .map(|()| Histogram::<u64>::new(3).expect("three digits are possible"));
        for (command, sent, answered) in &*calls.0.lock().expect("no holder panics") {
            let Some(times) = seen
                .get(command)
                .filter(|it| it.in_log > 0 && it.result > 0)
            else {
                continue;
            };
            let took = [
                times.accepted - sent,
                times.in_log - times.accepted,
                times.result - times.in_log,
                answered - times.result,
                answered - sent,
            ];
            for (step, took) in steps.iter_mut().zip(took) {
                // Two consumers see a record in either order.
                let took = u64::try_from(took).unwrap_or_default();
                step.record(took)
                    .expect("a histogram that resizes takes any time");
            }
        }
        Ok(figures::steps(&STEPS, &steps))
    }
}

fn watch(
    client: &BaseConsumer,
    topics: &Topics,
    seen: &Mutex<HashMap<u64, Times>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        // It reconnects by itself.
        let Some(Ok(message)) = client.poll(POLL_INTERVAL) else {
            continue;
        };
        let at = now_us();
        let value = message.payload().unwrap_or_default();
        let mut seen = seen.lock().expect("no holder panics");
        if message.topic() == topics.results {
            if let Ok(result) = CommandResult::decode(value) {
                seen.entry(result.command_id).or_default().result = at;
            }
        } else if let Ok(LogRecord {
            payload: Some(Payload::Command(command)),
            ..
        }) = LogRecord::decode(value)
        {
            let accepted = command.accepted_at.unwrap_or_default();
            let times = seen.entry(command.command_id).or_default();
            times.accepted = accepted.seconds * 1_000_000 + i64::from(accepted.nanos) / 1_000;
            times.in_log = at;
        }
    }
}
