//! Acceptance by group commit: commands of unrelated callers that arrive while a statement is under
//! way share the next one. One task owns the statements; a caller that goes away cancels nothing.
//!
//! - `gate`: who may enter; `routes`: where accounts are;
//! - `numbers`: sequence numbers of blocks; `blocks`: leasing and closing those;
//! - `group`: the pure plan and what the store's answer means; `task`: the statements and retries;
//! - `publish`: what was stored goes to the log, in the order of acceptance.
//!
//! It knows neither protobuf nor gRPC.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::core::{
    command::{Command, hash},
    config,
    log::Log,
    store::{AcceptItem, Store},
    types::{AccountId, CommandId, ShardId},
};

mod blocks;
pub(in crate::core) mod gate;
pub(in crate::core) mod group;
pub(in crate::core) mod numbers;
pub(in crate::core) mod publish;
pub mod routes;
mod task;

use gate::Gate;
use group::{Caller, Pending};
use routes::Routes;

pub use gate::{APPENDS_MAX, INBOX_BYTES_MAX};

/// Most commands that are submitted together.
pub const BATCH_COUNT_MAX: usize = 1_000;
/// When to try again after an overload: some groups later.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// At the end the log has so long to answer what was handed to it.
const APPENDS_DRAIN_MAX: Duration = Duration::from_secs(1);

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Stored now.
    Accepted(CommandId),
    /// Its key was known with the same content, under this id.
    Duplicate(CommandId),
    /// Its key is known with other content, under this id.
    Conflict(CommandId),
    /// This account was never opened. Nothing was stored.
    AccountNotFound(AccountId),
    /// This account is in another shard than the command's. Nothing was stored.
    AccountInOtherShard(AccountId),
    /// The account is in `shard`, not where the command pins it. Nothing was stored.
    PinnedElsewhere {
        /// As sent.
        pin: ShardId,
        /// Where the account is.
        shard: ShardId,
    },
    /// A transfer between accounts of several shards: a later version's. Nothing was stored.
    TransferBetweenShards,
    /// The store or the log did not answer: the same key may be sent again.
    Unavailable(Arc<str>),
    /// The store refuses the command itself. Nothing was stored.
    Internal(Arc<str>),
}

impl Answer {
    /// For metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Duplicate(_) => "duplicate",
            Self::Conflict(_) => "conflict",
            Self::AccountNotFound(_) => "account_not_found",
            Self::AccountInOtherShard(_) | Self::PinnedElsewhere { .. } => "account_in_other_shard",
            Self::TransferBetweenShards => "unsupported",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

/// Why commands were not taken. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too many commands wait already.
    #[error("too many commands wait already; try again in {} ms", RETRY_AFTER.as_millis())]
    Overloaded,
    /// The store was not reachable when it was last tried.
    #[error("the store is not reachable")]
    StoreAway,
    /// This process is going away.
    #[error("this process is shutting down; connect again")]
    Stopping,
}

/// The way into the writer. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    gate: Arc<Gate>,
    inbox: mpsc::UnboundedSender<Vec<Pending>>,
    routes: Routes,
    shards: u16,
    stop: CancellationToken,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Starts the writer's task. `shards` is the cluster's.
pub fn start(
    store: Store,
    log: Log,
    settings: &config::Writer,
    shards: u16,
    routes: Routes,
) -> WriterHandle {
    count_from_zero();
    // A full batch has to fit, whatever the setting.
    let gate = Gate::new(settings.inbox_count_max.max(BATCH_COUNT_MAX));
    // Bounded by the gate.
    let (inbox, receiver) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let task = task::Task::new(
        store,
        publish::Publisher::new(log, gate.clone()),
        task::Inbox {
            receiver,
            stop: stop.clone(),
            gate: gate.clone(),
        },
        settings,
        shards,
        routes.clone(),
    );
    WriterHandle {
        gate,
        inbox,
        routes,
        shards,
        stop,
        task: Arc::new(Mutex::new(Some(tokio::spawn(task.run())))),
    }
}

/// Counters that alerts look at stand at zero from the start: of one that begins at 1 nobody sees
/// the rise.
fn count_from_zero() {
    metrics::counter!("axs_accept_numbers_taken_total").increment(0);
    for answer in ["accepted", "unavailable", "internal", "overloaded"] {
        metrics::counter!("axs_accept_commands_total", "answer" => answer).increment(0);
    }
    for reason in ["queue_full", "unknown", "refused"] {
        metrics::counter!("axs_log_append_failures_total", "reason" => reason).increment(0);
    }
}

impl WriterHandle {
    /// Takes all commands or none, at once; those of one account are stored in their order. Each
    /// receiver gets its command's answer. Dropping a receiver cancels nothing.
    pub fn submit(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<oneshot::Receiver<Answer>>, NotTaken> {
        if self.gate.is_stopping() {
            return Err(NotTaken::Stopping);
        }
        let refused = |label: &'static str| {
            metrics::counter!("axs_accept_commands_total", "answer" => label)
                .increment(commands.len() as u64);
        };
        if self.gate.store_is_away() {
            refused("unavailable");
            return Err(NotTaken::StoreAway);
        }
        let Some(permits) = self.gate.enter(&commands) else {
            refused("overloaded");
            return Err(NotTaken::Overloaded);
        };
        let submitted = Instant::now();
        let mut receivers = Vec::with_capacity(commands.len());
        let mut batch = Vec::with_capacity(commands.len());
        for (command, permit) in commands.into_iter().zip(permits) {
            let (answer, receiver) = oneshot::channel();
            receivers.push(receiver);
            batch.push(Pending {
                item: AcceptItem {
                    key_hash: hash::key_hash(&command.source, &command.idempotency_key),
                    command,
                },
                caller: Caller {
                    answer,
                    submitted,
                    sent: Vec::new(),
                    followers: Vec::new(),
                    verdict: None,
                    shard: None,
                    nonce: None,
                    permit,
                },
            });
        }
        self.inbox.send(batch).map_err(|_| NotTaken::Stopping)?;
        Ok(receivers)
    }

    /// Routes of accounts seen by this process.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// How many shards the cluster has.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Whether the store answered when it was last needed.
    pub fn store_is_away(&self) -> bool {
        self.gate.store_is_away()
    }

    /// Takes no more commands, answers those that are in, closes the blocks. Ends once that is
    /// done; calling it again is harmless.
    pub async fn stop(&self) {
        self.gate.set_stopping();
        self.stop.cancel();
        let task = self
            .task
            .lock()
            .expect("nothing panics while it is held")
            .take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the writer ended by a panic");
        }
        // What is not answered in time is sent again by the outbox.
        let _ = tokio::time::timeout(APPENDS_DRAIN_MAX, self.gate.appends_answered()).await;
    }
}
