//! `axs inspect-balance`: an account, its balances and last entries, and where each number is from.

use std::fmt::Display;

use anyhow::Result;
use axs::core::{
    proto::{Account, Balance, Entry},
    store::drift::Finding,
    types::Timestamp,
};

use super::{Ctx, Exit, Failure, flags};

mod direct;
mod past;
mod server;
mod show;

const AFTER: &str = "\
With --server, or when no postgres.url is set, the numbers are those of the ReadService. Else
PostgreSQL and Redis are read directly and compared: Redis follows PostgreSQL after each commit, so
a difference counts only if it stays. What the drift detector found is shown with the account.

With --at, --version or --history the numbers are those of the journal. For example:
  axs inspect-balance --account 7 --at 2026-11-23T18:00:00Z
  axs inspect-balance --account 7 --asset USDT --version 41
  axs inspect-balance --account 7 --asset USDT --history --limit 100

Exit codes: 0 found · 2 usage · 3 Redis and PostgreSQL differ · 4 no such account, asset or version ·
5 a server is not available · 6 settings";

/// Show an account, its balances and last entries, and where each number comes from
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Which account
    #[arg(long, short, value_name = "ID")]
    account: u64,
    /// Only this asset
    #[arg(long, value_name = "CODE")]
    asset: Option<String>,
    /// How many of the last entries of each balance
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1000))]
    entries: u32,
    /// As they were at this time, such as 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, group = "past")]
    at: Option<Timestamp>,
    /// As the balance was at this version
    #[arg(long, value_name = "N", group = "past", requires = "asset")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// The entries of the balance, the latest first
    #[arg(long, group = "past", requires = "asset")]
    history: bool,
    /// With --history: from this version down
    #[arg(long, value_name = "N", requires = "history")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    from_version: Option<u64>,
    /// With --history: how many entries
    #[arg(long, value_name = "COUNT", default_value_t = 50, requires = "history")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    server: flags::Server,
    #[command(flatten)]
    postgres: flags::Postgres,
    #[command(flatten)]
    redis: flags::Redis,
}

/// What was found, whoever was asked.
struct Found {
    account: Account,
    balances: Vec<Sourced>,
    entries: Vec<Entry>,
    verdict: Verdict,
    /// Of the drift detector, the latest first.
    drift: Vec<Drift>,
    /// Where a longer history goes on.
    next_version: Option<u64>,
}

/// What the drift detector found, with the code of its asset.
struct Drift {
    finding: Finding,
    asset: String,
}

/// What is wanted of the account.
#[derive(Clone, Copy)]
enum Wanted {
    Now,
    At(Timestamp),
    Version(u64),
    History(Option<u64>),
}

impl Args {
    fn wanted(&self) -> Wanted {
        match (self.at, self.version, self.history) {
            (Some(at), ..) => Wanted::At(at),
            (_, Some(version), _) => Wanted::Version(version),
            (.., true) => Wanted::History(self.from_version),
            _ => Wanted::Now,
        }
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let time: Option<prost_types::Timestamp> = text.parse().ok();
    let time = time.and_then(|time| Timestamp::from_proto(&time));
    time.ok_or_else(|| "must be a time such as 2026-11-23T18:00:00Z".into())
}

/// A balance, and where it was read.
struct Sourced {
    balance: Balance,
    source: &'static str,
    as_of: String,
}

/// How the sources relate.
enum Verdict {
    /// One source was asked.
    Single(String),
    Agree,
    /// They still differed after some time.
    Differ(String),
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = [
        args.server.settings(),
        args.postgres.settings(),
        args.redis.settings(),
    ]
    .concat();
    let settings = ctx.settings(flags)?.settings;
    let asks_server = args.server.server.is_some() || settings.postgres.url.is_none();
    let found = match (asks_server, args.wanted()) {
        (true, _) => server::find(&args, &settings).await?,
        (false, Wanted::Now) => direct::find(&args, &settings).await?,
        (false, _) => past::find(&args, &settings).await?,
    };
    if ctx.ui.is_json() {
        show::json(&ctx, &found);
    } else {
        show::tables(&ctx, &found);
    }
    match found.verdict {
        Verdict::Single(_) | Verdict::Agree => Ok(()),
        Verdict::Differ(how) => {
            let is_wrong = |drift: &Drift| drift.finding.is_of_row();
            let hint = match found.drift.iter().any(is_wrong) {
                true => format!(
                    "the row itself differs from its journal: `axs reconcile --account {}`",
                    args.account
                ),
                false => {
                    "PostgreSQL is right; does `axs consume` run, and does it reach Redis?".into()
                }
            };
            Err(Failure::new(Exit::Difference, how).hint(hint).into())
        }
    }
}

fn not_found(account: u64) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("account {account} was never opened"),
    )
}

fn no_version(args: &Args, version: u64) -> Failure {
    let asset = args.asset.as_deref().unwrap_or_default();
    let message = format!(
        "the {asset} balance of account {} has no version {version}",
        args.account
    );
    Failure::new(Exit::NotFound, message)
        .hint("without --version its last one is shown; versions begin at 1")
}

fn unknown_asset(code: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no asset `{code}`"))
        .hint("`axs assets list` shows those there are")
}

fn away(what: &str, cause: &dyn Display) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("{what} is not available: {cause}"),
    )
}
