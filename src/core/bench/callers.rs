//! Independent callers: each sends its own commands, one call at a time, as fast as it is answered
//! or at fixed times.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Pacemaker, Recorder, Workload, requests::Answered, workload::Operation};
use crate::core::testbed::Error;

/// Recorders that callers share: a histogram for each caller would be most of the memory.
const RECORDERS: usize = 8;
/// Between two words about how far it is.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// Tells what is being done, and how many steps of it since the last word.
pub type Tell<'a> = &'a mut (dyn FnMut(&'static str, u64) + Send);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which commands.
    pub workload: Workload,
    /// How many callers.
    pub callers: u32,
    /// Commands of a call.
    pub batch: u32,
    /// Commands a second, of all callers; 0: as fast as they are answered.
    pub rate: f64,
    /// Nothing is sent after this.
    pub duration: Duration,
}

/// What became of it.
#[derive(Debug)]
pub struct Seen {
    /// Latencies and throughput.
    pub recorder: Recorder,
    /// Counts.
    pub answered: Answered,
    /// When the first call was made.
    pub begun: Instant,
    /// From then to the last answer.
    pub took: Duration,
}

/// One caller's way to what is measured.
pub trait Call: Send + 'static {
    /// Sends these commands in one call, and comes back when they are answered.
    fn call(
        &mut self,
        operations: &[Operation],
    ) -> impl Future<Output = Result<Answered, Error>> + Send;
}

/// What the callers of a run share.
struct Shared {
    load: Load,
    begun: Instant,
    stop: CancellationToken,
    pacemaker: Pacemaker,
    recorders: Vec<Mutex<Recorder>>,
    done: AtomicU64,
}

/// Lets all callers call until the time is over, and waits for their answers.
pub async fn run<C: Call>(
    load: &Load,
    caller: impl Fn(u64) -> C,
    stop: &CancellationToken,
    tell: Tell<'_>,
) -> Result<Seen, Error> {
    let begun = Instant::now();
    let calls_per_second = load.rate / f64::from(load.batch);
    let shared = Arc::new(Shared {
        load: *load,
        begun,
        stop: stop.child_token(),
        pacemaker: Pacemaker::start(begun, calls_per_second, load.callers),
        recorders: (0..RECORDERS)
            .map(|_| Mutex::new(Recorder::new(begun)))
            .collect(),
        done: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for number in 0..load.callers {
        tasks.spawn(one(shared.clone(), number, caller(u64::from(number))));
    }
    let mut answered = Answered::default();
    let mut told = 0;
    let mut tick = tokio::time::interval(TELL_INTERVAL);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => answered.join(ended.map_err(panicked)??),
                None => break,
            },
            _ = tick.tick() => {
                let done = shared.done.load(Ordering::Relaxed);
                tell("measuring", done - told);
                told = done;
            }
        }
    }
    if stop.is_cancelled() {
        return Err(Error::Interrupted);
    }
    let took = begun.elapsed();
    let mut recorder = Recorder::new(begun);
    for part in &shared.recorders {
        recorder.join(&part.lock().expect("no holder panics"));
    }
    Ok(Seen {
        recorder,
        answered,
        begun,
        took,
    })
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::Failed(format!("a caller panicked: {error}"))
}

async fn one<C: Call>(shared: Arc<Shared>, number: u32, mut caller: C) -> Result<Answered, Error> {
    let load = &shared.load;
    let mut pace = shared.pacemaker.pace(number);
    let mut draw = load.workload.draw(u64::from(number));
    let mut operations: Vec<Operation> = Vec::new();
    let mut answered = Answered::default();
    let until = shared.begun + load.duration;
    let recorder = &shared.recorders[number as usize % RECORDERS];
    loop {
        let intended = pace.next().await;
        if intended >= until || shared.stop.is_cancelled() {
            return Ok(answered);
        }
        let mut last = operations.last().copied();
        operations.clear();
        for _ in 0..load.batch {
            let next = draw.next_operation(last.as_ref());
            operations.push(next);
            last = Some(next);
        }
        answered.join(caller.call(&operations).await?);
        let count = u64::from(load.batch);
        let mut recorder = recorder.lock().expect("no holder panics");
        recorder.done(intended, count);
        shared.done.fetch_add(count, Ordering::Relaxed);
    }
}
