//! `axs shards recover`: after PostgreSQL came back from an earlier time.

use anyhow::Result;
use axs::core::{
    log,
    shards::recover::{self, Conflict, Finding, Sources},
    store::{Known, ShardRow, Store},
};
use serde_json::{Value, json};

use super::{Act, NAME, in_postgres, nonce, one_of};
use crate::cmd::{
    Ctx, Exit, Failure, service,
    ui::{Table, count},
};

pub const AFTER: &str = "\
A restored backup, or a failover to a replica that was behind, has lost commands that were accepted and
perhaps applied. Their records are in the log, in order. This command reads the log from where the
database stands to its end and stores the commands whose rows are gone, under their ids and keys; then no
number and no epoch that log, results or Redis have seen is used again. The shards then apply the log from
where the database stands, with the outcomes that were told before.

Accepted commands whose record did not reach the log before the database was lost are gone: their callers
were told ACCEPTED, and may send them again under the same key.

Before: stop every serve-grpc, consume and cron-outbox. Afterwards: start them. It may be repeated.

Exit codes: 0 shown, or done · 1 a shard is led, or it was changed meanwhile · 2 usage · 3 the log
contradicts the database: something was accepted since it came back · 5 a server is not available · 6
settings · 7 needs --yes";

pub async fn run(act: &Act, ctx: &Ctx) -> Result<()> {
    let settings = act.to.settings(ctx)?;
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    let store = service::store(&settings, NAME).await?;
    // Not `service::shards`, which refuses a copy on another server.
    let Some(shards) = store.health().await?.shards else {
        let message = "the database has no AXS cluster: this is not a copy of one";
        return Err(Failure::new(Exit::Configuration, message).into());
    };
    let only = one_of(act.shard, shards)?;
    service::topics(&store, &settings.kafka.topic_prefix).await?;
    let log = log::kafka::Log::connect(&settings.kafka, shards, NAME).await?;
    let cache = service::cache(&settings)?;
    let results = log.last_results().await?;
    let sources = Sources {
        store: &store,
        log: &log,
        cache: cache.as_ref(),
        results: &results,
    };
    let mut findings = Vec::new();
    {
        let mut progress = ctx.ui.progress("records read", None);
        for row in store.shard_rows().await? {
            if only.is_none_or(|only| only == row.shard) {
                findings.push(recover::find(&sources, row, |records| progress.add(records)).await?);
            }
        }
    }
    let postgres = in_postgres(store.clone());
    let running = postgres.connected().await?;
    show(ctx, &findings, &running, !act.execution.execute);
    refuse(ctx, &findings)?;
    if !act
        .execution
        .confirm(ctx, "Go on from this database and this log?")
        .await?
    {
        return Ok(());
    }
    refuse_leaders(&store.shard_rows().await?)?;
    let by = act.execution.act();
    let mut adopted = Vec::new();
    let mut progress = ctx.ui.progress("records read", None);
    for finding in &findings {
        adopted.push(recover::adopt(&sources, finding, |records| progress.add(records)).await?);
    }
    drop(progress);
    for finding in &findings {
        recover::go_on(&store, finding, nonce()?, &by).await?;
    }
    // The others still have to be looked at.
    if only.is_none() {
        postgres.adopt_server(&by).await?;
    }
    finish(ctx, &store, &findings, &adopted).await
}

/// What contradicts the database needs somebody who decides.
fn refuse(ctx: &Ctx, findings: &[Finding]) -> Result<()> {
    let conflicts: Vec<&Conflict> = findings.iter().flat_map(|it| &it.conflicts).collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    if !ctx.ui.is_json() {
        let mut table = Table::new(["position>", "command", "what"]);
        for conflict in &conflicts {
            let what = sentence(conflict.known).to_owned();
            table.row([conflict.position.to_string(), conflict.id.to_string(), what]);
        }
        ctx.ui.table(table);
    }
    let message = format!(
        "{} commands of the log contradict the database: something was accepted since it came back",
        conflicts.len()
    );
    let failure = Failure::new(Exit::Difference, message);
    Err(failure
        .hint("nothing was changed: both commands were accepted, and who sent them has to be asked")
        .into())
}

fn sentence(known: Known) -> &'static str {
    match known {
        Known::Nothing => "not known",
        Known::Accepted => "accepted",
        Known::OtherContent => "its number was given to another command",
        Known::OtherCommand => "its key was accepted again under another number",
    }
}

fn refuse_leaders(rows: &[ShardRow]) -> Result<()> {
    let Some(row) = rows.iter().find(|row| !row.lease_left.is_zero()) else {
        return Ok(());
    };
    let message = format!(
        "shard {} is led by {}: nothing was changed",
        row.shard, row.leader
    );
    let failure = Failure::new(Exit::Failure, message);
    Err(failure
        .hint("stop every serve-grpc, consume and cron-outbox first")
        .into())
}

fn show(ctx: &Ctx, findings: &[Finding], running: &[String], is_all: bool) {
    if ctx.ui.is_json() {
        if is_all {
            document(ctx, findings, &[]);
        }
        return;
    }
    let mut table = Table::new([
        "shard>",
        "database at>",
        "log has",
        "records>",
        "to adopt>",
        "conflicts>",
        "epoch>",
        "seen>",
        "note",
    ]);
    for finding in findings {
        let (first, end) = finding.range;
        table.row([
            finding.row.shard.to_string(),
            finding.row.next_position.to_string(),
            format!("{first} to {end}"),
            count(finding.records),
            count(finding.unknown.count()),
            finding.conflicts.len().to_string(),
            finding.row.epoch.to_string(),
            finding.seen.epoch.to_string(),
            note(finding).to_owned(),
        ]);
    }
    ctx.ui.table(table);
    if !running.is_empty() {
        let running = running.join(", ");
        ctx.ui
            .note(format!("still connected, to be stopped first: {running}"));
    }
}

fn note(finding: &Finding) -> &'static str {
    match finding {
        finding if finding.diverges() => "does not fit the log: `axs shards rebase` has to follow",
        finding if finding.went_back() => "went back in time",
        _ => "nothing has seen more than it",
    }
}

async fn finish(ctx: &Ctx, store: &Store, findings: &[Finding], adopted: &[u64]) -> Result<()> {
    document(ctx, findings, adopted);
    let rows = store.shard_rows().await?;
    for (finding, adopted) in findings.iter().zip(adopted) {
        let row = rows.iter().find(|row| row.shard == finding.row.shard);
        let epoch = row.map_or(0, |row| row.epoch.0);
        ctx.ui.note(format!(
            "shard {}: {} commands adopted, goes on under epoch {epoch}",
            finding.row.shard,
            count(*adopted),
        ));
    }
    let needs_rebase = findings.iter().any(Finding::diverges);
    ctx.ui.note(match needs_rebase {
        true => "next: `axs shards rebase --all`, then start every process",
        false => "next: start every process, then look with `axs shards list` and `axs doctor`",
    });
    Ok(())
}

fn document(ctx: &Ctx, findings: &[Finding], adopted: &[u64]) {
    if !ctx.ui.is_json() {
        return;
    }
    let shards: Vec<Value> = (findings.iter().enumerate())
        .map(|(index, finding)| {
            json!({
                "shard": finding.row.shard.0,
                "next_position": finding.row.next_position.0.to_string(),
                "log_first": finding.range.0.to_string(),
                "log_end": finding.range.1.to_string(),
                "records": finding.records,
                "unknown": finding.unknown.count(),
                "conflicts": finding.conflicts.len(),
                "epoch": finding.row.epoch.to_string(),
                "epoch_seen": finding.seen.epoch.to_string(),
                "number_seen": finding.seen.number.to_string(),
                "went_back": finding.went_back(),
                "adopted": adopted.get(index),
            })
        })
        .collect();
    ctx.ui
        .document(&json!({"schema": "axs.shards/v1", "action": "recover", "shards": shards}));
}
