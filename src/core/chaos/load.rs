//! The clients of a run, together: started, paced, drained, asked what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Barrier, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    client::{BATCH_MAX, Client},
    history::History,
    meter::Meter,
    plan::{self, Accounts},
    queue::Manner,
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
    /// Commands of one caller that are not decided; above, it sends nothing new.
    pub pending_max: usize,
    /// Of a hundred calls, those that wait for outcomes.
    pub waiting_of_100: u64,
    /// Beside the callers, one a shard that sends commands one by one, to see when it goes on.
    pub probes: bool,
    /// Number of the first caller, part of the keys: loads side by side need different ones.
    pub first: u32,
}

/// A probe sends so many commands a second, if they are answered.
const PROBE_RATE: f64 = 100.0;

/// What all clients saw of a shard.
#[derive(Debug)]
pub struct Seen {
    position: AtomicI64,
    epoch: Mutex<(u64, Instant)>,
}

impl Seen {
    fn new() -> Self {
        Self {
            position: AtomicI64::new(-1),
            epoch: Mutex::new((0, Instant::now())),
        }
    }

    /// The greatest position of a result; -1: none.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::SeqCst)
    }

    /// The greatest epoch of a result, and when it was seen first.
    pub fn epoch(&self) -> (u64, Instant) {
        *self.epoch.lock().expect("no holder panics")
    }

    /// A result.
    pub fn note(&self, position: i64, epoch: u64) {
        self.position.fetch_max(position, Ordering::SeqCst);
        let mut seen = self.epoch.lock().expect("no holder panics");
        if epoch > seen.0 {
            *seen = (epoch, Instant::now());
        }
    }
}

/// What all clients share.
pub struct Shared {
    /// Addresses of the API.
    pub servers: Vec<String>,
    /// Counts and times.
    pub meter: Meter,
    /// By shard.
    pub seen: Vec<Seen>,
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
        let probes = match options.probes {
            true => accounts.len(),
            false => 0,
        };
        let clients = options.clients as usize + probes;
        let shared = Arc::new(Shared {
            servers,
            meter: Meter::default(),
            seen: (0..options.shards).map(|_| Seen::new()).collect(),
            pending: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            opened: Barrier::new(clients + 1),
        });
        let mut load = Self {
            shared: Arc::clone(&shared),
            clients: JoinSet::new(),
        };
        let usual = Manner {
            rate: f64::from(options.rate) / f64::from(options.clients),
            batch_max: BATCH_MAX,
            pending_max: options.pending_max,
            waiting_of_100: options.waiting_of_100,
        };
        for number in 0..options.clients {
            let mine = share(&accounts, number, options.clients);
            load.spawn(options, number, (accounts.clone(), mine), usual)?;
        }
        let probe = Manner {
            rate: PROBE_RATE,
            batch_max: 1,
            pending_max: 1,
            waiting_of_100: 100,
        };
        for shard in 0..probes {
            let mut of_shard = vec![Vec::new(); accounts.len()];
            of_shard[shard].clone_from(&accounts[shard]);
            let number = options.clients + u32::try_from(shard).expect("at most 1,024 shards");
            load.spawn(options, number, (Arc::new(of_shard), Vec::new()), probe)?;
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

    fn spawn(
        &mut self,
        options: &Options,
        number: u32,
        (accounts, opens): (Accounts, Vec<u64>),
        manner: Manner,
    ) -> Result<(), Error> {
        let name = u64::from(options.first + number) + 1;
        let plan = plan::Plan::new(options.seed, name, accounts);
        let client = Client::new(Arc::clone(&self.shared), plan, manner, number)?;
        self.clients.spawn(client.run(opens));
        Ok(())
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
