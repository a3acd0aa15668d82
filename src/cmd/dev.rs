//! `axs dev`: the whole pipeline in this process, without any server.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use axs::core::{
    cache::{self, Cache},
    clock::Clock,
    config::{Settings, check::parse_asset},
    consumer::{self, Shards},
    embedded::{self, Embedded},
    grpc,
    outbox::Outbox,
    outcomes::Outcomes,
    registry::Registry,
    store::Store,
    types::Position,
    writer::{self, routes::Routes},
};
use tokio_util::sync::CancellationToken;

use super::{
    Ctx, Exit, Failure,
    consume::watch_shards,
    flags,
    service::{self, Service},
    ui::Ui,
};

const ADMIN: SocketAddr = super::loopback(7251);
/// How often it looks whether the log file is applied.
const CATCH_UP_LOOK: Duration = Duration::from_millis(5);
/// What there is to trade when the settings name no assets.
const ASSETS: [&str; 7] = [
    "USDT:18", "USDC:18", "ETH:18", "XBT:8", "BTC:8", "EUR:2", "USD:2",
];

const AFTER: &str = "\
Then, in another terminal:
    axs submit --account 7 --kind OPEN_ACCOUNT --change USDT:100
    axs submit --account 7 --change USDT:-30:30
    axs inspect-balance --account 7

Not for production: one process, one disk, no TLS. Without --data-dir everything is gone at the end;
with it, what was accepted is there again after any end, a crash included.

Exit codes: 0 stopped by SIGTERM or SIGINT · 1 failure · 2 usage · 6 settings, or a data directory
that does not fit them · 130 stopped at once by a second signal";

/// Run everything in this process, without any server
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Keep what is accepted in this directory [default: in memory only]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    data_dir: Option<PathBuf>,
    /// Number of shards [default: cluster.shards, else as in the directory, else 4]
    #[arg(long, value_name = "COUNT")]
    shards: Option<u16>,
    #[command(flatten)]
    grpc: flags::Grpc,
    #[command(flatten)]
    admin: flags::Admin,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let mut flags = [args.grpc.settings(), args.admin.settings()].concat();
    flags::given(
        &mut flags,
        "cluster.shards",
        "--shards",
        args.shards.as_ref(),
    );
    let settings = ctx.settings(flags)?.settings;
    service::warn_beyond_loopback("grpc.listen", settings.grpc.listen);
    // Before the directory: a second `axs dev` shall say what is taken, and touch nothing.
    let listener = grpc::bind(settings.grpc.listen).await?;
    let address = listener
        .local_addr()
        .context("cannot tell the API's address")?;
    let service = Service::start(settings.admin.listen.unwrap_or(ADMIN)).await?;
    let ready = service.health.reported("log");

    let Embedded { store, log, report } = open(&args, &settings)?;
    let shards = store.shards().await?;
    let cache = Cache::Memory(cache::memory::Cache::default());
    let registry = Registry::load(store.clone()).await?;
    let led = Shards::default();
    watch_shards(&service, &led);
    let (watched, ends) = (
        led.clone(),
        log.ends().await.context("cannot tell the log's ends")?,
    );
    let waiters_max = settings.grpc.waiters_max;
    let outcomes = Outcomes::start(
        store.clone(),
        log.clone(),
        registry.clone(),
        shards,
        waiters_max,
    );
    let parts = consumer::Parts {
        store: store.clone(),
        log: log.clone(),
        cache: Some(cache.clone()),
        registry: registry.clone(),
        name: service::name()?,
    };
    // Leaders and outbox go on until the API has answered what it took in.
    let drained = CancellationToken::new();
    let consume = settings.consume.clone();
    let leading = tokio::spawn({
        let drained = drained.clone();
        async move { consumer::run(parts, &consume, led, drained).await }
    });
    let outbox = Outbox::new(store.clone(), log.clone(), settings.outbox.clone()).await?;
    let sending = tokio::spawn(outbox.run(drained.clone()));
    let writer = writer::start(
        store.clone(),
        log,
        &settings.writer,
        shards,
        Routes::default(),
    );

    // Before that, reads would show an earlier time than the last run did.
    catch_up(&store, &ends, &watched, &service.shutdown).await?;
    ready.set(Ok(report.to_string()));
    service.started();
    banner(&ctx.ui, &args, shards, address, &service, &report);
    let parts = grpc::Parts {
        store,
        cache: Some(cache),
        writer: writer.clone(),
        outcomes: outcomes.clone(),
        registry,
    };
    let served = grpc::serve(listener, &settings.grpc, parts, service.shutdown.clone()).await;
    writer.stop().await;
    outcomes.stop();
    drained.cancel();
    sending.await.context("the outbox failed")?;
    leading.await.context("a leader failed")??;
    Ok(served?)
}

/// Waits until all that stood in the log file is applied.
async fn catch_up(
    store: &Store,
    ends: &[Position],
    shards: &Shards,
    shutdown: &CancellationToken,
) -> Result<()> {
    loop {
        let rows = store.shard_rows().await?;
        if rows
            .iter()
            .zip(ends)
            .all(|(row, end)| row.next_position >= *end)
        {
            return Ok(());
        }
        if let Some(shard) = shards.stopped().first() {
            let message = format!("shard {shard} stopped while the log file was applied");
            return Err(Failure::new(Exit::Failure, message)
                .hint("the log says why")
                .into());
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(CATCH_UP_LOOK) => {}
        }
    }
}

fn open(args: &Args, settings: &Settings) -> Result<Embedded> {
    let assets = match settings.cluster.assets.is_empty() {
        true => ASSETS.map(str::to_owned).to_vec(),
        false => settings.cluster.assets.clone(),
    };
    let assets: Result<Vec<_>, String> = assets.iter().map(|text| parse_asset(text)).collect();
    let assets = assets.map_err(|error| Failure::configuration(&error))?;
    let directory = args.data_dir.as_deref();
    embedded::open(directory, settings.cluster.shards, &assets, Clock::System).map_err(|error| {
        let exit = match error {
            embedded::Error::Shards { .. } | embedded::Error::Assets(_) => Exit::Configuration,
            embedded::Error::Directory(_) | embedded::Error::Record(_) => Exit::Failure,
        };
        Failure::new(exit, error.to_string()).into()
    })
}

fn banner(
    ui: &Ui,
    args: &Args,
    shards: u16,
    grpc: SocketAddr,
    service: &Service,
    report: &embedded::Report,
) {
    let admin = service.admin.address;
    if ui.is_json() {
        return ui.document(&serde_json::json!({
            "schema": "axs.dev/v1",
            "grpc": format!("http://{grpc}"),
            "admin": format!("http://{admin}"),
            "shards": shards,
            "data_dir": args.data_dir,
            "commands": report.commands.to_string(),
        }));
    }
    let data = match &args.data_dir {
        Some(directory) => format!("{} ({report})", directory.display()),
        None => "in memory, gone at the end; keep it with --data-dir".into(),
    };
    ui.line(format_args!("axs dev, not for production"));
    ui.line(format_args!("  grpc     http://{grpc}  (with reflection)"));
    ui.line(format_args!(
        "  admin    http://{admin}  (/readyz, /metrics)"
    ));
    ui.line(format_args!("  shards   {shards}"));
    ui.line(format_args!("  data     {data}"));
    let server = match grpc.port() {
        7250 => String::new(),
        _ => format!(" --server http://{grpc}"),
    };
    ui.line("try, in another terminal:");
    ui.line(format_args!(
        "  axs submit{server} --account 7 --kind OPEN_ACCOUNT --change USDT:100"
    ));
    ui.line(format_args!("  axs inspect-balance{server} --account 7"));
}
