//! `axs shards list | show`: who leads each shard, how far it is, and what waits.

use anyhow::Result;
use axs::core::{
    shards::{self, LETTERS_MAX, Report, Shard},
    store::Store,
    types::{ShardId, Timestamp},
};
use serde_json::{Value, json};

use super::To;
use crate::cmd::{
    Ctx, service,
    ui::{Table, count, duration},
};

/// All shards, or one.
pub async fn run(to: &To, only: Option<u16>, ctx: &Ctx) -> Result<()> {
    let (settings, store, shards) = to.connect(ctx).await?;
    let only = super::one_of(only, shards)?;
    let store = Store::Postgres(store);
    let log = service::log_if_there(&settings, &store, shards, super::NAME).await?;
    let report = shards::look(&store, log.as_ref().map_err(Clone::clone), only).await?;
    show(ctx, &report, only);
    if let Some(error) = &report.log_error {
        ctx.ui.note(format!("the lag is not known: {error}"));
    }
    advise(ctx, &report, only);
    Ok(())
}

fn show(ctx: &Ctx, report: &Report, only: Option<ShardId>) {
    if ctx.ui.is_json() {
        let shards: Vec<Value> = report.shards.iter().map(document).collect();
        let document = json!({"schema": "axs.shards/v1", "shards": shards});
        return ctx.ui.document(&document);
    }
    match (only, &report.shards[..]) {
        (Some(_), [shard]) => one(ctx, shard),
        _ => all(ctx, report),
    }
}

fn all(ctx: &Ctx, report: &Report) {
    let mut table = Table::new([
        "shard>",
        "leader",
        "epoch>",
        "lease>",
        "next>",
        "lag>",
        "to publish>",
        "pending>",
        "oldest>",
        "gaps>",
        "dead>",
    ]);
    for shard in &report.shards {
        let row = &shard.row;
        table.row([
            row.shard.to_string(),
            leader(shard),
            row.epoch.to_string(),
            lease(shard),
            row.next_position.to_string(),
            shard.lag().map_or("?".into(), count),
            to_publish(shard),
            count(shard.pending_count),
            shard.oldest_pending.map_or("-".into(), duration),
            shard.gaps().to_string(),
            dead(shard),
        ]);
    }
    ctx.ui.table(table);
}

fn one(ctx: &Ctx, shard: &Shard) {
    let row = &shard.row;
    let mut table = Table::new(["figure", "value"]);
    for (figure, value) in [
        ("shard", row.shard.to_string()),
        ("leader", leader(shard)),
        ("paused by", row.paused_by.clone().unwrap_or("-".into())),
        ("epoch", row.epoch.to_string()),
        ("lease left", lease(shard)),
        ("next position to apply", row.next_position.to_string()),
        ("end of its log", end(shard)),
        ("lag, records", shard.lag().map_or("?".into(), count)),
        ("published to", row.published_to.to_string()),
        ("last outcome", time(row.applied_at).unwrap_or("-".into())),
        (
            "last tick applied",
            time(row.passed_at).unwrap_or("-".into()),
        ),
        ("commands pending", count(shard.pending_count)),
        (
            "oldest pending",
            shard.oldest_pending.map_or("-".into(), duration),
        ),
        ("numbers decided", decided(shard).unwrap_or("-".into())),
        ("gaps in them", shard.gaps().to_string()),
        ("state hash", format!("{:032x}", row.state_hash)),
        ("dead letters", dead(shard)),
    ] {
        table.row([figure.into(), value]);
    }
    ctx.ui.table(table);
    if shard.dead_letters.is_empty() {
        return;
    }
    let mut table = Table::new(["position>", "reason", "parks", "what"]);
    for letter in &shard.dead_letters {
        table.row([
            letter.position.to_string(),
            letter.reason.code().to_owned(),
            letter.parks.map_or("-".into(), |id| id.to_string()),
            letter.message.clone(),
        ]);
    }
    ctx.ui.table(table);
}

/// What to run next, where something is not as it should be.
fn advise(ctx: &Ctx, report: &Report, only: Option<ShardId>) {
    let names = |is: fn(&Shard) -> bool| -> Option<String> {
        let of = report.shards.iter().filter(|shard| is(shard));
        let names: Vec<String> = of.map(|shard| shard.row.shard.to_string()).collect();
        let noun = if names.len() == 1 { "shard" } else { "shards" };
        (!names.is_empty()).then(|| format!("{noun} {}", names.join(", ")))
    };
    if let Some(shards) = names(|shard| shard.row.paused_by.is_some()) {
        ctx.ui.note(format!(
            "paused by an operator: {shards}; `axs shards resume` lets it be led again"
        ));
    }
    if let Some(shards) = names(|shard| !shard.is_led() && shard.row.paused_by.is_none()) {
        ctx.ui.note(format!(
            "nobody leads {shards}: start `axs consume`, or see in its log why it stopped"
        ));
    }
    if only.is_none()
        && let Some(shards) = names(|shard| !shard.dead_letters.is_empty())
    {
        ctx.ui.note(format!(
            "dead letters of {shards}: `axs shards show` lists them"
        ));
    }
}

fn leader(shard: &Shard) -> String {
    match (shard.is_led(), &shard.row.paused_by) {
        (true, _) => shard.row.leader.clone(),
        (false, None) => "nobody".into(),
        (false, Some(_)) => "paused".into(),
    }
}

fn lease(shard: &Shard) -> String {
    match shard.is_led() {
        true => duration(shard.row.lease_left),
        false => "-".into(),
    }
}

fn end(shard: &Shard) -> String {
    shard.end.map_or("?".into(), |end| end.to_string())
}

/// Nothing was so long ago.
fn time(at: Timestamp) -> Option<String> {
    (at.0 != 0).then(|| at.to_string())
}

fn decided(shard: &Shard) -> Option<String> {
    let applied = &shard.row.applied;
    (!applied.is_empty()).then(|| applied.to_string())
}

fn to_publish(shard: &Shard) -> String {
    let (next, published) = (shard.row.next_position, shard.row.published_to);
    match next.generation() == published.generation() {
        true => (next.offset() - published.offset()).max(0).to_string(),
        false => "?".into(),
    }
}

fn dead(shard: &Shard) -> String {
    match shard.dead_letters.len() {
        LETTERS_MAX.. => format!("{LETTERS_MAX} and more"),
        found => found.to_string(),
    }
}

fn document(shard: &Shard) -> Value {
    let row = &shard.row;
    let letters: Vec<Value> = shard
        .dead_letters
        .iter()
        .map(|letter| {
            json!({
                "position": letter.position.0.to_string(),
                "reason": letter.reason.code(),
                "parks": letter.parks.map(|id| id.to_string()),
                "message": letter.message,
            })
        })
        .collect();
    json!({
        "shard": row.shard.0,
        "is_led": shard.is_led(),
        "leader": shard.is_led().then_some(&row.leader),
        "paused_by": row.paused_by,
        "epoch": row.epoch.to_string(),
        "lease_left_ms": u64::try_from(row.lease_left.as_millis()).unwrap_or(u64::MAX),
        "next_position": row.next_position.0.to_string(),
        "log_end": shard.end.map(|end| end.0.to_string()),
        "lag": shard.lag(),
        "published_to": row.published_to.0.to_string(),
        "last_outcome_at": time(row.applied_at),
        "last_tick_at": time(row.passed_at),
        "pending": shard.pending_count,
        "oldest_pending_ms": shard.oldest_pending.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        "decided": decided(shard),
        "gaps": shard.gaps(),
        "state_hash": format!("{:032x}", row.state_hash),
        "dead_letters": letters,
    })
}
