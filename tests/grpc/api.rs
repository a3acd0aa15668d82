//! A whole API in this process, and the messages that tests send.

use std::time::{Duration, Instant};

use axs::core::{
    assets::Assets,
    cache::{self, Cache},
    clock::Clock,
    config, consumer, grpc,
    log::{self, Log},
    outcomes::Outcomes,
    proto::{
        Change, Command, CommandKind, CommandStatus, SubmitOutcome, SubmitRequest, WaitFor,
        read_service_client::ReadServiceClient, submit_error::Code,
        write_service_client::WriteServiceClient,
    },
    registry::Registry,
    store::{self, Store},
    writer::{self, WriterHandle, routes::Routes},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Nothing that is awaited takes so long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Of every API in these tests.
pub const SHARDS: u16 = 4;

/// A running API.
pub struct Api {
    pub channel: Channel,
    pub store: Store,
    pub log: Log,
    pub writer: WriterHandle,
    pub registry: Registry,
    pub shutdown: CancellationToken,
    cache: Cache,
    leading: CancellationToken,
    leaders: Option<JoinHandle<()>>,
    server: Option<JoinHandle<Result<(), grpc::Error>>>,
}

impl Api {
    /// With leaders and the usual settings.
    pub async fn start() -> Self {
        let mut api = Self::without_leaders(config::Grpc::default()).await;
        api.lead();
        api
    }

    /// Commands are accepted, and nobody applies them until [`Api::lead`].
    pub async fn without_leaders(settings: config::Grpc) -> Self {
        let store = Store::Memory(store::memory::Store::new(
            SHARDS,
            Assets::default(),
            Clock::System,
        ));
        for (code, scale) in [("USDT", 18), ("XBT", 8), ("EUR", 2)] {
            store.add_asset(code, scale).await.expect("a new asset");
        }
        let log = Log::File(log::file::Log::memory(SHARDS, Clock::System));
        let cache = Cache::Memory(cache::memory::Cache::new());
        let registry = Registry::load(store.clone()).await.expect("memory answers");
        let writer = writer::start(
            store.clone(),
            log.clone(),
            &config::Writer::default(),
            SHARDS,
            Routes::default(),
        );
        let parts = grpc::Parts {
            store: store.clone(),
            cache: Some(cache.clone()),
            writer: writer.clone(),
            outcomes: Outcomes::start(
                store.clone(),
                log.clone(),
                registry.clone(),
                SHARDS,
                settings.waiters_max,
            ),
            registry: registry.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shutdown = CancellationToken::new();
        let drain = shutdown.clone();
        let server =
            tokio::spawn(async move { grpc::serve(listener, &settings, parts, drain).await });
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect()
            .await
            .expect("it listens");
        Self {
            channel,
            store,
            log,
            writer,
            registry,
            shutdown,
            cache,
            leading: CancellationToken::new(),
            leaders: None,
            server: Some(server),
        }
    }

    /// Starts to apply commands.
    pub fn lead(&mut self) {
        let parts = consumer::Parts {
            store: self.store.clone(),
            log: self.log.clone(),
            cache: Some(self.cache.clone()),
            registry: self.registry.clone(),
            name: "test".into(),
        };
        let leading = self.leading.clone();
        self.leaders = Some(tokio::spawn(async move {
            let settings = config::Consume::default();
            consumer::run(parts, &settings, consumer::Shards::default(), leading)
                .await
                .expect("memory answers");
        }));
    }

    pub fn write(&self) -> WriteServiceClient<Channel> {
        WriteServiceClient::new(self.channel.clone()).max_encoding_message_size(64 * 1024 * 1024)
    }

    pub fn read(&self) -> ReadServiceClient<Channel> {
        ReadServiceClient::new(self.channel.clone())
    }

    /// Submits, and waits for outcomes if asked to; the call itself succeeds.
    pub async fn submit(&self, commands: Vec<Command>, wait_for: WaitFor) -> Vec<SubmitOutcome> {
        let request = request(commands, wait_for);
        let response = self
            .write()
            .submit(request)
            .await
            .expect("the call succeeds");
        response.into_inner().outcomes
    }

    /// Opens accounts, which is applied when this returns.
    pub async fn open(&self, accounts: &[u64]) {
        let commands = accounts.iter().map(|&account| open(account)).collect();
        for outcome in self.submit(commands, WaitFor::Applied).await {
            assert_eq!(outcome.status(), CommandStatus::Applied, "{outcome:?}");
        }
    }

    /// Shuts the API down and waits for its end.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let server = self.server.take().expect("it is stopped once");
        let ended = tokio::time::timeout(PATIENCE, server).await;
        ended
            .expect("the API drains in time")
            .expect("no panic")
            .expect("it served");
        self.writer.stop().await;
        self.leading.cancel();
        if let Some(leaders) = self.leaders.take() {
            leaders.await.expect("no panic");
        }
    }
}

pub fn request(commands: Vec<Command>, wait_for: WaitFor) -> SubmitRequest {
    SubmitRequest {
        commands,
        wait_for: wait_for.into(),
        wait_at_most: None,
    }
}

pub fn seconds(seconds: f64) -> Option<prost_types::Duration> {
    Some(
        Duration::from_secs_f64(seconds)
            .try_into()
            .expect("a short time"),
    )
}

pub fn command(key: &str, account: u64, kind: CommandKind) -> Command {
    Command {
        idempotency_key: key.into(),
        source: "test".into(),
        account_id: account,
        kind: kind.into(),
        ..Default::default()
    }
}

pub fn open(account: u64) -> Command {
    command(
        &format!("open-{account}"),
        account,
        CommandKind::OpenAccount,
    )
}

pub fn credit(key: &str, account: u64, asset: &str, amount: &str) -> Command {
    Command {
        changes: vec![Change {
            asset: asset.into(),
            available_delta: amount.into(),
            ..Default::default()
        }],
        ..command(key, account, CommandKind::Change)
    }
}

/// A credit of one that applies only as the `version`-th change of the balance but one.
pub fn credit_at_version(key: &str, account: u64, version: u64) -> Command {
    let mut command = credit(key, account, "EUR", "1");
    command.changes[0].condition = Some(axs::core::proto::Condition {
        version: Some(version),
        min_available: None,
    });
    command
}

pub fn code(outcome: &SubmitOutcome) -> Option<Code> {
    outcome.error.as_ref().map(|error| error.code())
}

/// Waits for a condition that becomes true by itself.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
