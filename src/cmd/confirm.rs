//! Before something is changed by hand: the plan was shown, now it is asked for.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use axs::core::store::Act;

use super::{Ctx, Exit, Failure};

/// Flags of commands that show what they would do, and do it when they are told to.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Execution {
    /// Do it; without this the plan is shown and nothing is changed
    #[arg(long)]
    pub execute: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long, requires = "execute")]
    pub yes: bool,
    /// Why, for the table `audit`
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

impl Execution {
    /// Whether to act, once the plan was shown: asks on a terminal.
    ///
    /// # Errors
    ///
    /// `NeedsYes` where nobody can be asked, `Interrupted` when the answer is no.
    pub async fn confirm(&self, ctx: &Ctx, question: &str) -> Result<bool> {
        if !self.execute {
            ctx.ui.note("nothing was changed: give --execute to do it");
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            let failure = Failure::new(
                Exit::NeedsYes,
                "nobody can be asked here: nothing was changed",
            );
            return Err(failure.hint("give --yes beside --execute").into());
        }
        let question = format!("{question} [y/N] ");
        let answer = tokio::task::spawn_blocking(move || {
            eprint!("{question}");
            std::io::stderr().flush()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer).map(|_| answer)
        });
        let answer = answer.await?.context("no answer could be read")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(true),
            _ => Err(Failure::new(Exit::Interrupted, "not done: nothing was changed").into()),
        }
    }

    /// Who acts, and why.
    pub fn act(&self) -> Act {
        Act {
            operator: operator(),
            reason: self.reason.clone(),
        }
    }
}

/// `user@host`, as far as the environment tells.
fn operator() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| {
            let value = std::env::var(name).ok()?;
            (!value.is_empty()).then_some(value)
        });
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
    let user = user.unwrap_or_else(|| format!("uid {}", uid.unwrap_or("unknown")));
    format!("{user}@{}", host.trim())
}
