//! `axs seed`: opens many accounts with balances, the same each time.

use anyhow::Result;
use axs::core::{
    assets::{Asset, Assets},
    command::amount,
    consumer::Parts,
    registry::Registry,
    seed::{self, Options, Report},
    store::Store,
    types::Money,
};

use super::{
    Ctx, Exit, Failure, flags,
    service::{self, Connected},
    ui,
    ui::Table,
};
use axs::core::config::check::parse_asset;

const AFTER: &str = "\
The same arguments give the same state each time, and running it again changes nothing. It takes the
real path, so that log, journal and balances agree; where no `axs consume` leads the shards it leads
them itself and leaves.

Exit codes: 0 every account is there · 1 failure · 2 usage · 5 a server is not available · 6
settings, or an asset that stands with another scale";

/// Open many accounts with balances, for CI and benchmarks
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// How many accounts
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    accounts: u64,
    /// Assets, added where they are missing, as CODE:SCALE; CODE alone names one that is there
    #[arg(long, value_name = "A:8,B", value_delimiter = ',', required = true)]
    assets: Vec<String>,
    /// Balance of each account in every asset
    #[arg(long, value_name = "AMOUNT")]
    balance: String,
    /// Part of the keys; scatters the account ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    servers: flags::Servers,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let settings = ctx.settings(args.servers.settings())?.settings;
    let Connected {
        name, store, log, ..
    } = service::connect(&settings).await?;
    let assets = named_assets(&args.assets, &store).await?;
    let balances = balances(&args.balance, &assets)?;
    let options = Options {
        accounts: args.accounts,
        assets,
        balances,
        seed: args.seed,
    };
    let parts = Parts {
        registry: Registry::load(store.clone()).await?,
        store,
        log,
        cache: service::cache(&settings)?,
        name,
    };
    // Half of a step is its acceptance, half its application.
    let mut progress = ctx
        .ui
        .progress("steps", Some(args.accounts.saturating_mul(2)));
    let mut seen = 0;
    let tell = |now: seed::Progress| {
        let steps = now.accepted + now.applied;
        progress.add(steps.saturating_sub(seen));
        seen = seen.max(steps);
    };
    let report = seed::run(parts, &settings, &options, tell).await?;
    let elapsed = progress.elapsed();
    drop(progress);
    show(&ctx, &options, &report, elapsed);
    Ok(())
}

async fn named_assets(names: &[String], store: &Store) -> Result<Vec<Asset>> {
    let mut known: Assets = store.assets().await?;
    let mut assets = Vec::new();
    for name in names {
        if name.contains(':') {
            let (code, scale) = parse_asset(name).map_err(|it| Failure::new(Exit::Usage, it))?;
            store.add_asset(&code, scale).await?;
            known = store.assets().await?;
        }
        let code = name.split(':').next().unwrap_or_default();
        let asset = known.by_code(code).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no asset `{code}`"))
                .hint(format!("give its scale to add it, as {code}:8"))
        })?;
        assets.push(asset.clone());
    }
    Ok(assets)
}

fn balances(text: &str, assets: &[Asset]) -> Result<Vec<Money>> {
    let parse = |asset: &Asset| {
        amount::parse(text, asset.scale).map_err(|error| {
            let message = format!("--balance `{text}` of {}: {error}", asset.code);
            Failure::new(Exit::Usage, message).into()
        })
    };
    assets.iter().map(parse).collect()
}

fn show(ctx: &Ctx, options: &Options, report: &Report, elapsed: std::time::Duration) {
    if ctx.ui.is_json() {
        return ctx.ui.document(&serde_json::json!({
            "schema": "axs.seed/v1",
            "seed": options.seed.to_string(),
            "accounts": report.accounts.to_string(),
            "assets": options.assets.len(),
            "accepted": report.accepted.to_string(),
            "duplicates": report.duplicates.to_string(),
            "led_here": report.led_here,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    let mut table = Table::new(["accounts>", "assets>", "accepted>", "were there>", "took>"]);
    table.row([
        report.accounts.to_string(),
        options.assets.len().to_string(),
        report.accepted.to_string(),
        report.duplicates.to_string(),
        ui::duration(elapsed),
    ]);
    ctx.ui.table(table);
}
