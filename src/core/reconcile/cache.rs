//! The cache against the store. The cache follows each commit, so both move while they are read: a
//! difference counts only if it stays while nothing moves and somebody leads.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Error, Event, Watch,
    finding::{Finding, Kind, balance_of},
};
use crate::core::{
    assets::Assets,
    cache::{Cache, Snapshot},
    engine::Balance,
    store::{AccountBalances, Store},
    types::{AccountId, AssetId, Epoch, Position, ShardId},
};

/// Accounts of one question.
const PAGE: usize = 500;
/// Accounts that differ at the first look and are looked at again; beyond, the look ends.
const SUSPECTS_MAX: usize = 50_000;
/// A difference counts if it stays so long. A leader writes again what could not be written, and
/// passes over its accounts after a take-over.
const STAYS: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// What moves, or has no leader, is looked at so long.
const PATIENCE: Duration = Duration::from_secs(20);

const _: () = assert!(STAYS.as_millis() > 4 * LOOK_INTERVAL.as_millis());
const _: () = assert!(PATIENCE.as_millis() > 4 * STAYS.as_millis());

/// What the cache has of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheReport {
    /// Accounts compared.
    pub accounts: u64,
    /// Of these the cache had none: they are read from the store.
    pub missing: u64,
    /// They moved whenever they were looked at: neither right nor wrong.
    pub undecided: u64,
    /// Not all accounts were compared: too many differ.
    pub is_cut: bool,
    /// Those that are wrong, as they were read.
    pub wrong: Vec<Snapshot>,
}

/// An account that differed at each look so far.
struct Suspect {
    /// Since when nothing moved.
    since: Instant,
    /// Of the store, at the last look.
    stored: (Epoch, Position),
    /// The cache, at the last look.
    cached: Snapshot,
    /// The first balance that differs, at the last look.
    difference: Difference,
}

/// A balance that is not the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Difference {
    asset: Option<AssetId>,
    stored: Option<Balance>,
    cached: Option<Balance>,
}

/// Compares the accounts of a shard, or one of them.
///
/// # Errors
///
/// One of the two went away.
pub async fn compare(
    store: &Store,
    cache: &Cache,
    assets: &Assets,
    (shard, only): (ShardId, Option<AccountId>),
    watch: &Watch,
) -> Result<CacheReport, Error> {
    let mut report = CacheReport::default();
    let mut suspects = BTreeMap::new();
    let mut behind = AccountId(0);
    loop {
        let page = match only {
            Some(account) => vec![account],
            None => store.accounts_behind(shard, behind, PAGE).await?,
        };
        let Some(&last) = page.last() else { break };
        behind = last;
        report.accounts += page.len() as u64;
        report.missing += look(store, cache, shard, &page, &mut suspects).await?;
        watch.tell(Event::Cached(page.len() as u64)).await;
        report.is_cut = suspects.len() > SUSPECTS_MAX;
        if report.is_cut || only.is_some() || page.len() < PAGE {
            break;
        }
    }
    settle(store, cache, shard, &mut suspects, &mut report).await?;
    for (account, suspect) in suspects {
        let show = |balance: Option<Balance>| {
            balance.map_or("no balance".into(), |balance| balance_of(assets, &balance))
        };
        let difference = suspect.difference;
        let order = |epoch: Epoch, position| format!("epoch {epoch} position {position}");
        let (stored, expected) = match difference.asset {
            Some(_) => (show(difference.cached), show(difference.stored)),
            None => (
                order(suspect.cached.epoch, suspect.cached.position),
                order(suspect.stored.0, suspect.stored.1),
            ),
        };
        let mut finding = Finding::new(Kind::Redis, shard, stored, expected).account(account.0);
        finding.asset = difference.asset;
        finding.version = difference.cached.map(|balance| balance.version);
        finding.position = Some(suspect.cached.position);
        report.wrong.push(suspect.cached);
        watch.tell(Event::Found(finding)).await;
    }
    Ok(report)
}

/// Looks at suspects until each of them is decided, or patience is over.
async fn settle(
    store: &Store,
    cache: &Cache,
    shard: ShardId,
    suspects: &mut BTreeMap<AccountId, Suspect>,
    report: &mut CacheReport,
) -> Result<(), Error> {
    let started = Instant::now();
    while !suspects.values().all(|it| it.since.elapsed() >= STAYS) {
        if started.elapsed() >= PATIENCE {
            // Where nobody leads, what does not move stays wrong.
            let before = suspects.len();
            suspects.retain(|_, it| it.since.elapsed() >= STAYS);
            report.undecided += (before - suspects.len()) as u64;
            break;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        let rows = store.shard_rows().await?;
        let row = rows.iter().find(|row| row.shard == shard);
        let is_led = row.is_some_and(|row| !row.lease_left.is_zero());
        let accounts: Vec<AccountId> = suspects.keys().copied().collect();
        for page in accounts.chunks(PAGE) {
            look(store, cache, shard, page, suspects).await?;
        }
        // Nobody writes again what a leader left out when it died.
        if !is_led && started.elapsed() < PATIENCE - STAYS - LOOK_INTERVAL {
            let now = Instant::now();
            suspects.values_mut().for_each(|it| it.since = now);
        }
    }
    Ok(())
}

/// Looks at accounts: those that differ become suspects, or stay it; the others are none. How many
/// the cache has not.
async fn look(
    store: &Store,
    cache: &Cache,
    shard: ShardId,
    page: &[AccountId],
    suspects: &mut BTreeMap<AccountId, Suspect>,
) -> Result<u64, Error> {
    let stored = store.balances(page).await?;
    let keys: Vec<_> = page.iter().map(|account| (shard, *account)).collect();
    let cached = cache.read(&keys).await;
    let cached = cached.map_err(|error| Error::Unavailable(error.0))?;
    let mut missing = 0;
    for ((account, stored), cached) in page.iter().zip(stored).zip(cached) {
        let before = suspects.remove(account);
        let (Some(stored), Some(cached)) = (stored, cached) else {
            missing += 1;
            continue;
        };
        let place = Snapshot::from(&stored);
        let Some(difference) = difference(&stored, &cached) else {
            continue;
        };
        let stored = (place.epoch, place.position);
        let since = before
            .filter(|before| before.stored == stored && before.cached == cached)
            .map_or_else(Instant::now, |before| before.since);
        let suspect = Suspect {
            since,
            stored,
            cached,
            difference,
        };
        suspects.insert(*account, suspect);
    }
    Ok(missing)
}

/// The first balance that is not the same in both; without one, an order that says it is newer.
fn difference(stored: &AccountBalances, cached: &Snapshot) -> Option<Difference> {
    let mut assets: Vec<AssetId> = stored
        .balances
        .iter()
        .chain(&cached.balances)
        .map(|balance| balance.asset)
        .collect();
    assets.sort_unstable();
    assets.dedup();
    let find = |all: &[Balance], asset| all.iter().find(|one| one.asset == asset).copied();
    for asset in assets {
        let (stored, cached) = (find(&stored.balances, asset), find(&cached.balances, asset));
        if stored != cached {
            return Some(Difference {
                asset: Some(asset),
                stored,
                cached,
            });
        }
    }
    let place = Snapshot::from(stored);
    let fits = cached.position == place.position && cached.epoch <= place.epoch;
    (!fits).then_some(Difference {
        asset: None,
        stored: None,
        cached: None,
    })
}

/// Writes wrong snapshots again, as the store has them, with the shard's epoch of the same
/// statement. How many.
///
/// # Errors
///
/// One of the two went away; what was written stays right.
pub async fn repair(
    store: &Store,
    cache: &Cache,
    shard: ShardId,
    wrong: &[Snapshot],
) -> Result<usize, Error> {
    let unavailable = |error: crate::core::cache::Error| Error::Unavailable(error.0);
    let mut written = 0;
    for page in wrong.chunks(PAGE) {
        // What says that it is newer than the store would not be replaced. What a leader writes
        // meanwhile is of a commit that the store has when it is read.
        for seen in page {
            let forgotten = cache.forget(shard, seen.account).await;
            forgotten.map_err(unavailable)?;
        }
        let accounts: Vec<_> = page.iter().map(|seen| seen.account).collect();
        let stored: Vec<_> = store
            .balances(&accounts)
            .await?
            .into_iter()
            .flatten()
            .collect();
        let snapshots: Vec<_> = stored.iter().map(Snapshot::from).collect();
        if let Some(first) = snapshots.first() {
            let epoch = first.epoch;
            let answer = cache.write(shard, epoch, None, &snapshots).await;
            answer.map_err(unavailable)?;
            written += page.len();
        }
    }
    Ok(written)
}
