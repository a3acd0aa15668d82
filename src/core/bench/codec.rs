//! From the bytes of a record in the log to the bytes of its result, on one thread: what a leader
//! decodes and applies, and what is published of it, by the same functions, batch after batch.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::{Map, json};

use super::{
    Draw, Figures, Recorder, Stage, Workload,
    engine::{
        BATCH,
        bed::{SHARD, empty, fill, resident},
    },
    usage::{Process, Usage},
    workload::Operation,
};
use crate::core::{
    assets::{Asset, Assets},
    command::{Command, Label, record},
    engine::{Applied, Engine, Entry, Outcome, WARM_COMMANDS},
    leader::Content,
    result::Encoded,
    types::{AssetId, Epoch, Position, Timestamp},
};

/// Batches before the first that counts: vectors have their size by then.
const WARM_UP_BATCHES: u64 = 2;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many go through.
    pub commands: u64,
    /// How often this program has asked for memory so far, where somebody counts it.
    pub allocations: Option<fn() -> u64>,
}

/// Takes all commands through; tells of each batch how many it had.
pub fn run(options: &Options, tell: &mut dyn FnMut(u64)) -> Figures {
    let mut bed = Bed::new(options);
    let own = Process::own("codec");
    let usage = Usage::begin(vec![own.clone()]);
    for _ in 0..WARM_UP_BATCHES {
        bed.batch(BATCH as u64);
    }
    let begun = tokio::time::Instant::now();
    let mut seen = Recorder::new(begun);
    let mut sums = Took::default();
    while seen.commands() < options.commands {
        let count = (options.commands - seen.commands()).min(BATCH as u64);
        let took = bed.batch(count);
        sums.add(&took);
        seen.took(took.whole(), begun + sums.whole(), count);
        tell(count);
    }
    let mut more = Map::new();
    if options.allocations.is_some() {
        let each = per_command(sums.allocations, seen.commands());
        more.insert("allocations_per_command".into(), json!(each));
    }
    more.insert(
        "result_bytes".into(),
        json!(per_command(sums.bytes, seen.commands())),
    );
    let mut workload = options.workload.to_json();
    workload.insert("batch".into(), json!(BATCH));
    Figures {
        bench: "codec",
        workload,
        seconds: sums.whole().as_secs_f64(),
        seen,
        latency_of: format!("a batch of {BATCH} commands"),
        cpu_seconds: usage.stages()[0].cpu_seconds,
        peak_rss_bytes: own.peak_rss_bytes(),
        stages: vec![
            stage("decode", sums.decode),
            stage("apply", sums.apply),
            stage("encode", sums.encode),
        ],
        more,
    }
}

fn stage(name: &str, time: Duration) -> Stage {
    Stage {
        name: name.into(),
        cpu_seconds: time.as_secs_f64(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_command(sum: u64, commands: u64) -> f64 {
    super::figures::rounded(sum as f64 / commands.max(1) as f64)
}

/// What a batch, or several, took.
#[derive(Clone, Copy, Default)]
pub struct Took {
    /// From the bytes of records to commands.
    pub decode: Duration,
    /// From commands to outcomes and entries.
    pub apply: Duration,
    /// From outcomes and entries to the bytes of results.
    pub encode: Duration,
    allocations: u64,
    bytes: u64,
}

impl Took {
    fn add(&mut self, other: &Self) {
        self.decode += other.decode;
        self.apply += other.apply;
        self.encode += other.encode;
        self.allocations += other.allocations;
        self.bytes += other.bytes;
    }

    /// From bytes to bytes.
    pub fn whole(&self) -> Duration {
        self.decode + self.apply + self.encode
    }
}

/// An engine, and what goes through it. Vectors are used again from batch to batch.
pub struct Bed {
    options: Options,
    engine: Engine,
    assets: Assets,
    draw: Draw,
    last: Option<Operation>,
    position: i64,
    command: Command,
    records: Vec<Bytes>,
    contents: Vec<Content>,
    outcomes: Vec<Outcome>,
    labels: Vec<Label>,
    entries: Vec<Entry>,
}

impl Bed {
    /// With all accounts and balances installed.
    pub fn new(options: &Options) -> Self {
        let workload = &options.workload;
        let asset = |id: u32| Asset {
            id: AssetId(id),
            code: format!("ASSET{id}"),
            scale: 8,
        };
        Self {
            options: options.clone(),
            engine: resident(workload, workload.assets()),
            assets: (1..=2).map(asset).collect(),
            draw: workload.draw(0),
            last: None,
            position: 0,
            command: empty(),
            records: Vec::with_capacity(BATCH),
            contents: Vec::with_capacity(BATCH),
            outcomes: Vec::with_capacity(BATCH),
            labels: Vec::with_capacity(BATCH),
            entries: Vec::with_capacity(4 * BATCH),
        }
    }

    /// Makes the records of a batch, then takes them through.
    pub fn batch(&mut self, count: u64) -> Took {
        self.draw_records(count);
        let allocations = self.allocations();
        let begun = Instant::now();
        let decode = |record: &Bytes| Content::decode(SHARD, false, record);
        self.contents.extend(self.records.iter().map(decode));
        let decoded = Instant::now();
        let previous = Position(self.position);
        self.apply();
        let applied = Instant::now();
        let results = Encoded::all(
            Epoch(1),
            self.outcomes.iter().zip(&self.labels),
            &self.entries,
            previous,
            0,
            &self.assets,
        );
        let bytes = results.iter().map(|result| result.value.len() as u64).sum();
        drop(results);
        self.labels.clear();
        self.outcomes.clear();
        self.entries.clear();
        let took = Took {
            decode: decoded - begun,
            apply: applied - decoded,
            encode: applied.elapsed(),
            allocations: self.allocations() - allocations,
            bytes,
        };
        let changes = self.engine.take_changes();
        self.engine.flushed(changes.batch);
        took
    }

    /// Makes the records of a batch, in memory that they share, as they are read from Kafka.
    fn draw_records(&mut self, count: u64) {
        self.records.clear();
        let mut buffer = BytesMut::new();
        for _ in 0..count {
            let operation = self.draw.next_operation(self.last.as_ref());
            let workload = &self.options.workload;
            fill(&mut self.command, workload, workload.assets(), &operation);
            self.command.source = "axs.bench".into();
            self.command.idempotency_key = format!("key-{:012}", operation.number).into();
            self.command.reference = format!("order-{}", operation.number).into();
            self.command.created_at = Some(Timestamp(1_700_000_000_000_000));
            self.command.accepted_at = Timestamp(1_700_000_000_100_000);
            buffer.extend_from_slice(&record::encode_command(&self.command));
            self.records.push(buffer.split().freeze());
            self.last = Some(operation);
        }
    }

    fn apply(&mut self) {
        let mut contents = self.contents.drain(..);
        while !contents.as_slice().is_empty() {
            let next = contents.as_slice().iter().take(WARM_COMMANDS);
            self.engine.warm(next.filter_map(|content| match content {
                Content::Command(command) => Some(command),
                _ => None,
            }));
            for content in contents.by_ref().take(WARM_COMMANDS) {
                self.position += 1;
                let (at, time) = (Position(self.position), Timestamp(self.position));
                let Content::Command(command) = content else {
                    panic!("the bench's own records are commands, not {content:?}");
                };
                let entries = &mut self.entries;
                let applied = self.engine.apply(at, time, &command, None, entries);
                if let Applied::Done(outcome) = applied {
                    self.outcomes.push(outcome);
                    self.labels.push(command.into_label());
                }
            }
        }
    }

    fn allocations(&self) -> u64 {
        self.options.allocations.map_or(0, |count| count())
    }
}
