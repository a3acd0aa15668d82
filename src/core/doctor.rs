//! Looks at every server that the settings name and says what is not as it should be, and what to
//! do. Changes nothing and prints nothing.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::core::{
    config::{Settings, check::redacted_url},
    log::{
        self,
        kafka::admin::{self, Description},
    },
    store::{
        self, ShardRow, Store,
        postgres::{self, SCHEMA_VERSION},
    },
};

/// A leader that is between two leases is no finding; a shard without one for longer is.
const LEASE_PATIENCE: Duration = Duration::from_secs(3);
/// A round trip above this makes every commit slow.
const LATENCY_MAX: Duration = Duration::from_millis(20);
/// Kafka must hold each record this often before one broker may die.
const REPLICAS_SAFE: usize = 2;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and something should be done about it.
    Warn,
    /// AXS does not work, or could lose what it accepted.
    Fail,
    /// The settings do not name it.
    Missing,
    /// It does not answer.
    Unreachable,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty: nothing.
    pub advice: String,
}

/// Runs every check, in a fixed order. A server that does not answer ends its own checks only.
pub async fn examine(settings: &Settings) -> Vec<Check> {
    let mut checks = Checks(Vec::new());
    let shards = checks.postgres(settings).await;
    checks.kafka(settings, shards).await;
    checks.redis(settings).await;
    checks.0
}

struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, state: State, found: impl Into<String>, advice: &str) {
        self.0.push(Check {
            name: name.to_owned(),
            state,
            found: found.into(),
            advice: advice.to_owned(),
        });
    }

    fn fine(&mut self, name: &str, found: impl Into<String>) {
        self.add(name, State::Ok, found, "");
    }

    async fn postgres(&mut self, settings: &Settings) -> Option<u16> {
        let Some(url) = &settings.postgres.url else {
            let advice = "set postgres.url, or use `axs dev`, which needs no servers";
            self.add("postgres", State::Missing, "not set", advice);
            return None;
        };
        let store = match postgres::Store::connect(&settings.postgres, "axs-doctor").await {
            Ok(store) => Store::Postgres(store),
            Err(error) => {
                let advice = "start PostgreSQL, or correct postgres.url";
                let found = format!("{}: {error}", redacted_url(url));
                self.add("postgres", State::Unreachable, found, advice);
                return None;
            }
        };
        // The first answer pays for connections and plans.
        let _warm = store.health().await;
        let health = match store.health().await {
            Ok(health) => health,
            Err(error) => {
                let advice = "run `axs migrate`, then look at the server's log";
                self.add("postgres", State::Unreachable, error.to_string(), advice);
                return None;
            }
        };
        self.latency("postgres", health.latency);
        self.schema(&health);
        for (name, value) in &health.settings {
            self.durability(name, value);
        }
        health.schema_version.as_ref()?;
        self.shards(settings, &store).await
    }

    fn latency(&mut self, name: &str, latency: Duration) {
        let found = format!("answers in {:.2} ms", latency.as_secs_f64() * 1e3);
        match latency > LATENCY_MAX {
            true => self.add(
                name,
                State::Warn,
                found,
                "each commit waits for it: bring it nearer",
            ),
            false => self.fine(name, found),
        }
    }

    fn schema(&mut self, health: &store::Health) {
        let name = "postgres schema";
        match health.schema_version.as_deref() {
            Some(version) if version == SCHEMA_VERSION => self.fine(name, version),
            Some(version) if version > SCHEMA_VERSION => {
                let found = format!("{version}, this program knows {SCHEMA_VERSION}");
                self.add(name, State::Fail, found, "run a newer axs");
            }
            Some(version) => {
                let found = format!("{version}, this program needs {SCHEMA_VERSION}");
                self.add(name, State::Fail, found, "run `axs migrate`");
            }
            None => self.add(name, State::Fail, "there is none", "run `axs migrate`"),
        }
    }

    /// `full_page_writes` off survives on file systems that never tear a page; the rest does not.
    fn durability(&mut self, name: &str, value: &str) {
        let shown = format!("postgres {name}");
        let advice = match (name, value) {
            ("fsync", "off") => "set it on: a crash of the machine destroys the database",
            ("synchronous_commit", "off") => {
                "set it on: a crash loses commands that were answered ACCEPTED"
            }
            ("full_page_writes", "off") => {
                let advice = "set it on, unless the file system never tears a page";
                return self.add(&shown, State::Warn, value, advice);
            }
            _ => return self.fine(&shown, value),
        };
        self.add(&shown, State::Fail, value, advice);
    }

    async fn shards(&mut self, settings: &Settings, store: &Store) -> Option<u16> {
        let shards = match store.shards().await {
            Ok(shards) => shards,
            Err(error) => {
                self.add(
                    "shards",
                    State::Fail,
                    error.to_string(),
                    "run `axs migrate`",
                );
                return None;
            }
        };
        match settings.cluster.shards {
            Some(set) if set != shards => {
                let found = format!("{shards} are stored, cluster.shards is {set}");
                self.add("shards", State::Fail, found, "leave cluster.shards unset");
            }
            _ => self.fine("shards", shards.to_string()),
        }
        self.leaders(store).await;
        Some(shards)
    }

    /// Shards that nobody leads, looked at again after the longest regular pause.
    async fn leaders(&mut self, store: &Store) {
        let mut unled: Option<BTreeSet<u16>> = None;
        let mut count = 0;
        for look in 0..2 {
            let rows = match store.shard_rows().await {
                Ok(rows) => rows,
                Err(error) => {
                    return self.add("leaders", State::Unreachable, error.to_string(), "");
                }
            };
            count = rows.len();
            if look == 0 {
                self.paused(&rows);
            }
            let free = rows.iter().filter(|row| row.lease_left.is_zero());
            let free = free.filter(|row| row.paused_by.is_none());
            let free: BTreeSet<u16> = free.map(|row| row.shard.0).collect();
            let before = unled.take();
            let still = match before {
                Some(before) => before.intersection(&free).copied().collect(),
                None => free,
            };
            if still.is_empty() {
                return self.fine("leaders", "every shard is led, or paused");
            }
            unled = Some(still);
            if look == 0 {
                tokio::time::sleep(LEASE_PATIENCE).await;
            }
        }
        let unled = unled.unwrap_or_default();
        let names: Vec<_> = unled.iter().map(u16::to_string).collect();
        let found = match unled.len() == count {
            true => "nobody leads any shard".to_owned(),
            false => format!("nobody leads shards {}", names.join(", ")),
        };
        self.add("leaders", State::Warn, found, "start `axs consume`");
    }

    /// Shards that an operator lets nobody lead.
    fn paused(&mut self, rows: &[ShardRow]) {
        let paused = rows.iter().filter(|row| row.paused_by.is_some());
        let names: Vec<String> = paused.map(|row| row.shard.to_string()).collect();
        if !names.is_empty() {
            let found = format!("shards {}", names.join(", "));
            self.add(
                "paused",
                State::Warn,
                found,
                "`axs shards resume` lets them be led again",
            );
        }
    }

    async fn kafka(&mut self, settings: &Settings, shards: Option<u16>) {
        let Some(brokers) = &settings.kafka.brokers else {
            let advice = "set kafka.brokers, or use `axs dev`, which needs no servers";
            return self.add("kafka", State::Missing, "not set", advice);
        };
        let started = Instant::now();
        let found = match admin::describe(&settings.kafka).await {
            Ok(found) => found,
            Err(error) => {
                let (state, advice) = match error {
                    log::Error::Refused(_) => (State::Fail, "correct kafka.properties"),
                    _ => (State::Unreachable, "start Kafka, or correct kafka.brokers"),
                };
                return self.add("kafka", state, format!("{brokers}: {error}"), advice);
            }
        };
        let took = started.elapsed().as_millis();
        self.fine(
            "kafka",
            format!("{} brokers, described in {took} ms", found.brokers),
        );
        self.topics(settings, shards, &found);
    }

    fn topics(&mut self, settings: &Settings, shards: Option<u16>, found: &Description) {
        for (name, topic) in &found.topics {
            let shown = format!("topic {name}");
            let Some(topic) = topic else {
                self.add(&shown, State::Fail, "there is none", "run `axs migrate`");
                continue;
            };
            let shards = shards.unwrap_or(u16::try_from(topic.partitions).unwrap_or(u16::MAX));
            let misfits = admin::misfits(name, topic, &settings.kafka, shards);
            for misfit in &misfits {
                let state = if misfit.fatal {
                    State::Fail
                } else {
                    State::Warn
                };
                let (found, advice) = match misfit.message.rsplit_once(": ") {
                    Some((found, advice)) => (found, advice),
                    None => (misfit.message.as_str(), ""),
                };
                self.add(&shown, state, found, advice);
            }
            let least = topic
                .settings
                .get("min.insync.replicas")
                .map_or("?", String::as_str);
            let found = format!(
                "{} partitions, {} replicas, min.insync.replicas {least}",
                topic.partitions, topic.replicas
            );
            if topic.replicas < REPLICAS_SAFE {
                let advice = "fine for a trial; else 3 replicas with min.insync.replicas 2";
                self.add(&shown, State::Warn, found, advice);
            } else if least.parse() == Ok(topic.replicas) {
                let advice = "one broker away stops all writing: lower it by one";
                self.add(&shown, State::Warn, found, advice);
            } else if misfits.is_empty() {
                self.fine(&shown, found);
            }
        }
    }

    async fn redis(&mut self, settings: &Settings) {
        let Some(url) = &settings.redis.url else {
            return self.fine("redis", "not set: reads come from PostgreSQL");
        };
        let started = Instant::now();
        match redis_policy(url, settings.redis.timeout).await {
            Ok(policy) => {
                self.latency("redis", started.elapsed());
                self.eviction(policy);
            }
            Err(error) => {
                let found = format!("{}: {error}", redacted_url(url));
                let advice =
                    "start Redis, or correct redis.url; until then PostgreSQL serves reads";
                self.add("redis", State::Unreachable, found, advice);
            }
        }
    }

    fn eviction(&mut self, policy: Option<String>) {
        let name = "redis maxmemory-policy";
        match policy.as_deref() {
            Some("noeviction") => {
                let advice = "fine with enough memory; else allkeys-lru: misses are read from \
                              PostgreSQL";
                self.add(name, State::Ok, "noeviction", advice);
            }
            Some(policy) => self.fine(name, policy),
            None => self.fine(name, "not told"),
        }
    }
}

/// Connects, pings, and asks for the eviction policy, which a hosted Redis may not tell.
async fn redis_policy(url: &str, limit: Duration) -> Result<Option<String>, String> {
    let ask = async {
        let client = redis::Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING")
            .query_async::<()>(&mut connection)
            .await?;
        let policy = redis::cmd("CONFIG")
            .arg(&["GET", "maxmemory-policy"])
            .query_async::<Vec<String>>(&mut connection)
            .await;
        Ok::<_, redis::RedisError>(policy.ok().and_then(|pair| pair.into_iter().nth(1)))
    };
    // Connecting takes more than one round trip.
    match tokio::time::timeout(limit * 4, ask).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", limit * 4)),
    }
}
