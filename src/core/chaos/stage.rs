//! Everything that a run stands on, put up and taken down again: ground, proxies, services, and the
//! waiting for rest in the end.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Error,
    faults::Tally,
    fleet::{Fleet, Size},
    ground::{Ground, with_address},
    hooks::{Hook, Hooks, Server},
    processes::Program,
    proxy::Proxy,
};
use crate::core::{
    config::{Settings, load::environment},
    log::{Log, kafka},
    store::{self, Store},
};

/// Every shard must be led within this.
const LED_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What to put up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary that is run.
    pub program: PathBuf,
    /// The operator's, with the servers to use.
    pub settings: Settings,
    /// Of the run's cluster.
    pub shards: u16,
    /// Services.
    pub size: Size,
    /// To restart servers by.
    pub hooks: Vec<Hook>,
    /// Decides where bytes are cut.
    pub seed: u64,
}

/// A run's servers, proxies and services. The order is that of the end: services go first.
pub struct Stage {
    /// Services.
    pub fleet: Fleet,
    postgres: Option<Proxy>,
    redis: Option<Proxy>,
    /// What the run owns.
    pub ground: Ground,
    /// Of the operator.
    pub hooks: Hooks,
    /// What was done to it.
    pub tally: Tally,
}

impl Stage {
    /// Puts everything up; every shard is led.
    pub async fn put_up(plan: &Plan) -> Result<Self, Error> {
        let ground = Ground::make(&plan.settings, plan.shards, "chaos").await?;
        match Self::on(plan, &ground).await {
            Ok((fleet, postgres, redis)) => {
                let hooks = Hooks::new(&plan.hooks, &ground.folder);
                let stage = Self {
                    fleet,
                    postgres,
                    redis,
                    ground,
                    hooks,
                    tally: Tally::default(),
                };
                match stage.is_led().await {
                    Ok(()) => Ok(stage),
                    Err(error) => {
                        stage.take_down(true).await?;
                        Err(error)
                    }
                }
            }
            Err(error) => {
                ground.clear(true).await?;
                Err(error)
            }
        }
    }

    async fn on(
        plan: &Plan,
        ground: &Ground,
    ) -> Result<(Fleet, Option<Proxy>, Option<Proxy>), Error> {
        let mut settings = ground.settings.clone();
        let postgres = match ground.postgres_address() {
            Some(address) => Some(Proxy::start(address, plan.seed).await?),
            None => None,
        };
        if let (Some(proxy), Some(url)) = (&postgres, &settings.postgres.url) {
            settings.postgres.url = Some(with_address(url, &proxy.address.to_string())?);
        }
        let redis = match ground.redis_address() {
            Some(address) => Some(Proxy::start(address, plan.seed ^ 1).await?),
            None => None,
        };
        if let (Some(proxy), Some(url)) = (&redis, &settings.redis.url) {
            settings.redis.url = Some(with_address(url, &proxy.address.to_string())?);
        }
        let program = Program {
            path: plan.program.clone(),
            environment: environment(&settings),
            folder: ground.folder.clone(),
        };
        let fleet = Fleet::start(plan.size, &program).await?;
        Ok((fleet, postgres, redis))
    }

    /// The proxy in front of a server, if there is one.
    pub fn proxy(&self, server: Server) -> Option<&Proxy> {
        match server {
            Server::Postgres => self.postgres.as_ref(),
            Server::Redis => self.redis.as_ref(),
            Server::Kafka => None,
        }
    }

    /// Each of them.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.postgres.iter().chain(&self.redis)
    }

    /// The store, past the proxies.
    pub async fn store(&self) -> Result<Store, Error> {
        let settings = &self.ground.settings.postgres;
        let store = store::postgres::Store::connect(settings, "axs-chaos").await?;
        Ok(Store::Postgres(store))
    }

    /// The log.
    pub async fn log(&self) -> Result<Log, Error> {
        let (settings, shards) = (&self.ground.settings.kafka, self.ground.shards);
        let log = kafka::Log::connect(settings, shards, "axs-chaos").await?;
        Ok(Log::Kafka(log))
    }

    /// Waits until every shard has a leader.
    pub async fn is_led(&self) -> Result<(), Error> {
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
                    "{free} of {} shards are led by nobody after {LED_MAX:?}\nhint: the logs are in {}",
                    rows.len(),
                    self.ground.folder.display()
                )));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the log is applied to its end, published, and nothing is pending; or
    /// what is still open when the time is over. Outboxes may still close and seal numbers then.
    pub async fn is_at_rest(&self, within: Duration) -> Result<Result<(), String>, Error> {
        let (store, log) = (self.store().await?, self.log().await?);
        let until = Instant::now() + within;
        loop {
            self.fleet.look().await?;
            let open = self.open(&store, &log).await;
            match open {
                Ok(Ok(())) => return Ok(Ok(())),
                Ok(Err(open)) if Instant::now() >= until => return Ok(Err(open)),
                Err(error) if Instant::now() >= until => return Err(error),
                // A server that was just brought back may need another moment.
                Ok(Err(_)) | Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    async fn open(&self, store: &Store, log: &Log) -> Result<Result<(), String>, Error> {
        let ends = log.ends().await?;
        let rows = store.shard_rows().await?;
        for (row, end) in rows.iter().zip(&ends) {
            let shard = row.shard;
            if row.next_position < *end {
                let at = row.next_position;
                return Ok(Err(format!("shard {shard} is at {at} of {end} records")));
            }
            if row.published_to < row.next_position {
                return Ok(Err(format!("shard {shard} has results to publish")));
            }
            let view = store.outbox_view(shard, Duration::ZERO, 1).await?;
            if view.pending_count > 0 {
                let pending = view.pending_count;
                return Ok(Err(format!("shard {shard} has {pending} pending commands")));
            }
        }
        Ok(Ok(()))
    }

    /// Ends the services, and takes away what the run owns.
    pub async fn take_down(self, keep_logs: bool) -> Result<(), Error> {
        let stopped = self.fleet.stop().await;
        let cleared = self.ground.clear(keep_logs).await;
        stopped?;
        cleared
    }
}
