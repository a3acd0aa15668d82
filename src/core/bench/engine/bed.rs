//! An engine with every account of a workload in memory, and its commands, made before they are
//! timed and in vectors that are used again.

use std::time::{Duration, Instant};

use super::BATCH;
use crate::core::{
    bench::{
        Draw, Workload,
        workload::{OPENING_BALANCE, Operation},
    },
    command::{Change, Command, CommandKind, Move},
    engine::{
        Account, AccountStatus, Applied, Balance, Engine, Entry, Memory, Outcome, Start,
        WARM_COMMANDS,
    },
    interval_set::IntervalSet,
    types::{
        AccountId, AssetId, CommandId, ContentHash, Money, Position, Sequence, ShardId, Timestamp,
    },
};

/// Whose commands they are.
pub(in crate::core::bench) const SHARD: ShardId = ShardId(0);
/// The caller whose balances the bare loop touches.
const BARE: u64 = 1;

/// See the module.
pub struct Bed {
    workload: Workload,
    assets: usize,
    engine: Engine,
    draw: Draw,
    last: Option<Operation>,
    position: i64,
    commands: Vec<Command>,
    outcomes: Vec<Outcome>,
    entries: Vec<Entry>,
    bare_draw: Draw,
    bare: Vec<(AccountId, AssetId)>,
}

/// What a turn took.
pub struct Round {
    /// How many were applied.
    pub commands: u64,
    /// Of each batch.
    pub applying: Vec<Duration>,
    /// To take what batches changed, and to report it as flushed.
    pub changing: Duration,
    /// The bare loop, over as many commands.
    pub bare: Duration,
}

impl Bed {
    /// With all accounts and balances installed.
    pub fn new(workload: Workload, assets: usize) -> Self {
        Self {
            engine: resident(&workload, assets),
            draw: workload.draw(0),
            last: None,
            position: 0,
            commands: Vec::with_capacity(BATCH),
            outcomes: Vec::with_capacity(BATCH),
            entries: Vec::with_capacity(4 * BATCH),
            bare_draw: workload.draw(BARE),
            bare: Vec::with_capacity(4 * BATCH),
            workload,
            assets,
        }
    }

    /// Applies so many commands, then lets the bare loop do as many.
    pub fn round(&mut self, commands: u64) -> Round {
        let mut round = Round {
            commands,
            applying: Vec::new(),
            changing: Duration::ZERO,
            bare: Duration::ZERO,
        };
        let mut left = commands;
        while left > 0 {
            let count = left.min(BATCH as u64);
            let (applying, changing) = self.batch(count);
            round.applying.push(applying);
            round.changing += changing;
            left -= count;
        }
        let mut left = commands;
        while left > 0 {
            let count = left.min(BATCH as u64);
            round.bare += self.bare(count);
            left -= count;
        }
        round
    }

    fn batch(&mut self, count: u64) -> (Duration, Duration) {
        self.draw_commands(count);
        self.outcomes.clear();
        self.entries.clear();
        let begun = Instant::now();
        for commands in self.commands.chunks(WARM_COMMANDS) {
            self.engine.warm(commands.iter());
            for command in commands {
                self.position += 1;
                let (at, time) = (Position(self.position), Timestamp(self.position));
                let applied = self
                    .engine
                    .apply(at, time, command, None, &mut self.entries);
                if let Applied::Done(outcome) = applied {
                    self.outcomes.push(outcome);
                }
            }
        }
        let applying = begun.elapsed();
        assert!(
            self.outcomes.iter().all(|done| done.reject.is_none()),
            "no command of the workload is short of funds"
        );
        let begun = Instant::now();
        let changes = self.engine.take_changes();
        self.engine.flushed(changes.batch);
        std::hint::black_box(&changes);
        (applying, begun.elapsed())
    }

    fn draw_commands(&mut self, count: u64) {
        let count = usize::try_from(count).expect("at most a batch");
        self.commands.truncate(count);
        for index in 0..count {
            let operation = self.draw.next_operation(self.last.as_ref());
            if index == self.commands.len() {
                self.commands.push(empty());
            }
            fill(
                &mut self.commands[index],
                &self.workload,
                self.assets,
                &operation,
            );
            self.last = Some(operation);
        }
    }

    fn bare(&mut self, count: u64) -> Duration {
        self.bare.clear();
        for _ in 0..count {
            let operation = self.bare_draw.next_operation(None);
            let account = self.workload.account(operation.account);
            let moves = moves(&operation, self.assets);
            self.bare.extend(moves.map(|(asset, _)| (account, asset)));
        }
        let begun = Instant::now();
        let found = self.engine.read_write(&self.bare);
        let took = begun.elapsed();
        assert_eq!(found, self.bare.len(), "all balances are in memory");
        took
    }

    pub fn accounts(&self) -> u64 {
        self.engine.accounts_resident() as u64
    }

    pub fn balances(&self) -> u64 {
        self.engine.balances_resident() as u64
    }

    pub fn memory(&self) -> Memory {
        self.engine.memory()
    }
}

/// Makes a command that of an operation, but for its texts.
pub(in crate::core::bench) fn fill(
    command: &mut Command,
    workload: &Workload,
    assets: usize,
    operation: &Operation,
) {
    let account = workload.account(operation.account);
    command.id = Some(CommandId::new(SHARD, Sequence(operation.number + 1)));
    command.account = account;
    command.changes.clear();
    for (asset, available_delta) in moves(operation, assets) {
        command.changes.push(Change {
            account,
            primary: Move {
                asset,
                available_delta,
                frozen_delta: Money::ZERO,
            },
            fallback: None,
            if_version: None,
            if_min_available: None,
        });
    }
}

/// The moves of an operation, over as many assets as an account has.
fn moves(operation: &Operation, assets: usize) -> impl Iterator<Item = (AssetId, Money)> {
    let number = operation.number as usize;
    operation.changes().iter().map(move |&(asset, delta)| {
        let asset = (number + asset) % assets;
        (
            AssetId(u32::try_from(asset + 1).expect("a few assets")),
            Money::from(delta),
        )
    })
}

/// An engine with every account of the workload and its balances in memory.
pub(in crate::core::bench) fn resident(workload: &Workload, assets: usize) -> Engine {
    let mut engine = Engine::new(Start {
        shard: SHARD,
        applied: IntervalSet::new(),
        applied_at: Timestamp(0),
        passed_at: Timestamp(0),
        state_hash: 0,
    });
    let mut balances = Vec::with_capacity(assets);
    for number in 0..workload.accounts {
        let id = workload.account(number);
        let account = Account {
            id,
            user: number + 1,
            status: AccountStatus::Open,
            opened_at: Timestamp(0),
        };
        let balance = |asset: usize| Balance {
            account: id,
            asset: AssetId(u32::try_from(asset).expect("a few assets")),
            available: Money::from(OPENING_BALANCE),
            frozen: Money::ZERO,
            version: 1,
            last_position: Position::ZERO,
        };
        balances.clear();
        balances.extend((1..=assets).map(balance));
        engine.install(account, &balances);
    }
    engine
}

/// To be filled.
pub(in crate::core::bench) fn empty() -> Command {
    Command {
        id: None,
        content_hash: ContentHash([0; 16]),
        source: String::new().into(),
        idempotency_key: String::new().into(),
        account: AccountId(1),
        kind: CommandKind::Change,
        changes: Vec::new().into(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp(0),
        user: 0,
        reverses: None,
        ack: None,
        pin: None,
    }
}
