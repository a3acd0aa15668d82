//! What every service has: signals, the admin port, metrics, and connections to the servers that
//! the settings name.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use axs::core::{
    cache::{self, Cache},
    config::Settings,
    log::{self, Log},
    startup,
    store::{self, Store},
    telemetry::{
        admin::{Admin, Version},
        health::{Health, Reporter},
        metrics,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure, schema_version};

/// How often a service asks its servers whether they are there.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A cache that needs longer is as good as away, whatever `redis.timeout` lets a call wait.
const CACHE_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How often a check that had to wait for the log is tried.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// One running service. Dropping it closes the admin port.
pub struct Service {
    pub health: Health,
    /// Cancelled by the first SIGTERM or SIGINT; a second one ends the process at once.
    pub shutdown: CancellationToken,
    pub admin: Admin,
    starting: Reporter,
}

impl Service {
    /// Starts metrics, the admin port and the handling of signals.
    pub async fn start(admin: SocketAddr) -> Result<Self> {
        warn_beyond_loopback("admin.listen", admin);
        let health = Health::default();
        // The admin port answers from now on.
        let starting = health.reported("start");
        let version = Version {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("AXS_COMMIT"),
            schema_version: schema_version(),
        };
        let admin = Admin::start(admin, health.clone(), metrics::start()?, version)
            .await
            .map_err(|error| {
                Failure::new(Exit::Failure, error.to_string())
                    .hint("set admin.listen (--admin-listen) to a free address")
            })?;
        let shutdown = CancellationToken::new();
        handle_signals(health.clone(), shutdown.clone())?;
        Ok(Self {
            health,
            shutdown,
            admin,
            starting,
        })
    }

    /// Nothing that could still fail is left of the start.
    pub fn is_up(&self) {
        self.starting.set(Ok("done".into()));
    }

    /// Adds readiness checks of the servers in use.
    pub fn watch(&self, store: &Store, log: Option<&Log>, cache: Option<&Cache>) {
        let asked = store.clone();
        self.health.poll("postgres", POLL_INTERVAL, move || {
            let store = asked.clone();
            async move {
                let health = store.health().await.map_err(|error| error.to_string())?;
                Ok(format!("answers in {:?}", health.latency))
            }
        });
        if let Some(log) = log.cloned() {
            let store = store.clone();
            self.health.poll("kafka", POLL_INTERVAL, move || {
                let (store, log) = (store.clone(), log.clone());
                async move {
                    let moved = startup::check_moved(&store, &log).await;
                    if let Err(error) = moved.as_ref()
                        && error.is_refusal()
                    {
                        return Err(error.to_string());
                    }
                    answers(log.ping().await)
                }
            });
        }
        if let Some(cache) = cache.cloned() {
            // Never fails readiness: without the cache reads come from the store.
            let up = ::metrics::gauge!("axs_cache_up");
            self.health.poll("redis", POLL_INTERVAL, move || {
                let (cache, cache_up) = (cache.clone(), up.clone());
                async move {
                    let answer = match timeout(CACHE_ANSWER_MAX, cache.ping()).await {
                        Ok(answer) => answer.map_err(|error| error.to_string()),
                        Err(_) => Err(format!("no answer within {CACHE_ANSWER_MAX:?}")),
                    };
                    cache_up.set(f64::from(u8::from(answer.is_ok())));
                    Ok(match answer {
                        Ok(()) => "answers".into(),
                        Err(error) => format!("away, reads come from PostgreSQL: {error}"),
                    })
                }
            });
        }
    }
}

/// For what cleans up: cancelled by the first SIGINT or SIGTERM; a second one ends the process, and
/// leaves all behind.
pub fn interrupted() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
            told.cancel();
        }
    });
    Ok(stop)
}

/// A process that takes part in a cluster, by its name, and the servers it does that with.
pub struct Connected {
    /// Of this process.
    pub name: String,
    pub store: Store,
    /// The cluster's.
    pub shards: u16,
    pub log: Log,
}

/// Connects to PostgreSQL and Kafka, in this order, and refuses what does not fit together.
pub async fn connect(settings: &Settings) -> Result<Connected> {
    let name = name()?;
    let store = store(settings, &name).await?;
    let shards = shards(settings, &store).await?;
    let log = log(settings, &store, shards, &name).await?;
    Ok(Connected {
        name,
        store,
        shards,
        log,
    })
}

/// PostgreSQL, or what is missing.
pub async fn store(settings: &Settings, name: &str) -> Result<Store> {
    if settings.postgres.url.is_none() {
        return Err(missing("postgres.url", "--postgres-url").into());
    }
    let store = store::postgres::Store::connect(&settings.postgres, name).await?;
    Ok(Store::Postgres(store))
}

/// Kafka, or what is missing. Refuses another log than the one in use, and a database that is older
/// than what the log has seen.
async fn log(settings: &Settings, store: &Store, shards: u16, name: &str) -> Result<Log> {
    if settings.kafka.brokers.is_none() {
        return Err(missing("kafka.brokers", "--kafka-brokers").into());
    }
    let prefix = &settings.kafka.topic_prefix;
    // First: topics of another name that do not exist are not to be made.
    topics(store, prefix).await?;
    let log = Log::Kafka(log::kafka::Log::connect(&settings.kafka, shards, name).await?);
    match startup::check(store, &log, prefix).await {
        Ok(()) => Ok(log),
        Err(startup::Error::Log(error @ log::Error::Unavailable(_))) => {
            tracing::warn!(%error, "cannot tell yet whether the database went back in time");
            check_later(store.clone(), log.clone(), prefix.clone());
            Ok(log)
        }
        Err(error) => Err(refusal(error)),
    }
}

/// Kafka for a command that can do without it, else why it is not there. Refuses other topics than
/// those in use, and takes part in nothing.
pub async fn log_if_there(
    settings: &Settings,
    store: &Store,
    shards: u16,
    name: &str,
) -> Result<Result<Log, String>> {
    // First: topics of another name that do not exist are not to be made.
    topics(store, &settings.kafka.topic_prefix).await?;
    if settings.kafka.brokers.is_none() {
        return Ok(Err("kafka.brokers is not set".into()));
    }
    let log = log::kafka::Log::connect(&settings.kafka, shards, name).await;
    Ok(log.map(Log::Kafka).map_err(|error| error.to_string()))
}

/// Refuses other topics than those in use.
pub async fn topics(store: &Store, prefix: &str) -> Result<()> {
    startup::check_topics(store, prefix).await.map_err(refusal)
}

/// With the exit code of settings, where waiting changes nothing.
pub fn refusal(error: startup::Error) -> anyhow::Error {
    if !error.is_refusal() {
        return match error {
            startup::Error::Store(error) => error.into(),
            startup::Error::Log(error) => error.into(),
            error => error.into(),
        };
    }
    let text = error.to_string();
    let (message, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
    Failure::new(Exit::Configuration, message).hint(hint).into()
}

/// Compares as soon as the log answers, and ends the process if the two do not belong together.
fn check_later(store: Store, log: Log, prefix: String) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            match startup::check(&store, &log, &prefix).await {
                Ok(()) => return,
                Err(error) if error.is_refusal() => {
                    tracing::error!("{error}");
                    std::process::exit(i32::from(Exit::Configuration as u8));
                }
                Err(error) => tracing::debug!(%error, "not compared yet"),
            }
        }
    });
}

/// Redis, if the settings name one. It may be away.
pub fn cache(settings: &Settings) -> Result<Option<Cache>> {
    if settings.redis.url.is_none() {
        return Ok(None);
    }
    let cache = cache::redis::Cache::connect(&settings.redis)
        .map_err(|error| Failure::configuration(&error))?;
    Ok(Some(Cache::Redis(cache)))
}

/// The number of shards that is stored; refused where the settings say another.
pub async fn shards(settings: &Settings, store: &Store) -> Result<u16> {
    let stored = store.shards().await?;
    match settings.cluster.shards {
        Some(set) if set != stored => Err(Failure::new(
            Exit::Configuration,
            format!("cluster.shards is {set}, but the cluster was made with {stored} shards"),
        )
        .hint("leave cluster.shards unset: it is stored in PostgreSQL")
        .into()),
        _ => Ok(stored),
    }
}

/// Unique per process: `host:pid:nonce`.
pub fn name() -> Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "axs",
        host => host,
    };
    let nonce = getrandom::u32().context("no random number for this process's name")?;
    Ok(format!("{host}:{}:{nonce:08x}", std::process::id()))
}

/// There is no TLS yet: what listens beyond this machine is open to its network.
pub fn warn_beyond_loopback(setting: &'static str, address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(
            setting,
            %address,
            "listens beyond this machine without TLS: anyone in that network can use it"
        );
    }
}

/// A setting that this command cannot do without.
pub fn missing(setting: &str, flag: &str) -> Failure {
    let variable = format!("AXS_{}", setting.replace('.', "__").to_uppercase());
    Failure::new(Exit::Configuration, format!("{setting} is not set")).hint(format!(
        "set it with {flag}, {variable} or in axs.toml; `axs dev` needs no servers"
    ))
}

fn answers<E: std::fmt::Display>(answer: Result<(), E>) -> Result<String, String> {
    match answer {
        Ok(()) => Ok("answers".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn handle_signals(health: Health, shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut is_first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !is_first {
                tracing::warn!("told to stop twice: stopping at once");
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
            is_first = false;
            tracing::info!("stopping: finishing what is under way");
            health.drain();
            shutdown.cancel();
        }
    });
    Ok(())
}
