//! `axs inspect-balance`: an account, its balances and last entries, and where each number is from.

use std::fmt::Display;

use anyhow::Result;
use axs::core::proto::{Account, Balance, Entry};

use super::{Ctx, Exit, Failure, flags};

mod direct;
mod server;
mod show;

const AFTER: &str = "\
With --server, or when no postgres.url is set, the numbers are those of the ReadService. Else
PostgreSQL and Redis are read directly and compared: Redis follows PostgreSQL after each commit, so
a difference counts only if it stays.

Exit codes: 0 found · 2 usage · 3 Redis and PostgreSQL differ · 4 no such account or asset · 5 a
server is not available · 6 settings";

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
    let found = match asks_server {
        true => server::find(&args, &settings).await?,
        false => direct::find(&args, &settings).await?,
    };
    if ctx.ui.is_json() {
        show::json(&ctx, &found);
    } else {
        show::tables(&ctx, &found);
    }
    match found.verdict {
        Verdict::Single(_) | Verdict::Agree => Ok(()),
        Verdict::Differ(how) => Err(Failure::new(Exit::Difference, how)
            .hint("PostgreSQL is right; does `axs consume` run, and does it reach Redis?")
            .into()),
    }
}

fn not_found(account: u64) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("account {account} was never opened"),
    )
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
