//! How a reconciliation is shown.

use std::collections::BTreeMap;

use axs::core::{
    assets::Assets,
    reconcile::{CacheReport, Finding, Kind, ShardReport, Total, amount_of},
    types::{AssetId, ShardId},
};
use serde_json::{Value, json};

use super::{
    super::ui::{Table, count, duration},
    Compared, Ctx,
    found::Found,
    repair::Done,
};

/// Differences in the table.
const SHOWN_MAX: usize = 50;

/// With what was repaired, and what is left of the differences.
pub fn show(ctx: &Ctx, compared: &Compared, assets: &Assets, after: Option<(&Done, &Found)>) {
    let totals = totals(&compared.shards);
    if ctx.ui.is_json() {
        let mut document = document(compared, assets, &totals);
        if let Some((done, left)) = after {
            document["repaired"] = repaired(done);
            document["differences_left"] = left.total.into();
        }
        return ctx.ui.document(&document);
    }
    if !compared.shards.is_empty() {
        shards(ctx, compared);
    }
    if !compared.caches.is_empty() {
        caches(ctx, &compared.caches);
    }
    logs(ctx, &compared.shards);
    if !totals.is_empty() {
        assets_table(ctx, assets, &totals);
    }
    if compared.found.total > 0 {
        findings(ctx, compared, assets);
    }
    if compared.found.total == 0 {
        let next = match compared.against.len() {
            1 if compared.caches.is_empty() => {
                "; `--against balance,redis` compares what readers are shown too"
            }
            _ => "",
        };
        ctx.ui.note(format!("nothing differs{next}"));
    }
}

fn shards(ctx: &Ctx, compared: &Compared) {
    let mut table = Table::new([
        "shard>",
        "up to>",
        "commands>",
        "entries>",
        "accounts>",
        "balances>",
        "pending>",
        "oldest>",
        "parked>",
        "journal",
        "state hash",
    ]);
    for it in &compared.shards {
        table.row([
            it.shard.to_string(),
            it.next_position.to_string(),
            count(it.commands),
            count(it.entries),
            count(it.accounts),
            count(it.balances),
            count(it.pending),
            it.oldest_pending.map_or("-".into(), duration),
            count(it.parked),
            if it.is_whole { "whole" } else { "damaged" }.into(),
            format!("{:032x}", it.state_hash),
        ]);
    }
    ctx.ui.table(table);
}

fn caches(ctx: &Ctx, caches: &[(ShardId, CacheReport)]) {
    let mut table = Table::new(["shard>", "in Redis>", "missing>", "wrong>", "undecided>"]);
    for (shard, it) in caches {
        table.row([
            shard.to_string(),
            count(it.accounts - it.missing),
            count(it.missing),
            count(it.wrong.len() as u64),
            count(it.undecided),
        ]);
    }
    ctx.ui.table(table);
    if caches.iter().any(|(_, it)| it.is_cut) {
        ctx.ui
            .note("so much of Redis differs that the rest was not looked at");
    }
}

fn logs(ctx: &Ctx, shards: &[ShardReport]) {
    if shards.iter().all(|it| it.log.is_none()) {
        return;
    }
    let mut table = Table::new(["shard>", "log from>", "commands>", "begun with"]);
    for (shard, it) in shards
        .iter()
        .filter_map(|it| Some((it.shard, it.log.as_ref()?)))
    {
        let begun = if it.is_from_journal {
            "the journal"
        } else {
            "nothing"
        };
        table.row([
            shard.to_string(),
            it.from.to_string(),
            count(it.commands),
            begun.into(),
        ]);
    }
    ctx.ui.table(table);
}

fn assets_table(ctx: &Ctx, assets: &Assets, totals: &BTreeMap<AssetId, Total>) {
    let mut table = Table::new(["asset", "available>", "frozen>", "entered less left>"]);
    for (asset, total) in totals {
        table.row([
            code(assets, *asset),
            sum(assets, *asset, total.available),
            sum(assets, *asset, total.frozen),
            sum(assets, *asset, total.moved),
        ]);
    }
    ctx.ui.table(table);
}

fn findings(ctx: &Ctx, compared: &Compared, assets: &Assets) {
    let mut table = Table::new([
        "differs",
        "shard>",
        "account>",
        "asset",
        "version>",
        "position>",
        "stored",
        "expected",
    ]);
    let dash = || "-".to_owned();
    for it in compared.found.listed.iter().take(SHOWN_MAX) {
        table.row([
            it.kind.name().to_owned(),
            it.shard.to_string(),
            it.account.map_or_else(dash, |account| account.to_string()),
            it.asset.map_or_else(dash, |asset| code(assets, asset)),
            it.version.map_or_else(dash, |version| version.to_string()),
            it.position
                .map_or_else(dash, |position| position.to_string()),
            it.stored.clone(),
            it.expected.clone(),
        ]);
    }
    ctx.ui.table(table);
}

/// What to do about what was found.
pub fn advice(compared: &Compared, is_exported: bool) -> String {
    let found = &compared.found;
    let mut advice = Vec::new();
    if found.total > SHOWN_MAX as u64 && !is_exported {
        advice.push("`--export FILE` writes all of them".to_owned());
    }
    if found.has(Kind::is_of_journal) {
        advice.push(
            "the journal or what it is made of is damaged and nothing derives it: \
             `axs shards pause` the shard, and see docs/operations.md"
                .into(),
        );
    }
    let repairs = compared.shards.iter().filter(|it| !it.repairs.is_empty());
    if let [shard] = repairs.clone().take(2).collect::<Vec<_>>()[..] {
        let shard = shard.shard;
        advice.push(format!(
            "`axs reconcile --shard {shard} --execute --reason TEXT` makes the balances as the \
             journal says; the shard is paused meanwhile"
        ));
    } else if repairs.count() > 1 {
        let text = "`--execute --reason TEXT` makes the balances as the journal says";
        advice.push(text.into());
    }
    if found.has(|kind| kind == Kind::Redis) {
        advice.push("`axs reconcile --against redis --execute` writes Redis again".into());
    }
    if found.has(|kind| kind == Kind::Log) {
        advice.push("`axs replay --shard S --diff postgres` compares command by command".into());
    }
    if advice.is_empty() {
        advice.push("nothing derives this: see docs/operations.md".into());
    }
    advice.join("; ")
}

/// Of all shards.
fn totals(shards: &[ShardReport]) -> BTreeMap<AssetId, Total> {
    let mut totals: BTreeMap<AssetId, Total> = BTreeMap::new();
    let add = |a: Option<i128>, b: Option<i128>| a?.checked_add(b?);
    for (asset, total) in shards.iter().flat_map(|it| &it.totals) {
        let all = totals.entry(*asset).or_insert(Total {
            available: Some(0),
            frozen: Some(0),
            moved: Some(0),
        });
        all.available = add(all.available, total.available);
        all.frozen = add(all.frozen, total.frozen);
        all.moved = add(all.moved, total.moved);
    }
    totals
}

fn code(assets: &Assets, asset: AssetId) -> String {
    let known = assets.by_id(asset);
    known.map_or_else(|| asset.to_string(), |asset| asset.code.clone())
}

fn sum(assets: &Assets, asset: AssetId, amount: Option<i128>) -> String {
    amount.map_or_else(
        || "beyond 128 bits".into(),
        |amount| amount_of(assets, asset.0, amount),
    )
}

fn document(compared: &Compared, assets: &Assets, totals: &BTreeMap<AssetId, Total>) -> Value {
    let found = &compared.found;
    let against: Vec<_> = compared.against.iter().map(|with| with.name()).collect();
    let shards: Vec<Value> = compared.shards.iter().map(shard).collect();
    let caches: Vec<Value> = compared.caches.iter().map(cache).collect();
    let findings: Vec<Value> = found.listed.iter().map(|it| finding(it, assets)).collect();
    let totals: Vec<Value> = totals
        .iter()
        .map(|(asset, total)| {
            json!({
                "asset": code(assets, *asset),
                "available": sum(assets, *asset, total.available),
                "frozen": sum(assets, *asset, total.frozen),
                "entered_less_left": sum(assets, *asset, total.moved),
            })
        })
        .collect();
    json!({
        "schema": "axs.reconcile/v1",
        "against": against,
        "shards": shards,
        "redis": caches,
        "totals": totals,
        "differences": found.total,
        "kinds": found.kinds,
        "findings": findings,
    })
}

fn repaired(done: &Done) -> Value {
    let shards: Vec<Value> = done
        .shards
        .iter()
        .map(|it| {
            json!({
                "shard": it.shard.0,
                "balances": it.balances,
                "stays_paused": it.stays_paused,
            })
        })
        .collect();
    json!({"shards": shards, "redis": done.snapshots})
}

fn shard(it: &ShardReport) -> Value {
    let millis = |age: std::time::Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    json!({
        "shard": it.shard.0,
        "epoch": it.epoch.to_string(),
        "next_position": it.next_position.to_string(),
        "commands": it.commands,
        "entries": it.entries,
        "accounts": it.accounts,
        "balances": it.balances,
        "pending": it.pending,
        "oldest_pending_ms": it.oldest_pending.map(millis),
        "parked": it.parked,
        "journal_is_whole": it.is_whole,
        "log": it.log.as_ref().map(|log| json!({
            "from": log.from.to_string(),
            "is_from_journal": log.is_from_journal,
            "commands": log.commands,
        })),
        "state_hash": format!("{:032x}", it.state_hash),
    })
}

fn cache((shard, it): &(ShardId, CacheReport)) -> Value {
    json!({
        "shard": shard.0,
        "accounts": it.accounts,
        "missing": it.missing,
        "wrong": it.wrong.len(),
        "undecided": it.undecided,
        "is_cut": it.is_cut,
    })
}

fn finding(it: &Finding, assets: &Assets) -> Value {
    json!({
        "kind": it.kind.name(),
        "shard": it.shard.0,
        "account_id": it.account.map(|account| account.to_string()),
        "asset": it.asset.map(|asset| code(assets, asset)),
        "version": it.version.map(|version| version.to_string()),
        "position": it.position.map(|position| position.to_string()),
        "command_id": it.command.map(|command| command.to_string()),
        "stored": it.stored,
        "expected": it.expected,
    })
}
