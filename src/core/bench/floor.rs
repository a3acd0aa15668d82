//! What a command cannot take less than on these servers: the hops of its way without AXS. An empty
//! call, a row committed, a record through Kafka, a row committed, a record through Kafka, one
//! behind the other, by the same callers and with messages of the same size.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_postgres::{Client, Statement};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{
    Figures,
    callers::{self, Call, Load, Tell},
    cluster::server,
    figures,
    requests::{self, Answered, Requests},
    usage::{Process, Usage},
    workload::Operation,
};
use crate::core::{
    config::Settings,
    log::{Log, kafka},
    proto::{
        CommandResult, CommandStatus, SubmitOutcome, SubmitRequest, SubmitResponse,
        SubmitStreamRequest, SubmitStreamResponse,
        write_service_client::WriteServiceClient,
        write_service_server::{self, WriteServiceServer},
    },
    result::Encoded,
    submit,
    testbed::{Error, ground::Ground},
    types::{CommandId, Sequence, ShardId},
};

/// As the servers see this process.
const NAME: &str = "axs-bench";
/// A record must be back within this.
const BACK_MAX: Duration = Duration::from_secs(10);
/// Not measured: connections are opened, code is compiled (Kafka's).
const WARM_UP: Duration = Duration::from_secs(2);
/// The hops, in the order of the way.
const HOPS: [&str; 5] = [
    "call",
    "first_commit",
    "first_log",
    "second_commit",
    "second_log",
];
/// A row of a number and a message, as acceptance and flush write at least one each.
const SCHEMA: &str = "CREATE SCHEMA floor;
    CREATE TABLE floor.command (n bigint PRIMARY KEY, body bytea NOT NULL);
    CREATE TABLE floor.result (n bigint PRIMARY KEY, body bytea NOT NULL)";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is sent; its batch is 1.
    pub load: Load,
    /// Connections to PostgreSQL, and for calls, that callers share.
    pub connections: u32,
}

/// Measures in a database and on topics of its own.
pub async fn run(
    settings: &Settings,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    Ground::with(settings, "bench", stop, async |ground| {
        on(ground, options, stop, tell).await
    })
    .await
}

async fn on(
    ground: &Ground,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    ground.session().await?.batch_execute(SCHEMA).await?;
    let way = Arc::new(Way::connect(ground, options.connections).await?);
    let _following = AbortOnDropHandle::new(tokio::spawn(follow(Arc::clone(&way)).await?));
    let load = &options.load;
    let caller = |number: u64| Caller {
        requests: Requests::new(load.workload),
        number,
        way: Arc::clone(&way),
        took: Arc::clone(&way.took[usize::try_from(number).unwrap_or(0) % way.took.len()]),
    };
    let warm_up = Load {
        duration: WARM_UP.min(load.duration),
        ..*load
    };
    callers::run(&warm_up, caller, stop, &mut |_, _| {}).await?;
    way.took.iter().for_each(|took| *lock(took) = new_hops());
    let usage = Usage::begin(processes(ground));
    let seen = callers::run(load, caller, stop, tell).await?;
    let stages = usage.stages();
    Ok(Figures {
        bench: "floor",
        workload: described(options),
        seconds: seen.took.as_secs_f64(),
        seen: seen.recorder,
        latency_of: "a command's hops without AXS, from when it should have been sent".into(),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: Process::own("load").peak_rss_bytes(),
        stages,
        more: Map::from_iter([("steps".to_owned(), way.steps())]),
    })
}

fn processes(ground: &Ground) -> Vec<Process> {
    let brokers = ground.settings.kafka.brokers.clone().unwrap_or_default();
    let broker = brokers.split(',').next().map(str::to_owned);
    // The calls' server is in this process.
    let mut processes = vec![Process::own("load")];
    processes.extend(server("kafka", broker));
    processes.extend(server("postgres", ground.postgres_address()));
    processes
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.load.workload.to_json();
    let fields = [
        ("callers", json!(options.load.callers)),
        ("rate", json!(options.load.rate)),
        ("connections", json!(options.connections)),
    ];
    described.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    described
}

/// Answers every call at once.
struct Empty;

#[tonic::async_trait]
impl write_service_server::WriteService for Empty {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let outcome = |_| SubmitOutcome {
            status: CommandStatus::Accepted.into(),
            ..SubmitOutcome::default()
        };
        let outcomes = request.into_inner().commands.iter().map(outcome).collect();
        Ok(Response::new(SubmitResponse { outcomes }))
    }

    type SubmitStreamStream = tokio_stream::Empty<Result<SubmitStreamResponse, Status>>;

    async fn submit_stream(
        &self,
        _: Request<Streaming<SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        Err(Status::unimplemented("only calls are measured"))
    }
}

type Hops = [Histogram<u64>; HOPS.len()];

/// What callers share.
struct Way {
    channels: Vec<Channel>,
    sessions: Vec<(Client, [Statement; 2])>,
    log: Log,
    /// Who waits for a record to come back.
    waiting: Mutex<HashMap<CommandId, oneshot::Sender<()>>>,
    numbers: AtomicU64,
    took: Vec<Arc<Mutex<Hops>>>,
    _server: AbortOnDropHandle<Result<(), tonic::transport::Error>>,
}

impl Way {
    async fn connect(ground: &Ground, connections: u32) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Failed(error.to_string());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let server = tonic::transport::Server::builder()
            .add_service(WriteServiceServer::new(Empty))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(server));
        let away = |error: tonic::transport::Error| Error::Unavailable(submit::reason(&error));
        let (mut channels, mut sessions) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let endpoint = submit::endpoint(&format!("http://{address}")).map_err(away)?;
            channels.push(endpoint.connect().await.map_err(away)?);
            let session = ground.session().await?;
            let statements = [
                session
                    .prepare("INSERT INTO floor.command VALUES ($1, $2)")
                    .await?,
                session
                    .prepare("INSERT INTO floor.result VALUES ($1, $2)")
                    .await?,
            ];
            sessions.push((session, statements));
        }
        let log = kafka::Log::connect(&ground.settings.kafka, ground.shards, NAME).await?;
        Ok(Self {
            channels,
            sessions,
            log: Log::Kafka(log),
            waiting: Mutex::default(),
            numbers: AtomicU64::new(1),
            took: (0..8).map(|_| Arc::new(Mutex::new(new_hops()))).collect(),
            _server: server,
        })
    }

    async fn commit(&self, caller: u64, which: usize, body: &[u8]) -> Result<(), Error> {
        let place = usize::try_from(caller).unwrap_or(0) % self.sessions.len();
        let (session, statements) = &self.sessions[place];
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).cast_signed();
        session
            .execute(&statements[which], &[&number, &body])
            .await?;
        Ok(())
    }

    /// Through Kafka and back.
    async fn log(&self, result: &CommandResult) -> Result<(), Error> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let id = CommandId::new(ShardId(0), Sequence(number));
        let (sender, back) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let result = CommandResult {
            command_id: id.0,
            ..result.clone()
        };
        for answer in self.log.publish(vec![Encoded::of(&result)]).await {
            answer?;
        }
        match timeout(BACK_MAX, back).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::Failed(format!(
                "a record did not come back in {BACK_MAX:?}"
            ))),
        }
    }

    /// What each hop took, over all callers.
    fn steps(&self) -> Value {
        let mut all = new_hops();
        for took in &self.took {
            for (sum, one) in all.iter_mut().zip(lock(took).iter()) {
                sum.add(one)
                    .expect("a histogram that resizes takes any time");
            }
        }
        figures::steps(&HOPS, &all)
    }
}

/// Wakes whoever waits for a record; from what is published after this on.
async fn follow(way: Arc<Way>) -> Result<impl Future<Output = ()>, Error> {
    let mut tail = way.log.tail_results().await?;
    Ok(async move {
        while let Ok(results) = tail.next().await {
            let mut waiting = lock(&way.waiting);
            for result in results {
                if let Some(waiter) = waiting.remove(&result.id()) {
                    // Who gave up does not want it.
                    let _ = waiter.send(());
                }
            }
        }
    })
}

/// One caller.
struct Caller {
    requests: Requests,
    number: u64,
    way: Arc<Way>,
    took: Arc<Mutex<Hops>>,
}

impl Call for Caller {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let command = self.requests.command(self.number, &operations[0]);
        let body = command.encode_to_vec();
        let result = CommandResult {
            idempotency_key: command.idempotency_key.clone(),
            source: command.source.clone(),
            account_id: command.account_id,
            ..CommandResult::default()
        };
        let way = &self.way;
        let channel = &way.channels[usize::try_from(self.number).unwrap_or(0) % way.channels.len()];
        let mut client: WriteServiceClient<Channel> = requests::client(channel.clone());
        let mut at = [Instant::now(); HOPS.len() + 1];
        let request = SubmitRequest {
            commands: vec![command],
            ..SubmitRequest::default()
        };
        let answer = client.submit(request).await;
        answer.map_err(|status| Error::Failed(format!("a call failed: {status}")))?;
        at[1] = Instant::now();
        way.commit(self.number, 0, &body).await?;
        at[2] = Instant::now();
        way.log(&result).await?;
        at[3] = Instant::now();
        way.commit(self.number, 1, &body).await?;
        at[4] = Instant::now();
        way.log(&result).await?;
        at[5] = Instant::now();
        let mut took = lock(&self.took);
        for (hop, pair) in took.iter_mut().zip(at.windows(2)) {
            let micros = u64::try_from((pair[1] - pair[0]).as_micros()).unwrap_or(u64::MAX);
            hop.record(micros)
                .expect("a histogram that resizes takes any time");
        }
        Ok(Answered {
            accepted: 1,
            ..Answered::default()
        })
    }
}

fn new_hops() -> Hops {
    HOPS.map(|_| Histogram::new(3).expect("three digits are possible"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
