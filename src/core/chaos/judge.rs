//! Gathers what a run left behind (log, journal, balances, results, Redis, laws in SQL) and what its
//! clients were told, and compares everything with everything.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Error, history, laws,
    load::Outcome,
    replay::{self, Counts, Replayed, Sources},
    stage::Stage,
    verdict::{self, Check, Told},
};
use crate::core::{
    cache::{Cache, redis},
    log::Log,
    proto::CommandResult,
    types::ShardId,
};

/// Redis must agree within this: snapshots are written behind the answers.
const REDIS_MAX: Duration = Duration::from_secs(15);
/// Between two looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Accounts of one question.
const PAGE: usize = 500;

/// What was found, with figures of the log and the topic.
pub struct Judgement {
    /// Every check.
    pub checks: Vec<Check>,
    /// Of all logs.
    pub counts: Counts,
    /// Records on the results topic.
    pub results_published: u64,
    /// Of them, those that say again what was said.
    pub results_repeated: u64,
    /// Accounts that Redis has no value of.
    pub redis_missing: u64,
    /// How soon everything in Redis agreed.
    pub redis_took: Duration,
    /// Take-overs of all shards.
    pub take_overs: u64,
}

/// Looks at everything; `at_rest` says why there was no rest.
pub async fn judge(
    stage: &Stage,
    outcome: &Outcome,
    at_rest: &Result<(), String>,
) -> Result<Judgement, Error> {
    let (store, log) = (stage.store().await?, stage.log().await?);
    let rows = store.shard_rows().await?;
    let assets = store.assets().await?;
    let sources = Sources {
        log: &log,
        store: &store,
        assets: &assets,
    };
    let mut checks = replay::Checks::default();
    let mut published = Check::new("every result is published, with one id and one content");
    let (mut shards, mut all) = (Vec::new(), Judgement::new());
    for shard in rows.iter().map(|row| row.shard) {
        let replayed = replay::shard(&sources, shard, &mut checks).await?;
        all.count(&replayed.counts);
        let topic = topic(&log, shard, &mut published).await?;
        all.results_published += topic.values().map(|(_, count)| count).sum::<u64>();
        all.results_repeated += topic.values().map(|(_, count)| count - 1).sum::<u64>();
        verdict::results(&mut published, shard, &replayed.told, &topic);
        shards.push(replayed);
    }
    all.take_overs = rows.iter().map(|row| row.epoch.0).sum();
    let redis = redis(stage, &shards, &mut all).await?;
    let told: Vec<Told> = shards.into_iter().map(|shard| shard.told).collect();
    all.checks.push(decided(outcome, at_rest));
    all.checks
        .extend(verdict::acknowledged(&outcome.history, &told));
    all.checks.push(verdict::answers(&outcome.history));
    all.checks.push(verdict::order(&outcome.history));
    all.checks.push(verdict::money(&outcome.history, &told));
    all.checks
        .extend([checks.journal, checks.balances, published]);
    all.checks.extend(redis);
    let broken = laws::broken(&stage.ground.session().await?).await?;
    all.checks.extend(verdict::laws(broken));
    all.checks.push(alive(stage));
    Ok(all)
}

impl Judgement {
    fn new() -> Self {
        Self {
            checks: Vec::new(),
            counts: Counts::default(),
            results_published: 0,
            results_repeated: 0,
            redis_missing: 0,
            redis_took: Duration::ZERO,
            take_overs: 0,
        }
    }

    fn count(&mut self, counts: &Counts) {
        self.counts.command_records += counts.command_records;
        self.counts.commands += counts.commands;
        self.counts.control_records += counts.control_records;
    }

    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

fn decided(outcome: &Outcome, at_rest: &Result<(), String>) -> Check {
    let mut check = Check::new("after the last fault everything came to rest in time");
    check.compared = Some(outcome.history.decided.len() as u64);
    for key in &outcome.undecided {
        check.compare(false, || format!("`{key}` was never decided"));
    }
    if let Err(open) = at_rest {
        check.compare(false, || open.clone());
    }
    check
}

fn alive(stage: &Stage) -> Check {
    let mut check = Check::new("no service ended by itself");
    check.compared = Some(stage.fleet.size() as u64);
    for death in stage.fleet.deaths() {
        check.compare(false, || death.clone());
    }
    check
}

/// Hash of each result of a shard on the topic, and how often it is there.
async fn topic(
    log: &Log,
    shard: ShardId,
    check: &mut Check,
) -> Result<HashMap<u64, (u128, u64)>, Error> {
    let Log::Kafka(log) = log else {
        return Ok(HashMap::new());
    };
    type Seen = (HashMap<u64, (u128, u64)>, Vec<String>);
    let each = move |(seen, wrong): &mut Seen, value: &[u8]| {
        let Ok(result) = <CommandResult as prost::Message>::decode(value) else {
            return wrong.push(format!("shard {shard}: a record is no result"));
        };
        let hash = history::hash(value);
        let first = seen.entry(result.command_id).or_insert((hash, 0));
        first.1 += 1;
        if first.0 != hash {
            let id = result.command_id;
            wrong.push(format!("command {id} was published with two contents"));
        }
    };
    let (seen, wrong) = log.fold_results(shard, Seen::default(), each).await?;
    for what in wrong {
        check.compare(false, || what);
    }
    Ok(seen)
}

/// Every value in Redis is that of the model, once what is under way has arrived.
async fn redis(
    stage: &Stage,
    shards: &[Replayed],
    all: &mut Judgement,
) -> Result<Option<Check>, Error> {
    let settings = &stage.ground.settings.redis;
    if settings.url.is_none() {
        return Ok(None);
    }
    let cache = Cache::Redis(redis::Cache::connect(settings)?);
    let started = Instant::now();
    loop {
        let mut check = Check::new("every value in Redis is the balance");
        let mut missing = 0;
        for (number, shard) in (0..).zip(shards) {
            let accounts: Vec<_> = shard.balances.iter().collect();
            for page in accounts.chunks(PAGE) {
                let keys: Vec<_> = page.iter().map(|it| (ShardId(number), *it.0)).collect();
                for ((account, expected), found) in page.iter().zip(cache.read(&keys).await?) {
                    let Some(found) = found else {
                        missing += 1;
                        continue;
                    };
                    check.compare(found.balances == **expected, || {
                        format!("account {account}: {:?}, not {expected:?}", found.balances)
                    });
                }
            }
        }
        (all.redis_missing, all.redis_took) = (missing, started.elapsed());
        if check.holds() || started.elapsed() >= REDIS_MAX {
            return Ok(Some(check));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
