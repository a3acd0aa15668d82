//! Measures a replay of a log of one shard that is written first: in Kafka, or in a log file.
//!
//! ```text
//! cargo run --release --example replay_log -- COMMANDS file DIRECTORY
//! cargo run --release --example replay_log -- COMMANDS kafka BROKERS
//! ```
//!
//! 100,000 accounts are opened, then credited and debited in turn by numbers of a fixed sequence.
//! The topics have a prefix of their own and stay.

use std::{path::Path, time::Instant};

use axs::core::{
    clock::Clock,
    command::{Change, Command, CommandKind, Move, hash, record},
    config, embedded,
    log::{Log, NewRecord, file, kafka},
    replay::{self, Source, Sources, Until},
    types::{
        AccountId, AssetId, CommandId, ContentHash, Money, Position, Sequence, ShardId, Timestamp,
    },
};

const SHARD: ShardId = ShardId(0);
const ACCOUNTS: u64 = 100_000;
/// Records of one append.
const APPEND: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, kind, place] = &arguments[..] else {
        return Err("give COMMANDS, `file` or `kafka`, and a directory or brokers".into());
    };
    let count: u64 = count.parse()?;
    let source = match kind.as_str() {
        "file" => {
            let assets = [("USD".to_owned(), 2)];
            let axs = embedded::open(Some(Path::new(place)), Some(1), &assets, Clock::System)?;
            fill(&axs.log, count).await?;
            drop(axs);
            let begun = Instant::now();
            let peek = file::peek(Path::new(place))?;
            println!(
                "looked at the file in {:.1} s",
                begun.elapsed().as_secs_f64()
            );
            Source::File(peek)
        }
        _ => {
            let settings = config::Kafka {
                brokers: Some(place.clone()),
                topic_prefix: format!("axs-replay-{}.", std::process::id()),
                ..config::Kafka::default()
            };
            kafka::admin::ensure_topics(&settings, 1).await?;
            let log = Log::Kafka(kafka::Log::connect(&settings, 1, "axs-replay").await?);
            fill(&log, count).await?;
            Source::Log(log)
        }
    };
    let end = match &source {
        Source::File(peek) => peek.end(SHARD),
        Source::Log(log) => Position::new(0, log.range(SHARD).await?.1),
    };
    let sources = Sources {
        source,
        store: None,
    };
    for _ in 0..3 {
        let begun = Instant::now();
        let replay = replay::shard(&sources, SHARD, Until::Position(end), |_| {}).await?;
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = replay.counts().records as f64 / seconds;
        println!(
            "{} records in {seconds:.2} s: {rate:.0}/s, state hash {:032x}",
            replay.counts().records,
            replay.state_hash()
        );
    }
    Ok(())
}

async fn fill(log: &Log, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut next = 1;
    while next <= count {
        let last = (next + APPEND - 1).min(count);
        let records = (next..=last).map(|number| new_record(&command(number)));
        for answer in log.append(records.collect()).await {
            answer?;
        }
        next = last + 1;
    }
    println!(
        "wrote {count} commands in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn new_record(command: &Command) -> NewRecord {
    NewRecord {
        shard: SHARD,
        account: Some(command.account),
        value: record::encode_command(command),
        command: command.id.map(|id| (id, command.content_hash)),
        source: command.source.to_string(),
        time: command.accepted_at,
    }
}

fn command(number: u64) -> Command {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let opens = number <= ACCOUNTS;
    let account = AccountId(if opens { number } else { mixed % ACCOUNTS + 1 });
    let amount = i64::try_from(mixed % 10_000 + 1).expect("small");
    let change = Change {
        account,
        primary: Move {
            asset: AssetId(1),
            available_delta: Money::from(if number.is_multiple_of(3) {
                -amount
            } else {
                amount
            }),
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    };
    let mut command = Command {
        id: Some(CommandId::new(SHARD, Sequence(number))),
        content_hash: ContentHash([0; 16]),
        source: "replay_log".into(),
        idempotency_key: format!("replay-{number:012}").into(),
        account,
        kind: match opens {
            true => CommandKind::OpenAccount,
            false => CommandKind::Change,
        },
        changes: (!opens).then_some(change).into_iter().collect(),
        reference: format!("order {}", number / 2).into(),
        created_at: None,
        accepted_at: Timestamp(1_700_000_000_000_000 + i64::try_from(number).unwrap_or_default()),
        user: if opens { number } else { 0 },
        reverses: None,
        ack: None,
        pin: None,
    };
    command.content_hash = hash::content_hash(&command);
    command
}
