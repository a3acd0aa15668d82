//! `axs replay` on real servers: it ends with the state that leaders and an independent oracle
//! have, wherever it begins, and tells what was changed by hand with its place.

use std::{collections::BTreeMap, path::Path};

use axs::core::{
    log::{Log, NewRecord},
    types::{ShardId, Timestamp},
};
use serde_json::Value;

use crate::{
    cluster::{Cluster, Options},
    member::{Environment, PATIENCE, command, eventually},
    process::{Service, Submit, axs, free_address, ready},
    stream::{Balance, Sending, Stream},
};

const SHARDS: u16 = 2;
/// Past the triggers against hand-made writes.
const BY_HAND: &str = "SET session_replication_role = replica";

fn demo() -> Stream {
    Stream::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo"))
}

/// Runs `axs replay` with `--json`: its exit code, its last document, and what it says on stderr.
async fn replay(
    environment: &Environment,
    folder: &Path,
    arguments: &[&str],
) -> (i32, Value, String) {
    let mut command = command(&[&["replay"][..], arguments].concat(), environment, folder);
    command.arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("nobody aborts it").expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().map(serde_json::from_str);
    let last = last.transpose().expect("documents").unwrap_or_default();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.code().expect("it ends by itself"),
        last,
        error,
    )
}

/// Of a shard of a cluster; it must find no difference.
async fn clean(cluster: &Cluster, shard: u16, arguments: &[&str]) -> Value {
    let shard = shard.to_string();
    let arguments = [&["--shard", shard.as_str()][..], arguments].concat();
    let (code, document, error) = replay(cluster.environment(), cluster.folder(), &arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {error} {document}");
    document
}

/// Balances of documents, as the oracle has them.
fn balances(documents: &[Value]) -> BTreeMap<(u64, String), Balance> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut found = BTreeMap::new();
    for balance in documents
        .iter()
        .flat_map(|it| it["balances"].as_array().expect("asked for"))
    {
        let number = |field: &str| text(&balance[field]).parse().expect("a number");
        found.insert(
            (number("account_id"), text(&balance["asset"])),
            (
                text(&balance["available"]),
                text(&balance["frozen"]),
                number("version"),
            ),
        );
    }
    found
}

/// The state hash that `axs shards show` has.
async fn hash_of_row(cluster: &Cluster, shard: u16) -> Value {
    let shown = cluster.run(&["shards", "show", &shard.to_string()]).await;
    shown["shards"][0]["state_hash"].clone()
}

/// Waits until everything in the log is applied.
async fn is_applied(cluster: &Cluster) {
    let sql = "SELECT count(*) FROM command c JOIN shard_position p USING (shard)
        WHERE NOT p.applied @> c.seq";
    eventually(PATIENCE, async || match cluster.count(sql).await {
        0 => Ok(()),
        pending => Err(format!("{pending} are pending")),
    })
    .await;
}

/// A cluster that was sent the demonstration, and has nothing to do any more.
async fn sent(stream: &Stream) -> Cluster {
    let cluster = Cluster::start(Options::of(stream, SHARDS)).await;
    let reports = cluster.send(&stream.commands, "applied");
    stream.assert_outcomes(&reports, Sending::First);
    is_applied(&cluster).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_with_the_state_of_the_leaders_and_of_the_oracle() {
    let stream = demo();
    let cluster = sent(&stream).await;
    // What is no record becomes a dead letter, and stands in the log for ever.
    let garbage = NewRecord {
        shard: ShardId(0),
        account: None,
        value: b"garbage"[..].into(),
        command: None,
        source: "test".into(),
        time: Timestamp(0),
    };
    let log = Log::Kafka(cluster.topics.log().await);
    assert_eq!(log.append(vec![garbage]).await, [Ok(())]);
    let letters = "SELECT count(*) FROM dead_letter WHERE shard = 0";
    eventually(PATIENCE, async || match cluster.count(letters).await {
        1 => Ok(()),
        letters => Err(format!("{letters} dead letters")),
    })
    .await;

    let mut documents = Vec::new();
    for shard in 0..SHARDS {
        let document = clean(&cluster, shard, &["--balances", "--diff", "postgres,redis"]).await;
        assert_eq!(document["state_hash"], hash_of_row(&cluster, shard).await);
        assert_eq!(document["commands_from_journal"], Value::Null);
        assert!(
            document["diff"]["balances"].as_u64() > Some(0),
            "{document}"
        );
        assert!(
            document["diff"]["cached_balances"].as_u64() > Some(0),
            "{document}"
        );
        documents.push(document);
    }
    assert_eq!(documents[0]["dead_letters"], 1);
    stream.assert_balances(&balances(&documents));
    stops_where_it_is_told(&cluster).await;
}

/// At a position and at a time, the balances are those that the entries up to there say.
async fn stops_where_it_is_told(cluster: &Cluster) {
    let sql = cluster.database.session().await;
    let middle = "SELECT position, to_char(applied_at AT TIME ZONE 'UTC',
            'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
        FROM entry WHERE shard = 0 ORDER BY position OFFSET
            (SELECT count(*) / 2 FROM entry WHERE shard = 0) LIMIT 1";
    let row = sql.query_one(middle, &[]).await.expect("an entry");
    let (position, time): (i64, String) = (row.get(0), row.get(1));
    for (arguments, condition) in [
        (
            ["--to", &position.to_string()],
            format!("position < {position}"),
        ),
        (["--to-time", &time], format!("applied_at <= '{time}'")),
    ] {
        let document = clean(
            cluster,
            0,
            &[&arguments[..], &["--balances", "--diff", "postgres"]].concat(),
        )
        .await;
        let expected = format!(
            "SELECT DISTINCT ON (account_id, asset_id) account_id, asset_id, version FROM entry
                WHERE shard = 0 AND {condition} ORDER BY account_id, asset_id, version DESC"
        );
        let expected = sql.query(&expected, &[]).await.expect("entries");
        let versions: u64 = expected.iter().map(|row| row.get::<_, i64>(2) as u64).sum();
        let found = balances(&[document]);
        assert_eq!(found.len(), expected.len(), "{condition}");
        let found: u64 = found.values().map(|(_, _, version)| version).sum();
        assert_eq!(found, versions, "{condition}");
    }
    let (code, _, error) = replay(
        cluster.environment(),
        cluster.folder(),
        &["--shard", "0", "--to", "100000000"],
    )
    .await;
    assert!(
        code == 2 && error.contains("the log ends at"),
        "{code}: {error}"
    );
    let (code, _, error) = replay(cluster.environment(), cluster.folder(), &["--shard", "9"]).await;
    assert!(
        code == 2 && error.contains("there is no shard 9"),
        "{code}: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_is_replayed_from_the_state_of_the_journal() {
    let stream = demo();
    let cluster = sent(&stream).await;
    let row = "SELECT next_position FROM shard_position WHERE shard = 0";
    let next = cluster.count(row).await;
    let whole = clean(&cluster, 0, &["--balances"]).await;
    let mut from_journal = 0;
    for below in [next / 2, next] {
        cluster.topics.delete_records(ShardId(0), below).await;
        let document = clean(&cluster, 0, &["--balances", "--diff", "postgres,redis"]).await;
        assert_eq!(document["state_hash"], whole["state_hash"]);
        assert_eq!(document["balances"], whole["balances"]);
        assert_eq!(document["from_position"], below.to_string());
        let commands = document["commands_from_journal"]
            .as_u64()
            .expect("a number");
        assert!(commands > from_journal, "{document}");
        from_journal = commands;
    }
    // A hole in what the state is built from is told, with its place.
    let sql = cluster.database.session().await;
    sql.batch_execute(BY_HAND).await.expect("a superuser");
    let hole = "DELETE FROM journal WHERE shard = 0 AND flush_from = (
        SELECT flush_from FROM journal WHERE shard = 0 ORDER BY flush_from OFFSET 1 LIMIT 1)";
    sql.batch_execute(hole).await.expect("a part is deleted");
    let (code, _, error) = replay(cluster.environment(), cluster.folder(), &["--shard", "0"]).await;
    assert!(code == 3 && error.contains("has a hole"), "{code}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_and_a_take_over_are_no_difference() {
    let stream = demo();
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, SHARDS)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    for share in [1, 2, 3] {
        submit.answered(stream.lines() * share / 4);
        if share == 2 {
            cluster.consumers[0].kill9();
        }
        for shard in 0..SHARDS {
            clean(&cluster, shard, &["--diff", "postgres,redis"]).await;
        }
    }
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
}

/// One change by hand, and the place that must be told.
struct Damage {
    sql: String,
    kind: &'static str,
    /// Field and value of the finding.
    place: (&'static str, String),
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_told_with_its_place() {
    let stream = demo();
    let mut cluster = sent(&stream).await;
    // Else the drift detector is there first.
    cluster.consumers[0].sigterm().await;
    let sql = cluster.database.session().await;
    sql.batch_execute(BY_HAND).await.expect("a superuser");
    let part = "SELECT flush_from, part, position[entry_command[1]] FROM journal
        WHERE shard = 0 AND cardinality(entry_command) > 0
        ORDER BY flush_from DESC LIMIT 1";
    let row = sql.query_one(part, &[]).await.expect("a part");
    let (flush, part, position): (i64, i16, i64) = (row.get(0), row.get(1), row.get(2));
    let of_part = format!("WHERE shard = 0 AND flush_from = {flush} AND part = {part}");
    let account = cluster
        .count("SELECT min(account_id) FROM balance WHERE shard = 0")
        .await;
    for damage in [
        Damage {
            sql: format!("UPDATE journal SET entry_available_after[1] = entry_available_after[1] + 1 {of_part}"),
            kind: "LOG",
            place: ("position", position.to_string()),
        },
        Damage {
            sql: format!("UPDATE journal SET applied_at[1] = applied_at[1] + '1 s' {of_part}"),
            kind: "LOG",
            place: ("position", first_position(&cluster, &of_part).await),
        },
        Damage {
            sql: format!("DELETE FROM journal {of_part}"),
            kind: "LOG",
            place: ("position", first_position(&cluster, &of_part).await),
        },
        Damage {
            sql: format!("UPDATE balance SET available = available + 1 WHERE shard = 0 AND account_id = {account}"),
            kind: "BALANCE",
            place: ("account_id", account.to_string()),
        },
        Damage {
            sql: format!("UPDATE account SET status = 2 WHERE shard = 0 AND account_id = {account}"),
            kind: "ACCOUNT",
            place: ("account_id", account.to_string()),
        },
        Damage {
            sql: "UPDATE shard_position SET state_hash = decode(repeat('00', 16), 'hex') WHERE shard = 0".into(),
            kind: "STATE_HASH",
            place: ("account_id", String::new()),
        },
    ] {
        let before = copies(&cluster).await;
        sql.batch_execute(&damage.sql).await.expect("it is damaged");
        is_told(&cluster, &damage.sql, damage.kind, &damage.place).await;
        restore(&cluster, &before).await;
        clean(&cluster, 0, &["--diff", "postgres,redis"]).await;
    }
    let cached = cluster.redis.values(0, "balance");
    let (account, value) = cached
        .iter()
        .find(|(_, value)| value.contains(" available "))
        .expect("one");
    let (head, rest) = value.split_once(" available ").expect("it was found");
    cluster
        .redis
        .set(0, account, &format!("{head} available 1{rest}"));
    is_told(&cluster, "Redis", "REDIS", &("account_id", account.clone())).await;
}

async fn first_position(cluster: &Cluster, of_part: &str) -> String {
    let sql = format!("SELECT position[1] FROM journal {of_part}");
    cluster.count(&sql).await.to_string()
}

/// Exit 3, and a finding of the kind at the place.
async fn is_told(cluster: &Cluster, what: &str, kind: &str, place: &(&str, String)) {
    let arguments = ["--shard", "0", "--diff", "postgres,redis"];
    let (code, document, error) = replay(cluster.environment(), cluster.folder(), &arguments).await;
    assert_eq!(code, 3, "{what}: {error} {document}");
    let findings = document["diff"]["findings"].as_array().expect("findings");
    let (field, value) = place;
    let fits =
        |it: &&Value| it["kind"] == kind && (value.is_empty() || it[*field] == value.as_str());
    assert!(findings.iter().any(|it| fits(&it)), "{what}: {document}");
}

/// What damages touch, kept aside in the database.
const TABLES: [&str; 4] = ["journal", "balance", "account", "shard_position"];

async fn copies(cluster: &Cluster) -> Vec<String> {
    let sql = cluster.database.session().await;
    let mut names = Vec::new();
    for table in TABLES {
        let copy = format!("aside_{table}");
        let make = format!("DROP TABLE IF EXISTS {copy}; CREATE TABLE {copy} AS TABLE {table}");
        sql.batch_execute(&make).await.expect("a copy");
        names.push(copy);
    }
    names
}

async fn restore(cluster: &Cluster, copies: &[String]) {
    let sql = cluster.database.session().await;
    sql.batch_execute(BY_HAND).await.expect("a superuser");
    for (table, copy) in TABLES.iter().zip(copies) {
        let back = format!("DELETE FROM {table}; INSERT INTO {table} TABLE {copy}");
        sql.batch_execute(&back).await.expect("it is as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_file_of_dev_is_replayed_beside_it() {
    let stream = demo();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let (grpc, admin) = (free_address(), free_address());
    let settings = [
        ("AXS_GRPC__LISTEN", grpc.as_str()),
        ("AXS_ADMIN__LISTEN", admin.as_str()),
        ("AXS_CLUSTER__ASSETS", &stream.assets()),
        ("AXS_CLUSTER__SHARDS", "2"),
    ];
    let mut dev = axs(&["dev", "--data-dir", &data], &settings);
    let (service, _lines) = Service::start(dev.current_dir(folder.path()));
    ready(&admin).await;
    let reports = Submit::start(&format!("http://{grpc}"), &stream.commands, "applied").finish();
    stream.assert_outcomes(&reports, Sending::First);
    let nothing: Environment = Vec::new();
    let mut hashes = Vec::new();
    let mut service = Some(service);
    for _ in ["beside it", "without it"] {
        let mut documents = Vec::new();
        for shard in ["0", "1"] {
            let arguments = ["--shard", shard, "--data-dir", &data, "--balances"];
            let (code, document, error) = replay(&nothing, folder.path(), &arguments).await;
            assert_eq!(code, 0, "{error}");
            hashes.push(document["state_hash"].clone());
            documents.push(document);
        }
        stream.assert_balances(&balances(&documents));
        if let Some(service) = service.take() {
            assert!(service.terminate().success());
        }
    }
    assert_eq!(hashes[..2], hashes[2..]);
    let missing = folder.path().join("missing").display().to_string();
    let arguments = ["--shard", "0", "--data-dir", &missing];
    let (code, _, error) = replay(&nothing, folder.path(), &arguments).await;
    assert!(code == 4 && error.contains("missing"), "{code}: {error}");
}
