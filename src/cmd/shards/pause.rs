//! `axs shards pause | resume`: nobody leads a shard until it is resumed.

use std::time::Duration;

use anyhow::Result;
use axs::core::{
    shards::hand_over,
    store::{ShardRow, Store},
    types::ShardId,
};
use serde_json::json;

use super::{Act, nonce, one_of};
use crate::cmd::{Ctx, ui::Table};

/// A leader hands its shard over within this; then its lease is ended by force.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

pub async fn pause(act: &Act, ctx: &Ctx) -> Result<()> {
    let (store, rows) = rows(act, ctx).await?;
    plan(ctx, &rows, "pause", |row| match &row.paused_by {
        Some(who) => format!("nothing: paused by {who}"),
        None => "is handed over, and led by nobody".into(),
    });
    if !act.execution.confirm(ctx, "Let nobody lead them?").await? {
        return Ok(());
    }
    let mut done = Vec::new();
    for row in &rows {
        let is_new = store.pause(row.shard, &act.execution.act()).await?;
        done.push((row.shard, is_new));
    }
    for row in &rows {
        let (shard, by) = (row.shard, act.execution.act());
        if let Some(leader) = hand_over(&store, shard, HAND_OVER_MAX, nonce()?, &by).await? {
            ctx.ui.note(format!(
                "{leader} did not hand shard {shard} over: its lease was ended"
            ));
        }
    }
    finish(
        ctx,
        "pause",
        &done,
        "commands are accepted and wait: `axs shards resume` lets them be applied",
    );
    Ok(())
}

pub async fn resume(act: &Act, ctx: &Ctx) -> Result<()> {
    let (store, rows) = rows(act, ctx).await?;
    plan(ctx, &rows, "resume", |row| match &row.paused_by {
        Some(who) => format!("may be led again; paused by {who}"),
        None => "nothing: it is not paused".into(),
    });
    if !act.execution.confirm(ctx, "Let them be led again?").await? {
        return Ok(());
    }
    let mut done = Vec::new();
    for row in &rows {
        let was_paused = store.resume(row.shard, &act.execution.act()).await?;
        done.push((row.shard, was_paused));
    }
    finish(
        ctx,
        "resume",
        &done,
        "`axs consume` takes them over by itself: `axs shards list` shows it",
    );
    Ok(())
}

async fn rows(act: &Act, ctx: &Ctx) -> Result<(Store, Vec<ShardRow>)> {
    let (_, store, count) = act.to.connect(ctx).await?;
    let only = one_of(act.shard, count)?;
    let store = Store::Postgres(store);
    let mut rows = store.shard_rows().await?;
    rows.retain(|row| only.is_none_or(|only| only == row.shard));
    Ok((store, rows))
}

fn plan(ctx: &Ctx, rows: &[ShardRow], action: &'static str, what: impl Fn(&ShardRow) -> String) {
    if ctx.ui.is_json() {
        return;
    }
    let mut table = Table::new(["shard>", "led by", action]);
    for row in rows {
        let leader = match row.lease_left.is_zero() {
            true => "nobody".to_owned(),
            false => row.leader.clone(),
        };
        table.row([row.shard.to_string(), leader, what(row)]);
    }
    ctx.ui.table(table);
}

fn finish(ctx: &Ctx, action: &str, done: &[(ShardId, bool)], next: &str) {
    if ctx.ui.is_json() {
        let shards: Vec<_> = (done.iter())
            .map(|(shard, is_new)| json!({"shard": shard.0, "changed": is_new}))
            .collect();
        let document = json!({"schema": "axs.shards/v1", "action": action, "shards": shards});
        return ctx.ui.document(&document);
    }
    let changed = done.iter().filter(|(_, is_new)| *is_new).count();
    ctx.ui.note(format!(
        "{action}: {changed} of {} shards changed; {next}",
        done.len()
    ));
}
