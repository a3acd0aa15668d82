//! A log in memory, applied by leaders, and replayed.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::core::{
    assets::Assets,
    clock::Clock,
    command::{
        Command, CommandKind, hash, json, parse,
        record::{self, Seal, Tick},
    },
    config,
    consumer::{self, Shards},
    embedded::{self, Embedded},
    log::NewRecord,
    registry::Registry,
    types::{CommandId, Sequence},
    workload,
};

const SHARD: ShardId = ShardId(0);

/// A shard in memory with a leader.
struct Led {
    axs: Embedded,
    assets: Assets,
    stop: CancellationToken,
    leading: tokio::task::JoinHandle<()>,
}

impl Led {
    async fn start() -> Self {
        let assets = [("USD", 2), ("USDT", 18), ("EUR", 2), ("BTC", 8), ("XBT", 8)];
        let assets: Vec<(String, u8)> = assets.map(|(code, scale)| (code.into(), scale)).into();
        let axs = embedded::open(None, Some(1), &assets, Clock::System).expect("in memory");
        let registry = Registry::load(axs.store.clone()).await.expect("its assets");
        let assets = (*registry.assets()).clone();
        let parts = consumer::Parts {
            store: axs.store.clone(),
            log: axs.log.clone(),
            cache: None,
            registry,
            name: "consume".into(),
        };
        let stop = CancellationToken::new();
        let until = stop.clone();
        let leading = tokio::spawn(async move {
            let settings = config::Settings::default().consume;
            let run = consumer::run(parts, &settings, Shards::default(), until);
            run.await.expect("an end");
        });
        Self {
            axs,
            assets,
            stop,
            leading,
        }
    }

    async fn append(&self, values: Vec<bytes::Bytes>) {
        let record = |value| NewRecord {
            shard: SHARD,
            account: None,
            value,
            command: None,
            source: "axs".into(),
            time: Timestamp(0),
        };
        let records = values.into_iter().map(record).collect();
        for answer in self.axs.log.append(records).await {
            answer.expect("it is appended");
        }
    }

    /// The row, once all of the log is applied.
    async fn applied(&self) -> ShardRow {
        let (_, end) = self.axs.log.range(SHARD).await.expect("in memory");
        loop {
            let row = row(&self.axs.store, SHARD).await.expect("its row");
            if row.next_position.offset() == end {
                return row;
            }
            tokio::task::yield_now().await;
        }
    }

    fn sources(&self) -> Sources {
        Sources {
            source: Source::Log(self.axs.log.clone()),
            store: Some(self.axs.store.clone()),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.leading.await.expect("no panic");
    }
}

/// Commands of the demonstration, numbered from 1; after every tenth a REVERSE of one before.
fn commands(assets: &Assets) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in workload::lines(&workload::DEMO) {
        let Ok(message) = json::from_json(&line) else {
            continue;
        };
        let Ok(command) = parse::parse(&message, assets, 1) else {
            continue;
        };
        commands.push(command);
        if commands.len().is_multiple_of(10) {
            let named = commands.len() / 2;
            let target = &commands[named - 1];
            commands.push(Command {
                kind: CommandKind::Reverse,
                changes: Vec::new().into(),
                reverses: Some(CommandId::new(SHARD, Sequence(named as u64))),
                user: 0,
                pin: None,
                ..target.clone()
            });
        }
    }
    for (number, command) in (1..).zip(&mut commands) {
        command.id = Some(CommandId::new(SHARD, Sequence(number)));
        command.accepted_at = Timestamp(1);
        command.content_hash = hash::content_hash(command);
    }
    commands
}

/// With what else stands in a log: repeats, ticks, seals, garbage.
fn log_of(commands: &[Command]) -> Vec<bytes::Bytes> {
    let mut values = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let value = record::encode_command(command);
        values.push(value.clone());
        match index % 50 {
            10 => values.push(value),
            20 => values.push(record::encode_tick(&Tick {
                now: Timestamp(index as i64),
                wal_position: 0,
            })),
            30 => {
                let number = Sequence(1_000_000 + index as u64);
                values.push(record::encode_seal(&Seal {
                    first: number,
                    last: number,
                }));
            }
            40 => values.push(b"garbage"[..].into()),
            _ => {}
        }
    }
    values
}

#[tokio::test]
async fn a_replay_ends_with_the_state_that_the_leader_has() {
    let led = Led::start().await;
    let commands = commands(&led.assets);
    let values = log_of(&commands);
    led.append(values.clone()).await;
    let row = led.applied().await;
    let until = Until::Position(row.next_position);
    let mut outcomes = Vec::new();
    let sources = led.sources();
    let replay = shard(&sources, SHARD, until, |batch| {
        outcomes.extend(batch.decided().map(|(decision, entries)| {
            (
                decision.outcome.clone(),
                entries.to_vec(),
                decision.previous,
            )
        }));
        assert_eq!(batch.letters, [], "each of them is stored");
    });
    let replay = replay.await.expect("a replay");

    assert_eq!(replay.state_hash(), row.state_hash);
    assert_eq!(*replay.applied(), row.applied);
    assert_eq!(replay.applied_at(), row.applied_at);
    assert_eq!(replay.passed_at(), row.passed_at);
    let store = &led.axs.store;
    let stored = store
        .results(SHARD, Position::ZERO, usize::MAX)
        .await
        .expect("in memory");
    assert_eq!(stored.len(), commands.len());
    let stored = stored
        .into_iter()
        .map(|result| (result.outcome, result.entries, result.previous_position));
    assert!(stored.eq(outcomes));

    let counts = replay.counts();
    assert_eq!(counts.records, values.len() as u64);
    assert_eq!(counts.decided(), commands.len() as u64);
    assert!(
        counts.applied > 100 && counts.rejected.len() > 3,
        "{counts:?}"
    );
    let each = [
        counts.duplicates,
        counts.ticks,
        counts.seals,
        counts.dead_letters,
    ];
    let beside = counts.records - counts.decided();
    assert!(each.iter().all(|&count| count > 5), "{counts:?}");
    assert_eq!(each.iter().sum::<u64>(), beside);
    led.stop().await;
}

#[tokio::test]
async fn it_stops_where_it_is_told_and_goes_on_from_there() {
    let led = Led::start().await;
    let commands = commands(&led.assets);
    led.append(log_of(&commands[..500])).await;
    let first = led.applied().await;
    led.append(log_of(&commands[500..])).await;
    let last = led.applied().await;

    let mut replay = Replay::open(&led.sources(), SHARD, Until::Position(first.next_position))
        .await
        .expect("a beginning");
    for row in [first.clone(), last] {
        let until = Until::Position(row.next_position);
        while replay.step(until).await.expect("a step").is_some() {}
        assert_eq!(replay.next_position(), row.next_position);
        assert_eq!(replay.state_hash(), row.state_hash);
        assert_eq!(*replay.applied(), row.applied);
    }

    // All that was decided at that time, and nothing later.
    let sources = led.sources();
    let at = shard(&sources, SHARD, Until::Time(first.applied_at), |_| {});
    assert_eq!(at.await.expect("a replay").applied_at(), first.applied_at);
    let before = Until::Time(first.applied_at.plus_micros(-1));
    let mut latest = Timestamp(0);
    let replay = shard(&sources, SHARD, before, |batch| {
        let of = |(decision, _): (&Decision, _)| decision.outcome.applied_at;
        latest = batch.decided().map(of).fold(latest, Timestamp::max);
    });
    let replay = replay.await.expect("a replay");
    assert!(latest < first.applied_at && replay.applied_at() == latest);

    let beyond = Until::Position(Position(1_000_000));
    let refused = Replay::open(&sources, SHARD, beyond).await;
    assert!(matches!(refused, Err(Error::Beyond(_))));
    led.stop().await;
}
