//! `axs shards rebase`: shards go on with a log that was replaced, moved, or lost records.

use anyhow::Result;
use axs::core::{
    shards::rebase::{self, Move, Plan, Step},
    store::Store,
};
use serde_json::{Value, json};

use super::{Act, nonce, one_of};
use crate::cmd::{
    Ctx, service,
    ui::{Table, count},
};

pub const AFTER: &str = "\
A shard whose log is not the one that was applied stops, because nobody but you knows which of the two
is right. Once it is clear that the log of the settings is to be used, this command lets the shard go on:
topics that are missing are made, and the shard continues under the next generation of positions, at the
end of its log, or at its beginning where records before it were lost. The numbers applied stay, so
nothing is applied twice; `cron-outbox` produces again what is pending, so nothing accepted is lost.

Shards that fit their log are left alone, so it may be repeated. With other topics or another Kafka
cluster in the settings (--all) the cluster moves there; start every process with these settings then.

Exit codes: 0 shown, or done · 1 a shard went on meanwhile · 2 usage · 5 a server is not available · 6
settings, or topics that do not fit · 7 needs --yes";

pub async fn run(act: &Act, ctx: &Ctx) -> Result<()> {
    let (settings, postgres, shards) = act.to.connect(ctx).await?;
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    let only = one_of(act.shard, shards)?;
    let store = Store::Postgres(postgres.clone());
    let kafka = &settings.kafka;
    let plan = rebase::plan(kafka, &postgres, shards, only).await?;
    let is_due = plan.due().next().is_some();
    if !ctx.ui.is_json() {
        show(ctx, &plan);
    }
    if !is_due {
        document(ctx, &plan, &[]);
        ctx.ui
            .note("every shard fits its log: nothing is to be done");
        return Ok(());
    }
    if !act.execution.execute {
        document(ctx, &plan, &[]);
    }
    if !act.execution.confirm(ctx, "Go on with this log?").await? {
        return Ok(());
    }
    let by = act.execution.act();
    rebase::prepare(kafka, &postgres, &plan, &by).await?;
    // What stands in topics that were just made, or in others, is known only now.
    let now = match (&plan.moves, plan.missing.is_empty()) {
        (None, true) => plan.clone(),
        _ => Plan {
            moves: plan.moves.clone(),
            ..rebase::plan(kafka, &postgres, shards, only).await?
        },
    };
    let mut done = Vec::new();
    for step in &now.steps {
        let was_due = plan.due().any(|due| due.row.shard == step.row.shard);
        if was_due && rebase::execute(&store, step, nonce()?, &by).await? {
            done.push(step.clone());
        }
    }
    document(ctx, &now, &done);
    for step in &done {
        let to = step.to().expect("it goes on there");
        ctx.ui
            .note(format!("shard {} goes on at {to}", step.row.shard));
    }
    ctx.ui.note(
        "`axs consume` takes them over by itself, and `axs cron-outbox` produces again what is \
         pending: `axs shards list` shows both",
    );
    if plan.moves.is_some() {
        ctx.ui
            .note("restart every process with these settings: those with others refuse to go on");
    }
    Ok(())
}

fn show(ctx: &Ctx, plan: &Plan) {
    if let Some(moves) = &plan.moves {
        ctx.ui
            .note(format!("the cluster moves {}", rebase::describe(moves)));
    }
    if !plan.missing.is_empty() {
        ctx.ui.note(format!(
            "to be made: the topics {}",
            plan.missing.join(", ")
        ));
    }
    let mut table = Table::new([
        "shard>",
        "stands at>",
        "log has",
        "goes on at>",
        "pending>",
        "why",
    ]);
    for step in &plan.steps {
        let (first, end) = step.range;
        table.row([
            step.row.shard.to_string(),
            step.row.next_position.to_string(),
            format!("{first} to {end}"),
            goes_on(step).unwrap_or("-".into()),
            count(step.pending_count),
            step.why.unwrap_or("fits its log").to_owned(),
        ]);
    }
    ctx.ui.table(table);
}

fn goes_on(step: &Step) -> Option<String> {
    Some(step.why.and(step.to())?.to_string())
}

fn document(ctx: &Ctx, plan: &Plan, done: &[Step]) {
    if !ctx.ui.is_json() {
        return;
    }
    let shards: Vec<Value> = (plan.steps.iter())
        .map(|step| {
            let is_done = done.iter().any(|done| done.row.shard == step.row.shard);
            json!({
                "shard": step.row.shard.0,
                "next_position": step.row.next_position.0.to_string(),
                "log_first": step.range.0.to_string(),
                "log_end": step.range.1.to_string(),
                "goes_on_at": step.why.and(step.to()).map(|to| to.0.to_string()),
                "pending": step.pending_count,
                "why": step.why,
                "changed": is_done,
            })
        })
        .collect();
    let moves = plan.moves.as_ref().map(|Move { from, to }| {
        let log =
            |(prefix, id): &(String, String)| json!({"topic_prefix": prefix, "kafka_cluster": id});
        json!({"from": log(from), "to": log(to)})
    });
    ctx.ui.document(&json!({
        "schema": "axs.shards/v1",
        "action": "rebase",
        "topics_missing": plan.missing,
        "moves": moves,
        "shards": shards,
    }));
}
