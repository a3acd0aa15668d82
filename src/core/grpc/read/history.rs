//! What was: balances at a time or a version, and the entries of a balance by page. All of it comes
//! from the journal.

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;

use super::{
    Failure, ReadService, account_id,
    balances::{Key, distinct, from_store},
    page::Page,
    unknown_account,
};
use crate::core::{
    assets::Asset,
    command::amount,
    engine::Balance,
    proto::{self, GetBalancesResponse, ListEntriesRequest, ListEntriesResponse},
    result,
    store::{HistoryQuery, StoredEntry},
    types::{AccountId, Timestamp},
};

/// Most balances of one call at a time.
const BALANCES_MAX: usize = 1_000;
/// Balances looked for at a time.
const LOOKUPS_MAX: usize = 8;
/// Entries of a page if the call does not say.
const PAGE_DEFAULT: u32 = 100;
/// Most entries of a page.
const PAGE_MAX: u32 = 1_000;

impl ReadService {
    /// The balances at a time, by the log's clock.
    pub(super) async fn balances_at(
        &self,
        keys: &[Key],
        at: Timestamp,
    ) -> Result<GetBalancesResponse, Failure> {
        let accounts = distinct(keys);
        let stored = self.store.balances(&accounts).await?;
        let stored: HashMap<_, _> = accounts.iter().copied().zip(stored).collect();
        let assets = self.registry.refresh().await;
        let mut wanted: Vec<(AccountId, Asset)> = Vec::new();
        for key in keys {
            let Some(Some(stored)) = stored.get(&key.account) else {
                continue;
            };
            match &key.asset {
                Some(asset) => wanted.push((key.account, asset.clone())),
                None => {
                    let touched = stored.balances.iter();
                    let touched = touched.filter_map(|b| assets.by_id(b.asset).cloned());
                    wanted.extend(touched.map(|asset| (key.account, asset)));
                }
            }
        }
        if wanted.len() > BALANCES_MAX {
            let text = format!(
                "must name at most {BALANCES_MAX} balances with at, not {}",
                wanted.len()
            );
            return Err(Failure::invalid("keys", text));
        }
        let lookups = wanted.into_iter().map(|(account, asset)| async move {
            let entry = self.store.entry_at(account, asset.id, at).await?;
            let balance = match &entry {
                Some(entry) => after(entry, &asset),
                None => untouched_balance(account, &asset),
            };
            Ok::<_, Failure>(from_store(balance, at.to_proto()))
        });
        let balances = stream::iter(lookups)
            .buffered(LOOKUPS_MAX)
            .try_collect()
            .await?;
        let unknown = accounts.iter().filter(|account| stored[*account].is_none());
        Ok(GetBalancesResponse {
            balances,
            unknown_accounts: unknown.map(|account| account.0).collect(),
        })
    }

    /// One balance at a version.
    pub(super) async fn balance_at_version(
        &self,
        keys: &[Key],
        version: u64,
    ) -> Result<GetBalancesResponse, Failure> {
        let [
            Key {
                account,
                asset: Some(asset),
            },
        ] = keys
        else {
            let text = "must be one key that names an asset when at_version is set";
            return Err(Failure::invalid("keys", text));
        };
        let Some(stored) = self.store.balances(&[*account]).await?.pop().flatten() else {
            return Ok(GetBalancesResponse {
                unknown_accounts: vec![account.0],
                ..Default::default()
            });
        };
        let (balance, as_of) = match version {
            0 => (untouched_balance(*account, asset), stored.account.opened_at),
            version => {
                let entry = self.entry_of_version(*account, asset, version).await?;
                (after(&entry, asset), entry.applied_at)
            }
        };
        Ok(GetBalancesResponse {
            balances: vec![from_store(balance, as_of.to_proto())],
            ..Default::default()
        })
    }

    async fn entry_of_version(
        &self,
        account: AccountId,
        asset: &Asset,
        version: u64,
    ) -> Result<StoredEntry, Failure> {
        let query = HistoryQuery {
            account,
            asset: asset.id,
            from_version: Some(version),
            oldest_first: false,
            limit: 1,
        };
        let found = self.store.entries(&query).await?.pop();
        found
            .filter(|found| found.entry.version == version)
            .ok_or_else(|| {
                let code = &asset.code;
                Failure::NotFound(format!(
                    "the balance of account {account} in {code} has no version {version}"
                ))
            })
    }

    pub(super) async fn entries(
        &self,
        request: ListEntriesRequest,
    ) -> Result<ListEntriesResponse, Failure> {
        let account = account_id("account_id", request.account_id)?;
        let asset = match request.asset.as_str() {
            "" => return Err(Failure::invalid("asset", "must be set")),
            code => self.asset(|| "asset".into(), code).await?,
        };
        let size = match request.page_size {
            0 => PAGE_DEFAULT,
            size if size <= PAGE_MAX => size,
            size => {
                let text = format!("must be 1 to {PAGE_MAX}, not {size}");
                return Err(Failure::invalid("page_size", text));
            }
        };
        let page = Page {
            account,
            asset: asset.id,
            oldest_first: request.oldest_first,
        };
        let from_version = page.read_token(&request.page_token)?;
        let size = usize::try_from(size).expect("a small number");
        let query = HistoryQuery {
            account,
            asset: asset.id,
            from_version,
            oldest_first: request.oldest_first,
            // One more tells whether there is a next page.
            limit: size + 1,
        };
        let mut found = self.store.entries(&query).await?;
        if found.is_empty()
            && self
                .store
                .balances(&[account])
                .await?
                .pop()
                .flatten()
                .is_none()
        {
            return Err(unknown_account(account));
        }
        let next = found.get(size).map(|entry| entry.entry.version);
        found.truncate(size);
        let assets = self.registry.assets();
        let shown = found
            .iter()
            .map(|e| result::entry(e.id, e.applied_at, &e.reference, &e.entry, &assets));
        Ok(ListEntriesResponse {
            entries: shown.collect(),
            next_page_token: next.map_or_else(String::new, |version| page.token(version)),
        })
    }
}

fn untouched_balance(account: AccountId, asset: &Asset) -> proto::Balance {
    let assets = std::iter::once(asset.clone()).collect();
    result::balance(&Balance::untouched(account, asset.id), &assets)
}

/// The balance as an entry left it.
fn after(stored: &StoredEntry, asset: &Asset) -> proto::Balance {
    let entry = &stored.entry;
    proto::Balance {
        account_id: entry.account.0,
        asset: asset.code.clone(),
        available: amount::format(entry.available_after, asset.scale),
        frozen: amount::format(entry.frozen_after, asset.scale),
        version: entry.version,
    }
}
