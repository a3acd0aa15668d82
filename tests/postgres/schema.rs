//! Migrations, refusals of what does not fit, guards, connection errors.

use axs::core::{
    command::Command,
    config,
    store::{Error, LoadRequest, postgres},
    types::{AccountId, AssetId, CommandId, Money, Position, Sequence},
};

use crate::{
    SHARD, SHARDS,
    database::Database,
    ledger::{Leader, Writer, change, open},
};

fn cluster(shards: Option<u16>, assets: &[&str]) -> config::Cluster {
    config::Cluster {
        shards,
        assets: assets.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn mismatch<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Mismatch(why)) => why,
        other => panic!("no mismatch, but: {other:?}"),
    }
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up() {
    let database = Database::empty().await;
    let session = database.session().await;
    let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relname NOT LIKE '__diesel%'";
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        AND proname LIKE 'axs%'";
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let wanted = cluster(Some(SHARDS), &["EUR:2", "USDT:18"]);
        let report = postgres::migrate::run(&database.settings, &wanted).await;
        let report = report.expect("the schema is made");
        assert_eq!(report.shards, SHARDS);
        assert_eq!(report.partitions_created, 1);
        let last = report.applied.last().map(String::as_str);
        assert_eq!(last, Some(postgres::SCHEMA_VERSION));
        let codes: Vec<_> = report
            .assets
            .iter()
            .map(|asset| asset.code.as_str())
            .collect();
        assert_eq!(codes, ["EUR", "USDT"]);

        let again = postgres::migrate::run(&database.settings, &wanted).await;
        let again = again.expect("nothing is left to do");
        assert!(again.applied.is_empty());
        assert_eq!((again.partitions_created, again.assets), (0, report.assets));
        sizes.push(count(&session, objects).await);

        let reverted = postgres::migrate::revert(&database.settings).await;
        assert_eq!(reverted.expect("it goes away").len(), report.applied.len());
        assert_eq!(count(&session, objects).await, 0, "nothing is left");
        assert_eq!(count(&session, functions).await, 0, "nothing is left");
    }
    assert_eq!(sizes[0], sizes[1]);
}

#[tokio::test]
async fn analyze_passes_over_the_arrays_of_the_journal() {
    let database = Database::empty().await;
    let session = database.session().await;
    let wanted = cluster(Some(SHARDS), &["EUR:2"]);
    let report = postgres::migrate::run(&database.settings, &wanted).await;
    report.expect("the schema is made");
    let arrays = "SELECT count(*) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = 'journal_p0'::regclass AND a.attnum > 0 AND t.typcategory = 'A'";
    let analyzed = format!("{arrays} AND a.attstattarget <> 0");
    assert!(count(&session, arrays).await > 20, "it is made of arrays");
    assert_eq!(count(&session, &analyzed).await, 0);
}

async fn count(session: &tokio_postgres::Client, sql: &str) -> i64 {
    session.query_one(sql, &[]).await.expect("an answer").get(0)
}

#[tokio::test]
async fn two_migrations_at_once_take_turns() {
    let database = Database::empty().await;
    let wanted = cluster(None, &["EUR:2"]);
    let (one, other) = tokio::join!(
        postgres::migrate::run(&database.settings, &wanted),
        postgres::migrate::run(&database.settings, &wanted)
    );
    let (one, other) = (one.expect("one of them"), other.expect("after the other"));
    assert_eq!((one.shards, other.shards), (16, 16));
    assert_eq!(one.partitions_created + other.partitions_created, 4);
    assert!(one.applied.is_empty() != other.applied.is_empty());
}

#[tokio::test]
async fn what_stands_is_never_changed() {
    let database = Database::migrated(SHARDS).await;
    let run = async |shards, assets: &[&str]| {
        postgres::migrate::run(&database.settings, &cluster(shards, assets)).await
    };
    let why = mismatch(run(Some(8), &[]).await);
    assert!(why.contains("the cluster has 4 shards"), "{why}");
    assert_eq!(run(None, &["EUR:2"]).await.expect("it fits").shards, SHARDS);
    let why = mismatch(run(None, &["EUR:3"]).await);
    assert!(why.contains("`EUR` has scale 2"), "{why}");
    for wrong in ["EUR", "EUR:", "eur:2", "EUR:19", ":2", "EUR:2:3"] {
        let why = mismatch(run(None, &[wrong]).await);
        assert!(why.contains(&format!("`{wrong}`")), "{why}");
    }
    for wrong in [0, 1025] {
        mismatch(run(Some(wrong), &[]).await);
    }
}

#[tokio::test]
async fn a_schema_that_does_not_fit_names_the_command() {
    let database = Database::empty().await;
    let store = database.store().await;
    let why = mismatch(store.shards().await);
    assert!(why.contains("run `axs migrate`"), "{why}");
    assert_eq!(
        store.health().await.expect("it answers").schema_version,
        None
    );

    postgres::migrate::run(&database.settings, &cluster(Some(SHARDS), &[]))
        .await
        .expect("the schema is made");
    assert_eq!(store.shards().await.expect("it fits"), SHARDS);
    let health = store.health().await.expect("it answers");
    assert_eq!(
        health.schema_version.as_deref(),
        Some(postgres::SCHEMA_VERSION)
    );
    let fsync = health.settings.iter().find(|(name, _)| name == "fsync");
    assert!(fsync.is_some(), "{:?}", health.settings);

    let session = database.session().await;
    let moved = "UPDATE cluster SET system_identifier = system_identifier + 1";
    session.batch_execute(moved).await.expect("a restored copy");
    let why = mismatch(store.shards().await);
    assert!(why.contains("another server"), "{why}");
    let back = "UPDATE cluster SET system_identifier = system_identifier - 1";
    session
        .batch_execute(back)
        .await
        .expect("the server itself");
    assert_eq!(store.shards().await.expect("it fits"), SHARDS);
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    session
        .batch_execute(newer)
        .await
        .expect("a later program was here");
    let why = mismatch(store.shards().await);
    assert!(
        why.contains("99990101000000") && why.contains("newer"),
        "{why}"
    );
    let older = "DELETE FROM __diesel_schema_migrations WHERE version > '20261123000005'";
    session
        .batch_execute(older)
        .await
        .expect("an earlier program was here");
    let why = mismatch(store.shards().await);
    assert!(why.contains("run `axs migrate`"), "{why}");
}

#[tokio::test]
async fn hand_made_writes_are_refused() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    store.add_asset("EUR", 2).await.expect("it is new");
    let mut writer = Writer::new(&store);
    let accepted = writer
        .accept(SHARD, vec![open(1001), change(1001, "fund", 1, 100, 0)])
        .await;
    let mut leader = Leader::acquire(&store, SHARD).await;
    leader.open(&accepted[0]);
    leader.apply(&accepted[1]);
    leader.commit(&store).await;

    let session = database.session().await;
    for sql in [
        "UPDATE balance SET available = 1000000",
        "UPDATE balance_p0 SET available = 1000000",
        "DELETE FROM balance",
        "TRUNCATE balance_p0",
        "INSERT INTO balance VALUES (5, 1, 0, 1, 2, 7, 0)",
        "UPDATE account SET status = 1",
        "DELETE FROM account_p0",
        "UPDATE command SET kind = 2",
        "DELETE FROM command_p0",
        "UPDATE journal SET epoch = 7",
        "TRUNCATE journal",
        "DELETE FROM reversal",
        "UPDATE account_route SET shard = 3",
        "UPDATE asset SET scale = 3",
        "DELETE FROM asset",
    ] {
        let refused = session.batch_execute(sql).await;
        let error = refused.expect_err(sql);
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("42501"), "{sql}: {error:?}");
    }
    let available = "SELECT available::text FROM balance WHERE account_id = 1001";
    let row = session.query_one(available, &[]).await.expect("it stands");
    assert_eq!(row.get::<_, &str>(0), "100");
}

#[tokio::test]
async fn amounts_are_stored_to_the_last_digit() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let mut leader = Leader::acquire(&store, SHARD).await;
    let mut amounts = vec![Money::ZERO, Money::MAX];
    for exponent in 0..38 {
        let power = 10_i128.pow(exponent);
        amounts.extend(
            [power - 1, power, power + 1]
                .into_iter()
                .filter_map(Money::new),
        );
        amounts.extend(power.checked_mul(9_999).and_then(Money::new));
    }
    for (account, amount) in (1_u64..).zip(&amounts) {
        let command = change(account, "k", 1, 1, 0);
        let id = CommandId::new(SHARD, Sequence(account));
        leader.apply(&Command {
            id: Some(id),
            ..command
        });
        let key = (AccountId(account), AssetId(1));
        leader
            .balances
            .get_mut(&key)
            .expect("just applied")
            .available = *amount;
        let entry = leader.flush.entries.last_mut().expect("just applied");
        (entry.available_delta, entry.available_after) = (amount.negated(), *amount);
    }
    leader.commit(&store).await;

    let session = database.session().await;
    let rows = session
        .query(
            "SELECT available::text FROM balance ORDER BY account_id",
            &[],
        )
        .await
        .expect("they are stored");
    let stored: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected: Vec<String> = (amounts.iter())
        .map(|amount| amount.minor_units().to_string())
        .collect();
    assert_eq!(stored, expected);
    let results = store
        .results(SHARD, Position::ZERO, 1_000)
        .await
        .expect("an answer");
    let read: Vec<(Money, Money)> = (results.iter())
        .map(|result| {
            (
                result.entries[0].available_delta,
                result.entries[0].available_after,
            )
        })
        .collect();
    let expected: Vec<(Money, Money)> = (amounts.iter())
        .map(|amount| (amount.negated(), *amount))
        .collect();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn who_cannot_connect_is_told_where_and_why() {
    let settings = |url: Option<&str>| config::Postgres {
        url: url.map(str::to_owned),
        ..config::Postgres::default()
    };
    let connect = async |url| {
        postgres::Store::connect(&settings(url), "axs-test")
            .await
            .map(drop)
    };
    let why = mismatch(connect(None).await);
    assert!(why.contains("set `postgres.url`"), "{why}");
    mismatch(connect(Some("not a url")).await);
    let refused = connect(Some("postgres://me:secret@127.0.0.1:1/axs")).await;
    let Err(Error::Unavailable(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("127.0.0.1:1/axs") && !why.contains("secret"),
        "{why}"
    );
}

/// The statements that the session which fires it has prepared, as of the last time.
const WATCH_PREPARED: &str = "
    CREATE TABLE prepared (session text, statement text, runs bigint);
    CREATE FUNCTION watch_prepared() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM prepared WHERE session = TG_TABLE_NAME;
        INSERT INTO prepared SELECT TG_TABLE_NAME, statement, generic_plans + custom_plans
            FROM pg_prepared_statements;
        RETURN NULL;
    END $$;
    CREATE TRIGGER watch AFTER INSERT ON command EXECUTE FUNCTION watch_prepared();
    CREATE TRIGGER watch AFTER INSERT ON journal EXECUTE FUNCTION watch_prepared();";

#[tokio::test]
async fn hot_statements_are_prepared_once() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    session
        .batch_execute(WATCH_PREPARED)
        .await
        .expect("a watch");
    let mut writer = Writer::new(&store);
    let mut leader = Leader::acquire(&store, SHARD).await;
    for round in 0..6 {
        let accepted = writer.accept(SHARD, vec![open(1001 + round)]).await;
        let request = LoadRequest {
            accounts: vec![AccountId(1001 + round)],
            ..LoadRequest::default()
        };
        store.load(SHARD, &request).await.expect("an answer");
        leader.open(&accepted[0]);
        leader.commit(&store).await;
    }
    for (session_of, function) in [
        ("command", "axs_accept"),
        ("journal", "axs_load"),
        ("journal", "axs_flush"),
    ] {
        let told = "SELECT count(*), sum(runs)::bigint FROM prepared
            WHERE session = $1 AND statement LIKE '%' || $2 || '(%'";
        let row = session.query_one(told, &[&session_of, &function]).await;
        let row = row.expect("an answer");
        assert_eq!(row.get::<_, i64>(0), 1, "{function}: prepared once");
        assert!(row.get::<_, i64>(1) >= 5, "{function}: and used again");
    }
}
