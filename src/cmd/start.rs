//! What happens before a subcommand runs: arguments, and the log.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use axs::core::telemetry::logs::{self, Format, Logs};
use clap::{CommandFactory, FromArgMatches, error::ErrorKind as ClapError};

use super::{Cli, Exit, Failure, LogFormat, ui};

/// Parses the arguments; `Err`: help, version or a usage error was printed.
pub fn parse(arguments: Vec<OsString>) -> std::result::Result<Cli, ExitCode> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let json = has("--json");
    let plain = has("--color=never")
        || arguments
            .windows(2)
            .any(|pair| pair == ["--color", "never"]);
    let color = if plain {
        clap::ColorChoice::Never
    } else {
        clap::ColorChoice::Auto
    };
    let parsed = Cli::command()
        .color(color)
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let error = match parsed {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let is_answer = matches!(
        error.kind(),
        ClapError::DisplayHelp | ClapError::DisplayVersion
    );
    if json && !is_answer {
        ui::print_json_failure(&Failure::usage(&error));
    } else {
        // A closed pipe is the reader's choice.
        let _ = error.print();
    }
    Err(if is_answer {
        ExitCode::SUCCESS
    } else {
        Exit::Usage.into()
    })
}

/// Logs go to stderr, above the progress bars.
pub fn start_logs(cli: &Cli, ui: &ui::Ui) -> Result<()> {
    let global = &cli.global;
    let steps = if cli.command.is_service() { 1 } else { 0 } + usize::from(global.verbose);
    let level = match (global.quiet, steps) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let format = match global.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Auto if ui.is_terminal() && !global.json => Format::Text,
        LogFormat::Auto => Format::Json,
    };
    logs::start(Logs {
        format,
        filter: format!("warn,axs={level}"),
        color: ui.has_color(),
        writer: ui.log_writer(),
    })?;
    Ok(())
}
