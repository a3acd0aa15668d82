//! What does not fit together is refused: by every service at its start, or by a shard that stops.
//! Each refusal says what happened and what to do.

use rdkafka::admin::{AdminOptions, NewPartitions};

use crate::{
    cluster::{Cluster, Options},
    member::{PATIENCE, Process, command, eventually},
    stream::Stream,
};

/// Of settings that do not fit.
const CONFIGURATION: i32 = 6;

async fn stop_all(cluster: &mut Cluster) {
    for process in processes(cluster) {
        let status = process.sigterm().await.0;
        assert!(status.success(), "`{}` stops", process.name);
    }
}

fn processes(cluster: &mut Cluster) -> impl Iterator<Item = &mut Process> {
    let processes = cluster.servers.iter_mut().chain(&mut cluster.consumers);
    processes.chain(&mut cluster.outboxes)
}

/// Every service ends at its start, and says this.
async fn all_refuse(cluster: &mut Cluster, sentences: &[&str]) {
    for process in processes(cluster) {
        let (status, log) = process.refuses().await;
        assert_eq!(
            status.code(),
            Some(CONFIGURATION),
            "{}: {log}",
            process.name
        );
        for sentence in sentences {
            assert!(log.contains(sentence), "{}: {log}", process.name);
        }
    }
}

async fn by_hand(cluster: &Cluster, sql: &str) {
    let session = cluster.database.session().await;
    session.batch_execute(sql).await.expect("by hand");
}

/// A cluster whose services stopped, with something behind it.
async fn stopped(stream: &Stream) -> Cluster {
    let mut cluster = Cluster::start(Options::of(stream, 2)).await;
    cluster.send(&stream.commands, "applied");
    stop_all(&mut cluster).await;
    cluster
}

/// What `axs migrate` says when it refuses.
fn migrate_refuses(cluster: &Cluster, changes: &[(&str, &str)]) -> String {
    let mut environment = cluster.environment().clone();
    environment.extend(
        changes
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    );
    let output = command(&["migrate"], &environment, cluster.folder()).output();
    let output = output.expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_too_new_or_too_old_is_refused() {
    let stream = Stream::load();
    let mut cluster = stopped(&stream).await;
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    by_hand(&cluster, newer).await;
    all_refuse(
        &mut cluster,
        &["schema 99990101000000", "run a newer `axs`"],
    )
    .await;
    let why = migrate_refuses(&cluster, &[]);
    assert!(why.contains("run a newer `axs`"), "{why}");
    let older = "DELETE FROM __diesel_schema_migrations WHERE version > '20261123000005'";
    by_hand(&cluster, older).await;
    all_refuse(
        &mut cluster,
        &["schema 20261123000005", "run `axs migrate`"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_another_cluster_are_refused() {
    let stream = Stream::load();
    let mut cluster = stopped(&stream).await;
    cluster.set("AXS_CLUSTER__SHARDS", "3");
    all_refuse(&mut cluster, &["cluster.shards is 3", "made with 2 shards"]).await;
    let why = migrate_refuses(&cluster, &[]);
    assert!(why.contains("the cluster has 2 shards"), "{why}");
    cluster.set("AXS_CLUSTER__SHARDS", "2");
    for process in processes(&mut cluster) {
        process.restart().await;
    }
}

/// Other topics, other brokers: what was accepted would go where nobody reads, or be read from
/// where nothing fits.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_refused() {
    let stream = Stream::load();
    let mut cluster = stopped(&stream).await;
    let prefix = cluster.topics.settings.topic_prefix.clone();
    let stored = "SELECT count(*) FROM cluster WHERE kafka_cluster_id <> ''";
    assert_eq!(cluster.count(stored).await, 1, "it was noted");
    cluster.set("AXS_KAFKA__TOPIC_PREFIX", "elsewhere.");
    let sentences = [
        "kafka.topic_prefix is `elsewhere.`",
        &prefix,
        "axs shards rebase",
    ];
    all_refuse(&mut cluster, &sentences).await;
    let why = migrate_refuses(&cluster, &[]);
    assert!(why.contains("kafka.topic_prefix is `elsewhere.`"), "{why}");
    cluster.set("AXS_KAFKA__TOPIC_PREFIX", &prefix);

    // As if the brokers were others.
    by_hand(&cluster, "UPDATE cluster SET kafka_cluster_id = 'another'").await;
    let sentences = [
        "leads to the Kafka cluster",
        "are in `another`",
        "axs shards rebase",
    ];
    all_refuse(&mut cluster, &sentences).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_refused() {
    let stream = Stream::load();
    let mut cluster = stopped(&stream).await;
    by_hand(
        &cluster,
        "DO $$ BEGIN EXECUTE format(
            'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
    )
    .await;
    for process in processes(&mut cluster) {
        let (status, log) = process.refuses().await;
        // It may become a primary: worth another try.
        assert_eq!(status.code(), Some(5), "{}: {log}", process.name);
        assert!(
            log.contains("connect to the primary"),
            "{}: {log}",
            process.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_lose_commits_is_refused() {
    let stream = Stream::load();
    let mut cluster = stopped(&stream).await;
    by_hand(
        &cluster,
        "DO $$ BEGIN EXECUTE format(
            'ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .await;
    all_refuse(
        &mut cluster,
        &["`synchronous_commit` is off", "set it to on"],
    )
    .await;
}

/// Somebody adds partitions while it runs: every service says so within seconds, nothing moves to
/// them, and nothing starts again.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_to_a_running_cluster_are_noticed() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options::of(&stream, 2)).await;
    cluster.send(&stream.commands, "applied");
    let epochs = "SELECT sum(epoch)::bigint FROM shard_position";
    let before = cluster.count(epochs).await;
    let admin = cluster.topics.admin();
    let three = NewPartitions::new(&cluster.topics.names.commands, 3);
    let added = admin
        .create_partitions([&three], &AdminOptions::new())
        .await;
    assert!(matches!(added.as_deref(), Ok([Ok(_)])), "{added:?}");

    let sentence = "has 3 partitions, but the cluster has 2 shards";
    for process in processes(&mut cluster) {
        eventually(PATIENCE, async || match process.ready_page().await {
            (503, page) if page.contains(sentence) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    assert_eq!(
        cluster.count(epochs).await,
        before,
        "no shard changes hands"
    );
    stop_all(&mut cluster).await;
    all_refuse(&mut cluster, &[sentence, "axs shards rebase"]).await;
}

/// The only shard's process says why the shard stopped, and goes on not leading it.
async fn stops(cluster: &mut Cluster, sentences: &[&str]) {
    let consumer = &mut cluster.consumers[0];
    consumer.respawn();
    let log = eventually(PATIENCE, async || match consumer.ready_page().await {
        (503, page) if page.contains("shards 0 stopped") => Ok(consumer.tail()),
        other => Err(format!("{other:?}\n{}", consumer.tail())),
    })
    .await;
    for sentence in sentences {
        assert!(log.contains(sentence), "{sentence}: {log}");
    }
}

/// One shard, all of whose records were applied; its position.
async fn applied(stream: &Stream) -> (Cluster, i64) {
    let mut cluster = Cluster::start(Options::of(stream, 1)).await;
    cluster.send(&stream.commands, "applied");
    stop_all(&mut cluster).await;
    let position = "SELECT next_position FROM shard_position";
    let position = cluster.count(position).await;
    assert!(position > 3, "something was applied");
    (cluster, position)
}

/// The topics are made anew by `axs migrate`, as after somebody deleted them.
async fn make_topics_anew(cluster: &Cluster) {
    cluster.topics.delete_topics().await;
    let until = std::time::Instant::now() + PATIENCE;
    // The names are free again a moment after the deletion was acknowledged.
    loop {
        let made = axs::core::log::kafka::admin::ensure_topics(&cluster.topics.settings, 1).await;
        match made {
            Ok(report) if !report.created.is_empty() => return,
            other => assert!(std::time::Instant::now() < until, "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_past_the_end_stops_the_shard() {
    let stream = Stream::load();
    let (mut cluster, position) = applied(&stream).await;
    make_topics_anew(&cluster).await;
    let past = format!("offset {position} is to be read next");
    stops(
        &mut cluster,
        &[&past, "ends at 0", "made anew", "axs shards rebase"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_at_the_position_stops_the_shard() {
    let stream = Stream::load();
    let (mut cluster, position) = applied(&stream).await;
    make_topics_anew(&cluster).await;
    let log = cluster.topics.log().await;
    let count = position.unsigned_abs() + 3;
    let answers = log.append(crate::fixture::commands(0, 0..count)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let sentences = ["is not the one that was applied there", "axs shards rebase"];
    stops(&mut cluster, &sentences).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_before_the_beginning_stops_the_shard() {
    let stream = Stream::load();
    let (mut cluster, position) = applied(&stream).await;
    // Accepted and produced while nobody leads, and expired before somebody does.
    let log = cluster.topics.log().await;
    let answers = log.append(crate::fixture::commands(0, 0..3)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let shard = axs::core::types::ShardId(0);
    cluster.topics.delete_records(shard, position + 2).await;
    let begins = format!("begins at {}", position + 2);
    stops(
        &mut cluster,
        &[&begins, "before they were applied", "axs shards rebase"],
    )
    .await;
}
