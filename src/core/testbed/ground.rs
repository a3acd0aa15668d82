//! What a run owns on the servers that the settings name: a database, topics and keys of its own,
//! made for it and taken away after it. Nothing that was there before is ever written to.

use std::path::{Path, PathBuf};

use tokio_postgres::{Client, Config, NoTls, config::Host};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::core::{
    cache,
    config::{self, Settings},
    log::kafka::{Topics, admin},
    store::postgres::{connection, migrate},
};

/// Assets of a run: small, usual and large scales.
pub const ASSETS: [(&str, u8); 3] = [("EUR", 2), ("BTC", 8), ("USDT", 18)];
/// Keys deleted from Redis at a time.
const KEYS_MAX: usize = 500;

/// The run's own part of PostgreSQL, Kafka and Redis, and a folder for logs.
pub struct Ground {
    /// Different in each run.
    pub id: String,
    /// `chaos` or `bench`: part of every name.
    purpose: &'static str,
    /// The settings that were given, with database, topics and keys of the run.
    pub settings: Settings,
    /// Of the run's cluster.
    pub shards: u16,
    /// Logs of services and hooks.
    pub folder: PathBuf,
    /// The server's own database, from which ours is made and dropped.
    server: Config,
    database: String,
}

impl Ground {
    /// Makes everything; what was made before an error is taken away again.
    pub async fn make(given: &Settings, shards: u16, purpose: &'static str) -> Result<Self, Error> {
        let random = getrandom::u64().map_err(|error| Error::Failed(error.to_string()))?;
        let id = format!("{random:016x}");
        let url = given.postgres.url.as_deref().unwrap_or_default();
        let mut server: Config = url
            .parse()
            .map_err(|error| Error::Failed(format!("`postgres.url` is no URL: {error}")))?;
        server.connect_timeout(given.postgres.connect_timeout);
        let database = format!("axs_{purpose}_{id}");
        reach(given, &server).await?;
        let mut settings = given.clone();
        settings.postgres.url = Some(with_database(url, &database)?);
        settings.kafka.topic_prefix = format!("{}{purpose}-{id}.", given.kafka.topic_prefix);
        settings.redis.key_prefix = format!("{}{purpose}-{id}:", given.redis.key_prefix);
        settings.cluster = config::Cluster {
            shards: Some(shards),
            assets: ASSETS
                .map(|(code, scale)| format!("{code}:{scale}"))
                .to_vec(),
        };
        let folder = std::env::temp_dir().join(format!("axs-{purpose}-{id}"));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::Failed(format!("`{}`: {error}", folder.display())))?;
        let ground = Self {
            id,
            purpose,
            settings,
            shards,
            folder,
            server,
            database,
        };
        match ground.fill().await {
            Ok(()) => Ok(ground),
            Err(error) => {
                // The first error says more than whatever a cleaning up might add.
                let _ = ground.clear(false).await;
                Err(error)
            }
        }
    }

    /// Makes everything, lets `run` work on it, and takes everything away again, whatever came of it;
    /// interrupted as soon as `stop` is cancelled. One shard, for who measures parts.
    pub async fn with<T>(
        given: &Settings,
        purpose: &'static str,
        stop: &CancellationToken,
        run: impl AsyncFnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ground = Self::make(given, 1, purpose).await?;
        let ran = tokio::select! {
            () = stop.cancelled() => Err(Error::Interrupted),
            ran = run(&ground) => ran,
        };
        let cleared = ground.clear(false).await;
        let ran = ran?;
        cleared?;
        Ok(ran)
    }

    async fn fill(&self) -> Result<(), Error> {
        let create = format!("CREATE DATABASE \"{}\"", self.database);
        let admin = client(&self.server).await?;
        admin.batch_execute(&create).await.map_err(|error| {
            Error::Failed(format!(
                "cannot make a database for the run: {}\nhint: `axs {}` never uses an existing \
                 one; the role of postgres.url needs CREATEDB",
                reason(&error),
                self.purpose
            ))
        })?;
        migrate::run(&self.settings.postgres, &self.settings.cluster).await?;
        if self.settings.kafka.brokers.is_some() {
            admin::ensure_topics(&self.settings.kafka, self.shards).await?;
        }
        Ok(())
    }

    /// A session past every proxy, for looking.
    pub async fn session(&self) -> Result<Client, Error> {
        let mut config = self.server.clone();
        config.dbname(&self.database);
        client(&config).await
    }

    /// The one TCP address of PostgreSQL, where a proxy can stand in front of it.
    pub fn postgres_address(&self) -> Option<String> {
        let [Host::Tcp(host)] = self.server.get_hosts() else {
            return None;
        };
        let port = self.server.get_ports().first().copied().unwrap_or(5432);
        Some(format!("{host}:{port}"))
    }

    /// The address of Redis, where there is one and a proxy can stand in front of it: the nodes of
    /// a cluster name each other.
    pub fn redis_address(&self) -> Option<String> {
        let redis = &self.settings.redis;
        if redis.cluster {
            return None;
        }
        let url = redis::parse_redis_url(redis.url.as_deref()?)?;
        Some(format!(
            "{}:{}",
            url.host_str()?,
            url.port().unwrap_or(6379)
        ))
    }

    /// Deletes every key of the run; how many there were.
    pub async fn delete_keys(&self) -> Result<usize, Error> {
        let Some(url) = &self.settings.redis.url else {
            return Ok(0);
        };
        let away = |error: redis::RedisError| Error::Unavailable(format!("redis: {error}"));
        let client = redis::Client::open(url.as_str()).map_err(away)?;
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .map_err(away)?;
        let pattern = format!("{}*", self.settings.redis.key_prefix);
        let (mut cursor, mut deleted) = (0_u64, 0);
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(KEYS_MAX)
                .query_async(&mut connection)
                .await
                .map_err(away)?;
            // One by one in a pipe: on a cluster they are of different slots.
            let mut pipe = redis::pipe();
            for key in &keys {
                pipe.del(key).ignore();
            }
            if !keys.is_empty() {
                pipe.query_async::<()>(&mut connection)
                    .await
                    .map_err(away)?;
            }
            deleted += keys.len();
            cursor = next;
            if cursor == 0 {
                return Ok(deleted);
            }
        }
    }

    /// Takes everything of the run away again; with `keep_logs` the folder stays.
    pub async fn clear(&self, keep_logs: bool) -> Result<(), Error> {
        let drop = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.database);
        let dropped = match client(&self.server).await {
            Ok(admin) => admin
                .batch_execute(&drop)
                .await
                .map_err(|error| Error::Failed(reason(&error))),
            Err(error) => Err(error),
        };
        let names = Topics::new(&self.settings.kafka.topic_prefix);
        let topics = match &self.settings.kafka.brokers {
            Some(_) => admin::delete_topics(&self.settings.kafka, &names).await,
            None => Ok(()),
        };
        let keys = self.delete_keys().await;
        if !keep_logs {
            remove(&self.folder);
        }
        dropped?;
        topics?;
        keys.map(|_| ())
    }

    /// What an operator deletes by hand when the run leaves it.
    pub fn leftovers(&self) -> String {
        format!(
            "database {}, topics {}*, keys {}*, logs {}",
            self.database,
            self.settings.kafka.topic_prefix,
            self.settings.redis.key_prefix,
            self.folder.display()
        )
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(%error, "`{}` stays behind", folder.display());
    }
}

/// Each server answers: else the run ends before it has made anything that must be taken away.
async fn reach(settings: &Settings, server: &Config) -> Result<(), Error> {
    client(server).await?;
    if settings.kafka.brokers.is_some() {
        admin::describe(&settings.kafka).await?;
    }
    if settings.redis.url.is_some() {
        cache::redis::Cache::connect(&settings.redis)?
            .ping()
            .await?;
    }
    Ok(())
}

async fn client(config: &Config) -> Result<Client, Error> {
    let mut config = config.clone();
    config.application_name("axs-testbed");
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| {
        let server = connection::address(&config);
        Error::Unavailable(format!("PostgreSQL at {server}: {}", reason(&error)))
    })?;
    tokio::spawn(connection);
    Ok(client)
}

/// The innermost cause: what the server or the system said.
pub fn reason(error: &dyn std::error::Error) -> String {
    crate::core::submit::reason(error)
}

/// The URL with another database in it.
fn with_database(url: &str, name: &str) -> Result<String, Error> {
    let (scheme, authority, rest) = parts(url)?;
    let parameters = rest
        .split_once('?')
        .map_or("", |(_, parameters)| parameters);
    Ok(format!("{scheme}://{authority}/{name}?{parameters}"))
}

/// The URL with another host and port in it; user and password stay.
pub fn with_address(url: &str, address: &str) -> Result<String, Error> {
    let (scheme, authority, rest) = parts(url)?;
    let user = authority
        .rsplit_once('@')
        .map_or(String::new(), |(user, _)| format!("{user}@"));
    Ok(format!("{scheme}://{user}{address}{rest}"))
}

/// Scheme, authority, and what follows it.
fn parts(url: &str) -> Result<(&str, &str, &str), Error> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| {
        Error::Failed(
            "`postgres.url` is no URL\nhint: write it as postgres://user:password@host:port/database"
                .into(),
        )
    })?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Ok((scheme, &rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_database_or_address_of_a_url_changes() {
        let url = "postgres://ann:pw@db:5432/axs?application_name=x";
        assert_eq!(
            with_database(url, "mine").expect("a URL"),
            "postgres://ann:pw@db:5432/mine?application_name=x"
        );
        assert_eq!(
            with_address(url, "127.0.0.1:7").expect("a URL"),
            "postgres://ann:pw@127.0.0.1:7/axs?application_name=x"
        );
        assert_eq!(
            with_address("redis://h:6379/3", "127.0.0.1:7").expect("a URL"),
            "redis://127.0.0.1:7/3"
        );
        assert!(with_database("host=db dbname=axs", "mine").is_err());
    }
}
