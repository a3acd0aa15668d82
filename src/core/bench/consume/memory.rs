//! Leaders without servers: log and store in memory, so that only this program's own work is left.
//! One run for each number of threads and of shards, one after the other, for their ratios.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::{runtime::Builder, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Watch, assets, feed::Feed, feed::Sender, open};
use crate::core::{
    bench::{
        Figures, Recorder, Stage, Workload,
        figures::rounded,
        usage::{Process, Usage},
    },
    clock::Clock,
    config,
    consumer::{self, Parts, Shards},
    embedded,
    registry::Registry,
    testbed::{Error, ground::ASSETS},
};

/// Consumers may take so long to end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many are put into the log, duplicates included, in each run.
    pub commands: u64,
    /// Threads that lead shards; one run each.
    pub threads: Vec<usize>,
    /// Of the cluster; one run each.
    pub shards: Vec<u16>,
    /// Of the leaders.
    pub consume: config::Consume,
}

/// One run.
struct Run {
    threads: usize,
    shards: u16,
    seconds: f64,
    cpu_seconds: f64,
    seen: Recorder,
}

/// Measures every combination; `tell` hears of every command applied, warm-up included.
pub async fn run(options: &Options, tell: &mut dyn FnMut(u64)) -> Result<Figures, Error> {
    let mut runs = Vec::new();
    for &threads in &options.threads {
        for &shards in &options.shards {
            runs.push(one(options, threads, shards, tell).await?);
        }
    }
    let stages = runs.iter().map(|run| Stage {
        name: run.name(),
        cpu_seconds: run.cpu_seconds,
    });
    let stages: Vec<Stage> = stages.collect();
    let table = runs.iter().map(|run| (run.name(), run.to_json()));
    let table: Map<String, Value> = table.collect();
    let first = runs
        .into_iter()
        .next()
        .ok_or_else(|| Error::Failed("no number of threads or shards was given".into()))?;
    let mut workload = options.workload.to_json();
    workload.insert("in_memory".into(), json!(true));
    workload.insert("threads".into(), json!(options.threads));
    workload.insert("shards".into(), json!(options.shards));
    Ok(Figures {
        bench: "consume",
        workload,
        seconds: first.seconds,
        latency_of: format!(
            "10,000 commands of the first run ({}) from the log to their commit, the backlog included",
            first.name()
        ),
        seen: first.seen,
        cpu_seconds: first.cpu_seconds,
        peak_rss_bytes: Process::own("").peak_rss_bytes(),
        stages,
        more: [("runs".to_owned(), Value::Object(table))]
            .into_iter()
            .collect(),
    })
}

impl Run {
    fn name(&self) -> String {
        format!("threads {}, shards {}", self.threads, self.shards)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn to_json(&self) -> Value {
        let commands = self.seen.commands() as f64;
        json!({
            "commands_per_second": (commands / self.seconds.max(1e-9)).round(),
            "cpu_us_per_command": rounded(self.cpu_seconds * 1e6 / commands.max(1.0)),
        })
    }
}

async fn one(
    options: &Options,
    threads: usize,
    shards: u16,
    tell: &mut dyn FnMut(u64),
) -> Result<Run, Error> {
    let known = ASSETS.map(|(code, scale)| (code.to_owned(), scale));
    let embedded = embedded::open(None, Some(shards), &known, Clock::System)
        .map_err(|error| Error::Failed(error.to_string()))?;
    let (store, log) = (embedded.store, embedded.log);
    let parts = Parts {
        store: store.clone(),
        log: log.clone(),
        cache: None,
        registry: Registry::load(store.clone()).await?,
        name: "axs-bench".into(),
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(error.to_string()))?;
    let (stop, mut settings) = (CancellationToken::new(), options.consume.clone());
    let accounts = usize::try_from(options.workload.accounts).unwrap_or(usize::MAX);
    settings.accounts_max = settings.accounts_max.max(accounts);
    let led = runtime.spawn({
        let stop = stop.clone();
        async move { consumer::run(parts, &settings, Shards::default(), stop).await }
    });
    let workload = &options.workload;
    let assets = assets(&store, workload).await?;
    let mut feed = Feed::new(&store, workload, shards, assets).await?;
    let mut watch = Watch::new(&store, Sender::new(log));
    let measured = async {
        open(&mut feed, &mut watch, workload.accounts, tell).await?;
        measure(&mut feed, &mut watch, options.commands, tell).await
    };
    let measured = measured.await;
    stop.cancel();
    let ended = tokio::time::timeout(STOP_MAX, led).await;
    // Nothing of it may block: this is a runtime's thread too.
    runtime.shutdown_background();
    let (seconds, cpu_seconds, seen) = measured?;
    if let Ok(Ok(Err(error))) = ended {
        return Err(Error::Failed(error.to_string()));
    }
    Ok(Run {
        threads,
        shards,
        seconds,
        cpu_seconds,
        seen,
    })
}

/// Puts all commands into the log at once, and waits until they are applied.
async fn measure(
    feed: &mut Feed,
    watch: &mut Watch,
    commands: u64,
    tell: &mut dyn FnMut(u64),
) -> Result<(f64, f64, Recorder), Error> {
    let mut chunks = Vec::new();
    let mut made = 0;
    while made < commands {
        let count = (commands - made).min(super::CHUNK as u64);
        let (chunk, _) = feed
            .commands(usize::try_from(count).expect("a chunk"))
            .await?;
        chunks.push(chunk);
        made += count;
    }
    watch.sender.send_all(chunks).await?;
    let usage = Usage::begin(vec![Process::own("consume")]);
    let begun = Instant::now();
    let mut seen = Recorder::new(begun);
    watch.finish(&mut seen, tell).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok((seconds, usage.stages()[0].cpu_seconds, seen))
}
