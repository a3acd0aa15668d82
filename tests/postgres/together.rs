//! Flushes of several shards of one process: they share a statement, and nothing else.

use std::{sync::Arc, time::Duration};

use axs::core::{
    store::{Error, Flush, Flushed, Store},
    types::{Position, ShardId},
};
use futures::future::join_all;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    PATIENCE, SHARDS, WATCH,
    cuts::{one_more, send_again},
    database::Database,
    ledger::{Leader, START, TTL, Writer, change, nonce, open},
    proxy::{Proxy, Then, Way},
};

/// Holds the row of shard 0, so that a flush of it is under way while others come.
const HOLD: &str = "BEGIN; UPDATE shard_position SET next_position = next_position WHERE shard = 0";

/// A leader of each shard with its next flush: account 1000 + shard is opened and funded, and the
/// change after that is in the flush.
async fn led(store: &Store) -> (Vec<Leader>, Vec<Arc<Flush>>) {
    led_of(store, SHARDS).await
}

async fn led_of(store: &Store, shards: u16) -> (Vec<Leader>, Vec<Arc<Flush>>) {
    let mut writer = Writer::new(store);
    let (mut leaders, mut flushes) = (Vec::new(), Vec::new());
    for shard in (0..shards).map(ShardId) {
        let id = 1000 + u64::from(shard.0);
        let key = |what: &str| format!("{what}-{shard}");
        let commands = vec![
            open(id),
            change(id, &key("fund"), 1, 100, 0),
            change(id, &key("take"), 1, -7, 0),
        ];
        let accepted = writer.accept(shard, commands).await;
        let mut leader = Leader::acquire(store, shard).await;
        leader.open(&accepted[0]);
        leader.apply(&accepted[1]);
        leader.commit(store).await;
        leader.apply(&accepted[2]);
        flushes.push(leader.take());
        leaders.push(leader);
    }
    (leaders, flushes)
}

type Flushing = JoinHandle<Result<Flushed, Error>>;

/// Waits until so many sessions of the database wait for a lock.
async fn until_waiting(session: &tokio_postgres::Client, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(session, waiting, sessions).await;
}

async fn until(session: &tokio_postgres::Client, count: &str, wanted: i64) {
    let reached = async {
        loop {
            let row = session.query_one(count, &[]).await.expect("a count");
            if row.get::<_, i64>(0) == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.expect("in time");
}

fn send(store: &Store, flush: &Arc<Flush>) -> Flushing {
    let (store, flush) = (store.clone(), flush.clone());
    tokio::spawn(async move { store.flush(&flush, TTL).await })
}

async fn answer(flushing: Flushing) -> Result<Flushed, Error> {
    let answered = timeout(PATIENCE, flushing).await.expect("in time");
    answered.expect("it does not panic")
}

/// The transaction that wrote each shard's row last.
async fn transactions(session: &tokio_postgres::Client) -> Vec<String> {
    let rows = "SELECT xmin::text FROM shard_position ORDER BY shard";
    let rows = session.query(rows, &[]).await.expect("an answer");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn positions(store: &Store) -> Vec<Position> {
    let rows = store.shard_rows().await.expect("an answer");
    rows.iter().map(|row| row.next_position).collect()
}

/// On one thread, so that what is asked for in one breath is there before any timer.
#[tokio::test]
async fn flushes_that_wait_for_one_share_a_statement() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let (_, flushes) = led(&store).await;
    session.batch_execute(HOLD).await.expect("held");
    let first = send(&store, &flushes[0]);
    until_waiting(&session, 1).await;
    // They wait for the one under way, but not for its lock.
    let others = join_all(flushes[1..].iter().map(|flush| store.flush(flush, TTL)));
    for other in timeout(PATIENCE, others).await.expect("in time") {
        assert_eq!(other.expect("ours"), Flushed::Done);
    }
    assert!(!first.is_finished(), "the first one waits for the row");
    let by = transactions(&session).await;
    assert_eq!(by[1], by[2], "{by:?}");
    assert_eq!(by[2], by[3], "{by:?}");
    session.batch_execute("COMMIT").await.expect("let go");
    assert_eq!(answer(first).await.expect("ours"), Flushed::Done);

    let to: Vec<_> = flushes.iter().map(|flush| flush.to).collect();
    assert_eq!(positions(&store).await, to);
    for (shard, flush) in (0..SHARDS).map(ShardId).zip(&flushes) {
        let results = store.results(shard, flush.from, 10).await;
        let results = results.expect("an answer");
        assert_eq!(results.len(), 1, "shard {shard}");
        assert_eq!(results[0].outcome, flush.outcomes[0]);
        assert_eq!(results[0].entries, flush.entries);
        let account = flush.balances[0].balance.account;
        let stored = store.balances(&[account]).await.expect("an answer");
        let stored = stored[0].clone().expect("it was opened").balances;
        assert_eq!(stored, [flush.balances[0].balance]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_is_told_to_that_one_only() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let (_, flushes) = led(&store).await;
    // 1 is done already, 2 comes from a leader of before, 3 is as it should be.
    assert_eq!(
        answer(send(&store, &flushes[1])).await.expect("ours"),
        Flushed::Done
    );
    let mut stale = Flush::clone(&flushes[2]);
    stale.nonce = nonce();
    session.batch_execute(HOLD).await.expect("held");
    let first = send(&store, &flushes[0]);
    until_waiting(&session, 1).await;
    let others = [&flushes[1], &Arc::new(stale), &flushes[3]];
    let others = join_all(others.map(|flush| store.flush(flush, TTL)));
    let answers = timeout(PATIENCE, others).await.expect("in time");
    assert!(
        matches!(
            answers[..],
            [
                Ok(Flushed::Already),
                Err(Error::Fenced(_)),
                Ok(Flushed::Done)
            ]
        ),
        "{answers:?}"
    );
    session.batch_execute("COMMIT").await.expect("let go");
    assert_eq!(answer(first).await.expect("ours"), Flushed::Done);
    let to = [0, 1, 2, 3].map(|shard: usize| match shard {
        2 => flushes[2].from,
        shard => flushes[shard].to,
    });
    assert_eq!(positions(&store).await, to);
    // Its own leader goes on.
    assert_eq!(
        answer(send(&store, &flushes[2])).await.expect("ours"),
        Flushed::Done
    );
}

/// Somebody holds a balance of one shard: the others are not held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_held_holds_up_its_own_shard_only() {
    let database = Database::migrated(SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let (_, flushes) = led(&store).await;
    let hold = format!("{HOLD}; SELECT FROM balance WHERE account_id = 1002 FOR UPDATE");
    session.batch_execute(&hold).await.expect("held");
    let first = send(&store, &flushes[0]);
    until_waiting(&session, 1).await;
    let [one, mut held, three] = [1, 2, 3].map(|shard: usize| send(&store, &flushes[shard]));
    for free in [one, three] {
        assert_eq!(answer(free).await.expect("ours"), Flushed::Done);
    }
    until_waiting(&session, 2).await;
    let early = timeout(WATCH, &mut held).await;
    assert!(early.is_err() && !first.is_finished(), "they wait");
    session.batch_execute("COMMIT").await.expect("let go");
    for waited in [first, held] {
        assert_eq!(answer(waited).await.expect("ours"), Flushed::Done);
    }
}

/// A statement of several hangs, for whatever reason: flushes of other shards do not wait for it, one or
/// several at once.
#[tokio::test]
async fn shards_do_not_wait_for_a_statement_of_others_that_hangs() {
    let database = Database::migrated(6).await;
    let (store, session) = (database.store().await, database.session().await);
    // Within a transaction nobody sees who came later.
    let watch = database.session().await;
    let (_, flushes) = led_of(&store, 6).await;
    // The first one is under way until it is told, and so is the one of 1 and 2: no lock of a row, so
    // that no time-out for locks ends them.
    let hang = "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            WHILE NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.01); END LOOP;
            RETURN NULL;
        END $$;
        CREATE TRIGGER hang AFTER INSERT ON journal_p0 FOR EACH ROW
            WHEN (NEW.shard < 2) EXECUTE FUNCTION hang()";
    session.batch_execute(hang).await.expect("made");
    let hold = "BEGIN; SELECT pg_advisory_xact_lock(7)";
    session.batch_execute(hold).await.expect("held");
    let sleeping = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let first = send(&store, &flushes[0]);
    until(&watch, sleeping, 1).await;
    let shared = {
        let (store, flushes) = (store.clone(), flushes.clone());
        tokio::spawn(async move {
            join_all(flushes[1..3].iter().map(|flush| store.flush(flush, TTL))).await
        })
    };
    until(&watch, sleeping, 2).await;
    let one = answer(send(&store, &flushes[3])).await;
    assert_eq!(one.expect("ours"), Flushed::Done);
    let several = join_all(flushes[4..].iter().map(|flush| store.flush(flush, TTL)));
    for other in timeout(PATIENCE, several).await.expect("in time") {
        assert_eq!(other.expect("ours"), Flushed::Done);
    }
    assert!(!first.is_finished() && !shared.is_finished(), "they hang");
    session.batch_execute("COMMIT").await.expect("let go");
    assert_eq!(answer(first).await.expect("ours"), Flushed::Done);
    for answer in timeout(PATIENCE, shared)
        .await
        .expect("in time")
        .expect("no panic")
    {
        assert_eq!(answer.expect("ours"), Flushed::Done);
    }
    let to: Vec<_> = flushes.iter().map(|flush| flush.to).collect();
    assert_eq!(positions(&store).await, to);
}

/// A session that flushes several shards and hangs, and one of the same name that holds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_several_shards_that_hangs_on_a_row_is_ended() {
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let (hanging, idle) = (database.session().await, database.session().await);
    let (mut leaders, flushes) = led(&store).await;
    let name = "SET application_name = 'axs-flushes'";
    for session in [&hanging, &idle] {
        session.batch_execute(name).await.expect("named");
    }
    let over = "UPDATE shard_position SET lease_until = clock_timestamp() WHERE shard = 2";
    idle.batch_execute(over).await.expect("the leader hangs");
    // As axs_flush, which is done when its message Execute came, and not committed.
    let hold = "BEGIN; SAVEPOINT s;
        UPDATE shard_position SET next_position = next_position WHERE shard > 0; RELEASE s";
    hanging.batch_execute(hold).await.expect("held");
    let next = database.store().await;
    let taken = next.acquire(ShardId(2), "next", None, nonce(), TTL);
    let state = timeout(PATIENCE, taken).await.expect("in time");
    let state = state.expect("an answer").expect("the lease was over");
    assert_eq!(state.next_position, flushes[2].from);
    assert!(hanging.batch_execute("COMMIT").await.is_err(), "ended");
    idle.batch_execute("SELECT 1").await.expect("left alone");
    let mut leader = Leader::of(&state);
    leader.tick(START);
    leader.commit(&next).await;
    leaders[3].tick(START);
    let flushed = answer(send(&store, &flushes[3])).await;
    assert_eq!(flushed.expect("ours"), Flushed::Done);
}

/// Wherever the connection is cut under a statement of several: each of them, sent again, is done
/// once and whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_several_cut_anywhere_does_each_once() {
    const CUTS: u64 = 40;
    let database = Database::migrated(SHARDS).await;
    let proxy = Proxy::start(&database.settings).await;
    let (store, witness) = (proxy.store().await, database.store().await);
    let session = database.session().await;
    let mut leaders = Vec::new();
    for shard in (0..SHARDS).map(ShardId) {
        leaders.push(Leader::acquire(&store, shard).await);
    }
    let (mut bytes, mut lost) = ((0, 0), 0);
    for number in 1..=2 + CUTS {
        let flushes = leaders.iter_mut().map(|leader| one_more(leader, number));
        let flushes: Vec<_> = flushes.collect();
        session.batch_execute(HOLD).await.expect("held");
        let first = send(&store, &flushes[0]);
        until_waiting(&session, 1).await;
        proxy.counted();
        // The first two make the connection and show how long the messages are.
        let place = |bytes: usize| (number as usize * 7_919) % (bytes + 1);
        match number {
            0..=2 => {}
            _ if number % 2 == 0 => proxy.limit(Way::ToServer, place(bytes.0), Then::Cut),
            _ => proxy.limit(Way::ToClient, place(bytes.1), Then::Cut),
        }
        let others = join_all(flushes[1..].iter().map(|flush| store.flush(flush, TTL)));
        let mut answers = timeout(PATIENCE, others).await.expect("in time");
        if number <= 2 {
            bytes = proxy.counted();
        }
        proxy.free();
        session.batch_execute("COMMIT").await.expect("let go");
        answers.insert(0, answer(first).await);
        for (flush, answer) in flushes.iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(Error::AnswerLost(_) | Error::Unavailable(_)) => {
                    lost += 1;
                    send_again(&store, flush).await;
                }
                Err(error) => panic!("a cut is an answer that is lost, not: {error:?}"),
            }
        }
        let to: Vec<_> = flushes.iter().map(|flush| flush.to).collect();
        assert_eq!(positions(&witness).await, to);
        let versions = "SELECT version FROM balance";
        let versions = session.query(versions, &[]).await.expect("an answer");
        let versions: Vec<i64> = versions.iter().map(|row| row.get(0)).collect();
        assert_eq!(versions, [number as i64; SHARDS as usize]);
    }
    println!("{lost} answers lost, messages of {bytes:?} bytes");
    assert!(lost > 0, "nothing was cut");
}

/// Many flushes at once, again and again: each is done once, and those of a shard in their order.
#[tokio::test(flavor = "multi_thread")]
async fn shards_that_flush_all_the_time_do_not_mix() {
    const ROUNDS: u64 = 50;
    let database = Database::migrated(SHARDS).await;
    let store = database.store().await;
    let (leaders, flushes) = led(&store).await;
    let shards = leaders.into_iter().zip(flushes).map(|(mut leader, first)| {
        let store = store.clone();
        tokio::spawn(async move {
            let shard = leader.flush.shard;
            let mut writer = Writer::new(&store);
            let commands = (0..ROUNDS).map(|round| {
                let key = format!("{shard}-{round}");
                change(1000 + u64::from(shard.0), &key, 1, 1, 0)
            });
            let accepted = writer.accept(shard, commands.collect()).await;
            let flushed = store.flush(&first, TTL).await;
            assert_eq!(flushed.expect("ours"), Flushed::Done);
            for command in &accepted {
                leader.apply(command);
                leader.commit(&store).await;
            }
        })
    });
    for shard in shards.collect::<Vec<_>>() {
        let done = timeout(Duration::from_secs(120), shard).await;
        done.expect("in time").expect("each is done");
    }
    for shard in (0..SHARDS).map(ShardId) {
        let results = store.results(shard, Position::ZERO, 1_000).await;
        let results = results.expect("an answer");
        assert_eq!(results.len() as u64, 3 + ROUNDS, "shard {shard}");
        let last = results.last().and_then(|result| result.entries.last());
        let last = last.expect("it has entries");
        assert_eq!(last.available_after, axs::core::types::Money::from(93 + 50));
    }
}
