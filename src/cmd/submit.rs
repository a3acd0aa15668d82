//! `axs submit`: sends commands of a file, or one given by flags, and shows what became of each.

use std::{io, os::fd::AsFd, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use axs::core::{
    command::json::to_json,
    submit::{self, LineReport, Options, Summary, WaitFor},
};
use clap::ValueEnum;
use tokio::io::AsyncRead;

use super::{
    Ctx, Exit, Failure, flags,
    ui::{self, Table},
};

mod one;

use one::One;

const AFTER: &str = "\
A file holds one JSON object a line, with the field names of axs.v1.Command:
    {\"source\":\"shop\",\"idempotency_key\":\"order-1\",\"account_id\":7,\"kind\":\"CHANGE\",
     \"changes\":[{\"asset\":\"USDT\",\"available_delta\":\"-5\",\"frozen_delta\":\"5\"}]}

A line goes out when its account's previous line is answered; up to 1,024 accounts are under way at
a time. Lost connections and retryable errors are sent again with the same key, so that sending a
file twice changes nothing. After a line is undecided its account's later lines are not sent.

Exit codes: 0 every line was answered for good, rejections included · 1 a line is undecided at the
timeout, or the file cannot be read · 2 usage · 5 no server · 6 settings";

/// Send commands and show what became of each
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Commands, one JSON object a line; - reads stdin
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    #[arg(required_unless_present = "account", conflicts_with = "account")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: flags::Server,
    /// What counts as answered: durable in the ledger, or its outcome
    #[arg(long, value_enum, default_value_t = Wait::Applied)]
    wait: Wait,
    /// How long a line is sent again, counted from its first sending
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    one: One,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    Accepted,
    Applied,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = ctx.settings(args.server.settings())?.settings;
    let options = Options {
        server: settings.client.server,
        wait: match args.wait {
            Wait::Accepted => WaitFor::Accepted,
            Wait::Applied => WaitFor::Applied,
        },
        timeout: args.timeout,
    };
    let Some(file) = args.file else {
        let line = to_json(&args.one.command()?);
        return send(&ctx, &options, io::Cursor::new(line), Some(1), true).await;
    };
    if file.as_os_str() == "-" {
        let input = stdin().context("cannot read stdin")?;
        return send(&ctx, &options, input, None, false).await;
    }
    let cannot_read = || format!("cannot read `{}`", file.display());
    let total = count_lines(&file).with_context(cannot_read)?;
    let input = tokio::fs::File::open(&file)
        .await
        .with_context(cannot_read)?;
    send(&ctx, &options, input, Some(total), false).await
}

async fn send(
    ctx: &Ctx,
    options: &Options,
    input: impl AsyncRead + Unpin + Send + 'static,
    total: Option<u64>,
    one: bool,
) -> Result<()> {
    let mut progress = ctx.ui.progress("lines", total);
    let tell = |report: &LineReport| {
        progress.add(1);
        if ctx.ui.is_json() {
            ctx.ui.document(report);
        } else if one {
            show_one(ctx, report);
        }
    };
    let summary = submit::run(options, input, tell)
        .await
        .map_err(Failure::from)?;
    let elapsed = progress.elapsed();
    drop(progress);
    if !ctx.ui.is_json() && !one {
        show_counts(ctx, &summary, elapsed);
    }
    match summary.first_undecided {
        None => Ok(()),
        Some(first) => Err(undecided(&summary, first, options.timeout).into()),
    }
}

fn show_counts(ctx: &Ctx, summary: &Summary, elapsed: Duration) {
    let mut table = Table::new(["outcome", "lines>"]);
    for (label, lines) in &summary.counts {
        table.row([label.clone(), lines.to_string()]);
    }
    ctx.ui.table(table);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = summary.lines as f64 / elapsed.as_secs_f64().max(1e-9);
    ctx.ui.note(format_args!(
        "{} lines in {}, {rate:.0}/s; {} sent more than once",
        ui::count(summary.lines),
        ui::duration(elapsed),
        summary.sent_again,
    ));
}

fn show_one(ctx: &Ctx, report: &LineReport) {
    let mut table = Table::new(["command", "outcome", "key", "why"]);
    let why = match (report.reject_reason.as_str(), report.field.as_str()) {
        ("", "") => report.message.clone(),
        ("", field) => format!("{field}: {}", report.message),
        (reason, _) => reason.to_owned(),
    };
    let id = match report.command_id.as_str() {
        "" => "-",
        id => id,
    };
    table.row([
        id.to_owned(),
        report.label(),
        report.idempotency_key.clone(),
        why,
    ]);
    ctx.ui.table(table);
}

fn undecided(summary: &Summary, first: u64, timeout: Duration) -> Failure {
    let timeout = humantime::format_duration(timeout);
    let mut failure = Failure::new(
        Exit::Failure,
        format!(
            "{} of {} lines are undecided after {timeout}, the first is line {first}",
            summary.undecided, summary.lines
        ),
    );
    failure.retryable = true;
    failure.hint("send the same file again: what was answered is answered the same way")
}

fn stdin() -> io::Result<tokio::fs::File> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(input)))
}

/// Lines that are not empty, for the progress bar.
fn count_lines(file: &PathBuf) -> io::Result<u64> {
    use io::BufRead as _;
    let mut input = io::BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let (mut lines, mut is_started) = (0, false);
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(lines + u64::from(is_started));
        }
        for byte in chunk {
            match byte {
                b'\n' => {
                    lines += u64::from(is_started);
                    is_started = false;
                }
                byte => is_started |= !byte.is_ascii_whitespace(),
            }
        }
        let taken = chunk.len();
        input.consume(taken);
    }
}
