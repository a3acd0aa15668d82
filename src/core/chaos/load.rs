//! The clients of a run, together: started, paced, drained, asked what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Barrier, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    client::Client,
    history::History,
    meter::Meter,
    plan::{self, Accounts},
};

/// What is sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides every command.
    pub seed: u64,
    /// Commands a second, of all clients together.
    pub rate: u32,
    /// Callers at a time.
    pub clients: u32,
    /// Opened before anything else.
    pub accounts: u64,
    /// Of the cluster.
    pub shards: u16,
}

/// What all clients share.
pub struct Shared {
    /// Addresses of the API.
    pub servers: Vec<String>,
    /// Commands a second, of one client.
    pub rate: f64,
    /// Counts and times.
    pub meter: Meter,
    /// The greatest position of a result that any client saw, by shard; -1: none.
    pub seen: Vec<AtomicI64>,
    /// Commands sent and not decided.
    pub pending: AtomicUsize,
    /// Nothing new is sent any more.
    pub stop: CancellationToken,
    /// Nothing at all is sent any more.
    pub give_up: CancellationToken,
    /// Everybody has opened its accounts.
    pub opened: Barrier,
}

/// What came of the load.
pub struct Outcome {
    /// What the clients were told.
    pub history: History,
    /// Keys whose commands were not decided in time.
    pub undecided: Vec<String>,
}

/// Running clients.
pub struct Load {
    /// What all clients share.
    pub shared: Arc<Shared>,
    clients: JoinSet<(History, Vec<String>)>,
}

impl Load {
    /// Starts the clients; returns once all accounts are open.
    pub async fn start(options: &Options, servers: Vec<String>) -> Result<Self, Error> {
        let accounts = plan::accounts(options.accounts, options.shards);
        let clients = options.clients as usize;
        let shared = Arc::new(Shared {
            servers,
            rate: f64::from(options.rate) / f64::from(options.clients),
            meter: Meter::default(),
            seen: (0..options.shards).map(|_| AtomicI64::new(-1)).collect(),
            pending: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            opened: Barrier::new(clients + 1),
        });
        let mut load = Self {
            shared: Arc::clone(&shared),
            clients: JoinSet::new(),
        };
        for number in 0..options.clients {
            let mine = share(&accounts, number, options.clients);
            let plan = plan::Plan::new(options.seed, u64::from(number) + 1, accounts.clone());
            let client = Client::new(Arc::clone(&shared), plan, number)?;
            load.clients.spawn(client.run(mine));
        }
        tokio::select! {
            _ = shared.opened.wait() => {}
            () = tokio::time::sleep(OPEN_MAX) => {
                shared.stop.cancel();
                shared.give_up.cancel();
                return Err(Error::Failed(
                    "the accounts of the run could not be opened within two minutes\nhint: \
                     `axs doctor` tells what the servers lack"
                        .into(),
                ));
            }
        }
        shared.meter.take();
        Ok(load)
    }

    /// Commands sent and not decided.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Sends nothing new, and waits until everything sent is decided, or the time is over.
    pub async fn finish(mut self, within: Duration) -> Outcome {
        self.shared.stop.cancel();
        let give_up = self.shared.give_up.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(within).await;
            give_up.cancel();
        });
        let mut history = History::default();
        let mut undecided = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            match ended {
                Ok((told, keys)) => {
                    history.merge(told);
                    undecided.extend(keys);
                }
                Err(error) => history.contradict(format!("a client broke: {error}")),
            }
        }
        timer.abort();
        Outcome { history, undecided }
    }
}

/// Opening the accounts takes at most so long.
const OPEN_MAX: Duration = Duration::from_secs(120);

/// The accounts that one client opens.
fn share(accounts: &Accounts, number: u32, clients: u32) -> Vec<u64> {
    let all = accounts.iter().flatten();
    all.skip(number as usize)
        .step_by(clients as usize)
        .copied()
        .collect()
}
