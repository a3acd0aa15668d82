//! Figures on stdout: two tables, or one document.

use axs::core::bench::Figures;
use serde_json::Value;

use super::super::{Ctx, ui::Table};

/// Prints what was measured.
pub fn figures(ctx: &Ctx, figures: &Figures) {
    if ctx.ui.is_json() {
        return ctx.ui.document(&figures.to_json());
    }
    let mut table = Table::new(["figure", "value>"]);
    table.row(["commands".into(), figures.commands().to_string()]);
    table.row(["seconds".into(), format!("{:.2}", figures.seconds)]);
    table.row([
        "commands a second".into(),
        format!("{:.0}", figures.per_second()),
    ]);
    for (name, percent) in [
        ("p50", 50.0),
        ("p99", 99.0),
        ("p99.9", 99.9),
        ("max", 100.0),
    ] {
        let latency = figures.percentile_us(percent);
        table.row([format!("{name} µs"), format!("{latency:.1}")]);
    }
    table.row([
        "processor seconds".into(),
        format!("{:.2}", figures.cpu_seconds),
    ]);
    let mib = figures.peak_rss_bytes.div_ceil(1 << 20);
    table.row(["peak memory MiB".into(), mib.to_string()]);
    for (name, value) in &figures.more {
        rows(&mut table, name, value);
    }
    ctx.ui.table(table);
    if !figures.stages.is_empty() {
        let mut table = Table::new(["stage", "processor s>", "µs a command>"]);
        for stage in &figures.stages {
            table.row([
                stage.name.clone(),
                format!("{:.2}", stage.cpu_seconds),
                format!("{:.3}", figures.us_per_command(stage)),
            ]);
        }
        ctx.ui.line("");
        ctx.ui.table(table);
    }
    let workload: Vec<String> = (figures.workload.iter())
        .map(|(name, value)| format!("{name} {}", text(value)))
        .collect();
    ctx.ui
        .note(format_args!("workload: {}", workload.join(", ")));
    ctx.ui
        .note(format_args!("a latency is that of {}", figures.latency_of));
}

/// An object has a row for each of its fields.
fn rows(table: &mut Table, name: &str, value: &Value) {
    let name = name.replace('_', " ");
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                rows(table, &format!("{name}: {field}"), value);
            }
        }
        value => table.row([name, text(value)]),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
