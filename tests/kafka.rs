//! What is Kafka's alone: topics that do not fit, records that are gone, other tools' view, an
//! outage. What every log does is in `log.rs`.

mod support;
#[path = "support/kafka.rs"]
mod topics;

use std::time::{Duration, Instant};

use axs::core::{
    config,
    log::{Error, NewRecord, kafka},
    proto::CommandResult,
    store::{DeadLetter, DeadLetterReason},
    types::{CommandId, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;
use prost::Message as _;
use rdkafka::{
    Message as _, Timestamp as KafkaTime,
    message::{Headers as _, OwnedMessage},
};
use topics::{PATIENCE, Topics, at, command, commands, offsets, read};

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message
        .headers()?
        .iter()
        .find(|header| header.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).expect("headers are text"))
}

fn refused<T>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Refused(why)) => why,
        Err(error) => panic!("not refused, but: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

fn diverged<T>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Diverged(why)) => why,
        Err(error) => panic!("not diverged, but: {error}"),
        Ok(_) => panic!("not diverged"),
    }
}

fn all_ok(answers: &[Result<(), Error>]) {
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer, &Ok(()), "record {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_and_as_the_settings_say() {
    let mut topics = Topics::named(3);
    topics.settings.retention = Duration::from_secs(3600);
    let (one, other) = tokio::join!(
        kafka::admin::ensure_topics(&topics.settings, 3),
        kafka::admin::ensure_topics(&topics.settings, 3)
    );
    one.expect("made");
    other.expect("made by the other");
    let again = kafka::admin::ensure_topics(&topics.settings, 3)
        .await
        .expect("made already");
    assert_eq!(
        (
            again.created.len(),
            again.existing.len(),
            again.warnings.len()
        ),
        (0, 3, 0)
    );

    let found = kafka::admin::describe(&topics.settings)
        .await
        .expect("described");
    assert!(found.cluster_id.is_some() && found.brokers > 0);
    for (name, topic) in &found.topics {
        let topic = topic
            .as_ref()
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((topic.partitions, topic.replicas), (3, 1), "{name}");
        for (setting, value) in [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "1"),
            ("retention.ms", "3600000"),
            ("unclean.leader.election.enable", "false"),
        ] {
            assert_eq!(
                topic.settings.get(setting).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
    }
    let log = topics.log().await;
    assert_eq!(log.cluster_id().await.ok(), found.cluster_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_do_not_fit_are_refused() {
    let topics = Topics::named(2);
    let missing = refused(kafka::Log::connect(&topics.settings, 2, "axs-test").await);
    assert!(missing.contains("axs migrate"), "{missing}");

    topics.ensure().await;
    for shards in [1, 3] {
        let sentence = "has 2 partitions, but the cluster has";
        let why = refused(kafka::Log::connect(&topics.settings, shards, "axs-test").await);
        assert!(why.contains(sentence), "{why}");
        let why = refused(kafka::admin::ensure_topics(&topics.settings, shards).await);
        assert!(why.contains(sentence), "{why}");
    }

    for (setting, value, sentence) in [
        ("cleanup.policy", "compact", "cleanup.policy=compact"),
        (
            "cleanup.policy",
            "compact,delete",
            "cleanup.policy=compact,delete",
        ),
        (
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type=CreateTime",
        ),
        ("max.message.bytes", "1000000", "max.message.bytes=1000000"),
    ] {
        let topics = Topics::named(2);
        topics
            .make_by_hand(&topics.names.commands, &[(setting, value)])
            .await;
        let why = refused(kafka::admin::ensure_topics(&topics.settings, 2).await);
        assert!(why.contains(sentence), "{why}");
        let found = kafka::admin::describe(&topics.settings)
            .await
            .expect("described");
        let made = found
            .topics
            .iter()
            .filter(|(_, topic)| topic.is_some())
            .count();
        assert_eq!(made, 1, "a refusal makes no topics");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused() {
    let mut topics = Topics::named(1);
    topics.settings.min_insync_replicas = 2;
    let why = refused(kafka::admin::ensure_topics(&topics.settings, 1).await);
    assert!(why.contains("kafka.min_insync_replicas"), "{why}");

    topics.settings.replication = 3;
    let why = refused(kafka::admin::ensure_topics(&topics.settings, 1).await);
    assert!(why.contains("needs as many brokers"), "{why}");

    for (name, value) in [
        ("acks", "1"),
        ("no.such.property", "1"),
        ("linger.ms", "soon"),
    ] {
        let mut topics = Topics::named(1);
        topics.settings.properties.insert(name.into(), value.into());
        let why = refused(kafka::Log::connect(&topics.settings, 1, "axs-test").await);
        assert!(why.contains(&format!("kafka.properties.{name}")), "{why}");
    }
    let nowhere = config::Kafka::default();
    let why = refused(kafka::Log::connect(&nowhere, 1, "axs-test").await);
    assert!(why.contains("kafka.brokers"), "{why}");
}

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
async fn records_deleted_before_they_were_read_are_noticed() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..10)).await);
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut reader, 10).await;
    drop(reader);
    topics.delete_records(ShardId(0), 6).await;

    let why = diverged(log.open(ShardId(0), at(5), Some(records[4].anchor())).await);
    assert!(
        why.contains("begins at 6") && why.contains("axs shards rebase"),
        "{why}"
    );
    // Exactly the record before is gone: there is nothing to compare with, and nothing is missing.
    let mut reader = log
        .open(ShardId(0), at(6), Some(records[5].anchor()))
        .await
        .expect("opened");
    assert_eq!(read(&mut reader, 4).await, records[6..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_under_a_reader_are_noticed() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    // More than is read ahead, and nothing that compresses: the reader must still have to ask.
    for _ in 0..4 {
        let mut noise = vec![0; 1024 * 1024];
        getrandom::fill(&mut noise).expect("random bytes");
        let large = NewRecord {
            value: Bytes::from(noise),
            ..command(0, 0)
        };
        all_ok(&log.append(vec![large; 16]).await);
    }
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    assert_eq!(offsets(&read(&mut reader, 1).await), [0]);
    topics.delete_records(ShardId(0), 64).await;

    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        assert!(Instant::now() < deadline, "not noticed");
        match reader.fetch(1, usize::MAX, Duration::from_secs(1)).await {
            Ok(_) => {}
            answer => break diverged(answer),
        }
    };
    assert!(
        why.contains("begins at 64") && why.contains("axs shards rebase"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_noticed_and_written_to() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..5)).await);
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut reader, 5).await;
    topics.delete_topics().await;
    let deadline = Instant::now() + PATIENCE;
    // The name is free again a moment after the deletion was acknowledged.
    while kafka::admin::ensure_topics(&topics.settings, 1)
        .await
        .is_err()
    {
        assert!(Instant::now() < deadline, "the topics cannot be made again");
    }
    let why = loop {
        assert!(Instant::now() < deadline, "not noticed");
        match reader
            .fetch(1, usize::MAX, Duration::from_millis(500))
            .await
        {
            Ok(records) => assert!(records.is_empty()),
            Err(Error::Unavailable(_)) => {}
            answer => break diverged(answer),
        }
    };
    assert!(
        why.contains("offset 5") && why.contains("ends at 0"),
        "{why}"
    );

    // The idempotent session ended with the old topic; writing goes on by itself.
    let mut written = 0;
    while written < 5 {
        assert!(Instant::now() < deadline, "nothing can be written");
        written += log
            .append(commands(0, 9..10))
            .await
            .iter()
            .filter(|ok| ok.is_ok())
            .count();
    }
    let anchor = Some(records[4].anchor());
    let why = diverged(log.open(ShardId(0), at(5), anchor).await);
    assert!(why.contains("is not the one that was applied"), "{why}");
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
    all_ok(&log.append(commands(0, 0..50)).await);
    assert_eq!(
        log.ends().await,
        Ok(vec![at(i64::try_from(sent).expect("few") + 50)])
    );
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
async fn shards_are_read_apart_in_one_process() {
    let topics = Topics::create(3).await;
    let log = topics.log().await;
    let mut zero = log.open(ShardId(0), at(0), None).await.expect("opened");
    let mut two = log.open(ShardId(2), at(0), None).await.expect("opened");
    let mixed: Vec<NewRecord> = (0..300)
        .map(|number| command(u16::try_from(number % 3).expect("small"), number))
        .collect();
    all_ok(&log.append(mixed).await);
    let (from_zero, from_two) = tokio::join!(read(&mut zero, 100), read(&mut two, 100));
    for (records, shard) in [(from_zero, 0), (from_two, 2)] {
        for (index, record) in (0..).zip(&records) {
            let sent = command(shard, u64::from(shard) + 3 * index);
            assert_eq!(record.position, at(i64::try_from(index).expect("small")));
            assert_eq!(record.value, sent.value);
            assert_eq!(
                (record.command_id, record.content_hash),
                sent.command
                    .map(|(id, hash)| (Some(id), Some(hash)))
                    .expect("a command")
            );
        }
    }
    // One goes, the other reads on.
    drop(zero);
    all_ok(&log.append(vec![command(0, 1), command(2, 1)]).await);
    assert_eq!(offsets(&read(&mut two, 1).await), [100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_again_starts_exactly_there() {
    const COUNT: i64 = 20_000;
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    let sent = commands(0, 0..COUNT.unsigned_abs());
    for chunk in sent.chunks(5_000) {
        all_ok(&log.append(chunk.to_vec()).await);
    }
    let mut before = log.open(ShardId(0), at(0), None).await.expect("opened");
    let records = read(&mut before, sent.len()).await;
    // The queue is full of what was read ahead when the next reader comes, at another place.
    for round in 0..60 {
        let from = (round * 7_919) % COUNT;
        let anchor = (round % 2 == 0 && from > 0)
            .then(|| records[usize::try_from(from - 1).expect("positive")].anchor());
        let mut reader = log
            .open(ShardId(0), at(from), anchor)
            .await
            .expect("opened");
        let count = (COUNT - from).min(50);
        let expected: Vec<i64> = (from..from + count).collect();
        let found = read(&mut reader, expected.len()).await;
        assert_eq!(offsets(&found), expected, "round {round}");
        let lost = before.fetch(1, 1, Duration::ZERO).await;
        assert!(
            matches!(lost, Err(Error::Unavailable(_))),
            "the former reader is told"
        );
        before = reader;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_of_the_position_stays() {
    let topics = Topics::create(1).await;
    let log = topics.log().await;
    all_ok(&log.append(commands(0, 0..2)).await);
    let mut reader = log
        .open(ShardId(0), Position::new(4, 0), None)
        .await
        .expect("opened");
    let records = read(&mut reader, 2).await;
    assert_eq!(records[1].position, Position::new(4, 1));
    // The anchor covers the position: the same bytes in another generation are another record.
    let anchor = Some(records[0].anchor());
    log.open(ShardId(0), Position::new(4, 1), anchor)
        .await
        .map(drop)
        .expect("the same record");
    diverged(log.open(ShardId(0), Position::new(3, 1), anchor).await);
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
    all_ok(&log.publish(sent.clone()).await);

    let mut seen = Vec::new();
    while seen.len() < sent.len() {
        let more = tokio::time::timeout(PATIENCE, tail.next())
            .await
            .expect("results come");
        seen.extend(more.expect("the tail goes on"));
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

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_everything_answers_and_comes_back_by_itself() {
    let topics = Topics::create(1).await;
    let real = topics.settings.brokers.clone().expect("set");
    // A port of ours where nothing answers yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let mut settings = topics.settings.clone();
    settings.brokers = Some(format!("127.0.0.1:{port}"));

    let started = Instant::now();
    let log = kafka::Log::connect(&settings, 1, "axs-test")
        .await
        .expect("starts without Kafka");
    let unavailable = |error: Option<Error>| matches!(error, Some(Error::Unavailable(_)));
    assert!(unavailable(log.ping().await.err()));
    assert!(unavailable(log.open(ShardId(0), at(0), None).await.err()));
    assert!(unavailable(log.ends().await.err()));
    assert!(unavailable(log.tail_results().await.err()));
    assert!(unavailable(
        log.append(commands(0, 0..1)).await.remove(0).err()
    ));
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());

    // The first contact goes through here; the cluster then tells where its brokers are.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let real = real.clone();
            tokio::spawn(async move {
                let mut broker = tokio::net::TcpStream::connect(real)
                    .await
                    .expect("the broker");
                // Either side may end it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while log.append(commands(0, 0..1)).await != [Ok(())] {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    let mut reader = log.open(ShardId(0), at(0), None).await.expect("opened");
    assert_eq!(read(&mut reader, 1).await[0].value, command(0, 0).value);
}
