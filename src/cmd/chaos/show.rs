//! What a run found, as tables or as one JSON document.

use std::time::Duration;

use anyhow::Result;
use axs::core::chaos::{
    judge::Judgement,
    meter::Window,
    run::{Options, Report},
    verdict::Check,
};
use serde_json::{Value, json};

use super::super::{
    Ctx, Exit, Failure,
    ui::{self, Table},
};

/// Names and values, in the order they are shown.
pub type Figures = Vec<(&'static str, String)>;

/// Exit code 3 where something does not hold.
pub fn verdict(judgement: &Judgement) -> Result<()> {
    let broken = judgement.checks.iter().filter(|check| !check.holds());
    match broken.count() {
        0 => Ok(()),
        broken => {
            let all = judgement.checks.len();
            let message = format!("{broken} of {all} checks found a difference");
            Err(Failure::new(Exit::Difference, message)
                .hint("what breaks them is listed on stdout; everything of the run stays")
                .into())
        }
    }
}

/// Chaos.
pub fn run(ctx: &Ctx, options: &Options, report: &Report) {
    let mut figures: Figures = vec![
        ("seed", options.load.seed.to_string()),
        ("duration", ui::duration(options.duration)),
        ("commands_per_second", options.load.rate.to_string()),
    ];
    figures.extend(seen(&report.window));
    figures.extend([
        ("goodput_without_faults", rate(report.goodput_calm)),
        ("goodput_with_faults", rate(report.goodput)),
        ("connections_hit", report.connections_hit.to_string()),
        ("stale_flushes_refused", report.stale_flushes.to_string()),
        ("rest_after", ui::duration(report.rest_took)),
    ]);
    figures.extend(log(&report.judgement));
    let document = json!({
        "schema": "axs.chaos/v1",
        "mode": "CHAOS",
        "faults": report.faults.iter().map(|(name, count)| {
            json!({"fault": name, "count": count.to_string()})
        }).collect::<Vec<_>>(),
        "left_behind": report.left,
    });
    print(ctx, document, &figures, &report.faults, &report.judgement);
    left(ctx, report.left.as_deref());
}

/// What an operator may look at, and has to delete.
pub fn left(ctx: &Ctx, left: Option<&str>) {
    if let Some(left) = left {
        ctx.ui.note(format_args!("left behind: {left}"));
    }
}

/// One document, or the tables.
pub fn print(
    ctx: &Ctx,
    mut document: Value,
    figures: &Figures,
    faults: &[(&'static str, u64)],
    judgement: &Judgement,
) {
    if ctx.ui.is_json() {
        document["holds"] = judgement.holds().into();
        for (name, value) in figures {
            document[*name] = value.as_str().into();
        }
        document["checks"] = judgement.checks.iter().map(check).collect();
        return ctx.ui.document(&document);
    }
    let mut table = Table::new(["figure", "value>"]);
    for (name, value) in figures {
        table.row([name.replace('_', " "), value.clone()]);
    }
    ctx.ui.table(table);
    if !faults.is_empty() {
        ctx.ui.line("");
        let mut table = Table::new(["fault", "count>"]);
        for (name, count) in faults {
            table.row([(*name).to_owned(), ui::count(*count)]);
        }
        ctx.ui.table(table);
    }
    ctx.ui.line("");
    let mut table = Table::new(["", "what must hold", "compared>", "broken>"]);
    for check in &judgement.checks {
        table.row([
            if check.holds() { "ok" } else { "BROKEN" }.to_owned(),
            check.law.to_owned(),
            check.compared.map_or("in SQL".into(), ui::count),
            ui::count(check.broken),
        ]);
    }
    ctx.ui.table(table);
    for check in judgement.checks.iter().filter(|check| !check.holds()) {
        ctx.ui.line(format_args!("\n{}:", check.law));
        for by in &check.by {
            ctx.ui.line(format_args!("  {by}"));
        }
    }
}

fn check(check: &Check) -> Value {
    json!({
        "law": check.law,
        "holds": check.holds(),
        "compared": check.compared.map(|compared| compared.to_string()),
        "broken": check.broken.to_string(),
        "by": check.by,
    })
}

/// What clients saw.
pub fn seen(window: &Window) -> Figures {
    vec![
        ("commands_decided", window.decided.to_string()),
        ("commands_sent", window.sent.to_string()),
        ("commands_retried", window.retried.to_string()),
        ("unknown_answers", window.unknown.to_string()),
        ("refusals", window.refused.count().to_string()),
        ("accepted_p50", time(window.accepted.percentile(50))),
        ("accepted_p99", time(window.accepted.percentile(99))),
        ("applied_p50", time(window.applied.percentile(50))),
        ("applied_p99", time(window.applied.percentile(99))),
    ]
}

/// What the log and the topic hold.
pub fn log(judgement: &Judgement) -> Figures {
    let counts = &judgement.counts;
    vec![
        ("commands_in_log", counts.commands.to_string()),
        ("control_records_in_log", counts.control_records.to_string()),
        (
            "log_amplification",
            ratio(counts.command_records, counts.commands),
        ),
        ("results_published", judgement.results_published.to_string()),
        (
            "results_published_again",
            judgement.results_repeated.to_string(),
        ),
        ("take_overs", judgement.take_overs.to_string()),
        ("redis_agreed_after", ui::duration(judgement.redis_took)),
        ("accounts_not_in_redis", judgement.redis_missing.to_string()),
    ]
}

/// Such as `1.0123`.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn ratio(a: u64, b: u64) -> String {
    format!("{:.4}", a as f64 / b.max(1) as f64)
}

/// Such as `431/s`.
pub fn rate(rate: f64) -> String {
    format!("{rate:.0}/s")
}

/// Of a percentile; `-`: there were no samples.
pub fn time(time: Option<Duration>) -> String {
    time.map_or("-".into(), ui::duration)
}
