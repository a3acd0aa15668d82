//! Reads PostgreSQL and Redis itself, and compares them.

use std::time::Duration;

use anyhow::Result;
use axs::core::{
    assets::Assets,
    cache::{Cache, Snapshot},
    config::Settings,
    proto::{self, Entry},
    result,
    store::{AccountBalances, HistoryQuery, Store},
    types::{AccountId, AssetId, Timestamp},
};

use super::{Args, Drift, Found, Sourced, Verdict, not_found, unknown_asset};
use crate::cmd::service;

/// Redis follows each commit; it is looked at so often before a difference counts.
const LOOKS_MAX: u32 = 5;
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Most findings of the drift detector that are shown.
const DRIFT_MAX: u32 = 10;

pub async fn find(args: &Args, settings: &Settings) -> Result<Found> {
    let store = service::store(settings, "axs-inspect-balance").await?;
    let cache = service::cache(settings)?;
    let assets = store.assets().await?;
    let only = match &args.asset {
        Some(code) => Some(assets.by_code(code).ok_or_else(|| unknown_asset(code))?.id),
        None => None,
    };
    let (stored, cached, verdict) = compare(args, &store, cache.as_ref(), only, &assets).await?;
    let wanted = |asset: AssetId| only.is_none_or(|only| only == asset);
    let mut balances = Vec::new();
    let mut entries = Vec::new();
    for balance in stored
        .balances
        .iter()
        .filter(|balance| wanted(balance.asset))
    {
        balances.push(Sourced {
            balance: result::balance(balance, &assets),
            source: "PostgreSQL",
            as_of: stored.as_of.to_string(),
        });
        let twin = cached.as_ref().and_then(|cached| {
            let twin = cached
                .balances
                .iter()
                .find(|twin| twin.asset == balance.asset)?;
            Some((twin, cached.as_of))
        });
        if let Some((twin, as_of)) = twin {
            balances.push(Sourced {
                balance: result::balance(twin, &assets),
                source: "Redis",
                as_of: as_of.to_string(),
            });
        }
        entries.extend(last_entries(args, &store, balance.asset, &assets).await?);
    }
    Ok(Found {
        account: shown_account(&stored),
        balances,
        entries,
        verdict,
        drift: drift(&store, stored.account.id, &assets).await?,
        next_version: None,
    })
}

pub fn shown_account(stored: &AccountBalances) -> proto::Account {
    proto::Account {
        account_id: stored.account.id.0,
        user_id: stored.account.user,
        status: stored.account.status.into(),
        shard_id: u32::from(stored.shard.0),
        opened_at: Some(stored.account.opened_at.to_proto()),
    }
}

/// What the drift detector found.
pub async fn drift(store: &Store, account: AccountId, assets: &Assets) -> Result<Vec<Drift>> {
    let Store::Postgres(store) = store else {
        return Ok(Vec::new());
    };
    let code = |asset: AssetId| {
        let known = assets.by_id(asset);
        known.map_or_else(|| asset.to_string(), |asset| asset.code.clone())
    };
    let found = store.drift_of(account, DRIFT_MAX).await?;
    Ok(found
        .into_iter()
        .map(|finding| Drift {
            asset: code(finding.asset),
            finding,
        })
        .collect())
}

async fn last_entries(
    args: &Args,
    store: &Store,
    asset: AssetId,
    assets: &Assets,
) -> Result<Vec<Entry>> {
    let query = HistoryQuery {
        account: AccountId(args.account),
        asset,
        from_version: None,
        oldest_first: false,
        limit: args.entries as usize,
    };
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    let entries = store.entries(&query).await?;
    Ok(entries
        .iter()
        .map(|it| result::entry(it.id, it.applied_at, &it.reference, &it.entry, assets))
        .collect())
}

async fn compare(
    args: &Args,
    store: &Store,
    cache: Option<&Cache>,
    only: Option<AssetId>,
    assets: &Assets,
) -> Result<(AccountBalances, Option<Snapshot>, Verdict)> {
    let account = AccountId(args.account);
    let mut look = 1;
    loop {
        let stored = store.balances(&[account]).await?.pop().flatten();
        let stored = stored.ok_or_else(|| not_found(account.0))?;
        let single = |why: &str| Verdict::Single(format!("PostgreSQL alone ({why})"));
        let Some(cache) = cache else {
            return Ok((stored, None, single("no redis.url is set")));
        };
        let cached = match cache.read(&[(stored.shard, account)]).await {
            Ok(mut snapshots) => snapshots.pop().flatten(),
            Err(error) => return Ok((stored, None, single(&error.to_string()))),
        };
        let Some(cached) = cached else {
            return Ok((stored, None, single("Redis has no snapshot of the account")));
        };
        match difference(&stored, &cached, only, assets) {
            None => return Ok((stored, Some(cached), Verdict::Agree)),
            Some(how) if look == LOOKS_MAX => {
                return Ok((stored, Some(cached), Verdict::Differ(how)));
            }
            Some(_) => look += 1,
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The first balance that is not the same in both.
fn difference(
    stored: &AccountBalances,
    cached: &Snapshot,
    only: Option<AssetId>,
    assets: &Assets,
) -> Option<String> {
    let mut of_assets: Vec<_> = stored.balances.iter().chain(&cached.balances).collect();
    of_assets.retain(|balance| only.is_none_or(|only| only == balance.asset));
    of_assets.sort_by_key(|balance| balance.asset);
    of_assets.dedup_by_key(|balance| balance.asset);
    for balance in of_assets {
        let find = |all: &[axs::core::engine::Balance]| {
            let one = all.iter().find(|one| one.asset == balance.asset).copied();
            one.map(|one| (one.version, one.available, one.frozen))
        };
        let (in_store, in_cache) = (find(&stored.balances), find(&cached.balances));
        if in_store != in_cache {
            let version = |found: Option<(u64, _, _)>| found.map_or(0, |(version, _, _)| version);
            return Some(format!(
                "Redis and PostgreSQL differ on {}: version {} as of {} and version {} as of {}",
                assets
                    .by_id(balance.asset)
                    .map_or("an asset", |asset| &asset.code),
                version(in_cache),
                shown(cached.as_of),
                version(in_store),
                shown(stored.as_of),
            ));
        }
    }
    None
}

fn shown(time: Timestamp) -> String {
    time.to_string()
}
