//! Records, results and dead letters as other tools see them, and what is turned away.

use std::time::{Duration, Instant};

use axs::core::{
    log::{Error, NewRecord},
    proto::CommandResult,
    result::Encoded,
    store::{DeadLetter, DeadLetterReason},
    types::{CommandId, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;
use prost::Message as _;
use rdkafka::{Message as _, Timestamp as KafkaTime};

use crate::{
    all_ok,
    fixture::{PATIENCE, Topics, at, command, commands, read},
    header,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_look_right_to_other_tools() {
    let topics = Topics::create(2).await;
    let log = topics.log().await;
    let control = NewRecord {
        account: None,
        command: None,
        ..command(1, 8)
    };
    all_ok(&log.append(vec![command(1, 7), control]).await);

    let dumped = topics.dump(&topics.names.commands, 1);
    assert_eq!(dumped.len(), 2);
    assert_eq!(dumped[0].key(), Some(&b"1007"[..]));
    assert_eq!(dumped[0].payload(), Some(&b"value 7"[..]));
    assert!(matches!(dumped[0].timestamp(), KafkaTime::LogAppendTime(millis) if millis > 0));
    let id = CommandId::new(ShardId(1), Sequence(8)).to_string();
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", "/test/orders"),
        ("ce_type", "dev.axs.command.v1"),
        ("ce_time", "2023-11-14T22:13:20.123456Z"),
        ("ce_subject", "1007"),
        ("content-type", "application/protobuf"),
        ("axs-content-hash", "07070707070707070707070707070707"),
    ] {
        assert_eq!(header(&dumped[0], name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(dumped[1].key(), None);
    assert_eq!(
        header(&dumped[1], "ce_type").as_deref(),
        Some("dev.axs.control.v1")
    );
    assert_eq!(header(&dumped[1], "axs-content-hash"), None);
    assert!(
        topics.dump(&topics.names.commands, 0).is_empty(),
        "the partition is the shard"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_queue_is_turned_away_at_once_and_in_order() {
    let mut topics = Topics::create(1).await;
    topics
        .settings
        .properties
        .insert("queue.buffering.max.messages".into(), "100".into());
    let log = topics.log().await;
    let started = Instant::now();
    let answers = log.append(commands(0, 0..5_000)).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let sent = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!((100..5_000).contains(&sent), "{sent}");
    assert!(
        answers[sent..]
            .iter()
            .all(|answer| answer == &Err(Error::QueueFull))
    );
    // It is room that was missing, nothing else; and nothing of the rest was sent.
    let deadline = Instant::now() + PATIENCE;
    while log.append(commands(0, 0..1)).await != [Ok(())] {
        assert!(Instant::now() < deadline, "there is no room again");
    }
    let end = i64::try_from(sent).expect("few") + 1;
    assert_eq!(log.ends().await, Ok(vec![at(end)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_written_is_refused_alone() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    let too_large = NewRecord {
        value: Bytes::from(vec![0; 1024 * 1024 + 1]),
        ..command(0, 1)
    };
    // What is allowed must also pass the broker, incompressible, with key and headers.
    let mut noise = vec![0; 1024 * 1024];
    getrandom::fill(&mut noise).expect("random bytes");
    let largest = NewRecord {
        value: Bytes::from(noise.clone()),
        ..command(0, 2)
    };
    let answers = log
        .append(vec![command(0, 0), too_large, largest, command(0, 3)])
        .await;
    assert!(matches!(&answers[1], Err(Error::Refused(why)) if why.contains("1048577 bytes")));
    all_ok(&[answers[0].clone(), answers[2].clone(), answers[3].clone()]);
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    assert_eq!(read(&mut reader, 3).await[1].value, noise);
}

/// Whoever writes to the commands topic himself may write more than we would: its copy is cut, and
/// does not hold up what is published behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_is_cut() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    let letters = [DeadLetter {
        position: Position::new(0, 1),
        reason: DeadLetterReason::Undecodable,
        message: "no protobuf".into(),
        parks: None,
        log_time: Timestamp(1_700_000_000_000_000),
        key: vec![b'k'; 60 * 1024],
        value: vec![b'v'; 1024 * 1024 + 50 * 1024],
    }];
    all_ok(&log.publish_dead_letters(ShardId(0), &letters).await);
    let dumped = topics.dump(&topics.names.dead_letters, 0);
    assert_eq!(dumped[0].key().map(<[u8]>::len), Some(16 * 1024));
    assert_eq!(dumped[0].payload().map(<[u8]>::len), Some(1024 * 1024));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_copied_to_the_byte() {
    let topics = Topics::create(2).await;
    let log = topics.log().await;
    let value: Vec<u8> = (0..=255).collect();
    let letter = |key: &[u8], parks, message: &str| DeadLetter {
        position: Position::new(2, 77),
        reason: DeadLetterReason::Undecodable,
        message: message.into(),
        parks,
        log_time: Timestamp(1_700_000_000_000_000),
        key: key.to_vec(),
        value: value.clone(),
    };
    let id = CommandId::new(ShardId(1), Sequence(3));
    let letters = [
        letter(&[0xff, 0, 1], Some(id), "no protobuf"),
        letter(b"", None, &"é".repeat(1000)),
    ];
    all_ok(&log.publish_dead_letters(ShardId(1), &letters).await);

    let dumped = topics.dump(&topics.names.dead_letters, 1);
    assert_eq!(dumped.len(), 2);
    assert_eq!(dumped[0].key(), Some(&[0xff, 0, 1][..]));
    assert_eq!(dumped[0].payload(), Some(&value[..]));
    let position = Position::new(2, 77).0.to_string();
    for (name, text) in [
        ("ce_id", id.to_string().as_str()),
        ("axs-dlq-reason", "UNDECODABLE"),
        ("axs-dlq-message", "no protobuf"),
        ("axs-dlq-position", &position),
        ("axs-dlq-log-time", "2023-11-14T22:13:20Z"),
        ("axs-dlq-app-version", env!("CARGO_PKG_VERSION")),
        ("__connect.errors.topic", &topics.names.commands),
        ("__connect.errors.partition", "1"),
        ("__connect.errors.offset", "77"),
    ] {
        assert_eq!(header(&dumped[0], name).as_deref(), Some(text), "{name}");
    }
    assert_eq!((dumped[1].key(), header(&dumped[1], "ce_id")), (None, None));
    assert_eq!(
        header(&dumped[1], "axs-dlq-message").map(|text| text.len()),
        Some(1024)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_have_their_key_and_survive_nonsense() {
    let topics = Topics::create(2).await;
    let log = topics.log().await;
    let mut tail = log.tail_results().await.expect("a tail");
    let result = |shard, sequence, account_id| CommandResult {
        command_id: CommandId::new(ShardId(shard), Sequence(sequence)).0,
        shard_id: u32::from(shard),
        account_id,
        applied_at: Some(Timestamp(1_700_000_000_000_000).to_proto()),
        ..CommandResult::default()
    };
    // What is no result, by a stranger.
    let producer: rdkafka::producer::FutureProducer = rdkafka::ClientConfig::new()
        .set(
            "bootstrap.servers",
            topics.settings.brokers.as_deref().expect("set"),
        )
        .create()
        .expect("a producer");
    let nonsense = rdkafka::producer::FutureRecord::<(), [u8]>::to(&topics.names.results)
        .partition(1)
        .payload(&[0xff, 0xff]);
    producer.send(nonsense, PATIENCE).await.expect("written");
    let sent = vec![result(1, 1, 5), result(1, 2, 6), result(0, 1, 7)];
    all_ok(&log.publish(sent.iter().map(Encoded::of).collect()).await);

    let mut seen = Vec::new();
    while seen.len() < sent.len() {
        let more = tokio::time::timeout(PATIENCE, tail.next())
            .await
            .expect("results come");
        let more = more.expect("the tail goes on");
        seen.extend(more.iter().map(|result| result.decode().expect("a result")));
    }
    seen.sort_by_key(|result| (1 - result.shard_id, result.command_id));
    assert_eq!(seen, sent);
    let dumped = topics.dump(&topics.names.results, 1);
    assert_eq!(dumped[1].key(), Some(&b"5"[..]));
    assert_eq!(dumped[1].payload(), Some(&sent[0].encode_to_vec()[..]));
    assert_eq!(
        header(&dumped[1], "ce_id"),
        Some(sent[0].command_id.to_string())
    );
    assert_eq!(
        header(&dumped[1], "ce_type").as_deref(),
        Some("dev.axs.result.v1")
    );
}
