//! Looks at the balances of one shard every second, and raises the alarm.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    Inner, Question, SOURCE,
    block::Blocked,
    plan::{Before, Plan, confirmed, differences},
};
use crate::core::{
    cache::Snapshot,
    engine::{AccountStatus, Balance},
    store::{
        self,
        drift::{Difference, DriftKind, Finding, Standing},
    },
    types::{AccountId, AssetId, CommandId, Epoch, ShardId},
};

/// How often balances are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Shards look one behind the other, so far apart, and so many before one is at the same time again.
const SHARD_OFFSET: Duration = Duration::from_millis(37);
const SHARD_OFFSETS: u16 = 27;
/// What a look found is looked at again after so long.
const CONFIRM_PAUSE: Duration = Duration::from_millis(150);
/// Alarms of one look; the others follow.
const ALARMS_MAX: usize = 50;
/// A balance that was touched is shown for so long, although the next flush put it right at once:
/// longer than Prometheus takes between two scrapes.
const TOUCHED_SHOWN: Duration = Duration::from_secs(20);

const _: () = assert!(CONFIRM_PAUSE.as_millis() * 2 < LOOK_INTERVAL.as_millis());

/// The detector of one shard.
pub(super) struct Watch {
    shard: ShardId,
    inner: Arc<Inner>,
    plan: Plan,
    asks: mpsc::Sender<Question>,
    /// Findings whose alarm was raised, and whose account could not be blocked yet.
    alarmed: BTreeSet<i64>,
    is_away: bool,
    open: Gauge,
    checked: Counter,
    found: BTreeMap<DriftKind, Counter>,
}

/// What one look read.
struct Look {
    standing: Standing,
    differences: Vec<Difference>,
}

/// A balance.
type Place = (AccountId, AssetId);

impl Watch {
    pub fn new(shard: ShardId, inner: Arc<Inner>, asks: mpsc::Sender<Question>) -> Self {
        let label = shard.to_string();
        let found = |kind: DriftKind| {
            let (shard, kind_name) = (label.clone(), kind.name());
            let counter = counter!("axs_drift_found_total", "shard" => shard, "kind" => kind_name);
            (kind, counter)
        };
        Self {
            shard,
            plan: Plan::new(inner.accounts_max),
            inner,
            asks,
            alarmed: BTreeSet::new(),
            is_away: false,
            found: DriftKind::ALL.into_iter().map(found).collect(),
            open: gauge!("axs_drift_balances", "shard" => label.clone()),
            checked: counter!("axs_drift_checked_total", "shard" => label),
        }
    }

    /// Until the driver hangs up.
    pub async fn run(mut self, mut changed: mpsc::Receiver<Vec<AccountId>>) {
        let offset = SHARD_OFFSET * u32::from(self.shard.0 % SHARD_OFFSETS);
        let mut due = interval_at(Instant::now() + LOOK_INTERVAL + offset, LOOK_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accounts = changed.recv() => match accounts {
                    Some(accounts) => self.plan.changed(&accounts),
                    None => return,
                },
                _ = due.tick() => match self.look().await {
                    Ok(()) => self.is_away = false,
                    // Once: it is tried again every second.
                    Err(error) if !self.is_away => {
                        self.is_away = true;
                        tracing::warn!(shard = %self.shard, %error, "balances could not be compared");
                    }
                    Err(_) => {}
                },
            }
        }
    }

    async fn look(&mut self) -> Result<(), store::Error> {
        if self.ask(Vec::new()).await.is_none() {
            // Whoever leads the shard says what differs there.
            self.open.set(0.0);
            self.alarmed.clear();
            return Ok(());
        }
        let postgres = self.inner.postgres.clone();
        let mut open = postgres.drift_open(self.shard).await?;
        // What nobody was told of goes first, where there is not room for all.
        open.sort_by_key(|finding| (finding.is_seen, finding.id));
        let accounts: Vec<AccountId> = open.iter().map(|finding| finding.account).collect();
        let (behind, room) = self.plan.turn();
        let in_turn = postgres.accounts_behind(self.shard, behind, room).await?;
        let accounts = self.plan.accounts(&accounts, &in_turn);
        let Some(look) = self.read(accounts).await? else {
            return Ok(());
        };
        if self.note(&look, &open).await? {
            open = postgres.drift_open(self.shard).await?;
        }
        for finding in open
            .iter()
            .filter(|finding| !finding.is_seen)
            .take(ALARMS_MAX)
        {
            self.raise(finding, &look.standing).await?;
        }
        let whole: BTreeSet<i64> = whole(&look, &open).collect();
        let left = open.iter().filter(|finding| !whole.contains(&finding.id));
        let left: BTreeSet<Place> = left.map(|one| (one.account, one.asset)).collect();
        self.show(left.len());
        if !whole.is_empty() {
            for finding in open.iter().filter(|finding| whole.contains(&finding.id)) {
                tracing::info!(shard = %self.shard, account = %finding.account,
                    asset = %finding.asset, kind = finding.kind.name(), "balance is whole again");
            }
            postgres.drift_whole(whole.into_iter().collect()).await?;
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; nothing decides by it"
    )]
    fn show(&self, balances: usize) {
        self.open.set(balances as f64);
    }

    /// `None`: this process does not lead the shard (any more).
    async fn read(&self, accounts: Vec<AccountId>) -> Result<Option<Look>, store::Error> {
        let cached = self.cached(&accounts).await;
        let Some((epoch, memory)) = self.ask(accounts.clone()).await else {
            return Ok(None);
        };
        let standing = self.inner.postgres.standing(self.shard, &accounts).await?;
        let before = Before {
            epoch,
            memory,
            cached,
        };
        let rows = standing
            .accounts
            .iter()
            .map(|one| one.balances.len() as u64);
        let count = rows.sum();
        Ok(differences(&before, &standing).map(|differences| {
            self.checked.increment(count);
            Look {
                standing,
                differences,
            }
        }))
    }

    /// A cache that does not answer is not compared.
    async fn cached(&self, accounts: &[AccountId]) -> Vec<Snapshot> {
        let Some(cache) = &self.inner.cache else {
            return Vec::new();
        };
        let keys: Vec<_> = accounts.iter().map(|id| (self.shard, *id)).collect();
        let snapshots = cache.read(&keys).await.unwrap_or_default();
        snapshots.into_iter().flatten().collect()
    }

    async fn ask(&self, accounts: Vec<AccountId>) -> Option<(Epoch, Vec<Balance>)> {
        let (answer, receiver) = oneshot::channel();
        let question = Question { accounts, answer };
        self.asks.send(question).await.ok()?;
        receiver.await.ok()?
    }

    /// What a second look confirms is noted, unless it stands already; whether anything was.
    async fn note(&self, look: &Look, open: &[Finding]) -> Result<bool, store::Error> {
        let name = |one: &Finding| (one.account, one.asset, one.kind);
        let known: BTreeSet<_> = open.iter().map(name).collect();
        let is_new = |one: &&Difference| !known.contains(&(one.account, one.asset, one.kind));
        let new: Vec<Difference> = look.differences.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(false);
        }
        sleep(CONFIRM_PAUSE).await;
        let accounts: BTreeSet<AccountId> = new.iter().map(|one| one.account).collect();
        let Some(again) = self.read(accounts.into_iter().collect()).await? else {
            return Ok(false);
        };
        let confirmed = confirmed(&new, again.differences);
        for difference in confirmed.iter().take(ALARMS_MAX) {
            self.inner
                .postgres
                .drift_note(self.shard, difference)
                .await?;
        }
        Ok(!confirmed.is_empty())
    }

    /// The alarm of a finding, and what follows from it.
    async fn raise(&mut self, finding: &Finding, standing: &Standing) -> Result<(), store::Error> {
        let mut accounts = standing.accounts.iter();
        let Some(account) = accounts.find(|account| account.id == finding.account) else {
            return Ok(()); // not looked at this time
        };
        if self.alarmed.insert(finding.id) {
            self.found[&finding.kind].increment(1);
            tracing::error!(
                shard = %self.shard, account = %finding.account, asset = self.code(finding),
                version = finding.version, kind = finding.kind.name(),
                "balance differs: {}; see `axs inspect-balance --account {}`, and compare with \
                 `axs reconcile --account {}`",
                finding.detail, finding.account, finding.account
            );
        }
        let is_open = account.status == Some(AccountStatus::Open) && finding.account.is_callers();
        let by = match finding.kind {
            DriftKind::Redis => {
                self.write_again(finding.account).await;
                None
            }
            _ if !is_open => None,
            _ => match self.block(finding).await {
                Ok(by) => by,
                Err(error) => {
                    tracing::warn!(shard = %self.shard, account = %finding.account, error,
                        "the account is not blocked yet");
                    return Ok(()); // tried again with the next look
                }
            },
        };
        self.inner.postgres.drift_seen(finding.id, by).await?;
        self.alarmed.remove(&finding.id);
        Ok(())
    }

    /// The command that blocks the account, if one does.
    async fn block(&self, finding: &Finding) -> Result<Option<CommandId>, String> {
        let account = finding.account;
        let key = format!("{account}/{}/{}", self.code(finding), finding.version);
        Ok(match self.inner.blocker.block(account, key).await? {
            Blocked::Now(id) => {
                tracing::warn!(shard = %self.shard, %account, command = %id,
                    "blocked; once its balances are right, UNBLOCK_ACCOUNT opens it again");
                Some(id)
            }
            Blocked::Before(id) => Some(id),
            Blocked::Taken(id) => {
                tracing::error!(shard = %self.shard, %account, command = %id,
                    "not blocked: its key is taken; who submits as source `{SOURCE}`?");
                None
            }
        })
    }

    fn code(&self, finding: &Finding) -> String {
        let assets = self.inner.registry.assets();
        let asset = assets.by_id(finding.asset);
        asset.map_or_else(|| finding.asset.to_string(), |asset| asset.code.clone())
    }

    /// Redis gets what PostgreSQL has. It is read after the old value is gone, so that nothing newer
    /// is lost for good.
    async fn write_again(&self, account: AccountId) {
        let Some(cache) = &self.inner.cache else {
            return;
        };
        let written = async {
            cache.forget(self.shard, account).await.ok()?;
            let stored = self.inner.store.balances(&[account]).await.ok()?;
            let stored = stored.into_iter().flatten().next()?;
            let snapshot = Snapshot::from(&stored);
            let epoch = stored.epoch;
            cache.write(self.shard, epoch, None, &[snapshot]).await.ok()
        };
        // If not, readers fill it, or the next look finds it again.
        let _ = written.await;
    }
}

/// Findings whose balance was looked at and is as it should be.
fn whole<'a>(look: &Look, open: &'a [Finding]) -> impl Iterator<Item = i64> + use<'a> {
    let place = |one: &Difference| (one.account, one.asset);
    let differ: BTreeSet<Place> = look.differences.iter().map(place).collect();
    let rows = look.standing.accounts.iter().flat_map(|one| &one.balances);
    let rows = rows.map(|row| (row.balance.account, row.balance.asset));
    let stands: BTreeSet<Place> = rows.collect();
    let looked_at: BTreeSet<AccountId> = look.standing.accounts.iter().map(|one| one.id).collect();
    let open = open.iter().filter(move |finding| {
        let place = (finding.account, finding.asset);
        // A value of Redis may be gone; a row may not.
        let is_there = stands.contains(&place) || finding.kind == DriftKind::Redis;
        let is_shown = finding.kind != DriftKind::Touched || finding.age >= TOUCHED_SHOWN;
        finding.is_seen
            && is_shown
            && is_there
            && looked_at.contains(&finding.account)
            && !differ.contains(&place)
    });
    open.map(|finding| finding.id)
}
