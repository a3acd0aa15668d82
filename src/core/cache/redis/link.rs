//! One connection to Redis, made when it is first needed and again when it was lost. No call takes
//! longer than the timeout, whoever makes the connection meanwhile; while Redis refuses, calls
//! fail at once.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    RedisError, Script, ServerErrorKind,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};

use crate::core::{cache::Error, config};

/// After an attempt that failed the next one is made so much later at the earliest.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How often the cluster's client follows a moved slot or a lost node within one call.
const CLUSTER_RETRIES: u32 = 2;
/// And how long it waits in between, in milliseconds.
const CLUSTER_RETRY_WAIT_MS: u64 = 20;

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[derive(Clone)]
enum Source {
    Single(Client, AsyncConnectionConfig),
    Cluster(ClusterClient),
}

/// Redis, one node or a cluster.
pub struct Link {
    source: Source,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the attempts.
    number: u64,
    attempt: Option<Attempt>,
}

#[derive(Clone)]
struct Attempt {
    number: u64,
    started: Instant,
    connection: Shared<BoxFuture<'static, Result<Connection, String>>>,
}

impl Link {
    /// Reads the settings; connects with the first call.
    pub fn new(settings: &config::Redis) -> Result<Self, Error> {
        let Some(url) = &settings.url else {
            return Err(Error(
                "there is no Redis: set `redis.url` to `redis://host:port`".into(),
            ));
        };
        let wrong = |error: RedisError| Error(format!("`redis.url` does not work: {error}"));
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = url.as_str().into_connection_info().map_err(wrong)?;
        let info = info.set_tcp_settings(tcp.clone());
        let source = if settings.cluster {
            let client = ClusterClientBuilder::new([info])
                .tcp_settings(tcp)
                .connection_timeout(settings.timeout)
                .response_timeout(settings.timeout)
                .overall_response_timeout(Some(settings.timeout))
                .retries(CLUSTER_RETRIES)
                .max_retry_wait(CLUSTER_RETRY_WAIT_MS)
                .build();
            Source::Cluster(client.map_err(wrong)?)
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(settings.timeout))
                .set_response_timeout(Some(settings.timeout));
            Source::Single(Client::open(info).map_err(wrong)?, config)
        };
        Ok(Self {
            source,
            timeout: settings.timeout,
            state: Mutex::default(),
        })
    }

    /// One command, answered within the timeout or not at all.
    pub async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.ask(command).await.map_err(said)
    }

    /// A script that may run twice: by its hash, and with its text where Redis has lost it.
    pub async fn eval<T: FromRedisValue>(
        &self,
        script: &Script,
        text: &str,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T, Error> {
        let command = |how: &str, what: &str| {
            let mut command = redis::cmd(how);
            command.arg(what).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        match self.ask(&command("EVALSHA", script.get_hash())).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&command("EVAL", text)).await.map_err(said)
            }
            answer => answer.map_err(said),
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let attempt = self.attempt();
        let number = attempt.number;
        let asked = tokio::time::timeout(self.timeout, async {
            match attempt.connection.await {
                Ok(Connection::Single(mut single)) => command.query_async(&mut single).await,
                Ok(Connection::Cluster(mut cluster)) => command.query_async(&mut cluster).await,
                Err(why) => Err(broken(why)),
            }
        });
        let answer = asked
            .await
            .unwrap_or_else(|_| Err(broken("no answer in time".into())));
        if let Err(error) = &answer
            && is_lost(error)
        {
            self.lost(number);
        }
        answer
    }

    /// The connection that stands or is under way, else a new attempt. It runs in a task of its
    /// own: a caller that gives up does not end it.
    fn attempt(&self) -> Attempt {
        let mut state = self.lock();
        if let Some(attempt) = &state.attempt {
            let failed = matches!(attempt.connection.peek(), Some(Err(_)));
            if !failed || attempt.started.elapsed() < RETRY_AFTER {
                return attempt.clone();
            }
        }
        state.number += 1;
        let task = tokio::spawn(connect(self.source.clone(), self.timeout));
        let connection = task.map(|done| done.unwrap_or_else(|error| Err(error.to_string())));
        let attempt = Attempt {
            number: state.number,
            started: Instant::now(),
            connection: connection.boxed().shared(),
        };
        state.attempt.insert(attempt).clone()
    }

    /// Forgets a connection that broke. One that was never made keeps its place, and with it the
    /// time of the next attempt.
    fn lost(&self, number: u64) {
        let mut state = self.lock();
        let broke = |attempt: &Attempt| {
            attempt.number == number && matches!(attempt.connection.peek(), Some(Ok(_)))
        };
        if state.attempt.as_ref().is_some_and(broke) {
            state.attempt = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(source: Source, timeout: Duration) -> Result<Connection, String> {
    let connected = tokio::time::timeout(timeout, async {
        match source {
            Source::Single(client, config) => client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map(Connection::Single),
            Source::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    });
    match connected.await {
        Ok(connection) => connection.map_err(|error| error.to_string()),
        Err(_) => Err("it does not connect in time".into()),
    }
}

/// Whether the connection is of no use after this error.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        // After a failover the name leads to another node.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn broken(why: String) -> RedisError {
    RedisError::from((ErrorKind::Io, "no connection", why))
}

fn said(error: RedisError) -> Error {
    Error(error.to_string())
}
