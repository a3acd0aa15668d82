//! How every client of Kafka is set up, and where its log lines and errors go. Knows nothing of
//! records.

use std::time::Duration;

use super::delivery::Waiting;
use crate::core::{
    config,
    log::{Error, RECORD_BYTES_MAX},
};
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{NoCustomPartitioner, ProducerContext},
};

/// A question to the cluster (metadata, offsets) may take so long.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// Kafka answers for a record within this, or gives it up as unknown.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most records that wait to be sent.
const SEND_COUNT_MAX: usize = 100_000;
/// Most bytes that wait to be sent, in KiB.
const SEND_KBYTES_MAX: usize = 128 * 1024;
/// What a record may weigh beside its value: key, headers, framing.
const OVERHEAD_BYTES_MAX: usize = 64 * 1024;
/// The largest message that the topics must take.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX;
/// What is read ahead of who goes through a whole partition, in KiB and in records.
const SWEEP_AHEAD: (usize, usize) = (64 * 1024, 200_000);
/// One portion of it, in bytes.
const SWEEP_FETCH_BYTES: usize = 8 * 1024 * 1024;
/// What all shards of a process together read ahead, in KiB ...
const READ_AHEAD_KBYTES: usize = 256 * 1024;
/// ... and one of them, at least and at most.
const READ_AHEAD_KBYTES_OF_SHARD: (usize, usize) = (2 * 1024, 16 * 1024);

const _: () = assert!(READ_AHEAD_KBYTES_OF_SHARD.0 * 1024 > MESSAGE_BYTES_MAX);

/// Settings that the promises rest on: `kafka.properties` cannot change them.
const OURS: [&str; 17] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

/// What `kafka.*` says, ready for clients of each kind.
#[derive(Clone)]
pub struct Clients {
    common: ClientConfig,
    properties: Vec<(String, String)>,
    group: String,
}

impl Clients {
    /// Checks the settings; nothing is connected yet.
    pub fn new(settings: &config::Kafka, application_name: &str) -> Result<Self, Error> {
        let Some(brokers) = &settings.brokers else {
            return Err(Error::Refused(
                "there is no Kafka: set `kafka.brokers` to `host:port,…`".into(),
            ));
        };
        for name in settings.properties.keys() {
            if OURS.contains(&name.as_str()) {
                return Err(Error::Refused(format!(
                    "`kafka.properties.{name}` is not free to choose: remove it"
                )));
            }
        }
        let mut common = ClientConfig::new();
        common
            .set("bootstrap.servers", brokers)
            .set("client.id", application_name)
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        Ok(Self {
            common,
            properties: settings.properties.clone().into_iter().collect(),
            group: application_name.to_owned(),
        })
    }

    /// For asking and changing topics.
    pub fn admin(&self) -> ClientConfig {
        self.with(&[])
    }

    /// For appending: idempotent, acknowledged by all replicas in sync, bounded in time and size.
    pub fn producer(&self) -> ClientConfig {
        self.with(&[
            ("enable.idempotence", "true".into()),
            ("acks", "all".into()),
            (
                "message.timeout.ms",
                MESSAGE_TIMEOUT.as_millis().to_string(),
            ),
            // Any wait here is rounded up to a whole millisecond by the library's poll, and is
            // waited for twice on the way of a command. Batches come of whole groups and flushes.
            ("linger.ms", "0".into()),
            ("compression.type", "lz4".into()),
            ("message.max.bytes", MESSAGE_BYTES_MAX.to_string()),
            ("queue.buffering.max.messages", SEND_COUNT_MAX.to_string()),
            ("queue.buffering.max.kbytes", SEND_KBYTES_MAX.to_string()),
        ])
    }

    /// For reading shards: only ever at a position of ours, never at one that the broker picks.
    pub fn consumer(&self, shards: u16) -> ClientConfig {
        let (least, most) = READ_AHEAD_KBYTES_OF_SHARD;
        let ahead = (READ_AHEAD_KBYTES / usize::from(shards)).clamp(least, most);
        self.reading("error", ahead)
    }

    /// For following results: from the end, and from the end again when that is lost.
    pub fn tail(&self) -> ClientConfig {
        self.reading("latest", READ_AHEAD_KBYTES_OF_SHARD.1)
    }

    /// For going through a whole partition: far ahead, in large portions.
    pub fn sweep(&self) -> ClientConfig {
        let (kbytes, records) = SWEEP_AHEAD;
        let mut config = self.reading("error", kbytes);
        config
            .set("queued.min.messages", records.to_string())
            .set("fetch.message.max.bytes", SWEEP_FETCH_BYTES.to_string());
        config
    }

    fn reading(&self, reset: &str, ahead_kbytes: usize) -> ClientConfig {
        self.with(&[
            // Assigning needs a group's name; nothing joins it and nothing is committed to it.
            ("group.id", self.group.clone()),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            ("auto.offset.reset", reset.into()),
            ("check.crcs", "true".into()),
            ("fetch.wait.max.ms", "50".into()),
            ("fetch.queue.backoff.ms", "10".into()),
            ("fetch.error.backoff.ms", "100".into()),
            ("queued.min.messages", "10000".into()),
            ("queued.max.messages.kbytes", ahead_kbytes.to_string()),
        ])
    }

    /// Ours where there is a reason, then the operator's.
    fn with(&self, ours: &[(&str, String)]) -> ClientConfig {
        let mut config = self.common.clone();
        for (name, value) in ours {
            config.set(*name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

/// Carries the library's log lines, and the answer for each record sent.
pub struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // A property of the other kind of client: both kinds get all of them.
            _ if facility == "CONFWARN" => {
                tracing::debug!(target: "kafka", facility, "{message}");
            }
            // What it calls an error (a broker away) heals by itself; who minds is told apart.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "kafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "kafka", facility, "{message}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // The log line of the same event says it already.
        tracing::debug!(target: "kafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        waiting.answer(result.as_ref().err().map(|(error, _)| error.clone()));
    }
}

/// What an error of the library means to a caller.
pub fn failed(what: &str, error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return match error {
            KafkaError::ClientConfig(_, why, name, value) => Error::Refused(format!(
                "`kafka.properties.{name}` = `{value}` does not work: {}",
                why.trim_end_matches('.')
            )),
            _ => Error::Unavailable(format!("{what}: {error}")),
        };
    };
    match code {
        Code::QueueFull => Error::QueueFull,
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            Error::Refused(format!("{what}: there is no such topic: run `axs migrate`"))
        }
        Code::UnknownPartition => Error::Refused(format!(
            "{what}: the topic has fewer partitions than the cluster has shards"
        )),
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTopic
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::UnsupportedForMessageFormat => Error::Refused(format!("{what}: {code}")),
        _ => Error::Unavailable(format!("{what}: {code}")),
    }
}

/// Runs a question that blocks on a thread for such things.
pub async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::Unavailable(format!(
            "the question was lost: {error}"
        ))),
    }
}
