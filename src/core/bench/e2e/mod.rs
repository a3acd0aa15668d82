//! The whole way of a command, as one who waits for `APPLIED` sees it: `serve-grpc`, PostgreSQL,
//! Kafka, `consume`, PostgreSQL again, Kafka again, and back, at a rate that the cluster has room
//! for. With `steps` the records are watched on their way too, which costs time of its own.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    Figures,
    callers::{self, Call, Load, Tell},
    cluster::{Cluster, Plan},
    requests::{self, Answered, Requests},
    usage::{Process, Usage},
    workload::Operation,
};
use crate::core::{
    proto::{SubmitRequest, WaitFor, write_service_client::WriteServiceClient},
    testbed::{Error, processes::Role},
};
use watch::{Calls, Watch};

mod watch;

/// Not measured: routes are learned, connections opened, code compiled (Kafka's).
const WARM_UP: Duration = Duration::from_secs(2);
/// Callers of the warm-up are others: their keys must not be sent again.
const WARM_UP_CALLERS: u64 = 1 << 32;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to put up.
    pub plan: Plan,
    /// What is sent; its batch is 1.
    pub load: Load,
    /// HTTP/2 connections that callers share.
    pub connections: u32,
    /// Watch the records on their way.
    pub steps: bool,
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
    requests::learn_routes(&cluster.channel_of_each_server().await?, &load.workload).await?;
    let calls = Arc::new(Calls::default());
    let channels = cluster.channels(options.connections).await?;
    let caller = |first: u64, number: u64| Caller {
        requests: Requests::new(load.workload),
        number: first + number,
        client: requests::client(channels[number as usize % channels.len()].clone()),
        calls: options.steps.then(|| Arc::clone(&calls)),
    };
    let warm_up = Load {
        duration: WARM_UP.min(load.duration),
        ..*load
    };
    let warming = |number| caller(WARM_UP_CALLERS, number);
    callers::run(&warm_up, warming, stop, &mut |_, _| {}).await?;
    calls.forget();
    let watch = match options.steps {
        true => Some(Watch::start(&cluster.ground.settings.kafka, options.plan.shards).await?),
        false => None,
    };
    let processes = cluster.processes().await;
    let usage = Usage::begin(processes.clone());
    let seen = callers::run(load, |number| caller(0, number), stop, tell).await?;
    let stages = usage.stages();
    let mut more = Map::new();
    more.insert("duplicates".into(), json!(seen.answered.duplicates));
    more.insert("overloads".into(), json!(seen.answered.overloads));
    if let Some(watch) = watch {
        more.insert("steps".into(), watch.steps(&calls).await?);
    }
    let mut servers = processes.iter();
    let server = servers.find(|it| it.name.starts_with(Role::ServeGrpc.name()));
    Ok(Figures {
        bench: "e2e",
        workload: described(options),
        seconds: seen.took.as_secs_f64(),
        seen: seen.recorder,
        latency_of: "a command, from when it should have been sent until it is applied".into(),
        cpu_seconds: stages.iter().map(|stage| stage.cpu_seconds).sum(),
        peak_rss_bytes: server.map_or(0, Process::peak_rss_bytes),
        stages,
        more,
    })
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.load.workload.to_json();
    let fields = [
        ("callers", json!(options.load.callers)),
        ("rate", json!(options.load.rate)),
        ("connections", json!(options.connections)),
        ("shards", json!(options.plan.shards)),
        ("steps", json!(options.steps)),
    ];
    described.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    described
}

/// One caller.
struct Caller {
    requests: Requests,
    number: u64,
    client: WriteServiceClient<Channel>,
    calls: Option<Arc<Calls>>,
}

impl Call for Caller {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let command = |operation| self.requests.command(self.number, operation);
        let sent = watch::now_us();
        let request = SubmitRequest {
            commands: operations.iter().map(command).collect(),
            wait_for: WaitFor::Applied.into(),
            wait_at_most: None,
        };
        let response = self.client.submit(request).await;
        let response = response.map_err(|status| Error::Failed(format!("a call failed: {status}")));
        let mut answered = Answered::default();
        for outcome in response?.into_inner().outcomes {
            if !requests::count(&mut answered, &outcome)? {
                let hint = "a command was refused for overload\nhint: give a lower --rate";
                return Err(Error::Failed(hint.into()));
            }
            if let Some(calls) = self.calls.as_ref().filter(|_| !outcome.duplicate) {
                calls.answered(outcome.command_id, sent);
            }
        }
        Ok(answered)
    }
}
