//! `axs chaos failover`: how soon another process goes on.

use anyhow::Result;
use axs::core::chaos::failover::{self, How, Options, Report};
use clap::ValueEnum;
use serde_json::json;

use super::{Common, Ctx, Told, show};
use crate::cmd::service;

const AFTER: &str = "\
Signals one service after the other under load, and measures until clients have the result of a
command that another process applied, for every shard of the victim. Then the same verdict as of
`axs chaos`.

Exit codes: as of `axs chaos`; slow is no difference";

/// Measure how soon another process goes on after a kill, a stop or a SIGTERM
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// How often
    #[arg(long, value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// What is done to the victim
    #[arg(long, value_enum, default_value_t = Signal::Kill)]
    how: Signal,
    /// All services are victims in turn, not only `consume`: for exit times
    #[arg(long)]
    any_service: bool,
    #[command(flatten)]
    common: Common,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Signal {
    /// kill -9
    Kill,
    /// SIGSTOP, and SIGCONT once another process went on
    Stop,
    /// SIGTERM: a planned hand-over, as in a rolling restart
    Term,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let (stage, mut load) = args.common.plan(&ctx)?;
    load.probes = true;
    let options = Options {
        stage,
        load,
        strikes: args.kills,
        how: match args.how {
            Signal::Kill => How::Kill,
            Signal::Stop => How::Stop,
            Signal::Term => How::Term,
        },
        any_service: args.any_service,
        keep: args.common.keep,
    };
    let mut told = Told::new(&ctx, options.load.seed, "strikes");
    let stop = service::interrupted()?;
    let report = failover::run(&options, &stop, &mut |progress| told.tell(progress)).await?;
    drop(told);
    print(&ctx, &options, &report);
    show::verdict(&report.judgement)
}

fn print(ctx: &Ctx, options: &Options, report: &Report) {
    let figures = &report.figures;
    let mut shown: show::Figures = vec![
        ("seed", options.load.seed.to_string()),
        ("how", options.how.name().into()),
        ("strikes", options.strikes.to_string()),
        ("hand_overs", figures.taken.count().to_string()),
        ("taken_over_p50", show::time(figures.taken.percentile(50))),
        ("taken_over_p99", show::time(figures.taken.percentile(99))),
        ("taken_over_max", show::time(figures.taken.max())),
        (
            "shard_taken_over_p50",
            show::time(figures.shards.percentile(50)),
        ),
        (
            "shard_taken_over_p99",
            show::time(figures.shards.percentile(99)),
        ),
        ("not_taken_over", figures.not_taken.to_string()),
        ("errors_seen_by_clients", figures.errors.to_string()),
    ];
    if options.how == How::Term {
        shown.extend([
            ("exits", figures.exits.count().to_string()),
            ("exit_p50", show::time(figures.exits.percentile(50))),
            ("exit_p99", show::time(figures.exits.percentile(99))),
            ("exit_max", show::time(figures.exits.max())),
            ("bad_exits", figures.bad_exits.to_string()),
        ]);
    }
    shown.extend(show::seen(&report.window));
    shown.extend(show::log(&report.judgement));
    let document = json!({
        "schema": "axs.chaos/v1",
        "mode": "FAILOVER",
        "left_behind": report.left,
    });
    show::print(ctx, document, &shown, &[], &report.judgement);
    show::left(ctx, report.left.as_deref());
}
