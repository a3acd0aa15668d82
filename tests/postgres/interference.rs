//! What other hands do to the tables while a store works on them: rows that vanish under a flush,
//! columns that are added, keys of another month.

use axs::core::{
    engine::{Account, AccountStatus},
    store::{AcceptAnswer, AccountWrite, Error, Flushed, HistoryQuery, LoadRequest, Store},
    types::{AccountId, AssetId, Position, ShardId},
};
use tokio::time::timeout;

use crate::{
    PATIENCE, SHARD, SHARDS, WATCH,
    database::Database,
    ledger::{Leader, START, TTL, Writer, change, item, nonce, open, rehashed},
};

/// A statement may meet the old plans of its connection so often.
const TRIES_MAX: usize = 3;

/// A row that the leader computed on is gone when its flush comes: none of it is written, the good
/// rows neither.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_under_a_flush_aborts_all_of_it() {
    for table in ["balance", "account"] {
        let database = Database::migrated(SHARDS).await;
        let (store, session) = (database.store().await, database.session().await);
        let mut writer = Writer::new(&store);
        let commands =
            [1001, 1002].map(|id| [open(id), change(id, &format!("fund-{id}"), 1, 9, 0)]);
        let accepted = writer.accept(SHARD, commands.concat()).await;
        let again = [1001, 1002].map(|id| change(id, &format!("more-{id}"), 1, 1, 0));
        let more = writer.accept(SHARD, again.to_vec()).await;
        let mut leader = Leader::acquire(&store, SHARD).await;
        for pair in accepted.chunks(2) {
            leader.open(&pair[0]);
            leader.apply(&pair[1]);
        }
        leader.commit(&store).await;
        leader.apply(&more[0]);
        leader.apply(&more[1]);
        leader.flush.accounts.push(AccountWrite {
            account: Account {
                id: AccountId(1001),
                user: 7,
                status: AccountStatus::Blocked,
                opened_at: START,
            },
            opens: false,
        });
        let flush = leader.take();

        // Under way when the flush comes, committed while it waits.
        let delete = format!(
            "BEGIN; SET LOCAL \"axs.flushing\" = 'on'; DELETE FROM {table} WHERE account_id = 1001"
        );
        session.batch_execute(&delete).await.expect("by hand");
        let flushing = store.flush(&flush, TTL);
        tokio::pin!(flushing);
        let early = timeout(WATCH, &mut flushing).await;
        assert!(early.is_err(), "{table}: it waits for the row");
        session.batch_execute("COMMIT").await.expect("it is gone");
        let refused = timeout(PATIENCE, flushing).await.expect("in time");
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");

        let other = store.balances(&[AccountId(1002)]).await.expect("an answer");
        let other = other[0].clone().expect("it was opened").balances;
        assert_eq!(other[0].version, 1, "{table}: nothing of it is written");
        let row = store.shard_rows().await.expect("an answer").remove(2);
        assert_eq!(row.next_position, flush.from, "{table}");
        let results = store.results(SHARD, Position::ZERO, 100).await;
        assert_eq!(results.expect("an answer").len(), 4, "{table}");
    }
}

/// What a program does, all of it, on accounts of the round.
async fn everything(store: &Store, round: u64) -> Result<(), Error> {
    let id = 1001 + round;
    let mut writer = Writer::new(store);
    let mut numbered = Vec::new();
    for command in [open(id), change(id, &format!("fund-{id}"), 1, 9, 0)] {
        numbered.push(writer.number(SHARD, command).await);
    }
    let answers = writer.send(numbered.clone()).await?;
    assert_eq!(answers, [AcceptAnswer::Accepted; 2]);
    let state = store.acquire(SHARD, "leader", None, nonce(), TTL).await?;
    let mut leader = Leader::of(&state.expect("nobody leads the shard"));
    let request = LoadRequest {
        accounts: vec![AccountId(id)],
        ..LoadRequest::default()
    };
    store.load(SHARD, &request).await?;
    leader.open(&numbered[0]);
    leader.apply(&numbered[1]);
    let flush = leader.take();
    assert_eq!(store.flush(&flush, TTL).await?, Flushed::Done);
    store.release(SHARD, flush.epoch, flush.nonce).await?;
    let query = HistoryQuery {
        account: AccountId(id),
        asset: AssetId(1),
        from_version: None,
        oldest_first: true,
        limit: 10,
    };
    assert_eq!(store.entries(&query).await?.len(), 1);
    let ids = [numbered[0].id.expect("numbered")];
    assert!(store.commands(&ids).await?[0].is_some());
    assert!(store.outcomes(&ids).await?[0].is_some());
    assert!(store.balances(&[AccountId(id)]).await?[0].is_some());
    store.outbox_view(SHARD, WATCH, 10).await?;
    store.assets().await?;
    Ok(())
}

/// A later program's migration adds columns while this one runs: what its connections had prepared
/// is prepared again, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_under_a_store_is_met_again() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    everything(&store, 0).await.expect("as it was made");
    for table in [
        "shard_position",
        "balance",
        "account",
        "journal",
        "command",
        "asset",
        "sequence_block",
    ] {
        let expand = format!("ALTER TABLE {table} ADD COLUMN of_a_later_program integer");
        session.batch_execute(&expand).await.expect("a column");
    }
    let mut errors = Vec::new();
    for round in 1..=TRIES_MAX as u64 {
        // A round that failed half way may have left its lease.
        let over = "UPDATE shard_position SET lease_until = clock_timestamp()";
        session.batch_execute(over).await.expect("by hand");
        match everything(&store, round).await {
            Ok(()) => return println!("after {errors:?}"),
            Err(error) => errors.push(error),
        }
    }
    panic!("it does not go on: {errors:?}");
}

/// Keys are unique for ever and everywhere, whenever and in whichever shard their command stands.
#[tokio::test]
async fn a_key_is_known_in_every_month_and_shard() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let mut writer = Writer::new(&store);
    let accepted = writer.accept(SHARD, vec![change(1001, "k", 1, 1, 0)]).await;
    let id = accepted[0].id.expect("numbered");
    // Only a superuser without triggers can say that it was accepted long ago.
    session
        .batch_execute(
            "SET session_replication_role = replica;
            UPDATE command SET accepted_at = accepted_at - interval '400 days',
                created_at = created_at - interval '400 days'",
        )
        .await
        .expect("by hand");
    for shard in [SHARD, ShardId(0)] {
        let mut again = change(1001, "k", 1, 1, 0);
        again.created_at = Some(START.plus_micros(40 * 86_400_000_000));
        let again = writer.number(shard, rehashed(again)).await;
        let answers = writer.send(vec![again.clone()]).await.expect("an answer");
        assert_eq!(answers, [AcceptAnswer::Duplicate(id)], "{:?}", item(again));
    }
    let by = "SELECT pg_get_partkeydef('idempotency'::regclass)";
    let by: String = session.query_one(by, &[]).await.expect("an answer").get(0);
    assert_eq!(by, "HASH (key_hash)", "no time decides where a key stands");
}
