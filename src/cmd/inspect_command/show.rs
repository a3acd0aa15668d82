//! The life of a command, as tables or JSON, and what to run next.

use std::time::Duration;

use axs::core::{
    assets::Assets,
    inspect_command::{InCache, InLog, Life, State},
    proto::{CommandKind, CommandResult},
    result,
    types::Timestamp,
};
use serde_json::{Value, json};

use crate::cmd::{
    Ctx,
    ui::{Table, duration},
};

/// A command is pending for so long whenever all is well.
const PENDING_SHORT: Duration = Duration::from_secs(10);

/// A step of its life.
struct Step {
    at: Option<Timestamp>,
    what: &'static str,
    place: &'static str,
    detail: String,
}

pub fn show(ctx: &Ctx, life: &Life, assets: &Assets) {
    let outcome = life.outcome.as_ref();
    let outcome = outcome.map(|stored| result::render_stored(stored, assets));
    let steps = steps(life, outcome.as_ref());
    let next = next(life);
    if ctx.ui.is_json() {
        return ctx
            .ui
            .document(&document(life, outcome.as_ref(), &steps, &next));
    }
    let mut table = Table::new([
        "command>", "shard>", "state", "kind", "account>", "source", "key",
    ]);
    let command = life.command.as_ref();
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    table.row([
        life.id.to_string(),
        life.id.shard().to_string(),
        life.state.name().into(),
        text(command.map(|it| kind(it.kind))),
        text(command.map(|it| it.account.to_string())),
        text(command.map(|it| it.source.to_string())),
        text(command.map(|it| it.idempotency_key.to_string())),
    ]);
    ctx.ui.table(table);
    ctx.ui.line("");
    let mut table = Table::new(["time", "step", "known by", "what"]);
    for step in &steps {
        table.row([
            text(step.at.map(|at| at.to_string())),
            step.what.into(),
            step.place.into(),
            step.detail.clone(),
        ]);
    }
    ctx.ui.table(table);
    if let Some(outcome) = outcome.filter(|outcome| !outcome.entries.is_empty()) {
        ctx.ui.line("");
        entries(ctx, &outcome);
    }
    for sentence in next {
        ctx.ui.note(sentence);
    }
}

fn entries(ctx: &Ctx, outcome: &CommandResult) {
    let mut table = Table::new([
        "account>",
        "asset",
        "available>",
        "frozen>",
        "available after>",
        "frozen after>",
        "version>",
    ]);
    for entry in &outcome.entries {
        table.row([
            entry.account_id.to_string(),
            entry.asset.clone(),
            entry.available_delta.clone(),
            entry.frozen_delta.clone(),
            entry.available_after.clone(),
            entry.frozen_after.clone(),
            entry.version.to_string(),
        ]);
    }
    ctx.ui.table(table);
}

fn steps(life: &Life, outcome: Option<&CommandResult>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |at, what, place, detail| {
        steps.push(Step {
            at,
            what,
            place,
            detail,
        });
    };
    match &life.command {
        Some(command) => {
            if let Some(at) = command.created_at {
                add(Some(at), "created", "the caller", String::new());
            }
            let changes = command.changes.len();
            let mut detail = match command.reverses {
                Some(target) => format!("reverses {target}"),
                None if changes == 1 => "1 change".into(),
                None => format!("{changes} changes"),
            };
            if !command.reference.is_empty() {
                detail = format!("{detail}, reference `{}`", command.reference);
            }
            add(Some(command.accepted_at), "accepted", "command", detail);
        }
        None => add(None, "accepted", "command", "there is no row of it".into()),
    }
    for letter in &life.letters {
        let reason = letter.reason.map_or("?", |reason| reason.code());
        let detail = format!(
            "position {}, {reason}, {}: {}",
            letter.position, letter.state, letter.message
        );
        add(Some(letter.log_time), "dead letter", "dead_letter", detail);
    }
    if let Some((place, detail)) = in_log(life) {
        add(None, "in the log", place, detail);
    }
    let decided_at = life.outcome.as_ref().map(|it| it.outcome.applied_at);
    let decided = match life.state {
        State::Applied | State::Rejected => outcome.map(|outcome| match life.state {
            State::Rejected => (
                "rejected",
                format!(
                    "{} {}: {}",
                    outcome.reject_code,
                    code(outcome),
                    outcome.reject_reason
                ),
            ),
            _ if outcome.entries.len() == 1 => ("applied", "1 entry".into()),
            _ => ("applied", format!("{} entries", outcome.entries.len())),
        }),
        State::Pending => Some(("pending", "its number is not in the applied set".into())),
        State::Parked => Some(("parked", "it waits for an operator".into())),
        State::Sealed => Some(("sealed", "its number was never a command's".into())),
        State::Missing => Some((
            "missing",
            "its number is in the applied set, and the journal has no outcome of it".into(),
        )),
    };
    if let Some((what, detail)) = decided {
        let place = match life.outcome {
            Some(_) => "journal",
            None => "shard_position",
        };
        let epoch = outcome.map_or_else(String::new, |it| format!("epoch {}, ", it.epoch));
        add(decided_at, what, place, format!("{epoch}{detail}"));
    }
    if outcome.is_some() {
        let (what, detail) = match life.is_published {
            true => ("published", String::new()),
            false => (
                "not published",
                "by what is stored; it follows within a second".into(),
            ),
        };
        add(None, what, "shard_position", detail);
    }
    if let Some((what, detail)) = in_cache(&life.cache) {
        add(None, what, "Redis", detail);
    }
    if let Some(by) = life.reversed_by {
        add(None, "reversed", "reversal", format!("by command {by}"));
    }
    steps
}

fn in_log(life: &Life) -> Option<(&'static str, String)> {
    if let Some(stored) = &life.outcome {
        return Some(("journal", format!("position {}", stored.outcome.position)));
    }
    let next = life.shard.next_position;
    match &life.log {
        InLog::NotAsked => None,
        InLog::Unknown(why) => Some(("Kafka", format!("not known: {why}"))),
        InLog::At(positions) => {
            let first = positions.first()?;
            let before = (first.offset() - next.offset()).max(0);
            let detail = format!(
                "position {first}, {before} records before it are not applied{}",
                match positions.len() {
                    1 => String::new(),
                    count => format!("; {count} times"),
                }
            );
            Some(("Kafka", detail))
        }
        InLog::Nowhere { records, complete } => {
            let extent = match complete {
                true => "up to the end",
                false => "and not further",
            };
            let detail = format!("not among {records} records from position {next} {extent}");
            Some(("Kafka", detail))
        }
    }
}

fn in_cache(cache: &InCache) -> Option<(&'static str, String)> {
    Some(match cache {
        InCache::NotAsked => return None,
        InCache::Unknown(why) => ("in Redis?", format!("not known: {why}")),
        InCache::Absent => (
            "not in Redis",
            "there is no snapshot of the account; readers get it from PostgreSQL".into(),
        ),
        InCache::Has(at) => ("in Redis", format!("the account as of position {at}")),
        InCache::Behind(at) => ("not in Redis", format!("the account as of position {at}")),
    })
}

/// What to run next, where something waits.
fn next(life: &Life) -> Vec<String> {
    let shard = life.id.shard();
    let account = life.command.as_ref().map(|command| command.account);
    let waits = life.pending_for().map_or_else(String::new, duration);
    match life.state {
        State::Pending if life.pending_for().is_some_and(|age| age < PENDING_SHORT) => {
            vec![format!("pending for {waits}: look again in a moment")]
        }
        State::Pending => {
            let mut next = vec![format!(
                "pending for {waits}: `axs shards show {shard}` says who leads and how far it is"
            )];
            if life.shard.lease_left.is_zero() {
                next.push(format!("nobody leads shard {shard}: start `axs consume`"));
            }
            if matches!(life.log, InLog::Nowhere { .. }) {
                next.push(
                    "it is not in the log: the outbox sends it again; does one run? \
                     `axs cron-outbox --once`"
                        .into(),
                );
            }
            next
        }
        State::Parked => vec![format!(
            "parked for {waits}: `axs shards show {shard}` lists the dead letters"
        )],
        State::Missing => vec![format!(
            "this is damage: `axs reconcile --shard {shard}`, then `axs replay --shard {shard}`"
        )],
        State::Applied => account.map_or_else(Vec::new, |account| {
            vec![format!(
                "its account: `axs inspect-balance --account {account}`"
            )]
        }),
        State::Rejected | State::Sealed => Vec::new(),
    }
}

fn code(outcome: &CommandResult) -> &'static str {
    let name = outcome.reject_code().as_str_name();
    name.trim_start_matches("REJECT_CODE_")
}

fn kind(kind: CommandKind) -> String {
    kind.as_str_name()
        .trim_start_matches("COMMAND_KIND_")
        .into()
}

fn document(
    life: &Life,
    outcome: Option<&CommandResult>,
    steps: &[Step],
    next: &[String],
) -> Value {
    let command = life.command.as_ref().map(|command| {
        json!({
            "source": &*command.source,
            "idempotency_key": &*command.idempotency_key,
            "account_id": command.account.to_string(),
            "kind": kind(command.kind),
            "reference": &*command.reference,
            "reverses": command.reverses.map(|id| id.to_string()),
            "changes": command.changes.len(),
            "created_at": command.created_at.map(|at| at.to_string()),
            "accepted_at": command.accepted_at.to_string(),
        })
    });
    let stored = life.outcome.as_ref();
    let decided = outcome.zip(stored).map(|(outcome, stored)| {
        json!({
            "position": stored.outcome.position.0.to_string(),
            "epoch": outcome.epoch.to_string(),
            "applied_at": stored.outcome.applied_at.to_string(),
            "reject_code": code(outcome),
            "reject_reason": outcome.reject_reason,
            "is_published": life.is_published,
            "entries": outcome.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    });
    let positions = match &life.log {
        InLog::At(positions) => positions.iter().map(|at| at.0.to_string()).collect(),
        _ => Vec::new(),
    };
    json!({
        "schema": "axs.inspect-command/v1",
        "command_id": life.id.to_string(),
        "shard": life.id.shard().0,
        "state": life.state.name(),
        "command": command,
        "outcome": decided,
        "log_positions": positions,
        "pending_ms": life.pending_for().map(|age| age.as_millis().to_string()),
        "reversed_by": life.reversed_by.map(|id| id.to_string()),
        "steps": steps.iter().map(|step| json!({
            "at": step.at.map(|at| at.to_string()),
            "step": step.what,
            "known_by": step.place,
            "what": step.detail,
        })).collect::<Vec<_>>(),
        "next": next,
    })
}

fn entry(entry: &axs::core::proto::Entry) -> Value {
    json!({
        "leg": entry.leg,
        "account_id": entry.account_id.to_string(),
        "asset": entry.asset,
        "available_delta": entry.available_delta,
        "frozen_delta": entry.frozen_delta,
        "available_after": entry.available_after,
        "frozen_after": entry.frozen_after,
        "version": entry.version.to_string(),
        "fallback": entry.fallback,
    })
}
