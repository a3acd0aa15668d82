//! What clients sent and were told, and what a run counts.

use std::collections::BTreeMap;

use super::Micros;
use crate::core::{
    command::Command,
    types::{CommandId, ContentHash, Position, ShardId},
};

/// What an answer says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This body is stored under this id.
    Stored(CommandId),
    /// Another body is stored under this id.
    Conflict(CommandId),
    /// Nothing was stored.
    NotTaken,
    /// The store refuses it.
    Refused,
    /// Unknown.
    Nothing,
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub key: String,
    pub content: ContentHash,
    pub told: Told,
}

/// Of a whole run.
#[derive(Default)]
pub(super) struct History {
    pub answers: Vec<Answered>,
    /// By key: what its client had seen when it was first sent.
    pub sent_after: BTreeMap<String, Option<(CommandId, Position)>>,
    pub clients_busy: usize,
    /// Commands that the outbox appended again.
    pub resent: u64,
    /// Of these: those that stood in the log, unread, already.
    pub needless: u64,
    pub alarms: Vec<String>,
    pub take_overs: Vec<(Micros, ShardId, usize)>,
    /// What was wrong at the moment it happened.
    pub violations: Vec<String>,
    /// Commands that a database brought back from earlier does not know, nor the log.
    pub lost: Vec<CommandId>,
    pub restores: Vec<Micros>,
    pub crashes: u64,
    pub pauses: u64,
    pub fenced: u64,
    pub duplicate_results: u64,
}

impl History {
    pub fn sent(&mut self, command: &Command, seen: Option<(CommandId, Position)>) {
        self.sent_after
            .entry(command.idempotency_key.to_string())
            .or_insert(seen);
    }

    pub fn told(&mut self, key: &str, content: ContentHash, told: Told) {
        self.answers.push(Answered {
            key: key.to_owned(),
            content,
            told,
        });
    }
}
