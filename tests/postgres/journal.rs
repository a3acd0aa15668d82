//! The journal: how it is cut, found by index, and read as plain SQL.

use axs::core::{
    command::Command,
    store::{HistoryQuery, Store},
    types::{AccountId, AssetId, CommandId, Position, Sequence},
};
use tokio_postgres::Client;

use crate::{
    SHARD, SHARDS,
    database::Database,
    ledger::{Leader, change},
};

fn numbered(account: u64, number: u64) -> Command {
    let command = change(account, &format!("n-{number}"), 1, 1, 2);
    Command {
        id: Some(CommandId::new(SHARD, Sequence(number))),
        ..command
    }
}

/// Flushes of 700 commands: numbers of two far blocks take turns, with stragglers between.
async fn filled(store: &Store) -> Vec<(u64, Position)> {
    let mut leader = Leader::acquire(store, SHARD).await;
    let mut told = Vec::new();
    for flush in 0..3 {
        for index in 0..700 {
            let number = flush * 700 + index + 1;
            let number = match index % 100 {
                7 => 1_000_000_000 + number,
                60.. => 200_000 + number,
                _ => number,
            };
            let command = numbered(1001 + index % 50, number);
            told.push((number, leader.flush.to));
            leader.apply(&command);
        }
        leader.commit(store).await;
    }
    told
}

/// Routes of the accounts of [`filled`], which were never opened.
const ROUTES: &str = "INSERT INTO account_route SELECT generate_series(1001, 1050), 2";

/// Asks the planner, with the settings of our own sessions.
async fn plan(session: &Client, sql: &str) -> String {
    let rows = session
        .query(&format!("EXPLAIN {sql}"), &[])
        .await
        .expect(sql);
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn every_outcome_is_found_whatever_its_number() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let told = filled(&store).await;
    let id = |number: u64| CommandId::new(SHARD, Sequence(number));
    let ids: Vec<CommandId> = told.iter().map(|&(number, _)| id(number)).collect();
    let outcomes = store.outcomes(&ids).await.expect("an answer");
    for ((number, position), outcome) in told.iter().zip(&outcomes) {
        let outcome = &outcome.as_ref().expect("it was applied").outcome;
        assert_eq!((outcome.id, outcome.position), (id(*number), *position));
    }
    let missing: Vec<CommandId> = [2_101, 199_999, 299_999, 1_000_000_009].map(id).to_vec();
    let outcomes = store.outcomes(&missing).await.expect("an answer");
    assert_eq!(outcomes, vec![None; missing.len()]);

    let results = store
        .results(SHARD, Position::ZERO, 5_000)
        .await
        .expect("an answer");
    let positions: Vec<Position> = results
        .iter()
        .map(|result| result.outcome.position)
        .collect();
    let expected: Vec<Position> = told.iter().map(|&(_, position)| position).collect();
    assert_eq!(
        positions, expected,
        "in log order, whatever part they are in"
    );
    let previous = std::iter::once(Position::NONE).chain(expected);
    assert!(
        results
            .iter()
            .map(|result| result.previous_position)
            .eq(previous.take(2_100))
    );

    let session = database.session().await;
    let spread = "SELECT max(max_seq - min_seq) < 65536 AND max(cardinality(seq)) <= 256
        AND sum(commands) = 2100 FROM journal";
    assert!(
        session
            .query_one(spread, &[])
            .await
            .expect("an answer")
            .get::<_, bool>(0)
    );
}

#[tokio::test]
async fn outcomes_and_histories_go_by_index() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    filled(&store).await;
    let session = database.session().await;
    session.batch_execute(ROUTES).await.expect("routes");
    session
        .batch_execute("ANALYZE; SET enable_seqscan = off")
        .await
        .expect("statistics");
    let found = plan(
        &session,
        "SELECT * FROM axs_part_of_command(2::smallint, 5)",
    )
    .await;
    assert!(
        found.contains("max_seq >= '5'") && found.contains("min_seq <= '5'"),
        "{found}"
    );
    assert!(
        found.contains("Index Cond") && !found.contains("Seq Scan"),
        "{found}"
    );

    let read = "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot(),
        seq_tup_read FROM pg_stat_user_tables WHERE relname = 'journal_p0'";
    let before: i64 = session
        .query_one(read, &[])
        .await
        .expect("statistics")
        .get(2);
    let walk = "SELECT count(*) FROM axs_entries(1003, 1, 30, 20)";
    let count: i64 = session
        .query_one(walk, &[])
        .await
        .expect("a history")
        .get(0);
    assert_eq!(count, 11);
    session.query_one(read, &[]).await.expect("statistics");
    let after: i64 = session
        .query_one(read, &[])
        .await
        .expect("statistics")
        .get(2);
    assert_eq!(before, after, "the journal was scanned");
}

#[tokio::test]
async fn the_journal_is_plain_sql() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let told = filled(&store).await;
    let session = database.session().await;
    session.batch_execute(ROUTES).await.expect("routes");
    // Fold the journal and compare it with every balance.
    let differ = "SELECT count(*) FROM balance b FULL JOIN (
            SELECT account_id, asset_id, sum(available_delta) AS available,
                sum(frozen_delta) AS frozen, max(version) AS version, max(position) AS position
            FROM entry GROUP BY account_id, asset_id) AS e USING (account_id, asset_id)
        WHERE (b.available, b.frozen, b.version, b.last_position)
            IS DISTINCT FROM (e.available, e.frozen, e.version, e.position)";
    let row = session.query_one(differ, &[]).await.expect("an answer");
    assert_eq!(row.get::<_, i64>(0), 0);

    let (number, position) = told[1_607];
    let outcome = format!(
        "SELECT position, outcome, account_id, encode(content_hash, 'hex')
            FROM axs_outcome(axs_command_id(2::smallint, {number}))"
    );
    let row = session
        .query_one(&outcome, &[])
        .await
        .expect("it was applied");
    let account = 1001 + 207 % 50;
    let hash = numbered(account, number).content_hash.0;
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2), row.get(3)),
        (
            position.0,
            0_i16,
            i64::try_from(account).expect("small"),
            hash
        )
    );

    let query = HistoryQuery {
        account: AccountId(account),
        asset: AssetId(1),
        from_version: None,
        oldest_first: false,
        limit: 1_000,
    };
    let entries = store.entries(&query).await.expect("an answer");
    let versions: Vec<u64> = entries.iter().map(|stored| stored.entry.version).collect();
    assert_eq!(versions, (1..=42).rev().collect::<Vec<u64>>());
    let view = format!(
        "SELECT command_id, position FROM entry WHERE account_id = {account}
            ORDER BY version DESC"
    );
    let rows = session.query(&view, &[]).await.expect("an answer");
    let told: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let walked: Vec<(i64, i64)> = (entries.iter())
        .map(|stored| (stored.id.0.cast_signed(), stored.position.0))
        .collect();
    assert_eq!(walked, told);
}

/// A session tells what it read at the latest when it ends.
async fn balances_read(session: &Client) -> i64 {
    let end =
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 30000)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'axs-shard-%'";
    let ended: i64 = session.query_one(end, &[]).await.expect("an end").get(0);
    assert!(ended > 0, "no leader's session was found");
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
        WHERE relname LIKE 'balance\\_p%'";
    session.query_one(read, &[]).await.expect("counts").get(0)
}

#[tokio::test]
async fn a_flush_looks_balances_up_by_key_in_tables_that_were_never_analyzed() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let mut leader = Leader::acquire(&store, SHARD).await;
    for account in 1..=500 {
        leader.apply(&numbered(1000 + account, account));
    }
    leader.commit(&store).await;
    leader.apply(&numbered(1001, 501));
    leader.commit(&store).await;
    let session = database.session().await;
    let read = balances_read(&session).await;
    assert!(
        (1..50).contains(&read),
        "{read} entries were read for one balance of 500"
    );
}

/// The plan is made once, while there are three balances; then there are hundreds.
#[tokio::test]
async fn a_flush_looks_balances_up_by_key_in_tables_that_were_small_when_analyzed() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let session = database.session().await;
    let mut leader = Leader::acquire(&store, SHARD).await;
    for account in 1..=3 {
        leader.apply(&numbered(1000 + account, account));
    }
    leader.commit(&store).await;
    session
        .batch_execute("ANALYZE balance")
        .await
        .expect("done");
    leader.apply(&numbered(1001, 4));
    leader.commit(&store).await;
    for account in 5..=500 {
        leader.apply(&numbered(1000 + account, account));
    }
    leader.commit(&store).await;
    leader.apply(&numbered(1001, 501));
    leader.commit(&store).await;
    let read = balances_read(&session).await;
    assert!(
        (1..50).contains(&read),
        "{read} entries were read for one balance of 500"
    );
}
