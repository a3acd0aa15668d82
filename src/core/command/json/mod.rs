//! The JSON form of a command: one object with the field names of `axs.v1.Command` in snake case.
//! Enums by short name, long name or number; 64-bit integers as number or string; amounts as
//! strings only; times in RFC 3339; absent and `null` are the default; anything else is an error
//! that names its field. Rules of shape are [`parse`](super::parse)'s, not checked in here. Pure.

use crate::core::proto::{
    self, AckPolicy, Change, CommandKind, Condition, Fallback, ack_policy::OnTimeout,
};

mod node;
#[cfg(test)]
mod tests;
mod write;

use node::Node;
pub use write::to_json;

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// Such as `changes[1].asset`; empty where the line is no JSON object at all.
    pub field: String,
    /// One sentence that says what it must be.
    pub message: String,
}

/// Reads one command from the text of one JSON object.
pub fn from_json(text: &str) -> Result<proto::Command, JsonError> {
    let node = serde_json::from_str::<Node>(text).map_err(|error| JsonError {
        field: String::new(),
        message: format!("the line must be one JSON object: {error}"),
    })?;
    let mut command = proto::Command::default();
    for (name, node) in object("", node)? {
        let at = name.as_str();
        match at {
            "idempotency_key" => command.idempotency_key = text_of(at, node)?,
            "source" => command.source = text_of(at, node)?,
            "account_id" => command.account_id = integer(at, node)?,
            "kind" => command.kind = kind(at, node)?,
            "changes" => command.changes = changes(at, node)?,
            "reference" => command.reference = text_of(at, node)?,
            "created_at" => command.created_at = Some(time(at, node)?),
            "user_id" => command.user_id = integer(at, node)?,
            "reverses" => command.reverses = integer(at, node)?,
            "ack" => command.ack = Some(ack(at, node)?),
            "shard_id" => command.shard_id = Some(integer(at, node)?),
            _ => return Err(unknown("", at)),
        }
    }
    Ok(command)
}

fn changes(at: &str, node: Node) -> Result<Vec<Change>, JsonError> {
    let Node::Array(nodes) = node else {
        return Err(error(at, "must be an array of changes"));
    };
    let mut changes = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.into_iter().enumerate() {
        changes.push(change(&format!("{at}[{index}]"), node)?);
    }
    Ok(changes)
}

fn change(at: &str, node: Node) -> Result<Change, JsonError> {
    let mut change = Change::default();
    for (name, node) in object(at, node)? {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "asset" => change.asset = text_of(&field, node)?,
            "available_delta" => change.available_delta = amount(&field, node)?,
            "frozen_delta" => change.frozen_delta = amount(&field, node)?,
            "account_id" => change.account_id = integer(&field, node)?,
            "fallback" => change.fallback = Some(fallback(&field, node)?),
            "condition" => change.condition = Some(condition(&field, node)?),
            _ => return Err(unknown(at, &name)),
        }
    }
    Ok(change)
}

fn fallback(at: &str, node: Node) -> Result<Fallback, JsonError> {
    let mut fallback = Fallback::default();
    for (name, node) in object(at, node)? {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "asset" => fallback.asset = text_of(&field, node)?,
            "available_delta" => fallback.available_delta = amount(&field, node)?,
            "frozen_delta" => fallback.frozen_delta = amount(&field, node)?,
            _ => return Err(unknown(at, &name)),
        }
    }
    Ok(fallback)
}

fn condition(at: &str, node: Node) -> Result<Condition, JsonError> {
    let mut condition = Condition::default();
    for (name, node) in object(at, node)? {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "version" => condition.version = Some(integer(&field, node)?),
            "min_available" => condition.min_available = Some(amount(&field, node)?),
            _ => return Err(unknown(at, &name)),
        }
    }
    Ok(condition)
}

fn ack(at: &str, node: Node) -> Result<AckPolicy, JsonError> {
    let mut ack = AckPolicy::default();
    for (name, node) in object(at, node)? {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "deadline_seconds" => ack.deadline_seconds = integer(&field, node)?,
            "callback" => ack.callback = text_of(&field, node)?,
            "on_timeout" => ack.on_timeout = on_timeout(&field, node)?,
            _ => return Err(unknown(at, &name)),
        }
    }
    Ok(ack)
}

/// The fields of an object that are not `null`.
fn object(at: &str, node: Node) -> Result<impl Iterator<Item = (String, Node)>, JsonError> {
    match node {
        Node::Object(fields) => Ok(fields
            .into_iter()
            .filter(|(_, node)| !matches!(node, Node::Null))),
        _ => Err(error(at, "must be an object")),
    }
}

fn text_of(at: &str, node: Node) -> Result<String, JsonError> {
    match node {
        Node::Text(text) => Ok(text),
        _ => Err(error(at, "must be a string")),
    }
}

fn amount(at: &str, node: Node) -> Result<String, JsonError> {
    match node {
        Node::Text(text) => Ok(text),
        _ => Err(error(at, "must be an amount in a string, such as \"12.5\"")),
    }
}

fn integer<I: TryFrom<u64>>(at: &str, node: Node) -> Result<I, JsonError> {
    let number = match &node {
        Node::Integer(number) => u64::try_from(*number).ok(),
        Node::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let text = || format!("must be an integer of 0 to {}", most::<I>());
    number
        .and_then(|number| I::try_from(number).ok())
        .ok_or_else(|| error(at, &text()))
}

/// The greatest unsigned integer of the width of `I`.
fn most<I>() -> u64 {
    u64::MAX >> (64 - 8 * size_of::<I>())
}

fn kind(at: &str, node: Node) -> Result<i32, JsonError> {
    let by_name = |name: &str| CommandKind::from_str_name(name).map(i32::from);
    enumeration(at, node, "COMMAND_KIND_", by_name)
}

fn on_timeout(at: &str, node: Node) -> Result<i32, JsonError> {
    let by_name = |name: &str| OnTimeout::from_str_name(name).map(i32::from);
    enumeration(at, node, "ON_TIMEOUT_", by_name)
}

/// A name with or without its prefix, or any number: which numbers mean something is not JSON's.
fn enumeration(
    at: &str,
    node: Node,
    prefix: &str,
    by_name: impl Fn(&str) -> Option<i32>,
) -> Result<i32, JsonError> {
    let text = match node {
        Node::Integer(number) => match i32::try_from(number) {
            Ok(number) => return Ok(number),
            Err(_) => format!("must be a number of 32 bits, not {number}"),
        },
        Node::Text(name) => match by_name(&name).or_else(|| by_name(&format!("{prefix}{name}"))) {
            Some(number) => return Ok(number),
            None => format!("must be a name that starts with {prefix}, or the rest of one"),
        },
        _ => "must be a name or a number".to_owned(),
    };
    Err(error(at, &text))
}

fn time(at: &str, node: Node) -> Result<prost_types::Timestamp, JsonError> {
    let time = match node {
        Node::Text(text) => text.parse().ok(),
        _ => None,
    };
    time.ok_or_else(|| error(at, "must be a time such as \"2026-01-31T23:59:59.5Z\""))
}

fn unknown(at: &str, name: &str) -> JsonError {
    let message = match at {
        "" => "a command",
        _ => at,
    };
    let separator = if at.is_empty() { "" } else { "." };
    let field = format!("{at}{separator}{name}");
    JsonError {
        message: format!("{field} is no field of {message}"),
        field,
    }
}

/// `text` follows the name of the field.
fn error(at: &str, text: &str) -> JsonError {
    let subject = if at.is_empty() { "the line" } else { at };
    JsonError {
        field: at.to_owned(),
        message: format!("{subject} {text}"),
    }
}
