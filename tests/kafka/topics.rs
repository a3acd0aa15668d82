//! Topics: made, found, refused; and a cluster that is not there.

use std::time::{Duration, Instant};

use axs::core::{
    config,
    log::{Error, kafka},
    types::ShardId,
};

use crate::{
    fixture::{PATIENCE, Topics, at, command, commands, read},
    refused,
};

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
