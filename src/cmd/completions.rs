//! `axs completions`: a script for the shell.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Ctx};

/// Print a script that completes subcommands and flags
///
/// For example: axs completions bash > /etc/bash_completion.d/axs
#[derive(clap::Args)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args, ctx: Ctx) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "axs", &mut script);
    ctx.ui.line(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
