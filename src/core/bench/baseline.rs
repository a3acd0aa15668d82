//! What people would write by hand on the same PostgreSQL, to compare with: a balance row, an entry
//! with a unique key, and a stored function that locks the row, checks, updates and inserts.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
};

use serde_json::{Map, json};
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;

use super::{
    Figures, Workload,
    callers::{self, Call, Load, Seen, Tell},
    cluster::server,
    figures::rounded,
    requests::Answered,
    usage::{Process, Usage},
    workload::{OPENING_BALANCE, Operation},
};
use crate::core::{
    config::Settings,
    testbed::{Error, ground::Ground},
};

const SCHEMA: &str = include_str!("baseline.sql");

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One command a call, and a transaction each.
    RowLock,
    /// Several commands a call, in one transaction, in the order of accounts.
    RowLockBatched,
}

impl Kind {
    /// As in flags and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowLock => "row-lock",
            Self::RowLockBatched => "row-lock-batched",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RowLock, Self::RowLockBatched]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is none of row-lock, row-lock-batched"))
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which.
    pub kind: Kind,
    /// What is sent; [`Kind::RowLock`] has one command a call, and no command several changes.
    pub load: Load,
    /// Connections that callers share.
    pub pool: u32,
}

/// Measures in a database of its own.
pub async fn run(
    settings: &Settings,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    Ground::with(settings, "bench", stop, async |ground| {
        measure(ground, options, stop, tell).await
    })
    .await
}

/// Measures on a ground that is there; its schema is apart from AXS's.
pub async fn measure(
    ground: &Ground,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    let session = ground.session().await?;
    fill(&session, options).await?;
    let pool = Pool::connect(ground, options).await?;
    let mut processes = vec![Process::own("load")];
    processes.extend(server("postgres", ground.postgres_address()));
    let usage = Usage::begin(processes);
    let caller = |number| Caller {
        pool: pool.clone(),
        number,
        workload: options.load.workload,
    };
    let seen = callers::run(&options.load, caller, stop, tell).await?;
    let stages = usage.stages();
    check(&session, options, &seen).await?;
    let mut workload = options.load.workload.to_json();
    workload.insert("kind".into(), json!(options.kind.name()));
    workload.insert("callers".into(), json!(options.load.callers));
    workload.insert("batch".into(), json!(options.load.batch));
    workload.insert("rate".into(), json!(options.load.rate));
    workload.insert("pool".into(), json!(options.pool));
    let applied = seen.answered.accepted;
    let mut more = Map::new();
    more.insert("applied".into(), json!(applied));
    more.insert(
        "applied_per_second".into(),
        json!(rounded(per_second(applied, &seen))),
    );
    Ok(Figures {
        bench: "baseline",
        workload,
        seconds: seen.took.as_secs_f64(),
        latency_of: format!(
            "a call of {} commands, its wait for a connection included",
            options.load.batch
        ),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: Process::own("load").peak_rss_bytes(),
        stages,
        seen: seen.recorder,
        more,
    })
}

/// So many in the time that callers took.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, seen: &Seen) -> f64 {
    count as f64 / seen.took.as_secs_f64()
}

async fn fill(session: &Client, options: &Options) -> Result<(), Error> {
    session.batch_execute(SCHEMA).await?;
    let workload = &options.load.workload;
    let ids = (0..workload.accounts).map(|number| workload.account(number).0.cast_signed());
    session
        .execute(
            "INSERT INTO baseline.balance SELECT id, $2::bigint, 1 FROM unnest($1::bigint[]) AS u (id)",
            &[&ids.collect::<Vec<i64>>(), &OPENING_BALANCE],
        )
        .await?;
    session
        .batch_execute("VACUUM ANALYZE baseline.balance")
        .await?;
    Ok(())
}

/// What callers were told is what stands: else the figures would be of something else.
async fn check(session: &Client, options: &Options, seen: &Seen) -> Result<(), Error> {
    let row = session
        .query_one(
            "SELECT (SELECT count(*) FROM baseline.entry),
                (SELECT sum(version - 1)::bigint FROM baseline.balance)",
            &[],
        )
        .await?;
    let (entries, versions): (i64, i64) = (row.get(0), row.get(1));
    let accepted = seen.answered.accepted.cast_signed();
    if (entries, versions) == (accepted, accepted) {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "{} answered {accepted} commands, and has {entries} entries and {versions} changes",
        options.kind
    )))
}

/// Connections, each with its prepared statement; one caller has one at a time.
#[derive(Clone)]
struct Pool {
    free: Arc<Mutex<Vec<(Client, Statement)>>>,
    places: Arc<Semaphore>,
    kind: Kind,
}

impl Pool {
    async fn connect(ground: &Ground, options: &Options) -> Result<Self, Error> {
        let text = match options.kind {
            Kind::RowLock => "SELECT baseline.apply($1, $2, $3)",
            Kind::RowLockBatched => "SELECT baseline.apply_all($1, $2, $3)",
        };
        let mut free = Vec::new();
        for _ in 0..options.pool {
            let client = ground.session().await?;
            let statement = client.prepare(text).await?;
            free.push((client, statement));
        }
        Ok(Self {
            free: Arc::new(Mutex::new(free)),
            places: Arc::new(Semaphore::new(options.pool as usize)),
            kind: options.kind,
        })
    }
}

/// One caller.
struct Caller {
    pool: Pool,
    number: u64,
    workload: Workload,
}

impl Call for Caller {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let _place = self
            .pool
            .places
            .acquire()
            .await
            .expect("it is never closed");
        let (client, statement) = {
            let mut free = self.pool.free.lock().expect("no holder panics");
            free.pop().expect("as many as there are places")
        };
        let key = |operation: &Operation| format!("{}:{}", self.number, operation.number);
        let account =
            |operation: &Operation| self.workload.account(operation.account).0.cast_signed();
        let delta = |operation: &Operation| operation.changes[0].1;
        let answer = match self.pool.kind {
            Kind::RowLock => {
                let one = &operations[0];
                let binds: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&key(one), &account(one), &delta(one)];
                client.query_one(&statement, &binds).await
            }
            Kind::RowLockBatched => {
                let keys: Vec<String> = operations.iter().map(key).collect();
                let accounts: Vec<i64> = operations.iter().map(account).collect();
                let deltas: Vec<i64> = operations.iter().map(delta).collect();
                client
                    .query_one(&statement, &[&keys, &accounts, &deltas])
                    .await
            }
        };
        self.pool
            .free
            .lock()
            .expect("no holder panics")
            .push((client, statement));
        let applied = u64::from(answer?.get::<_, i32>(0).unsigned_abs());
        Ok(Answered {
            accepted: applied,
            duplicates: operations.len() as u64 - applied,
            ..Answered::default()
        })
    }
}
