//! Balances as they were, and their history, from the journal in PostgreSQL.

use anyhow::Result;
use axs::core::{
    config::Settings,
    proto, result,
    store::{HistoryQuery, Store, StoredEntry},
    types::{AccountId, AssetId},
};

use super::{
    Args, Found, Sourced, Verdict, Wanted,
    direct::{drift, shown_account},
    no_version, not_found, unknown_asset,
};
use crate::cmd::service;

pub async fn find(args: &Args, settings: &Settings) -> Result<Found> {
    let store = service::store(settings, "axs-inspect-balance").await?;
    let assets = store.assets().await?;
    let only = match &args.asset {
        Some(code) => Some(assets.by_code(code).ok_or_else(|| unknown_asset(code))?.id),
        None => None,
    };
    let account = AccountId(args.account);
    let stored = store.balances(&[account]).await?.pop().flatten();
    let stored = stored.ok_or_else(|| not_found(account.0))?;
    let mut found = Found {
        account: shown_account(&stored),
        balances: Vec::new(),
        entries: Vec::new(),
        verdict: Verdict::Single("the journal in PostgreSQL".into()),
        drift: drift(&store, account, &assets).await?,
        next_version: None,
    };
    let of_assets = stored.balances.iter().map(|balance| balance.asset);
    for asset in of_assets.filter(|asset| only.is_none_or(|only| only == *asset)) {
        let entries = entries(args, &store, asset).await?;
        if !matches!(args.wanted(), Wanted::History(_)) {
            let balance = after(account, asset, entries.first(), &assets);
            let as_of = entries.first().map(|entry| entry.applied_at);
            found.balances.push(Sourced {
                balance,
                source: "journal",
                as_of: as_of.or(args.at).map_or("-".into(), |at| at.to_string()),
            });
        }
        found.next_version = entries
            .last()
            .map(|entry| entry.entry.version - 1)
            .filter(|next| *next > 0 && entries.len() == args.limit as usize && args.history);
        found.entries.extend(
            entries
                .iter()
                .map(|it| result::entry(it.id, it.applied_at, &it.reference, &it.entry, &assets)),
        );
    }
    match args.wanted() {
        Wanted::Version(version) if found.entries.is_empty() => {
            Err(no_version(args, version).into())
        }
        _ => Ok(found),
    }
}

/// The latest first; those that decide what is shown.
async fn entries(args: &Args, store: &Store, asset: AssetId) -> Result<Vec<StoredEntry>> {
    let account = AccountId(args.account);
    let page = |from_version, limit| HistoryQuery {
        account,
        asset,
        from_version,
        oldest_first: false,
        limit,
    };
    Ok(match args.wanted() {
        Wanted::At(at) => {
            let entry = store.entry_at(account, asset, at).await?;
            entry.into_iter().collect()
        }
        Wanted::Version(version) => {
            let mut entries = store.entries(&page(Some(version), 1)).await?;
            // From a version that is not there yet the walk begins at the last one.
            entries.retain(|entry| entry.entry.version == version);
            entries
        }
        Wanted::History(from) => store.entries(&page(from, args.limit as usize)).await?,
        Wanted::Now => Vec::new(),
    })
}

/// The balance that an entry left; before the first one there is nothing.
fn after(
    account: AccountId,
    asset: AssetId,
    entry: Option<&StoredEntry>,
    assets: &axs::core::assets::Assets,
) -> proto::Balance {
    let entry = entry.map(|stored| &stored.entry);
    let balance = axs::core::engine::Balance {
        account,
        asset,
        available: entry.map(|it| it.available_after).unwrap_or_default(),
        frozen: entry.map(|it| it.frozen_after).unwrap_or_default(),
        version: entry.map_or(0, |it| it.version),
        last_position: axs::core::types::Position::NONE,
    };
    result::balance(&balance, assets)
}
