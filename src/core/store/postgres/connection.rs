//! Connections: a pool for reads, and single ones that nobody else can hold up. Owns time-outs and
//! what becomes of a connection after an error; knows no table.
//!
//! Each statement runs in a task of its own, so that a caller who goes away leaves no connection
//! with an answer half read. All of them are single autocommitted statements.

use std::{any::Any, sync::Arc, time::Duration};

use diesel::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager as _,
    methods::LoadQuery,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, PoolableConnection as _, RecyclingMethod,
        bb8::Pool,
    },
};
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};
use tokio_postgres::{Config, NoTls};

use super::{
    error::{Effect, explain},
    witness::{self, AskStanding, Standing, Witness},
};
use crate::core::{config, store::Error};

/// We wait for so long beyond the server's own `statement_timeout` before we give an answer up.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// A peer that is silent is asked after so long whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// It is gone if it is silent to so many.
const KEEPALIVES_MAX: u32 = 3;
/// Every statement of ours goes by keys in arrays, so the plan that suits is always the nested
/// loop over indexes, whatever the statistics of the day say; and it is planned once.
const PLANNER: &str = "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_hashjoin=off \
     -c enable_mergejoin=off -c enable_seqscan=off";

/// The rows of an answer, of a type that only who asked knows.
type Rows = Box<dyn Any + Send>;
/// A statement to run: one type for all of them, so that what surrounds them is compiled once.
type Work =
    Box<dyn for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<Rows>> + Send>;

/// Erases the types of a statement and its rows.
fn work<S, Row>(statement: S) -> Work
where
    S: LoadQuery<'static, AsyncPgConnection, Row> + Send + 'static,
    Row: Send + 'static,
{
    Box::new(move |connection| {
        let rows = statement.load::<Row>(connection);
        rows.map_ok(|rows| Box::new(rows) as Rows).boxed()
    })
}

/// The rows of a statement that [`work`] erased.
fn rows<Row: 'static>(rows: Rows) -> Vec<Row> {
    *rows.downcast().expect("the statement answers its own rows")
}

/// Which server, and how long we wait for it.
pub(super) struct Target {
    config: Config,
    application_name: String,
    /// Host, port and database, without the password.
    address: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    witness: Witness,
}

impl Target {
    /// `Mismatch` when the settings name no server.
    pub fn new(settings: &config::Postgres, application_name: &str) -> Result<Self, Error> {
        let Some(url) = &settings.url else {
            return Err(Error::Mismatch(
                "no PostgreSQL is set: set `postgres.url`, as postgres://user@host/database".into(),
            ));
        };
        let mut config: Config = url.parse().map_err(|error| {
            Error::Mismatch(format!("`postgres.url` is no PostgreSQL URL: {error}"))
        })?;
        // The server asks too: of a client that was cut off behind its statement, and before the
        // message that ends it, no time-out of the server's rids the rows that it holds.
        let options = format!(
            "{} {PLANNER} -c statement_timeout={} -c idle_in_transaction_session_timeout={} \
             -c tcp_keepalives_idle={idle} -c tcp_keepalives_interval={idle} \
             -c tcp_keepalives_count={KEEPALIVES_MAX}",
            config.get_options().unwrap_or_default(),
            settings.statement_timeout.as_millis(),
            settings.statement_timeout.as_millis(),
            idle = KEEPALIVE_IDLE.as_secs(),
        );
        config
            .options(options.trim())
            .connect_timeout(settings.connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_IDLE)
            .keepalives_retries(KEEPALIVES_MAX)
            .tcp_user_timeout(settings.statement_timeout);
        let address = address(&config);
        Ok(Self {
            config,
            application_name: application_name.to_owned(),
            address,
            connect_timeout: settings.connect_timeout,
            statement_timeout: settings.statement_timeout,
            witness: Witness::default(),
        })
    }

    /// A new connection of the process; `role` is shown in `pg_stat_activity` instead of its name.
    pub async fn connect(&self, role: Option<&str>) -> Result<AsyncPgConnection, Error> {
        let connecting = self.establish(role.unwrap_or(&self.application_name));
        match timeout(self.connect_timeout, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.unavailable(&error.to_string())),
            Err(_) => Err(self.unavailable("no connection within `postgres.connect_timeout`")),
        }
    }

    async fn establish(&self, application_name: &str) -> ConnectionResult<AsyncPgConnection> {
        let mut config = self.config.clone();
        config.application_name(application_name);
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|error| ConnectionError::BadConnection(with_sources(&error)))?;
        let mut connection =
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        let seen = self.witness.seen();
        let rows: Vec<witness::Row> = AskStanding {}
            .load(&mut connection)
            .await
            .map_err(|error| ConnectionError::BadConnection(with_sources(&error)))?;
        let standing = Standing::of(rows.into_iter().next());
        standing
            .and_then(|now| self.witness.check(seen, now))
            .map_err(ConnectionError::BadConnection)?;
        Ok(connection)
    }

    /// `Mismatch` once the server was found to have gone back in time: nothing is asked of it then.
    fn trusted(&self) -> Result<(), Error> {
        match self.witness.refusal() {
            Some(why) => Err(Error::Mismatch(why)),
            None => Ok(()),
        }
    }

    fn unavailable(&self, cause: &str) -> Error {
        if let Err(refused) = self.trusted() {
            return refused;
        }
        Error::Unavailable(format!("PostgreSQL at {}: {cause}", self.address))
    }

    fn answer_timeout(&self) -> Duration {
        self.statement_timeout + ANSWER_GRACE
    }

    /// Runs a statement and reads its answer to the end, which is behind the commit: a first row
    /// alone proves nothing.
    async fn run(
        &self,
        connection: &mut AsyncPgConnection,
        effect: Effect,
        work: Work,
    ) -> Result<Rows, Error> {
        match timeout(self.answer_timeout(), work(connection)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(explain(&error, effect)),
            Err(_) => {
                let late = self.unavailable("no answer within `postgres.statement_timeout`");
                Err(match effect {
                    Effect::Reads => late,
                    Effect::Writes => Error::AnswerLost(late.to_string()),
                })
            }
        }
    }
}

/// The connections for reads.
#[derive(Clone)]
pub(super) struct Readers {
    target: Arc<Target>,
    pool: Pool<AsyncPgConnection>,
}

impl Readers {
    /// Connects nothing yet.
    pub fn new(target: Arc<Target>, connections_max: u32) -> Self {
        let mut manager = ManagerConfig::default();
        let setup = target.clone();
        manager.custom_setup = Box::new(move |_| {
            let target = setup.clone();
            async move { target.establish(&target.application_name).await }.boxed()
        });
        // A look at the socket, not a round trip: a server that was restarted leaves no trace of
        // dead connections.
        manager.recycling_method = RecyclingMethod::CustomFunction(Box::new(|connection| {
            let closed = connection.is_broken();
            async move {
                match closed {
                    true => Err(diesel::result::Error::BrokenTransactionManager),
                    false => Ok(()),
                }
            }
            .boxed()
        }));
        let pool = Pool::builder()
            .max_size(connections_max)
            .connection_timeout(target.connect_timeout)
            .retry_connection(false)
            .build_unchecked(AsyncDieselConnectionManager::new_with_config("", manager));
        Self { target, pool }
    }

    /// Runs a statement that changes nothing.
    pub async fn run<S, Row>(&self, statement: S) -> Result<Vec<Row>, Error>
    where
        S: LoadQuery<'static, AsyncPgConnection, Row> + Send + 'static,
        Row: Send + 'static,
    {
        let answer = self.clone().run_erased(work(statement));
        in_task(Box::pin(answer)).await.map(rows)
    }

    /// Remembers how far the server is, or refuses it.
    pub async fn witness(&self) -> Result<(), Error> {
        let witness = &self.target.witness;
        let seen = witness.seen();
        let rows: Vec<witness::Row> = self.run(AskStanding {}).await?;
        let standing = Standing::of(rows.into_iter().next());
        let standing = standing.map_err(|why| self.target.unavailable(&why))?;
        witness.check(seen, standing).map_err(Error::Mismatch)
    }

    async fn run_erased(self, work: Work) -> Result<Rows, Error> {
        self.target.trusted()?;
        let got = self.pool.get_owned().await;
        let mut connection = got.map_err(|error| self.target.unavailable(&error.to_string()))?;
        let answer = self.target.run(&mut connection, Effect::Reads, work).await;
        if answer.is_err() {
            // The pool throws it away: the plans that it has prepared may be what is wrong.
            AnsiTransactionManager::transaction_manager_status_mut(&mut *connection).set_in_error();
        }
        answer
    }
}

/// One connection, made when it is needed; statements on it take turns.
#[derive(Clone)]
pub(super) struct Line {
    target: Arc<Target>,
    /// Name in `pg_stat_activity`, if not the process's.
    role: Option<String>,
    connection: Arc<Mutex<Option<AsyncPgConnection>>>,
}

impl Line {
    /// Connects nothing yet.
    pub fn new(target: Arc<Target>, role: Option<String>) -> Self {
        Self {
            target,
            role,
            connection: Arc::default(),
        }
    }

    /// The same connection, which is called otherwise when it is made anew.
    pub fn renamed(&self, role: String) -> Self {
        Self {
            role: Some(role),
            ..self.clone()
        }
    }

    /// Runs a statement. After an error that is none of ours the connection is given up.
    pub async fn run<S, Row>(&self, effect: Effect, statement: S) -> Result<Vec<Row>, Error>
    where
        S: LoadQuery<'static, AsyncPgConnection, Row> + Send + 'static,
        Row: Send + 'static,
    {
        let answer = self.clone().run_erased(effect, work(statement));
        in_task(Box::pin(answer)).await.map(rows)
    }

    async fn run_erased(self, effect: Effect, work: Work) -> Result<Rows, Error> {
        self.hold().await?.run_erased(effect, work).await
    }

    /// Waits for its turn and takes it: later statements of the line wait until this is dropped.
    pub async fn hold(&self) -> Result<Held, Error> {
        let target = &self.target;
        target.trusted()?;
        let turn = timeout(
            target.answer_timeout(),
            self.connection.clone().lock_owned(),
        );
        let Ok(place) = turn.await else {
            return Err(target.unavailable("statements before this one take too long"));
        };
        Ok(Held {
            target: target.clone(),
            role: self.role.clone(),
            place,
        })
    }
}

/// A line whose turn it is.
pub(super) struct Held {
    target: Arc<Target>,
    role: Option<String>,
    place: OwnedMutexGuard<Option<AsyncPgConnection>>,
}

impl Held {
    /// Runs a statement, in a task that nobody breaks off: else its connection is lost with it.
    pub async fn run<S, Row>(&mut self, effect: Effect, statement: S) -> Result<Vec<Row>, Error>
    where
        S: LoadQuery<'static, AsyncPgConnection, Row> + Send + 'static,
        Row: Send + 'static,
    {
        self.run_erased(effect, work(statement)).await.map(rows)
    }

    async fn run_erased(&mut self, effect: Effect, work: Work) -> Result<Rows, Error> {
        let target = &self.target;
        let mut kept = self.place.take();
        let closed = kept
            .as_mut()
            .is_some_and(|connection| connection.is_broken());
        let mut connection = match kept {
            Some(connection) if !closed => connection,
            _ => target.connect(self.role.as_deref()).await?,
        };
        let answer = target.run(&mut connection, effect, work).await;
        // Kept where one of our functions answered; else what it has prepared may be what is wrong.
        if matches!(
            answer,
            Ok(_)
                | Err(Error::Fenced(_)
                    | Error::Conflict(_)
                    | Error::Refused(_)
                    | Error::BlockClosed(_)
                    | Error::NumberTaken(_))
        ) {
            *self.place = Some(connection);
        }
        answer
    }
}

/// Runs it to its end, whether the caller waits or not.
async fn in_task(work: BoxFuture<'static, Result<Rows, Error>>) -> Result<Rows, Error> {
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::AnswerLost(error.to_string())),
    }
}

/// Host, port and database, without the password.
pub(in crate::core) fn address(config: &Config) -> String {
    use tokio_postgres::config::Host;

    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("?");
    format!("{host}:{port}/{database}")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
