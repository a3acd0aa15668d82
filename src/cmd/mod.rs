//! The command line: one file per subcommand, each with its `Args` and `run`. Wires parts of
//! [`axs::core`] and prints; decides nothing about balances.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use axs::core::{
    config::load::{self, Loaded, Sources},
    telemetry::logs::{self, Format, Logs},
};
use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind as ClapError,
};

pub use failure::{Exit, Failure};

mod completions;
mod config;
mod failure;
mod flags;
mod submit;
pub mod ui;

/// An event-driven balance engine: every accepted command takes effect exactly once.
///
/// Start with `axs dev`, which runs everything in this process without any server, and send it
/// commands with `axs submit`.
#[derive(Parser)]
#[command(name = "axs", version = version_line())]
#[command(after_long_help = failure::EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every subcommand.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Settings file [default: ./axs.toml if it is there]
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<std::path::PathBuf>,
    /// Print JSON instead of tables; errors on stderr are JSON too
    #[arg(long, global = true)]
    pub json: bool,
    /// Colours: auto is on for terminals, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub color: When,
    /// Log more (-v, -vv); AXS_LOG sets levels by module
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only, show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Form of log lines on stderr: auto is text on a terminal, else JSON
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto, value_name = "FORM")]
    pub log_format: LogFormat,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    Submit(submit::Args),
    Config(config::Args),
    Completions(completions::Args),
}

impl Command {
    /// Runs until it is told to stop, and logs what it does.
    fn is_service(&self) -> bool {
        match self {
            Self::Submit(_) | Self::Config(_) | Self::Completions(_) => false,
        }
    }
}

/// Runs a subcommand; what is not a service ends at once when it is interrupted.
pub async fn run(command: Command, ctx: Ctx) -> Result<()> {
    if command.is_service() {
        return dispatch(command, ctx).await;
    }
    tokio::select! {
        answer = dispatch(command, ctx) => answer,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted().into()),
    }
}

async fn dispatch(command: Command, ctx: Ctx) -> Result<()> {
    match command {
        Command::Submit(args) => submit::run(args, ctx).await,
        Command::Config(args) => config::run(args, ctx),
        Command::Completions(args) => completions::run(args, ctx),
    }
}

/// What every subcommand gets.
pub struct Ctx {
    pub ui: ui::Ui,
    global: Global,
}

impl Ctx {
    pub fn new(global: Global, ui: ui::Ui) -> Self {
        Self { ui, global }
    }

    /// The settings, with these flags of the command on top.
    pub fn settings(&self, flags: flags::Settings) -> Result<Loaded> {
        let sources = Sources {
            file: self.global.config.clone(),
            // A variable that is not Unicode cannot be one of ours.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            flags,
        };
        load::load(&sources).map_err(|error| Failure::configuration(&error).into())
    }
}

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

fn version_line() -> String {
    format!(
        "{} (commit {}, schema {})",
        env!("CARGO_PKG_VERSION"),
        env!("AXS_COMMIT"),
        schema_version()
    )
}

/// Of the database schema that this program works with.
fn schema_version() -> &'static str {
    "none"
}
