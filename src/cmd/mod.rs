//! The command line: one file per subcommand, each with its `Args` and `run`. Wires parts of
//! [`axs::core`] and prints; decides nothing about balances.

use anyhow::Result;
use axs::core::config::load::{self, Loaded, Sources};
use clap::{Parser, Subcommand, ValueEnum};

pub use failure::{Exit, Failure};
pub use start::{parse, start_logs};

mod assets;
mod bench;
mod chaos;
mod completions;
mod config;
mod confirm;
mod consume;
mod cron_outbox;
mod dev;
mod doctor;
mod failure;
mod flags;
mod inspect_balance;
mod inspect_command;
mod migrate;
mod reconcile;
mod replay;
mod seed;
mod serve_grpc;
mod service;
mod shards;
#[cfg(feature = "simulation")]
mod simulate;
mod start;
mod submit;
pub mod ui;

/// In the help of services.
const SERVICE_EXIT_CODES: &str = "\
SIGTERM or SIGINT: not ready, no new work, finish what is under way, exit 0. A second one: exit 130.

Exit codes: 0 stopped as told · 1 failure · 2 usage · 5 a server is not available at the start · 6
settings, or they do not fit what is stored · 130 stopped at once";

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
#[expect(clippy::enum_variant_names, reason = "one of them inspects commands")]
pub enum Command {
    Dev(dev::Args),
    Submit(submit::Args),
    InspectBalance(inspect_balance::Args),
    InspectCommand(inspect_command::Args),
    ServeGrpc(serve_grpc::Args),
    Consume(consume::Args),
    CronOutbox(cron_outbox::Args),
    Migrate(migrate::Args),
    Doctor(doctor::Args),
    Assets(assets::Args),
    Shards(shards::Args),
    Reconcile(reconcile::Args),
    Replay(replay::Args),
    Seed(seed::Args),
    Chaos(chaos::Args),
    Bench(bench::Args),
    Config(config::Args),
    Completions(completions::Args),
    #[cfg(feature = "simulation")]
    Simulate(simulate::Args),
}

impl Command {
    /// Runs until it is told to stop, and logs what it does.
    fn is_service(&self) -> bool {
        match self {
            Self::Dev(_) | Self::ServeGrpc(_) | Self::Consume(_) => true,
            Self::CronOutbox(args) => args.is_service(),
            Self::Submit(_)
            | Self::InspectBalance(_)
            | Self::InspectCommand(_)
            | Self::Migrate(_)
            | Self::Doctor(_)
            | Self::Assets(_)
            | Self::Shards(_)
            | Self::Reconcile(_)
            | Self::Replay(_)
            | Self::Seed(_)
            | Self::Chaos(_)
            | Self::Bench(_)
            | Self::Config(_)
            | Self::Completions(_) => false,
            #[cfg(feature = "simulation")]
            Self::Simulate(_) => false,
        }
    }
}

/// Runs a subcommand; what is not a service ends at once when it is interrupted.
pub async fn run(command: Command, ctx: Ctx) -> Result<()> {
    // It has to mend and to clean up first.
    let ends_by_itself = match &command {
        Command::Chaos(_) => true,
        Command::Bench(args) => args.cleans_up(),
        Command::Reconcile(args) => args.executes(),
        _ => false,
    };
    if command.is_service() || ends_by_itself {
        return dispatch(command, ctx).await;
    }
    tokio::select! {
        answer = dispatch(command, ctx) => answer,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted().into()),
    }
}

async fn dispatch(command: Command, ctx: Ctx) -> Result<()> {
    match command {
        Command::Dev(args) => dev::run(args, ctx).await,
        Command::Submit(args) => submit::run(args, ctx).await,
        Command::InspectBalance(args) => inspect_balance::run(args, ctx).await,
        Command::InspectCommand(args) => inspect_command::run(args, ctx).await,
        Command::ServeGrpc(args) => serve_grpc::run(args, ctx).await,
        Command::Consume(args) => consume::run(args, ctx).await,
        Command::CronOutbox(args) => cron_outbox::run(args, ctx).await,
        Command::Migrate(args) => migrate::run(args, ctx).await,
        Command::Doctor(args) => doctor::run(args, ctx).await,
        Command::Assets(args) => assets::run(args, ctx).await,
        Command::Shards(args) => shards::run(args, ctx).await,
        Command::Reconcile(args) => reconcile::run(args, ctx).await,
        Command::Replay(args) => replay::run(args, ctx).await,
        Command::Seed(args) => seed::run(args, ctx).await,
        Command::Chaos(args) => chaos::run(args, ctx).await,
        Command::Bench(args) => bench::run(args, ctx).await,
        Command::Config(args) => config::run(args, ctx),
        Command::Completions(args) => completions::run(args, ctx),
        #[cfg(feature = "simulation")]
        Command::Simulate(args) => simulate::run(args, ctx).await,
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
    axs::core::store::postgres::SCHEMA_VERSION
}

/// A port of this machine only.
const fn loopback(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}
