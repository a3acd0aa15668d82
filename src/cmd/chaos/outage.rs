//! `axs chaos outage`: a server away for minutes, or ten times the load.

use std::time::Duration;

use anyhow::Result;
use axs::core::chaos::{
    hooks::Server,
    meter::{Window, per_second},
    outage::{self, Of, Options, Report},
};
use clap::ValueEnum;
use serde_json::json;

use super::{Common, Ctx, Exit, Failure, Told, minutes, show};
use crate::cmd::{service, ui};

const AFTER: &str = "\
20 s of the load as it is, then the outage, then until what was missed is made up for, then 20 s
more; the same verdict as of `axs chaos` in the end. The server is taken away by its hooks (down and
up); PostgreSQL and Redis without hooks are away for the services only, by a proxy. An overload finds
the peak first, with as many callers as --clients, then has ten times as many.

Exit codes: as of `axs chaos`; slow or large is no difference";

/// Commands of one caller that are not decided: in an outage all of them are open.
const PENDING_MAX: usize = 4_000;

/// Measure memory, refusals and catching up while a server is away, or under ten times the load
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// What is away
    #[arg(long, value_enum)]
    of: Away,
    /// For how long
    #[arg(long, value_name = "MINUTES", default_value = "5", value_parser = minutes)]
    minutes: Duration,
    #[command(flatten)]
    common: Common,
}

/// What is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Away {
    Postgres,
    Kafka,
    Redis,
    /// Nothing, but ten times as many callers
    Overload,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let (stage, mut load) = args.common.plan(&ctx)?;
    let of = match args.of {
        Away::Postgres => Of::Server(Server::Postgres),
        Away::Kafka => Of::Server(Server::Kafka),
        Away::Redis => Of::Server(Server::Redis),
        Away::Overload => Of::Overload,
    };
    // Mostly callers that are told when a command is stored: the others would only wait.
    load.waiting_of_100 = 20;
    if of != Of::Overload {
        load.pending_max = PENDING_MAX;
    }
    let options = Options {
        stage,
        load,
        of,
        duration: args.minutes,
        keep: args.common.keep,
    };
    if let Some(why) = outage::cannot(&options) {
        let hint = "give --hook kafka-down=COMMAND and --hook kafka-up=COMMAND";
        return Err(Failure::new(Exit::Usage, why).hint(hint).into());
    }
    let mut told = Told::new(&ctx, options.load.seed, "commands decided");
    let stop = service::interrupted()?;
    let report = outage::run(&options, &stop, &mut |progress| told.tell(progress)).await?;
    drop(told);
    print(&ctx, &options, &report);
    show::verdict(&report.judgement)
}

fn print(ctx: &Ctx, options: &Options, report: &Report) {
    let grown = |memory: &outage::Memory| memory.most.saturating_sub(memory.before) / 1024;
    let most = report.memory.iter().max_by_key(|memory| grown(memory));
    let mut shown: show::Figures = vec![
        ("seed", options.load.seed.to_string()),
        ("of", options.of.name().into()),
        ("duration", ui::duration(options.duration)),
        (
            "memory_grown_most",
            most.map_or("-".into(), |memory| {
                format!("{} MiB, {}", grown(memory), memory.service)
            }),
        ),
        ("caught_up_after", show::time(report.caught_up)),
    ];
    shown.extend(phase(&BEFORE, &report.before));
    shown.extend(phase(&DURING, &report.during));
    shown.extend(phase(&AFTERWARDS, &report.after));
    shown.extend(show::log(&report.judgement));
    let document = json!({
        "schema": "axs.chaos/v1",
        "mode": "OUTAGE",
        "memory": report.memory.iter().map(|memory| json!({
            "service": memory.service,
            "before_kib": memory.before.to_string(),
            "most_kib": memory.most.to_string(),
        })).collect::<Vec<_>>(),
        "left_behind": report.left,
    });
    show::print(ctx, document, &shown, &[], &report.judgement);
    show::left(ctx, report.left.as_deref());
}

/// Names of a phase's figures.
type Names = [&'static str; 8];

const BEFORE: Names = [
    "before_decided",
    "before_stored",
    "before_accepted_p50",
    "before_accepted_p99",
    "before_refusals",
    "before_refused_p50",
    "before_refused_p99",
    "before_unknown_answers",
];
const DURING: Names = [
    "during_decided",
    "during_stored",
    "during_accepted_p50",
    "during_accepted_p99",
    "during_refusals",
    "during_refused_p50",
    "during_refused_p99",
    "during_unknown_answers",
];
const AFTERWARDS: Names = [
    "after_decided",
    "after_stored",
    "after_accepted_p50",
    "after_accepted_p99",
    "after_refusals",
    "after_refused_p50",
    "after_refused_p99",
    "after_unknown_answers",
];

fn phase(names: &Names, (window, took): &(Window, Duration)) -> show::Figures {
    let values = [
        show::rate(window.goodput(*took)),
        show::rate(per_second(window.stored, *took)),
        show::time(window.accepted.percentile(50)),
        show::time(window.accepted.percentile(99)),
        window.refused.count().to_string(),
        show::time(window.refused.percentile(50)),
        show::time(window.refused.percentile(99)),
        window.unknown.to_string(),
    ];
    names.iter().copied().zip(values).collect()
}
