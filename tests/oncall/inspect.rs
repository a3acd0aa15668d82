//! Balances as they were, and the life of commands, as `axs inspect-balance` and `axs
//! inspect-command` tell them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use axs::core::{
    command::Command,
    types::{CommandId, Sequence, ShardId},
};
use serde_json::Value;

use crate::{
    cluster::{Cluster, Options},
    database::Database,
    ledger::{Leader, START, change, open},
    member::{Environment, PATIENCE, command, eventually},
    stream::Report,
};

const ACCOUNT: u64 = 1001;
/// Entries of one balance. For a measurement: AXS_TEST_ENTRIES=1000000.
const ENTRIES: u64 = 10_000;
/// Commands of a flush, as a leader under load makes them.
const FLUSH: u64 = 4_096;
/// The one in the middle counts.
const RUNS: usize = 5;
/// A busy machine starts a process slowly; what walks the whole history takes longer still.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Runs a command that prints one document; its exit code too.
async fn run(environment: &Environment, arguments: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = command(arguments, environment, folder.path());
    command.arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("nobody aborts it").expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (
        output.status.code().expect("it ends by itself"),
        document,
        error,
    )
}

/// A balance that each of so many commands raised by 0.01, a millisecond after the one before.
async fn long_history(database: &Database, entries: u64) {
    let store = database.store().await;
    store.add_asset("USD", 2).await.expect("an asset");
    let numbered = |command: Command, number: u64| Command {
        id: Some(CommandId::new(ShardId(0), Sequence(number))),
        ..command
    };
    let mut leader = Leader::acquire(&store, ShardId(0)).await;
    leader.open(&numbered(open(ACCOUNT), 1));
    for number in 1..=entries {
        let command = change(ACCOUNT, "key", 1, 1, 0);
        leader.apply(&numbered(command, number + 1));
        if number % FLUSH == 0 || number == entries {
            leader.commit(&store).await;
        }
    }
    let session = database.session().await;
    let route = format!("INSERT INTO account_route VALUES ({ACCOUNT}, 0)");
    session.batch_execute(&route).await.expect("a route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_answers_at_once() {
    let entries = std::env::var("AXS_TEST_ENTRIES").ok();
    let entries = entries.map_or(ENTRIES, |text| text.parse().expect("a number"));
    let database = Database::migrated(1).await;
    long_history(&database, entries).await;
    let url = database.settings.url.clone().expect("it has one");
    let environment = vec![("AXS_POSTGRES__URL".to_owned(), url)];
    let middle = entries / 2 + 77;
    let at = START.plus_micros(i64::try_from(middle + 1).expect("small") * 1_000);
    let (at, version) = (at.to_string(), middle.to_string());
    let amount = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
    let cases: [(&[&str], u64); 5] = [
        (&["--account", "1001"], entries),
        (&["--account", "1001", "--at", &at], middle),
        (
            &["--account", "1001", "--asset", "USD", "--version", &version],
            middle,
        ),
        (
            &["--account", "1001", "--asset", "USD", "--version", "1"],
            1,
        ),
        (
            &[
                "--account",
                "1001",
                "--asset",
                "USD",
                "--history",
                "--limit",
                "100",
            ],
            entries,
        ),
    ];
    for (arguments, version) in cases {
        let arguments = [&["inspect-balance"], arguments].concat();
        let mut times = Vec::new();
        let mut found = Value::Null;
        for _ in 0..RUNS {
            let started = Instant::now();
            let (code, document, error) = run(&environment, &arguments).await;
            times.push(started.elapsed());
            assert_eq!(code, 0, "{error}");
            found = document;
        }
        times.sort();
        let took = times[RUNS / 2];
        eprintln!("{took:?}, best {:?}: {arguments:?}", times[0]);
        let newest = &found["entries"][0];
        assert_eq!(
            newest["version"],
            version.to_string(),
            "{arguments:?}: {newest}"
        );
        assert_eq!(
            newest["available_after"].as_str().map(to_cents),
            Some(version),
            "{newest} is not {}",
            amount(version)
        );
        assert!(took < ANSWERS_WITHIN, "{arguments:?} took {took:?}");
    }
    // What is read of the journal does not grow with the history: from the next mark at most 256
    // versions, in parts of 256 commands.
    let session = database.session().await;
    let explain = format!(
        "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM axs_entries({ACCOUNT}, 1, {middle}, 1, NULL, 1)"
    );
    // The first one of a session reads the catalog, too.
    session.query(&explain, &[]).await.expect("a plan");
    let rows = session.query(&explain, &[]).await.expect("a plan");
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let read = lines
        .iter()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared "));
    let blocks: u64 = read
        .expect("buffers are counted")
        .split(['=', ' '])
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    eprintln!("{blocks} blocks are read for one version");
    assert!(blocks < 200, "{blocks} blocks are read");
}

fn to_cents(amount: &str) -> u64 {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
    let cents: u64 = format!("{part:0<2}").parse().expect("two digits");
    whole.parse::<u64>().expect("a number") * 100 + cents
}

/// Lines of commands as a file.
fn file(cluster: &Cluster, name: &str, lines: &[&str]) -> PathBuf {
    let path = cluster.folder().join(name);
    std::fs::write(&path, lines.join("\n") + "\n").expect("a file");
    path
}

async fn small_cluster() -> (Cluster, Vec<Report>) {
    let cluster = Cluster::start(Options {
        shards: 1,
        assets: "USD:2".into(),
        servers: 1,
        consumers: 1,
        outboxes: 0,
        stack: None,
        settings: &[],
    })
    .await;
    let lines = [
        r#"{"source":"s","idempotency_key":"open","account_id":7,"kind":"OPEN_ACCOUNT","changes":[{"asset":"USD","available_delta":"10"}]}"#,
        r#"{"source":"s","idempotency_key":"less","account_id":7,"kind":"CHANGE","reference":"order 5","changes":[{"asset":"USD","available_delta":"-4"}]}"#,
        r#"{"source":"s","idempotency_key":"much","account_id":7,"kind":"CHANGE","changes":[{"asset":"USD","available_delta":"-40"}]}"#,
    ];
    let file = file(&cluster, "first", &lines);
    let reports = cluster.send(&file, "applied");
    (cluster, reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_are_shown_as_they_were() {
    let (cluster, _) = small_cluster().await;
    let server = cluster.server();
    let now = ["inspect-balance", "--account", "7"];
    let first = ["--asset", "USD", "--version", "1"];
    let history = ["--asset", "USD", "--history"];
    // By PostgreSQL itself, and by the API.
    for how in [&[][..], &["--server", &server][..]] {
        let shown = cluster.run(&[&now[..], &first, how].concat()).await;
        assert_eq!(shown["balances"][0]["available"], "10", "{shown}");
        assert_eq!(shown["balances"][0]["version"], "1", "{shown}");
        let opened = shown["balances"][0]["as_of"]
            .as_str()
            .expect("a time")
            .to_owned();
        let shown = cluster
            .run(&[&now[..], &["--at", &opened], how].concat())
            .await;
        assert_eq!(shown["balances"][0]["available"], "10", "{shown}");
        let early = [&now[..], &["--at", "2020-01-01T00:00:00Z"], how].concat();
        let shown = cluster.run(&early).await;
        assert_eq!(shown["balances"][0]["version"], "0", "{shown}");
        let shown = cluster.run(&[&now[..], &history, how].concat()).await;
        let entries = shown["entries"].as_array().expect("entries");
        let deltas: Vec<_> = entries
            .iter()
            .map(|it| it["available_delta"].as_str())
            .collect();
        assert_eq!(deltas, [Some("-4"), Some("10")], "{shown}");
        let arguments = [&now[..], &["--asset", "USD", "--version", "9"], how].concat();
        let (code, _, error) = run(cluster.environment(), &arguments).await;
        assert_eq!(code, 4, "{error}");
        assert!(error.contains("no version 9"), "{error}");
    }
    let page = [&now[..], &history, &["--limit", "1"]].concat();
    let shown = cluster.run(&page).await;
    assert_eq!(shown["next_version"], "1", "{shown}");
    let shown = cluster
        .run(&[&page[..], &["--from-version", "1"]].concat())
        .await;
    assert_eq!(shown["entries"][0]["available_delta"], "10", "{shown}");
    assert_eq!(shown["next_version"], Value::Null, "{shown}");
    // A version is that of one balance; a time is a time.
    for wrong in [
        &["--version", "1"][..],
        &["--at", "yesterday"],
        &["--history"],
    ] {
        let (code, ..) = run(cluster.environment(), &[&now[..], wrong].concat()).await;
        assert_eq!(code, 2, "{wrong:?}");
    }
}

/// Steps of a life, by name.
fn steps(life: &Value) -> Vec<&str> {
    let steps = life["steps"].as_array().expect("steps");
    steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_command_is_told_from_every_place() {
    let (mut cluster, reports) = small_cluster().await;
    let [_, less, much] = &reports[..] else {
        panic!("{reports:?}");
    };
    let life = eventually(PATIENCE, async || {
        let life = cluster.run(&["inspect-command", &less.command_id]).await;
        let done = steps(&life).contains(&"published") && steps(&life).contains(&"in Redis");
        if done {
            Ok(life)
        } else {
            Err(life.to_string())
        }
    })
    .await;
    assert_eq!(life["schema"], "axs.inspect-command/v1");
    assert_eq!(life["state"], "APPLIED");
    assert_eq!(life["command"]["reference"], "order 5");
    assert_eq!(life["outcome"]["entries"][0]["available_after"], "6");
    assert_eq!(
        steps(&life),
        ["accepted", "in the log", "applied", "published", "in Redis"]
    );

    let life = cluster
        .run(&["inspect-command", "--source", "s", "--key", "much"])
        .await;
    assert_eq!(life["command_id"], much.command_id.as_str());
    assert_eq!(life["state"], "REJECTED");
    assert_eq!(life["outcome"]["reject_code"], "INSUFFICIENT_AVAILABLE");
    let why = life["outcome"]["reject_reason"]
        .as_str()
        .expect("a sentence");
    assert!(why.contains("6 USD available, 40"), "{why}");

    let reverse = format!(
        r#"{{"source":"s","idempotency_key":"back","account_id":7,"kind":"REVERSE","reverses":"{}"}}"#,
        less.command_id
    );
    let back = cluster
        .send(&file(&cluster, "back", &[&reverse]), "applied")
        .remove(0);
    assert_eq!(back.outcome.status, "APPLIED");
    let life = cluster.run(&["inspect-command", &less.command_id]).await;
    assert_eq!(life["reversed_by"], back.command_id.as_str());

    for unknown in [&["999999"][..], &["--source", "s", "--key", "nobody"]] {
        let arguments = [&["inspect-command"], unknown].concat();
        let (code, _, error) = run(cluster.environment(), &arguments).await;
        assert_eq!(code, 4, "{error}");
        assert!(error.contains("looked at"), "{error}");
    }

    // Nobody applies what comes now.
    cluster.consumers[0].kill9();
    let waits = r#"{"source":"s","idempotency_key":"waits","account_id":7,"kind":"CHANGE","changes":[{"asset":"USD","available_delta":"1"}]}"#;
    let waits = cluster
        .send(&file(&cluster, "waits", &[waits]), "accepted")
        .remove(0);
    let life = eventually(PATIENCE, async || {
        let life = cluster.run(&["inspect-command", &waits.command_id]).await;
        let positions = life["log_positions"].as_array().map_or(0, Vec::len);
        if positions == 1 {
            Ok(life)
        } else {
            Err(life.to_string())
        }
    })
    .await;
    assert_eq!(life["state"], "PENDING");
    assert!(life["pending_ms"].is_string(), "{life}");

    // As a leader does it with a record that it cannot take, or somebody with the journal.
    let session = cluster.database.session().await;
    let park = format!(
        "INSERT INTO dead_letter (shard, position, reason, message, parks, log_time, key, value)
            VALUES (0, 999, 5, 'the engine panicked', {}, now(), '', '')",
        waits.command_id
    );
    session.batch_execute(&park).await.expect("a dead letter");
    let life = cluster.run(&["inspect-command", &waits.command_id]).await;
    assert_eq!(life["state"], "PARKED");
    assert!(steps(&life).contains(&"dead letter"), "{life}");
    let damage = format!(
        "SET session_replication_role = replica;
         DELETE FROM journal WHERE shard = 0 AND axs_seq_of_command({}) = ANY (seq)",
        much.command_id
    );
    session.batch_execute(&damage).await.expect("it is deleted");
    let life = cluster.run(&["inspect-command", &much.command_id]).await;
    assert_eq!(life["state"], "MISSING");
    let next = life["next"][0].as_str().expect("a sentence");
    assert!(next.contains("axs reconcile --shard 0"), "{next}");
}
