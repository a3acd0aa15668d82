//! A command as one line of JSON. Fields stand in a fixed order, defaults are left out.

use serde::{Serialize, Serializer};

use crate::core::proto::{self, CommandKind, ack_policy::OnTimeout};

/// Integers up to here are numbers in every reader of JSON; greater ones are written as strings.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One JSON object on one line, which [`from_json`](super::from_json) reads back.
pub fn to_json(command: &proto::Command) -> String {
    let line = Command {
        source: &command.source,
        idempotency_key: &command.idempotency_key,
        account_id: Integer(command.account_id),
        kind: kind_name(command.kind),
        changes: command.changes.iter().map(Change::new).collect(),
        reference: &command.reference,
        created_at: command.created_at.as_ref().map(ToString::to_string),
        user_id: Integer(command.user_id),
        reverses: Integer(command.reverses),
        ack: command.ack.as_ref().map(Ack::new),
        shard_id: command.shard_id,
    };
    serde_json::to_string(&line).expect("texts and numbers only")
}

#[derive(Serialize)]
struct Command<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    idempotency_key: &'a str,
    #[serde(skip_serializing_if = "Integer::is_zero")]
    account_id: Integer,
    kind: Name,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Integer::is_zero")]
    user_id: Integer,
    #[serde(skip_serializing_if = "Integer::is_zero")]
    reverses: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<Ack<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_id: Option<u32>,
}

#[derive(Serialize)]
struct Change<'a> {
    #[serde(skip_serializing_if = "Integer::is_zero")]
    account_id: Integer,
    #[serde(flatten)]
    primary: Move<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Move<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition<'a>>,
}

#[derive(Serialize)]
struct Move<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    asset: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    available_delta: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    frozen_delta: &'a str,
}

#[derive(Serialize)]
struct Condition<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Integer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_available: Option<&'a str>,
}

#[derive(Serialize)]
struct Ack<'a> {
    deadline_seconds: u32,
    callback: &'a str,
    on_timeout: Name,
}

impl<'a> Change<'a> {
    fn new(change: &'a proto::Change) -> Self {
        Self {
            account_id: Integer(change.account_id),
            primary: Move {
                asset: &change.asset,
                available_delta: &change.available_delta,
                frozen_delta: &change.frozen_delta,
            },
            fallback: change.fallback.as_ref().map(|fallback| Move {
                asset: &fallback.asset,
                available_delta: &fallback.available_delta,
                frozen_delta: &fallback.frozen_delta,
            }),
            condition: change.condition.as_ref().map(|condition| Condition {
                version: condition.version.map(Integer),
                min_available: condition.min_available.as_deref(),
            }),
        }
    }
}

impl<'a> Ack<'a> {
    fn new(ack: &'a proto::AckPolicy) -> Self {
        Self {
            deadline_seconds: ack.deadline_seconds,
            callback: &ack.callback,
            on_timeout: match OnTimeout::try_from(ack.on_timeout) {
                Ok(known) => Name::Known(known.as_str_name().trim_start_matches("ON_TIMEOUT_")),
                Err(_) => Name::Number(ack.on_timeout),
            },
        }
    }
}

struct Integer(u64);

impl Integer {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0..=NUMBER_MAX => to.serialize_u64(self.0),
            _ => to.collect_str(&self.0),
        }
    }
}

/// The short name of an enum's value, or its number where it has none.
#[derive(Serialize)]
#[serde(untagged)]
enum Name {
    Known(&'static str),
    Number(i32),
}

fn kind_name(kind: i32) -> Name {
    match CommandKind::try_from(kind) {
        Ok(known) => Name::Known(known.as_str_name().trim_start_matches("COMMAND_KIND_")),
        Err(_) => Name::Number(kind),
    }
}
