//! Every setting, one struct per concern, validated once.
//!
//! - [`load`]: flags > environment > file > defaults, with the origin of each value;
//! - [`check`]: ranges and what must fit together; [`template`]: a commented `axs.toml`.

pub mod check;
mod keys;
pub mod load;
pub mod template;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// All settings of a process.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What every process of a cluster must agree on.
    pub cluster: Cluster,
    /// The gRPC API.
    pub grpc: Grpc,
    /// The admin port.
    pub admin: Admin,
    /// The store.
    pub postgres: Postgres,
    /// The log.
    pub kafka: Kafka,
    /// The cache.
    pub redis: Redis,
    /// Acceptance.
    pub writer: Writer,
    /// Leading shards.
    pub consume: Consume,
    /// Re-sending.
    pub outbox: Outbox,
    /// Commands that call the gRPC API.
    pub client: Client,
}

/// Commands that call the gRPC API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// Where the API is, as `http://host:port`.
    pub server: String,
}

/// What every process of a cluster must agree on; stored by `migrate`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Number of shards, 1 to 1024. Unset: 16 at `migrate`, 4 in `dev`, else what is stored.
    pub shards: Option<u16>,
    /// Assets that `migrate` and `dev` add, as `CODE:SCALE`.
    pub assets: Vec<String>,
}

/// The gRPC API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Largest request message, bytes.
    pub message_bytes_max: usize,
    /// Most streams (calls) of one connection at a time.
    pub streams_max: u32,
    /// Most commands of one SubmitStream that are not answered yet.
    pub stream_in_flight_max: usize,
    /// Most calls that wait for an outcome at a time.
    pub waiters_max: usize,
}

/// The admin port: `/healthz`, `/readyz`, `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Unset: 127.0.0.1:7251 (serve-grpc, dev), :7252 (consume), :7253 (cron-outbox).
    pub listen: Option<SocketAddr>,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database`. Unset: there is none.
    pub url: Option<String>,
    /// Most connections for reads; acceptance and each leader have their own.
    pub read_connections_max: u32,
    /// A connection attempt may take so long.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// A statement may take so long. A leader whose lease runs out first drops its memory anyway.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port,…`. Unset: there is none.
    pub brokers: Option<String>,
    /// In front of `commands`, `results` and `commands.dlq`.
    pub topic_prefix: String,
    /// Of the topics that `migrate` creates.
    pub replication: u16,
    /// Of the topics that `migrate` creates.
    pub min_insync_replicas: u16,
    /// Of the topics that `migrate` creates; zero: for ever.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// The cache.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port`. Unset: there is none, and reads come from the store.
    pub url: Option<String>,
    /// In front of every key.
    pub key_prefix: String,
    /// The URL names a node of a Redis Cluster.
    pub cluster: bool,
    /// A call may take so long.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// Acceptance.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Writer {
    /// Most commands of one statement.
    pub group_count_max: usize,
    /// Most commands that wait for a statement; above, callers are refused.
    pub inbox_count_max: usize,
    /// Sequence numbers leased at a time.
    pub block_size: u32,
}

/// Leading shards.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consume {
    /// Most records of one flush.
    pub batch_count_max: usize,
    /// Most bytes of records of one flush.
    pub batch_bytes_max: usize,
    /// A batch gathers for so long from its first record; zero: it takes what is there.
    #[serde(with = "duration")]
    pub batch_age_max: Duration,
    /// Flushes of a shard start at least so far apart.
    #[serde(with = "duration")]
    pub flush_interval_min: Duration,
    /// A lease runs for so long without a renewal.
    #[serde(with = "duration")]
    pub lease_ttl: Duration,
    /// Most accounts kept in memory per shard; dirty ones stay whatever this says.
    pub accounts_max: usize,
    /// Accounts of each shard whose balances are compared with journal, memory and cache each
    /// second; zero: none.
    pub drift_accounts_max: usize,
}

/// Re-sending.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbox {
    /// How often it looks.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// A command this much older than the shard's time was passed over.
    #[serde(with = "duration")]
    pub margin: Duration,
    /// A sequence block is closed so long after its lease.
    #[serde(with = "duration")]
    pub block_age_max: Duration,
    /// Most commands of one shard produced again in a pass.
    pub pass_count_max: usize,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7250)),
            message_bytes_max: 4 * 1024 * 1024 + 64 * 1024,
            streams_max: 256,
            stream_in_flight_max: 2_048,
            waiters_max: 100_000,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:7250".into(),
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            url: None,
            read_connections_max: 8,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: None,
            topic_prefix: "axs.".into(),
            replication: 1,
            min_insync_replicas: 1,
            retention: Duration::from_secs(7 * 24 * 3600),
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            key_prefix: "axs:".into(),
            cluster: false,
            timeout: Duration::from_millis(250),
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            group_count_max: 4_000,
            inbox_count_max: 20_000,
            block_size: 10_000,
        }
    }
}

impl Default for Consume {
    fn default() -> Self {
        Self {
            batch_count_max: 4_096,
            batch_bytes_max: 4 * 1024 * 1024,
            batch_age_max: Duration::ZERO,
            flush_interval_min: Duration::ZERO,
            lease_ttl: Duration::from_secs(1),
            accounts_max: 1_000_000,
            drift_accounts_max: 200,
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            margin: Duration::from_secs(6),
            block_age_max: Duration::from_secs(15 * 60),
            pass_count_max: 1_000,
        }
    }
}

/// Durations are written as `500ms`, `2s`, `15m`, `7d`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!(
                "`{text}` is no duration such as `500ms` or `2s`: {error}"
            ))
        })
    }
}
