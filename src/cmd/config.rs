//! `axs config`: what the settings are, where they come from, whether they are right.

use anyhow::Result;
use axs::core::config::template::TEMPLATE;
use serde::Serialize;

use super::{Ctx, ui::Table};

/// Show or check the settings
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Every setting as a command would use it; passwords are not shown
    Show {
        /// Where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Whether file and environment are right; exit code 6 when not
    Check,
    /// A commented axs.toml to start from
    Template,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    settings: Vec<Setting>,
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

pub fn run(args: Args, ctx: Ctx) -> Result<()> {
    match args.action {
        Action::Show { origin } => show(&ctx, origin),
        Action::Check => {
            ctx.settings(Vec::new())?;
            if ctx.ui.is_json() {
                let fine = serde_json::json!({"schema": "axs.config-check/v1", "ok": true});
                ctx.ui.document(&fine);
            } else {
                ctx.ui.line("the settings are fine");
            }
            Ok(())
        }
        Action::Template => {
            ctx.ui.line(TEMPLATE.trim_end());
            Ok(())
        }
    }
}

fn show(ctx: &Ctx, with_origin: bool) -> Result<()> {
    let shown = ctx.settings(Vec::new())?.shown();
    if ctx.ui.is_json() {
        let settings = shown.into_iter().map(|shown| Setting {
            key: shown.key,
            value: shown.value,
            origin: with_origin.then(|| shown.origin.to_string()),
        });
        ctx.ui.document(&Document {
            schema: "axs.config/v1",
            settings: settings.collect(),
        });
        return Ok(());
    }
    let value = |value: Option<String>| match value {
        Some(value) if !value.is_empty() => value,
        _ => "-".into(),
    };
    let mut table = match with_origin {
        true => Table::new(["setting", "value", "origin"]),
        false => Table::new(["setting", "value"]),
    };
    for shown in shown {
        match with_origin {
            true => table.row([shown.key, value(shown.value), shown.origin.to_string()]),
            false => table.row([shown.key, value(shown.value)]),
        }
    }
    ctx.ui.table(table);
    Ok(())
}
