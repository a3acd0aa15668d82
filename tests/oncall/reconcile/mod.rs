//! `axs reconcile`: silent on what is right, under load and take-overs too; each kind of damage is
//! reported at its place.

use serde_json::Value;
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, Options},
    member::command,
    stream::{Sending, Stream},
};
use damage::{Damage, Target};

mod damage;
mod repair;

/// The detector would write Redis again before anybody looks, and block accounts.
const ALONE: &[(&str, &str)] = &[("AXS_CONSUME__DRIFT_ACCOUNTS_MAX", "0")];
/// Tables that are damaged; `shard_position` is put right column by column, its leader lives on.
const TABLES: [&str; 8] = [
    "balance",
    "account",
    "account_route",
    "journal",
    "balance_mark",
    "command",
    "dead_letter",
    "sequence_block",
];

/// Its exit code, and the document that it prints.
async fn reconcile(cluster: &Cluster, arguments: &[&str]) -> (i32, Value) {
    let arguments = [&["reconcile", "--json"], arguments].concat();
    let mut command = command(&arguments, cluster.environment(), cluster.folder());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output
        .expect("nobody aborts it")
        .expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|_| panic!("{arguments:?}: no document: {error}"));
    (output.status.code().expect("it ends by itself"), document)
}

/// Nothing differs, and something was compared.
async fn assert_clean(cluster: &Cluster, arguments: &[&str]) -> Value {
    let (code, document) = reconcile(cluster, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {:#}", document["findings"]);
    assert_eq!(document["differences"], 0);
    document
}

fn sum(document: &Value, list: &str, figure: &str) -> u64 {
    let list = document[list].as_array().expect("a list");
    list.iter()
        .map(|it| it[figure].as_u64().expect("a figure"))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reported_under_load_and_take_overs() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        consumers: 2,
        ..Options::of(&stream, 4)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() / 10);
    let all = ["--all", "--against", "balance,redis"];
    assert_clean(&cluster, &all).await;
    cluster.consumers[0].kill9();
    assert_clean(&cluster, &all).await;
    cluster.consumers[0].restart().await;
    submit.answered(stream.lines() * 6 / 10);
    cluster.consumers[1].sigterm().await;
    assert_clean(&cluster, &all).await;
    let reports = submit.finish();
    stream.assert_outcomes(&reports, Sending::First);
    let document = assert_clean(&cluster, &all).await;
    let count = cluster.count("SELECT count(*) FROM entry").await;
    assert_eq!(sum(&document, "shards", "entries"), count.unsigned_abs());
    let with_log = assert_clean(&cluster, &["--against", "log"]).await;
    let replayed: u64 = with_log["shards"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["log"]["commands"].as_u64().expect("a figure"))
        .sum();
    assert_eq!(replayed, sum(&document, "shards", "commands"));
    let count = cluster.count("SELECT count(*) FROM account").await;
    assert_eq!(sum(&document, "shards", "accounts"), count.unsigned_abs());
    assert_eq!(sum(&document, "redis", "accounts"), count.unsigned_abs());
    let undecided = sum(&document, "redis", "undecided");
    assert_eq!((sum(&document, "redis", "missing"), undecided), (0, 0));
}

/// Keeps copies of what will be damaged.
async fn keep(sql: &Client) {
    for table in TABLES {
        let copy = format!("CREATE TABLE kept_{table} AS TABLE {table}");
        sql.batch_execute(&copy).await.expect("a copy");
    }
    let copy = "CREATE TABLE kept_shard_position AS TABLE shard_position";
    sql.batch_execute(copy).await.expect("a copy");
}

/// Puts back what was kept.
async fn put_back(sql: &Client) {
    for table in TABLES {
        let back = format!("DELETE FROM {table}; INSERT INTO {table} TABLE kept_{table}");
        sql.batch_execute(&back).await.expect("it is put back");
    }
    let back = "UPDATE shard_position p SET applied = k.applied, state_hash = k.state_hash
        FROM kept_shard_position k WHERE k.shard = p.shard";
    sql.batch_execute(back).await.expect("it is put back");
}

/// Whether a finding has all of these.
fn has(finding: &Value, expected: &Value) -> bool {
    let expected = expected.as_object().expect("keys and values");
    expected.iter().all(|(key, value)| finding[key] == *value)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_each_kind_is_reported_at_its_place() {
    let stream = Stream::load();
    let mut cluster = Cluster::start(Options {
        settings: ALONE,
        ..Options::of(&stream, 2)
    })
    .await;
    cluster.send(&stream.commands, "applied");
    // Nobody else is to change anything meanwhile.
    cluster.consumers[0].sigterm().await;
    cluster.outboxes[0].sigterm().await;
    let sql = cluster.database.session().await;
    // No guard of the tables is in the way of damage.
    let by_hand = "SET session_replication_role = replica";
    sql.batch_execute(by_hand).await.expect("a superuser");
    keep(&sql).await;
    let at = Target::find(&sql).await;
    assert_clean(&cluster, &[]).await;
    let damages = [
        damage::of_rows(&at),
        damage::of_journal(&at),
        damage::of_numbers(&at),
    ];
    for Damage { sql: act, expected } in damages.into_iter().flatten() {
        let changed = sql.execute(&act, &[]).await;
        assert_ne!(changed.expect("damage is done"), 0, "{act}");
        let (code, document) = reconcile(&cluster, &[]).await;
        let findings = document["findings"].as_array().expect("a list");
        let is_there = findings.iter().any(|finding| has(finding, &expected));
        assert!(is_there, "{act}: {expected} is not in {findings:#?}");
        // Nothing is said of what is right.
        let shard = Value::from(at.shard);
        let others: Vec<_> = findings.iter().filter(|it| it["shard"] != shard).collect();
        assert!(others.is_empty(), "{act}: {others:#?}");
        assert_eq!(code, 3, "{act}");
        put_back(&sql).await;
    }
    let with_log = ["--against", "log"];
    assert_clean(&cluster, &with_log).await;
    // A journal that was changed all through agrees with everything but the hash and the log.
    let act = damage::all_through(&at);
    sql.batch_execute(&act).await.expect("damage is done");
    let (code, document) = reconcile(&cluster, &with_log).await;
    let findings = document["findings"].as_array().expect("a list");
    let expected = serde_json::json!({"kind": "LOG", "shard": at.shard,
        "account_id": at.account.to_string(), "asset": at.asset});
    assert!(findings.iter().any(|it| has(it, &expected)), "{document:#}");
    assert_eq!(
        document["kinds"],
        serde_json::json!({"LOG": 1, "STATE_HASH": 1})
    );
    assert_eq!(code, 3);
}
