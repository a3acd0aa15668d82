//! The rules alone: commands in memory, applied by one thread, batch after batch.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Figures, Recorder, Stage, Workload,
    usage::{Process, Usage},
    workload::{OPENING_BALANCE, Operation},
};
use crate::core::{
    command::{Change, Command, CommandKind, Move},
    engine::{Account, AccountStatus, Applied, Balance, Engine, Start},
    interval_set::IntervalSet,
    types::{AssetId, CommandId, ContentHash, Money, Position, Sequence, ShardId, Timestamp},
};

/// Commands of a batch: what a leader under load flushes at a time.
const BATCH: usize = 8_192;
const SHARD: ShardId = ShardId(0);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What commands touch.
    pub workload: Workload,
    /// How many are applied.
    pub commands: u64,
}

/// Applies all commands; tells of each batch how many it had.
pub fn run(options: &Options, tell: &mut dyn FnMut(u64)) -> Figures {
    let workload = &options.workload;
    let mut engine = resident(workload);
    let usage = Usage::begin(vec![Process::own("engine")]);
    let mut draw = workload.draw(0);
    let mut last: Option<Operation> = None;
    let (mut applying, mut flushing) = (Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    let mut seen = Recorder::new(begun);
    let (mut commands, mut entries) = (Vec::with_capacity(BATCH), Vec::with_capacity(4 * BATCH));
    let (mut outcomes, mut position) = (Vec::with_capacity(BATCH), 0);
    while seen.commands() < options.commands {
        commands.clear();
        for _ in 0..BATCH.min((options.commands - seen.commands()) as usize) {
            let operation = draw.next_operation(last.as_ref());
            commands.push(command(workload, &operation));
            last = Some(operation);
        }
        let at = Instant::now();
        for command in &commands {
            position += 1;
            if let Applied::Done(outcome) = engine.apply(
                Position(position),
                Timestamp(position),
                command,
                None,
                &mut entries,
            ) {
                outcomes.push(outcome);
            }
        }
        applying += at.elapsed();
        seen.done(at, commands.len() as u64);
        let at = Instant::now();
        let changes = engine.take_changes();
        engine.flushed(changes.batch);
        std::hint::black_box(&changes);
        flushing += at.elapsed();
        outcomes.clear();
        entries.clear();
        tell(commands.len() as u64);
    }
    let own = Process::own("engine");
    Figures {
        bench: "engine",
        workload: described(options),
        seconds: applying.as_secs_f64(),
        seen,
        latency_of: format!("a batch of {BATCH} commands"),
        cpu_seconds: usage.stages()[0].cpu_seconds,
        peak_rss_bytes: own.peak_rss_bytes(),
        stages: vec![stage("apply", applying), stage("take changes", flushing)],
        more: Map::new(),
    }
}

fn described(options: &Options) -> Map<String, Value> {
    let mut described = options.workload.to_json();
    described.insert("batch".into(), json!(BATCH));
    described
}

fn stage(name: &str, time: Duration) -> Stage {
    Stage {
        name: name.into(),
        cpu_seconds: time.as_secs_f64(),
    }
}

/// An engine with every account of the workload and its balances in memory.
fn resident(workload: &Workload) -> Engine {
    let mut engine = Engine::new(Start {
        shard: SHARD,
        applied: IntervalSet::new(),
        applied_at: Timestamp(0),
        passed_at: Timestamp(0),
        state_hash: 0,
    });
    for number in 0..workload.accounts {
        let id = workload.account(number);
        let account = Account {
            id,
            user: number + 1,
            status: AccountStatus::Open,
            opened_at: Timestamp(0),
        };
        let balance = |asset| Balance {
            account: id,
            asset: AssetId(asset),
            available: Money::from(OPENING_BALANCE),
            frozen: Money::ZERO,
            version: 1,
            last_position: Position::ZERO,
        };
        let balances = [balance(1), balance(2)];
        engine.install(account, &balances[..workload.assets()]);
    }
    engine
}

fn command(workload: &Workload, operation: &Operation) -> Command {
    let account = workload.account(operation.account);
    let change = |&(asset, delta): &(usize, i64)| Change {
        account,
        primary: Move {
            asset: AssetId(1 + u32::try_from(asset).expect("0 or 1")),
            available_delta: Money::from(delta),
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    };
    Command {
        id: Some(CommandId::new(SHARD, Sequence(operation.number + 1))),
        content_hash: ContentHash([0; 16]),
        source: String::new(),
        idempotency_key: String::new(),
        account,
        kind: CommandKind::Change,
        changes: operation.changes().iter().map(change).collect(),
        reference: String::new(),
        created_at: None,
        accepted_at: Timestamp(0),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    }
}
