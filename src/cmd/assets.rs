//! `axs assets`: the registry of assets. It only ever grows.

use anyhow::Result;
use axs::core::{assets::Asset, config::check::parse_asset};
use serde_json::{Value, json};

use super::{Ctx, Exit, Failure, flags, service, ui::Table};

const AFTER: &str = "\
Exit codes: 0 done · 2 usage · 5 PostgreSQL is not available · 6 settings, or the asset stands with
another scale";

/// List assets, or add one
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Add an asset; a scale never changes
    Add {
        /// 1 to 16 characters A-Z 0-9 . _ -
        code: String,
        /// Digits behind the point, 0 to 18
        #[arg(long)]
        scale: u8,
        #[command(flatten)]
        postgres: flags::Postgres,
    },
    /// Every asset with its scale
    List {
        #[command(flatten)]
        postgres: flags::Postgres,
    },
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let flags = match &args.action {
        Action::Add { postgres, .. } | Action::List { postgres } => postgres.settings(),
    };
    let settings = ctx.settings(flags)?.settings;
    let shown = match args.action {
        Action::Add { code, scale, .. } => {
            let (code, scale) = parse_asset(&format!("{code}:{scale}"))
                .map_err(|error| Failure::new(Exit::Usage, error))?;
            let store = service::store(&settings, "axs-assets").await?;
            vec![store.add_asset(&code, scale).await?]
        }
        Action::List { .. } => {
            let store = service::store(&settings, "axs-assets").await?;
            store.assets().await?.iter().cloned().collect()
        }
    };
    show(&ctx, &shown);
    Ok(())
}

fn show(ctx: &Ctx, assets: &[Asset]) {
    if ctx.ui.is_json() {
        let assets: Vec<Value> = assets
            .iter()
            .map(|it| json!({"asset_id": it.id.0, "code": it.code, "scale": it.scale}))
            .collect();
        let document = json!({"schema": "axs.assets/v1", "assets": assets});
        return ctx.ui.document(&document);
    }
    let mut table = Table::new(["asset", "scale>", "id>"]);
    for asset in assets {
        table.row([
            asset.code.clone(),
            asset.scale.to_string(),
            asset.id.to_string(),
        ]);
    }
    ctx.ui.table(table);
}
