//! The flush alone: a leader in this process whose log is a workload and whose store is PostgreSQL,
//! one flush after the other, each of the same size. Time is that of the flushes only.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Figures, Recorder, Stage, Workload,
    cluster::server,
    consume::feed::{CHUNK, Feed},
    statistics::Statistics,
    usage::{Process, Usage},
};
use crate::core::{
    clock::Clock,
    config::Settings,
    leader::{self, Input, Leader, Output, RequestId},
    log::{NewRecord, Record},
    store::{self, Store},
    testbed::{Error, ground::Ground},
    types::{Nonce, Position, ShardId},
};

const SHARD: ShardId = ShardId(0);
/// No flush is slow by this measure, so that every batch is as large as was asked for.
const LEASE: Duration = Duration::from_secs(3_600);
/// Sessions of the run may take so long to end.
const END_MAX: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many are flushed.
    pub commands: u64,
    /// Commands of a flush.
    pub batch: usize,
    /// The operator's, with the server to use.
    pub settings: Settings,
}

/// Runs it on a database of its own; `tell` hears of every command flushed, warm-up included.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: &mut dyn FnMut(u64),
) -> Result<Figures, Error> {
    let mut settings = options.settings.clone();
    // PostgreSQL alone.
    settings.kafka.brokers = None;
    settings.redis.url = None;
    Ground::with(&settings, "bench", stop, async |ground| {
        measure(options, ground, tell).await
    })
    .await
}

async fn measure(
    options: &Options,
    ground: &Ground,
    tell: &mut dyn FnMut(u64),
) -> Result<Figures, Error> {
    let workload = &options.workload;
    let store = store::postgres::Store::connect(&ground.settings.postgres, "axs-bench").await?;
    let store = Store::Postgres(store);
    let assets = super::consume::assets(&store, workload).await?;
    let mut feed = Feed::new(&store, workload, 1, assets).await?;
    let mut driver = Driver::lead(store, options).await?;
    let mut first = 0;
    while first < workload.accounts {
        let behind = workload.accounts.min(first + CHUNK as u64);
        let chunk = feed.openings(first..behind).await?;
        first = behind;
        driver.apply(chunk.records, tell).await?;
    }
    let session = ground.session().await?;
    driver.end_session(&session).await?;
    let statistics = Statistics::take(&session).await?;
    let postgres = server("postgres", ground.postgres_address());
    let usage = Usage::begin(postgres.into_iter().collect());
    driver.seen = Recorder::new(Instant::now());
    driver.flushing = Duration::ZERO;
    let mut made = 0;
    let mut preparing = Duration::ZERO;
    while made < options.commands {
        let count = (options.commands - made).min(CHUNK.max(options.batch) as u64);
        let (chunk, _) = feed
            .commands(usize::try_from(count).expect("a chunk"))
            .await?;
        made += count;
        let (begun, flushing) = (Instant::now(), driver.flushing);
        driver.apply(chunk.records, tell).await?;
        preparing += begun.elapsed().saturating_sub(driver.flushing - flushing);
    }
    driver.end_session(&session).await?;
    let mut stages = usage.stages();
    stages.insert(
        0,
        Stage {
            name: "leader".into(),
            cpu_seconds: preparing.as_secs_f64(),
        },
    );
    let mut described = workload.to_json();
    described.insert("batch".into(), json!(options.batch));
    Ok(Figures {
        bench: "flush",
        workload: described,
        seconds: driver.flushing.as_secs_f64(),
        latency_of: "a flush".into(),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: Process::own("axs").peak_rss_bytes(),
        stages,
        more: more(statistics.since(&session, made).await?, &driver),
        seen: driver.seen,
    })
}

fn more(mut more: Map<String, Value>, driver: &Driver) -> Map<String, Value> {
    more.insert("flushes".into(), json!(driver.seen.latency().len()));
    more
}

/// Does what the leader says, one thing after the other.
struct Driver {
    store: Store,
    leader: Leader,
    begun: Instant,
    outputs: VecDeque<Output>,
    /// The leader waits for records.
    fetch: Option<(RequestId, usize)>,
    next_offset: i64,
    seen: Recorder,
    flushing: Duration,
}

impl Driver {
    async fn lead(store: Store, options: &Options) -> Result<Self, Error> {
        let config = leader::Config {
            batch_count_max: options.batch,
            batch_bytes_max: usize::MAX,
            batch_age_max: Duration::ZERO,
            flush_interval_min: Duration::ZERO,
            lease_ttl: LEASE,
            accounts_max: usize::MAX,
            embedded: false,
        };
        let mut driver = Self {
            store,
            leader: Leader::new(SHARD, config),
            begun: Instant::now(),
            outputs: VecDeque::new(),
            fetch: None,
            next_offset: 0,
            seen: Recorder::new(Instant::now()),
            flushing: Duration::ZERO,
        };
        driver.step(Input::Lead);
        driver.settle(&mut |_| {}).await?;
        Ok(driver)
    }

    /// Flushes everything that these records do.
    async fn apply(
        &mut self,
        records: Vec<NewRecord>,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let now = Clock::System.now();
        let mut records: VecDeque<Record> = (self.next_offset..)
            .zip(records)
            .map(|(offset, record)| Record {
                position: Position::new(0, offset),
                log_time: now,
                key: record
                    .account
                    .map_or_else(String::new, |id| id.to_string())
                    .into(),
                value: record.value,
                command_id: None,
                content_hash: None,
            })
            .collect();
        self.next_offset += i64::try_from(records.len()).expect("a chunk");
        while !records.is_empty() {
            let (id, count) = self.fetch.take().ok_or_else(stuck)?;
            let some = records.drain(..count.min(records.len())).collect();
            self.step(Input::Fetched(id, Ok(some)));
            self.settle(tell).await?;
        }
        match self.leader.status().records_unflushed {
            0 => Ok(()),
            _ => Err(stuck()),
        }
    }

    fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.leader.step(self.begun.elapsed(), input, &mut outputs);
        self.outputs.extend(outputs);
    }

    /// Until the leader waits for records.
    async fn settle(&mut self, tell: &mut dyn FnMut(u64)) -> Result<(), Error> {
        while let Some(output) = self.outputs.pop_front() {
            if let Some(input) = self.carry_out(output, tell).await? {
                self.step(input);
            }
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        output: Output,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Option<Input>, Error> {
        Ok(Some(match output {
            Output::Acquire { id, mine, ttl } => {
                let nonce = Nonce(1);
                let store = &self.store;
                let taken = store.acquire(SHARD, "axs-bench", mine, nonce, ttl).await;
                Input::Acquired(id, taken)
            }
            Output::Renew {
                id,
                epoch,
                nonce,
                ttl,
            } => Input::Renewed(id, self.store.renew(SHARD, epoch, nonce, ttl).await),
            Output::Open { id, .. } => Input::Opened(id, Ok(())),
            Output::Fetch { id, count_max, .. } => {
                self.fetch = Some((id, count_max));
                return Ok(None);
            }
            Output::Load { id, request } => {
                Input::Loaded(id, self.store.load(SHARD, &request).await)
            }
            Output::Flush { id, flush, ttl } => {
                let sent_at = Instant::now();
                let answer = self.store.flush(&flush, ttl).await;
                self.flushing += sent_at.elapsed();
                let commands = flush.outcomes.len() as u64;
                self.seen.done(sent_at, commands);
                tell(commands);
                Input::Flushed(id, Ok(answer?))
            }
            Output::Publish { id, flush, skip } => {
                let count = flush.outcomes.len() + flush.dead_letters.len() - skip;
                Input::Published(id, count, None)
            }
            Output::MarkPublished {
                id,
                epoch,
                nonce,
                to,
            } => {
                let marked = self.store.mark_published(SHARD, epoch, nonce, to).await;
                Input::MarkedPublished(id, marked)
            }
            Output::Snapshot { .. } | Output::Refresh { .. } => return Ok(None),
            Output::Alarm(why) => return Err(Error::Failed(why)),
            other => return Err(Error::Failed(format!("a flush ended in {other:?}"))),
        }))
    }

    /// A session of PostgreSQL tells what it did at the latest when it ends. The leader makes a new
    /// one.
    async fn end_session(&self, session: &tokio_postgres::Client) -> Result<(), Error> {
        const END: &str = "SELECT pg_terminate_backend(pid, $1) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name LIKE 'axs-shard-%'";
        let limit = i64::try_from(END_MAX.as_millis()).expect("short");
        session.execute(END, &[&limit]).await?;
        Ok(())
    }
}

fn stuck() -> Error {
    Error::Failed("the leader of the run does not go on".into())
}
