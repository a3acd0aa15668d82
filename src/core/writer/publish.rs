//! What was stored goes to the log, in the order of acceptance. Where the log is the ledger its
//! answer is waited for; else a failed append is only counted, because the outbox sends again.

use std::sync::Arc;

use futures::FutureExt;

use super::gate::Gate;
use crate::core::{
    command::{Command, record},
    log::{Error, Log, NewRecord},
};

/// The writer's way to the log.
pub(super) struct Publisher {
    log: Log,
    gate: Arc<Gate>,
}

impl Publisher {
    pub fn new(log: Log, gate: Arc<Gate>) -> Self {
        Self { log, gate }
    }

    /// Nothing is accepted before [`Publisher::append`] has answered.
    pub fn is_ledger(&self) -> bool {
        self.log.is_ledger()
    }

    /// Appends and waits; the first error, if there is one.
    pub async fn append(&self, commands: &[Command]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        let answers = self.log.append(records(commands)).await;
        answers.into_iter().collect()
    }

    /// Hands the records to the log in the order of calls, and leaves the answers to a task.
    pub fn send(&self, commands: &[Command]) {
        let count = commands.len();
        if count == 0 {
            return;
        }
        let (log, gate, records) = (self.log.clone(), self.gate.clone(), records(commands));
        let mut append = Box::pin(async move { log.append(records).await });
        gate.appends_started(count);
        // `append` puts all records into the log's queue when it is first polled: that happens
        // here, so that groups keep their order.
        if let Some(answers) = append.as_mut().now_or_never() {
            count_answers(&gate, &answers);
        } else {
            tokio::spawn(async move { count_answers(&gate, &append.await) });
        }
    }
}

fn count_answers(gate: &Gate, answers: &[Result<(), Error>]) {
    gate.appends_ended(answers.len());
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        let label = match error {
            Error::QueueFull => {
                gate.queue_was_full();
                "queue_full"
            }
            Error::Unavailable(_) => "unknown",
            Error::Refused(_) | Error::Diverged(_) => "refused",
        };
        metrics::counter!("axs_log_append_failures_total", "reason" => label).increment(1);
    }
    if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
        tracing::warn!(%error, "records were not appended; the outbox sends them again");
    }
}

/// The records of stored commands.
pub(in crate::core) fn records(commands: &[Command]) -> Vec<NewRecord> {
    commands.iter().map(new_record).collect()
}

fn new_record(command: &Command) -> NewRecord {
    let id = command.id.expect("it is stored, so it has an id");
    NewRecord {
        shard: id.shard(),
        account: Some(command.account),
        value: record::encode_command(command),
        command: Some((id, command.content_hash)),
        source: command.source.to_string(),
        time: command.accepted_at,
    }
}
