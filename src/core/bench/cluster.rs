//! A whole cluster for a bench: services of this binary on a ground of its own, every shard led,
//! accounts opened through the real path. What a bench sends to it is the bench's matter.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{Workload, usage::Process, workload::OPENING_BALANCE};
use crate::core::{
    cache::{self, Cache},
    config::{Settings, load::environment},
    consumer::Parts,
    log::{Log, kafka},
    registry::Registry,
    seed,
    store::{self, Store},
    submit,
    testbed::{
        Error,
        fleet::{Fleet, Size},
        ground::Ground,
        processes::Program,
    },
    types::Money,
};

/// Every shard must be led within this.
const LED_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// As the servers see this process.
const NAME: &str = "axs-bench";

/// What to put up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary that is run.
    pub program: PathBuf,
    /// The operator's, with the servers to use.
    pub settings: Settings,
    /// Of the cluster.
    pub shards: u16,
    /// Services.
    pub size: Size,
}

/// Services and what they stand on. The order is that of the end: services go first.
pub struct Cluster {
    /// Services.
    pub fleet: Fleet,
    /// What the run owns.
    pub ground: Ground,
}

impl Cluster {
    /// Puts everything up, lets `run` measure, and takes everything away again, whatever came of
    /// it; interrupted as soon as `stop` is cancelled.
    pub async fn with<T>(
        plan: &Plan,
        stop: &CancellationToken,
        run: impl AsyncFnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ground = Ground::make(&plan.settings, plan.shards, "bench").await?;
        let program = Program {
            path: plan.program.clone(),
            environment: environment(&ground.settings),
            folder: ground.folder.clone(),
        };
        let started = tokio::select! {
            () = stop.cancelled() => Err(Error::Interrupted),
            started = Fleet::start(plan.size, &program) => started,
        };
        let fleet = match started {
            Ok(fleet) => fleet,
            Err(error) => {
                // The first error says more than whatever the cleaning up might add.
                let _ = ground.clear(false).await;
                return Err(error);
            }
        };
        let cluster = Self { fleet, ground };
        let ran = tokio::select! {
            () = stop.cancelled() => Err(Error::Interrupted),
            ran = cluster.led_then(run) => ran,
        };
        let stopped = cluster.fleet.stop().await;
        let cleared = cluster.ground.clear(false).await;
        let ran = ran?;
        stopped?;
        cleared?;
        Ok(ran)
    }

    async fn led_then<T>(
        &self,
        run: impl AsyncFnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.is_led().await?;
        let ran = run(self).await?;
        self.fleet.look().await?;
        match self.fleet.deaths().first() {
            None => Ok(ran),
            Some(death) => Err(Error::Failed(death.clone())),
        }
    }

    /// The store, in this process.
    pub async fn store(&self) -> Result<Store, Error> {
        let settings = &self.ground.settings.postgres;
        let store = store::postgres::Store::connect(settings, NAME).await?;
        Ok(Store::Postgres(store))
    }

    /// So many connections of callers, spread over the servers of the API.
    pub async fn channels(&self, count: u32) -> Result<Vec<Channel>, Error> {
        let away = |error: tonic::transport::Error| Error::Unavailable(submit::reason(&error));
        let mut channels = Vec::new();
        for server in self.fleet.servers.iter().cycle().take(count as usize) {
            let endpoint = submit::endpoint(server).map_err(away)?;
            channels.push(endpoint.connect().await.map_err(away)?);
        }
        Ok(channels)
    }

    /// One connection to each server of the API.
    pub async fn channel_of_each_server(&self) -> Result<Vec<Channel>, Error> {
        let servers = u32::try_from(self.fleet.servers.len()).expect("a few servers");
        self.channels(servers).await
    }

    /// Waits until every shard has a leader.
    async fn is_led(&self) -> Result<(), Error> {
        let store = self.store().await?;
        let until = Instant::now() + LED_MAX;
        loop {
            let rows = store.shard_rows().await?;
            let free = rows.iter().filter(|row| row.lease_left.is_zero()).count();
            if free == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Failed(format!(
                    "{free} of {} shards are led by nobody after {LED_MAX:?}\nhint: `axs doctor` \
                     tells what the servers lack",
                    rows.len(),
                )));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Opens the workload's accounts with a balance in each of its assets, through group commit,
    /// log, engine and flush; returns once all of that is committed. `tell` hears of each account.
    pub async fn open_accounts(
        &self,
        workload: &Workload,
        mut tell: impl FnMut(u64),
    ) -> Result<(), Error> {
        let settings = &self.ground.settings;
        let store = self.store().await?;
        let log = kafka::Log::connect(&settings.kafka, self.ground.shards, NAME).await?;
        let registry = Registry::load(store.clone()).await?;
        let assets: Vec<_> = (registry.assets().iter().take(workload.assets()).cloned()).collect();
        let options = seed::Options {
            accounts: workload.accounts,
            balances: vec![Money::from(OPENING_BALANCE); assets.len()],
            assets,
            seed: workload.seed,
        };
        let cache = match &settings.redis.url {
            Some(_) => Some(Cache::Redis(cache::redis::Cache::connect(&settings.redis)?)),
            None => None,
        };
        let parts = Parts {
            store,
            log: Log::Kafka(log),
            cache,
            registry,
            name: NAME.into(),
        };
        let mut told = 0;
        let opened = seed::run(parts, settings, &options, |progress| {
            tell(progress.applied.saturating_sub(told));
            told = told.max(progress.applied);
        });
        opened
            .await
            .map(drop)
            .map_err(|error| Error::Failed(error.to_string()))
    }

    /// Whose processor time a run is made of, in the order of the way of a command: this process as
    /// `load`, the services, and the servers as far as they run on this machine.
    pub async fn processes(&self) -> Vec<Process> {
        let settings = &self.ground.settings;
        let brokers = settings.kafka.brokers.clone().unwrap_or_default();
        let broker = brokers.split(',').next().map(str::to_owned);
        let mut processes = vec![Process::own("load")];
        for number in 0..self.fleet.size() {
            let service = self.fleet.take(number).await;
            let name = service.name.clone();
            processes.extend(service.pid().map(|pid| Process { name, pid }));
        }
        processes.extend(server("kafka", broker));
        processes.extend(server("postgres", self.ground.postgres_address()));
        processes.extend(server("redis", self.ground.redis_address()));
        processes
    }
}

/// The process of a server at an address; `None` unless that is on this machine.
pub(super) fn server(name: &str, address: Option<String>) -> Option<Process> {
    Process::listening(name, local(&address?)?)
}

/// The address of a server on this machine.
fn local(address: &str) -> Option<SocketAddr> {
    let mut addresses = address.to_socket_addrs().ok()?;
    addresses.find(|address| address.ip().is_loopback())
}
