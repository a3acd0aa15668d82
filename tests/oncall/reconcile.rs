//! `axs reconcile`: silent on what is right, under load and take-overs too; each kind of damage is
//! reported at its place.

use serde_json::Value;
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, Options},
    member::command,
    stream::{Sending, Stream},
};

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
    let count = cluster.count("SELECT count(*) FROM account").await;
    assert_eq!(sum(&document, "shards", "accounts"), count.unsigned_abs());
    assert_eq!(sum(&document, "redis", "accounts"), count.unsigned_abs());
    let undecided = sum(&document, "redis", "undecided");
    assert_eq!((sum(&document, "redis", "missing"), undecided), (0, 0));
}

/// An entry in the middle of a balance's history, and where it stands.
struct Target {
    shard: i16,
    flush_from: i64,
    part: i16,
    /// Of the entry in its part, from 1.
    entry: i64,
    account: i64,
    asset_id: i32,
    asset: String,
    version: i64,
    position: i64,
    /// Of its command.
    command: i64,
}

impl Target {
    async fn find(sql: &Client) -> Self {
        let row = sql
            .query_one(
                "SELECT j.shard, j.flush_from, j.part, e.n, e.account, e.asset, a.code, e.version,
                    j.position[e.command], axs_command_id(j.shard, j.seq[e.command])
                FROM journal j, unnest(j.entry_account_id, j.entry_asset_id, j.entry_version,
                        j.entry_command) WITH ORDINALITY AS e (account, asset, version, command, n)
                    JOIN asset a ON a.id = e.asset
                    JOIN balance b ON (b.account_id, b.asset_id) = (e.account, e.asset)
                WHERE e.version = 3 AND b.version > 5
                    AND j.last_position < (SELECT max(last_position) FROM journal l
                        WHERE l.shard = j.shard)
                    AND j.first_position > (SELECT min(first_position) FROM journal l
                        WHERE l.shard = j.shard)
                ORDER BY 1, 2, 3, 4 LIMIT 1",
                &[],
            )
            .await
            .expect("a balance with a history");
        Self {
            shard: row.get(0),
            flush_from: row.get(1),
            part: row.get(2),
            entry: row.get(3),
            account: row.get(4),
            asset_id: row.get(5),
            asset: row.get(6),
            version: row.get(7),
            position: row.get(8),
            command: row.get(9),
        }
    }

    /// Its part of the journal, as a condition.
    fn part(&self) -> String {
        let Self {
            shard,
            flush_from,
            part,
            ..
        } = self;
        format!("shard = {shard} AND flush_from = {flush_from} AND part = {part}")
    }

    /// Its balance row, as a condition.
    fn balance(&self) -> String {
        let Self {
            account, asset_id, ..
        } = self;
        format!("account_id = {account} AND asset_id = {asset_id}")
    }
}

/// What is done by hand, and what must be said of it.
struct Damage {
    sql: String,
    /// Keys and values of one finding.
    expected: Value,
}

fn damage(sql: String, expected: Value) -> Damage {
    Damage { sql, expected }
}

/// Of the balance rows and of the accounts.
fn damages_of_rows(at: &Target) -> Vec<Damage> {
    let (shard, account, balance) = (at.shard, at.account, at.balance());
    let place = serde_json::json!({"kind": "BALANCE", "shard": shard,
        "account_id": account.to_string(), "asset": at.asset});
    let of_account = |kind: &str| serde_json::json!({"kind": kind, "shard": shard, "account_id": account.to_string()});
    vec![
        damage(
            format!("UPDATE balance SET available = available + 1 WHERE {balance}"),
            place.clone(),
        ),
        damage(
            format!("UPDATE balance SET version = version + 1 WHERE {balance}"),
            place.clone(),
        ),
        damage(
            format!("UPDATE balance SET last_position = 0 WHERE {balance}"),
            place.clone(),
        ),
        damage(format!("DELETE FROM balance WHERE {balance}"), place),
        damage(
            format!(
                "INSERT INTO balance SELECT account_id, version, last_position, 999, shard,
                    available, frozen FROM balance WHERE {balance}"
            ),
            serde_json::json!({"kind": "BALANCE", "account_id": account.to_string(),
                "asset": "999", "expected": "no row"}),
        ),
        damage(
            format!("UPDATE account SET status = 2 WHERE account_id = {account}"),
            of_account("ACCOUNT"),
        ),
        damage(
            format!("DELETE FROM account WHERE account_id = {account}"),
            of_account("ACCOUNT"),
        ),
        damage(
            format!("UPDATE account SET user_id = 99 WHERE account_id = {account}"),
            serde_json::json!({"kind": "STATE_HASH", "shard": shard}),
        ),
        damage(
            format!("DELETE FROM account_route WHERE account_id = {account}"),
            of_account("ROUTE"),
        ),
    ]
}

/// Of the journal.
fn damages_of_journal(at: &Target) -> Vec<Damage> {
    let (shard, entry, part) = (at.shard, at.entry, at.part());
    let place = |kind: &str| {
        serde_json::json!({"kind": kind, "shard": shard, "account_id": at.account.to_string(),
            "asset": at.asset, "version": at.version.to_string(),
            "position": at.position.to_string(), "command_id": at.command.to_string()})
    };
    let of_shard = |kind: &str| serde_json::json!({"kind": kind, "shard": shard});
    let set = |column: &str, to: &str| {
        format!("UPDATE journal SET {column}[{entry}] = {to} WHERE {part}")
    };
    let last = format!(
        "DELETE FROM journal WHERE shard = {shard} AND flush_from = (SELECT max(flush_from)
            FROM journal WHERE shard = {shard})"
    );
    vec![
        damage(
            set(
                "entry_available_delta",
                &format!("entry_available_delta[{entry}] + 1"),
            ),
            place("ENTRY"),
        ),
        damage(
            set(
                "entry_frozen_after",
                &format!("entry_frozen_after[{entry}] + 1"),
            ),
            place("ENTRY"),
        ),
        damage(
            set("entry_version", "9"),
            place_of_version(at, place("VERSION")),
        ),
        damage(set("entry_previous", "0"), place("PREVIOUS")),
        damage(
            format!("DELETE FROM journal WHERE {part}"),
            of_shard("RESULTS"),
        ),
        damage(last, of_shard("RESULTS")),
        damage(
            format!("UPDATE journal SET previous_result[1] = 0 WHERE {part}"),
            of_shard("RESULTS"),
        ),
        damage(
            format!("UPDATE journal SET min_seq = min_seq - 1 WHERE {part}"),
            of_shard("PART"),
        ),
        damage(
            format!("UPDATE journal SET seq = seq[2:] WHERE {part}"),
            of_shard("PART"),
        ),
        damage(
            format!(
                "UPDATE journal SET content_hash = set_byte(content_hash, 0,
                    get_byte(content_hash, 0) # 1) WHERE {part}"
            ),
            of_shard("COMMAND"),
        ),
    ]
}

/// The version that stands there now.
fn place_of_version(at: &Target, mut place: Value) -> Value {
    assert_ne!(at.version, 9);
    place["version"] = "9".into();
    place["expected"] = format!("version {}", at.version).into();
    place
}

/// Of the shard's row, of commands and of marks.
fn damages_of_numbers(at: &Target) -> Vec<Damage> {
    let (shard, command) = (at.shard, at.command);
    let seq = command & ((1 << 48) - 1);
    let row = format!("UPDATE shard_position SET applied = applied");
    let of = |kind: &str| serde_json::json!({"kind": kind, "shard": shard, "command_id": command.to_string()});
    vec![
        damage(
            format!("{row} - int8multirange(int8range({seq}, {seq} + 1)) WHERE shard = {shard}"),
            of("APPLIED"),
        ),
        damage(
            format!("{row} + int8multirange(int8range(7000000, 7000001)) WHERE shard = {shard}"),
            serde_json::json!({"kind": "APPLIED", "shard": shard,
                "command_id": ((i64::from(shard) << 48) | 7_000_000).to_string()}),
        ),
        damage(
            format!(
                "UPDATE shard_position SET state_hash = set_byte(state_hash, 15,
                    get_byte(state_hash, 15) # 1) WHERE shard = {shard}"
            ),
            serde_json::json!({"kind": "STATE_HASH", "shard": shard}),
        ),
        damage(
            format!("DELETE FROM command WHERE shard = {shard} AND seq = {seq}"),
            {
                let mut place = of("COMMAND");
                place["position"] = at.position.to_string().into();
                place
            },
        ),
        damage(
            format!(
                "INSERT INTO dead_letter (shard, position, reason, message, parks, log_time, key,
                    value) VALUES ({shard}, 1, 5, 'by hand',
                    axs_command_id({shard}::smallint, 7000000), now(), '', '')"
            ),
            serde_json::json!({"kind": "PARKED", "shard": shard, "position": "1"}),
        ),
        damage(
            format!(
                "INSERT INTO balance_mark SELECT account_id, 256, 5, now(), asset_id, shard
                    FROM balance WHERE {}",
                at.balance()
            ),
            serde_json::json!({"kind": "MARK", "shard": shard, "version": "256",
                "account_id": at.account.to_string(), "asset": at.asset}),
        ),
    ]
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
        damages_of_rows(&at),
        damages_of_journal(&at),
        damages_of_numbers(&at),
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
    assert_clean(&cluster, &[]).await;
}
