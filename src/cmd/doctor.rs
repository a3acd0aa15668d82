//! `axs doctor`: whether everything a cluster needs is there and safe, and what to do where not.

use anyhow::Result;
use axs::core::doctor::{self, Check, State};
use serde_json::{Value, json};

use super::{Ctx, Exit, Failure, flags, ui::Table};

const AFTER: &str = "\
Looks only; changes nothing.

Exit codes: 0 healthy, warnings included · 2 usage · 5 a server is not available · 6 the settings are
wrong or name no servers · 10 unhealthy";

/// Check every server, schema, topics and durability settings, and say what to do
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    servers: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = ctx.settings(args.servers.settings())?.settings;
    let checks = doctor::examine(&settings).await;
    show(&ctx, &checks);
    verdict(&checks)
}

fn verdict(checks: &[Check]) -> Result<()> {
    let with = |state| checks.iter().filter(move |check| check.state == state);
    let names = |state| {
        with(state)
            .map(|it| it.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let failure = if with(State::Unreachable).next().is_some() {
        let message = format!("not available: {}", names(State::Unreachable));
        Failure::new(Exit::Unavailable, message)
    } else if with(State::Missing).next().is_some() {
        let message = format!("not set: {}", names(State::Missing));
        Failure::new(Exit::Configuration, message)
            .hint("`axs config show --origin` tells where each value comes from")
    } else if with(State::Fail).next().is_some() {
        Failure::new(
            Exit::Unhealthy,
            format!("unhealthy: {}", names(State::Fail)),
        )
    } else {
        return Ok(());
    };
    Err(failure.into())
}

fn show(ctx: &Ctx, checks: &[Check]) {
    if ctx.ui.is_json() {
        let checks: Vec<Value> = checks
            .iter()
            .map(|check| {
                json!({
                    "name": check.name,
                    "state": name(check.state).to_uppercase(),
                    "found": check.found,
                    "advice": check.advice,
                })
            })
            .collect();
        let document = json!({"schema": "axs.doctor/v1", "checks": checks});
        return ctx.ui.document(&document);
    }
    let mut table = Table::new(["", "check", "found", "what to do"]);
    for check in checks {
        table.row([
            name(check.state).to_owned(),
            check.name.clone(),
            check.found.clone(),
            check.advice.clone(),
        ]);
    }
    ctx.ui.table(table);
}

fn name(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::Fail => "fail",
        State::Missing => "missing",
        State::Unreachable => "unreachable",
    }
}
