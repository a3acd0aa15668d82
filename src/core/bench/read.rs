//! Balances from the cache, one a call, by independent callers. What is read was written there by
//! the leaders; every answer is checked: that it came from the cache, and that it is right.

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    Figures, Workload,
    callers::{self, Call, Load, Tell},
    cluster::{Cluster, Plan},
    requests::Answered,
    usage::{Process, Usage},
    workload::{OPENING_BALANCE, Operation},
};
use crate::core::{
    command::amount,
    proto::{
        BalanceKey, BalanceSnapshot, GetBalancesRequest, balance_snapshot::Origin,
        read_service_client::ReadServiceClient,
    },
    testbed::{Error, ground, processes::Role},
    types::{AccountId, Money},
};

/// Accounts of a call before the run.
const WARM_UP_KEYS: u64 = 1_000;
/// How often all accounts are read until each of them came from the cache.
const WARM_UPS_MAX: u32 = 50;
/// Between two times: what missed fills the cache meanwhile.
const WARM_UP_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to put up.
    pub plan: Plan,
    /// Which accounts are read, by whom; its batch is the keys of a call.
    pub load: Load,
    /// HTTP/2 connections that callers share.
    pub connections: u32,
}

/// Measures on a cluster of its own.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    tell("starting services", 0);
    Cluster::with(&options.plan, stop, async |cluster| {
        on(cluster, options, stop, tell).await
    })
    .await
}

async fn on(
    cluster: &Cluster,
    options: &Options,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Figures, Error> {
    let load = &options.load;
    let opened = cluster.open_accounts(&load.workload, |count| tell("opening accounts", count));
    opened.await?;
    let channels = cluster.channels(options.connections).await?;
    let caller = |channel| Caller::new(ReadServiceClient::new(channel), load.workload);
    let mut callers: Vec<_> = channels.into_iter().map(caller).collect();
    tell("warming the cache", 0);
    warm_up(&mut callers[0], &load.workload).await?;
    let processes = cluster.processes().await;
    let usage = Usage::begin(processes.clone());
    let caller = |number: u64| callers[number as usize % callers.len()].clone();
    let seen = callers::run(load, caller, stop, tell).await?;
    let stages = usage.stages();
    let mut servers = processes.iter();
    let server = servers.find(|it| it.name.starts_with(Role::ServeGrpc.name()));
    Ok(Figures {
        bench: "read",
        workload: described(options),
        seconds: seen.took.as_secs_f64(),
        seen: seen.recorder,
        latency_of: format!("a call for {} balances", load.batch),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: server.map_or(0, Process::peak_rss_bytes),
        stages,
        more: Map::new(),
    })
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.load.workload.to_json();
    let fields = [
        ("callers", json!(options.load.callers)),
        ("keys", json!(options.load.batch)),
        ("rate", json!(options.load.rate)),
        ("connections", json!(options.connections)),
        ("shards", json!(options.plan.shards)),
    ];
    described.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    described
}

/// Reads every account until all of them come from the cache.
async fn warm_up(caller: &mut Caller, workload: &Workload) -> Result<(), Error> {
    for _ in 0..WARM_UPS_MAX {
        let mut missed = 0;
        for first in (0..workload.accounts).step_by(WARM_UP_KEYS as usize) {
            let last = workload.accounts.min(first + WARM_UP_KEYS);
            let accounts = (first..last).map(|number| workload.account(number));
            let balances = caller.read(accounts.collect()).await?;
            let other = balances.iter().filter(|it| it.origin() != Origin::Cache);
            missed += other.count();
        }
        if missed == 0 {
            return Ok(());
        }
        tokio::time::sleep(WARM_UP_PAUSE).await;
    }
    Err(Error::Failed(
        "balances do not come from Redis\nhint: `axs doctor` tells whether `redis.url` is right"
            .into(),
    ))
}

/// One caller.
#[derive(Clone)]
struct Caller {
    client: ReadServiceClient<Channel>,
    workload: Workload,
    asset: &'static str,
    /// What every account has of it.
    available: String,
}

impl Caller {
    fn new(client: ReadServiceClient<Channel>, workload: Workload) -> Self {
        let (asset, scale) = ground::ASSETS[0];
        Self {
            client,
            workload,
            asset,
            available: amount::format(Money::from(OPENING_BALANCE), scale),
        }
    }

    /// The balances of these accounts, each as it must be.
    async fn read(&mut self, accounts: Vec<AccountId>) -> Result<Vec<BalanceSnapshot>, Error> {
        let key = |account: &AccountId| BalanceKey {
            account_id: account.0,
            asset: self.asset.into(),
        };
        let request = GetBalancesRequest {
            keys: accounts.iter().map(key).collect(),
            ..GetBalancesRequest::default()
        };
        let answer = self.client.get_balances(request).await;
        let answer = answer.map_err(|status| Error::Failed(format!("a read failed: {status}")))?;
        let balances = answer.into_inner().balances;
        let is_right = |(account, snapshot): (&AccountId, &BalanceSnapshot)| {
            snapshot.balance.as_ref().is_some_and(|balance| {
                balance.account_id == account.0
                    && balance.available == self.available
                    && balance.version == 1
            })
        };
        if balances.len() == accounts.len() && accounts.iter().zip(&balances).all(is_right) {
            return Ok(balances);
        }
        Err(Error::Failed(format!(
            "accounts {accounts:?} should each have {}, and were read as {balances:?}",
            self.available
        )))
    }
}

impl Call for Caller {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let account = |operation: &Operation| self.workload.account(operation.account);
        let balances = self.read(operations.iter().map(account).collect()).await?;
        match balances.iter().find(|it| it.origin() != Origin::Cache) {
            None => Ok(Answered::default()),
            Some(other) => Err(Error::Failed(format!(
                "a balance did not come from Redis: {other:?}"
            ))),
        }
    }
}
