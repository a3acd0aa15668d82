//! Balances as they are now: from the cache where it is new enough, else from the store, which then
//! fills the cache.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::{HashMap, HashSet};
use tokio::{sync::Semaphore, time::Instant};

use super::{Failure, ReadService, account_id, command_id, time};
use crate::core::{
    assets::{Asset, Assets},
    cache::Snapshot,
    engine::Balance,
    proto::{
        self, BalanceKey, BalanceSnapshot, GetBalancesRequest, GetBalancesResponse,
        balance_snapshot::Origin,
    },
    result,
    store::AccountBalances,
    types::{AccountId, Epoch, Position, ShardId},
};

/// Most keys of one call.
pub const KEYS_MAX: usize = 1_000;
/// Most fills of the cache under way; above, a miss fills nothing.
const FILLS_MAX: usize = 8;

/// Bounds the fills of the cache.
#[derive(Clone)]
pub(super) struct Fills(Arc<Semaphore>);

impl Default for Fills {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FILLS_MAX)))
    }
}

/// A key whose parts are checked.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub account: AccountId,
    /// `None`: every asset of the account.
    pub asset: Option<Asset>,
}

/// All balances of one account and where they are from.
struct Known {
    origin: Origin,
    snapshot: Snapshot,
}

impl ReadService {
    pub(super) async fn balances(
        &self,
        request: GetBalancesRequest,
        deadline: Option<Instant>,
    ) -> Result<GetBalancesResponse, Failure> {
        let keys = self.keys(&request.keys).await?;
        let after = match request.after_command_id {
            0 => None,
            raw => {
                let id = command_id("after_command_id", raw)?;
                Some((id.shard(), self.position_of(id, deadline).await?))
            }
        };
        match (&request.at, request.at_version) {
            (Some(_), Some(_)) => Err(Failure::invalid("at", "must not be set with at_version")),
            (Some(at), None) => self.balances_at(&keys, time("at", at)?).await,
            (None, Some(version)) => self.balance_at_version(&keys, version).await,
            (None, None) => self.balances_now(&keys, after).await,
        }
    }

    async fn keys(&self, raw: &[BalanceKey]) -> Result<Vec<Key>, Failure> {
        if !(1..=KEYS_MAX).contains(&raw.len()) {
            let text = format!("must be 1 to {KEYS_MAX}, not {}", raw.len());
            return Err(Failure::invalid("keys", text));
        }
        let mut keys = Vec::with_capacity(raw.len());
        for (index, key) in raw.iter().enumerate() {
            let account = account_id(&format!("keys[{index}].account_id"), key.account_id)?;
            let asset = match key.asset.as_str() {
                "" => None,
                code => Some(self.asset(|| format!("keys[{index}].asset"), code).await?),
            };
            keys.push(Key { account, asset });
        }
        Ok(keys)
    }

    async fn balances_now(
        &self,
        keys: &[Key],
        after: Option<(ShardId, Position)>,
    ) -> Result<GetBalancesResponse, Failure> {
        let accounts = distinct(keys);
        let mut known = self.cached(&accounts, after).await?;
        let missing: Vec<_> = accounts
            .into_iter()
            .filter(|account| !known.contains_key(account))
            .collect();
        let mut stored = Vec::new();
        if !missing.is_empty() {
            stored.extend(self.store.balances(&missing).await?.into_iter().flatten());
        }
        self.fill(&stored);
        for balances in &stored {
            let origin = Origin::Store;
            let snapshot = Snapshot::from(balances);
            known.insert(balances.account.id, Known { origin, snapshot });
        }
        let assets = self.registry_of(&known).await;
        let mut response = GetBalancesResponse {
            unknown_accounts: missing
                .iter()
                .filter(|account| !known.contains_key(*account))
                .map(|account| account.0)
                .collect(),
            ..Default::default()
        };
        for key in keys {
            if let Some(known) = known.get(&key.account) {
                response.balances.extend(known.show(key, &assets));
            }
        }
        Ok(response)
    }

    /// What the cache has of these accounts, at least as new as `after`. Only a snapshot at or
    /// behind that position shows it: one of an account that was not touched since is read again.
    async fn cached(
        &self,
        accounts: &[AccountId],
        after: Option<(ShardId, Position)>,
    ) -> Result<HashMap<AccountId, Known>, Failure> {
        let Some(cache) = &self.cache else {
            return Ok(HashMap::new());
        };
        let routes = self.routes_of(accounts).await?;
        let snapshots = match cache.read(&routes).await {
            Ok(snapshots) => snapshots,
            Err(error) => {
                tracing::debug!(%error, "balances are read from the store");
                metrics::counter!("axs_cache_read_failures_total").increment(1);
                return Ok(HashMap::new());
            }
        };
        let mut known = HashMap::new();
        for ((shard, account), snapshot) in routes.into_iter().zip(snapshots) {
            let is_new_enough = |snapshot: &Snapshot| {
                after.is_none_or(|(of, position)| of != shard || snapshot.position >= position)
            };
            if let Some(snapshot) = snapshot.filter(is_new_enough) {
                let origin = Origin::Cache;
                known.insert(account, Known { origin, snapshot });
            }
        }
        Ok(known)
    }

    /// The shards of those accounts that have one.
    async fn routes_of(
        &self,
        accounts: &[AccountId],
    ) -> Result<Vec<(ShardId, AccountId)>, Failure> {
        let mut routes = Vec::with_capacity(accounts.len());
        let mut unknown = Vec::new();
        for &account in accounts {
            match self.routes.get(account) {
                Some(shard) => routes.push((shard, account)),
                None => unknown.push(account),
            }
        }
        if !unknown.is_empty() {
            let found = self.store.routes(&unknown).await?;
            for (account, shard) in unknown.into_iter().zip(found) {
                if let Some(shard) = shard {
                    self.routes.learn(account, shard);
                    routes.push((shard, account));
                }
            }
        }
        Ok(routes)
    }

    /// Writes what was read from the store to the cache, without waiting for it. Epoch and balances
    /// are of one statement: the cache takes no older ones for newer.
    fn fill(&self, stored: &[AccountBalances]) {
        let Some(cache) = self.cache.clone().filter(|_| !stored.is_empty()) else {
            return;
        };
        let Ok(permit) = self.fills.0.clone().try_acquire_owned() else {
            return;
        };
        let mut by_shard: BTreeMap<(ShardId, Epoch), Vec<Snapshot>> = BTreeMap::new();
        for balances in stored {
            let of = (balances.shard, balances.epoch);
            by_shard
                .entry(of)
                .or_default()
                .push(Snapshot::from(balances));
        }
        tokio::spawn(async move {
            let _permit = permit;
            for ((shard, epoch), snapshots) in by_shard {
                if let Err(error) = cache.write(shard, epoch, None, &snapshots).await {
                    tracing::debug!(%error, "the cache was not filled");
                    return;
                }
            }
        });
    }

    /// The registry, read again if it lacks an asset of these balances.
    async fn registry_of(&self, known: &HashMap<AccountId, Known>) -> Arc<Assets> {
        let assets = self.registry.assets();
        let mut named = known
            .values()
            .flat_map(|known| &known.snapshot.balances)
            .map(|balance| balance.asset);
        match named.any(|asset| assets.by_id(asset).is_none()) {
            true => self.registry.refresh().await,
            false => assets,
        }
    }
}

impl Known {
    fn show(&self, key: &Key, assets: &Assets) -> Vec<BalanceSnapshot> {
        let snapshot = &self.snapshot;
        let shown = |balance: &Balance| BalanceSnapshot {
            balance: Some(result::balance(balance, assets)),
            origin: self.origin.into(),
            as_of: Some(snapshot.as_of.to_proto()),
        };
        let Some(asset) = &key.asset else {
            return snapshot.balances.iter().map(shown).collect();
        };
        let balance = snapshot.balances.iter().find(|b| b.asset == asset.id);
        let untouched = Balance::untouched(key.account, asset.id);
        vec![shown(balance.unwrap_or(&untouched))]
    }
}

/// A balance from the store.
pub(super) fn from_store(
    balance: proto::Balance,
    as_of: prost_types::Timestamp,
) -> BalanceSnapshot {
    BalanceSnapshot {
        balance: Some(balance),
        origin: Origin::Store.into(),
        as_of: Some(as_of),
    }
}

/// The accounts of these keys, each once, in their order.
pub(super) fn distinct(keys: &[Key]) -> Vec<AccountId> {
    let mut seen = HashSet::new();
    let accounts = keys.iter().map(|key| key.account);
    accounts.filter(|account| seen.insert(*account)).collect()
}
