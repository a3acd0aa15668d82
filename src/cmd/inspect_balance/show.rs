//! What was found, as tables or JSON.

use axs::core::proto::{Account, Entry};
use serde_json::json;

use super::{Ctx, Drift, Found, Sourced, Verdict};
use crate::cmd::ui::Table;

pub fn tables(ctx: &Ctx, found: &Found) {
    let account = &found.account;
    let mut table = Table::new(["account>", "user>", "status", "shard>", "opened"]);
    table.row([
        account.account_id.to_string(),
        account.user_id.to_string(),
        status(account),
        account.shard_id.to_string(),
        time(account.opened_at.as_ref()),
    ]);
    ctx.ui.table(table);
    let mut table = Table::new([
        "asset",
        "available>",
        "frozen>",
        "version>",
        "source",
        "as of",
    ]);
    for Sourced {
        balance,
        source,
        as_of,
    } in &found.balances
    {
        table.row([
            balance.asset.clone(),
            balance.available.clone(),
            balance.frozen.clone(),
            balance.version.to_string(),
            (*source).to_owned(),
            as_of.clone(),
        ]);
    }
    if !found.balances.is_empty() {
        ctx.ui.line("");
        ctx.ui.table(table);
    }
    if !found.entries.is_empty() {
        ctx.ui.line("");
        entries(ctx, &found.entries);
    }
    if !found.drift.is_empty() {
        ctx.ui.line("");
        drift(ctx, &found.drift);
    }
    if let Some(next) = found.next_version {
        ctx.ui
            .note(format_args!("earlier ones: add --from-version {next}"));
    }
    match &found.verdict {
        Verdict::Single(source) => ctx.ui.note(format_args!("as {source} has it")),
        Verdict::Agree => ctx.ui.note("Redis and PostgreSQL agree"),
        Verdict::Differ(_) => {}
    }
}

fn entries(ctx: &Ctx, entries: &[Entry]) {
    let mut table = Table::new([
        "asset",
        "version>",
        "available>",
        "frozen>",
        "available after>",
        "frozen after>",
        "command>",
        "applied",
        "reference",
    ]);
    for entry in entries {
        table.row([
            entry.asset.clone(),
            entry.version.to_string(),
            signed(&entry.available_delta),
            signed(&entry.frozen_delta),
            entry.available_after.clone(),
            entry.frozen_after.clone(),
            entry.command_id.to_string(),
            time(entry.applied_at.as_ref()),
            entry.reference.clone(),
        ]);
    }
    ctx.ui.table(table);
}

fn drift(ctx: &Ctx, found: &[Drift]) {
    let mut table = Table::new([
        "drift found",
        "asset",
        "version>",
        "kind",
        "whole again",
        "blocked by>",
        "what",
    ]);
    for Drift { finding, asset } in found {
        table.row([
            finding.found_at.to_string(),
            asset.clone(),
            finding.version.to_string(),
            finding.kind.name().into(),
            finding.whole_at.map_or("no".into(), |at| at.to_string()),
            finding.blocked_by.map_or("-".into(), |id| id.to_string()),
            finding.detail.clone(),
        ]);
    }
    ctx.ui.table(table);
}

fn drift_json(Drift { finding, asset }: &Drift) -> serde_json::Value {
    json!({
        "found_at": finding.found_at.to_string(),
        "asset": asset,
        "version": finding.version.to_string(),
        "kind": finding.kind.name(),
        "whole_at": finding.whole_at.map(|at| at.to_string()),
        "blocked_by": finding.blocked_by.map(|id| id.to_string()),
        "detail": finding.detail,
    })
}

pub fn json(ctx: &Ctx, found: &Found) {
    let account = &found.account;
    let balances: Vec<_> = found
        .balances
        .iter()
        .map(|sourced| {
            json!({
                "asset": sourced.balance.asset,
                "available": sourced.balance.available,
                "frozen": sourced.balance.frozen,
                "version": sourced.balance.version.to_string(),
                "source": sourced.source,
                "as_of": sourced.as_of,
            })
        })
        .collect();
    let entries: Vec<_> = found.entries.iter().map(entry_json).collect();
    ctx.ui.document(&json!({
        "schema": "axs.inspect-balance/v1",
        "account": {
            "account_id": account.account_id.to_string(),
            "user_id": account.user_id.to_string(),
            "status": status(account),
            "shard_id": account.shard_id,
            "opened_at": time(account.opened_at.as_ref()),
        },
        "balances": balances,
        "entries": entries,
        "next_version": found.next_version.map(|version| version.to_string()),
        "drift": found.drift.iter().map(drift_json).collect::<Vec<_>>(),
        "verdict": match &found.verdict {
            Verdict::Single(_) => "SINGLE_SOURCE",
            Verdict::Agree => "AGREE",
            Verdict::Differ(_) => "DIFFER",
        },
    }));
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    json!({
        "command_id": entry.command_id.to_string(),
        "leg": entry.leg,
        "asset": entry.asset,
        "available_delta": entry.available_delta,
        "frozen_delta": entry.frozen_delta,
        "available_after": entry.available_after,
        "frozen_after": entry.frozen_after,
        "version": entry.version.to_string(),
        "fallback": entry.fallback,
        "applied_at": time(entry.applied_at.as_ref()),
        "reference": entry.reference,
    })
}

fn status(account: &Account) -> String {
    let name = account.status().as_str_name();
    name.trim_start_matches("ACCOUNT_STATUS_").to_owned()
}

pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.map_or_else(|| "-".into(), ToString::to_string)
}

/// With the sign that makes it a change.
fn signed(delta: &str) -> String {
    match delta {
        "0" => "0".into(),
        negative if negative.starts_with('-') => negative.into(),
        positive => format!("+{positive}"),
    }
}
