//! Blocks an account on which a balance was found to differ: a command like any other, accepted
//! under a key of its own. Its writer starts with the first finding.

use std::time::Duration;

use tokio::{sync::OnceCell, time::timeout};

use crate::core::{
    assets::Assets,
    command::{CommandKind, parse},
    config,
    log::Log,
    proto,
    store::{self, Store},
    types::{AccountId, CommandId},
    writer::{self, Answer, WriterHandle, routes::Routes},
};

/// Source of the commands that the detector submits.
pub const SOURCE: &str = "axs.drift";
/// It submits few, so that it leases few numbers.
const BLOCK_SIZE: u32 = 16;
/// An acceptance may take so long; then it is tried again with the next look, under the same key.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Accepted now.
    Now(CommandId),
    /// Accepted before: whoever unblocked the account since meant it.
    Before(CommandId),
    /// Its key is that of another command: somebody submits under our name.
    Taken(CommandId),
}

/// Submits blocks for the detectors of a process.
pub(super) struct Blocker {
    store: Store,
    log: Log,
    writer: OnceCell<WriterHandle>,
}

impl Blocker {
    pub fn new(store: Store, log: Log) -> Self {
        Self {
            store,
            log,
            writer: OnceCell::new(),
        }
    }

    /// What became of the command that blocks the account; else why it is to be tried again.
    pub async fn block(&self, account: AccountId, key: String) -> Result<Blocked, String> {
        let writer = self.writer().await?;
        let message = proto::Command {
            idempotency_key: key,
            source: SOURCE.into(),
            account_id: account.0,
            kind: CommandKind::BlockAccount.into(),
            reference: "drift".into(),
            ..proto::Command::default()
        };
        let command = parse::parse(&message, &Assets::default(), writer.shards())
            .map_err(|error| error.to_string())?;
        let receivers = writer.submit(vec![command]);
        let receivers = receivers.map_err(|error| error.to_string())?;
        let answer = receivers.into_iter().next().expect("one for each command");
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(Answer::Accepted(id))) => Ok(Blocked::Now(id)),
            Ok(Ok(Answer::Duplicate(id))) => Ok(Blocked::Before(id)),
            Ok(Ok(Answer::Conflict(id))) => Ok(Blocked::Taken(id)),
            Ok(Ok(refused)) => Err(format!("BLOCK_ACCOUNT was not accepted: {refused:?}")),
            Ok(Err(_)) | Err(_) => Err("BLOCK_ACCOUNT was not answered in time".into()),
        }
    }

    async fn writer(&self) -> Result<&WriterHandle, String> {
        let start = async || {
            let shards = self.store.shards().await?;
            let settings = config::Writer {
                block_size: BLOCK_SIZE,
                ..config::Writer::default()
            };
            let (store, log) = (self.store.clone(), self.log.clone());
            let started = writer::start(store, log, &settings, shards, Routes::default());
            Ok::<_, store::Error>(started)
        };
        let writer = self.writer.get_or_try_init(start).await;
        writer.map_err(|error| error.to_string())
    }

    /// Gives back the sequence numbers that it leased.
    pub async fn stop(&self) {
        if let Some(writer) = self.writer.get() {
            writer.stop().await;
        }
    }
}
