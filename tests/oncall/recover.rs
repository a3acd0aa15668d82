//! PostgreSQL is restored to an earlier copy under load: every process refuses it, and the command
//! that their message names goes on from the log.

use std::collections::BTreeMap;

use axs::core::{
    chaos::laws,
    command::record,
    log::{NewRecord, Record},
    shards::recover,
    types::{Position, ShardId, Timestamp},
};

use crate::{
    audit::redis_agrees,
    cluster::{Cluster, Options},
    database::Database,
    fixture::Topics,
    ledger::{Leader, Writer, change},
    member::{PATIENCE, eventually},
    stack::Stack,
    stream::{Outcome, Stream},
};

const SHARDS: u16 = 4;
const RECOVER: [&str; 5] = ["shards", "recover", "--all", "--reason", "a rehearsal"];
const YES: [&str; 2] = ["--execute", "--yes"];

/// Status and code, whatever was a duplicate.
fn outcome(outcome: &Outcome) -> (String, String, String) {
    let Outcome {
        status,
        reject_code,
        error,
        ..
    } = outcome.clone();
    (status, reject_code, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_to_an_earlier_copy_loses_nothing_that_the_log_has() {
    let stream = Stream::load();
    let stack = Stack::start(&["postgres"]);
    let mut cluster = Cluster::start(Options {
        stack: Some(&stack),
        ..Options::of(&stream, SHARDS)
    })
    .await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    submit.answered(stream.lines() * 3 / 10);
    let url = cluster.database.settings.url.clone().expect("it has one");
    stack.back_up_postgres(&url);
    submit.answered(stream.lines() * 7 / 10);
    let commands = "SELECT count(*) FROM command";
    stack.kill9("postgres");
    let told = std::mem::take(&mut submit.reports);
    drop(submit);
    stack.bring_copy_back("postgres");
    stack.up("postgres");

    for process in cluster
        .consumers
        .iter()
        .chain(&cluster.servers)
        .chain(&cluster.outboxes)
    {
        eventually(PATIENCE, async || match process.ready_page().await {
            (503, page) if page.contains("axs shards recover") => Ok(()),
            other => Err(format!("`{}`: {other:?}", process.name)),
        })
        .await;
    }
    let restored = cluster.count(commands).await;
    let (code, _, error) = cluster
        .run_to_end(&[&RECOVER[..], &["--execute"]].concat())
        .await;
    assert_eq!(code, 7, "{error}");
    for process in (cluster.consumers.iter_mut())
        .chain(&mut cluster.servers)
        .chain(&mut cluster.outboxes)
    {
        process.sigterm().await;
    }
    // A copy is on another server most often.
    let sql = cluster.database.session().await;
    let elsewhere = "UPDATE cluster SET system_identifier = system_identifier + 1";
    sql.batch_execute(elsewhere).await.expect("a row");
    let plan = cluster.run(&RECOVER).await;
    let unknown: u64 = plan["shards"]
        .as_array()
        .expect("shards")
        .iter()
        .filter_map(|shard| shard["unknown"].as_u64())
        .sum();
    assert!(unknown > 0, "commands were lost: {plan}");
    assert_eq!(
        cluster.count(commands).await,
        restored,
        "a plan changes nothing"
    );
    let (status, log) = cluster.consumers[0].refuses().await;
    assert_eq!(status.code(), Some(6), "{log}");
    for _ in 0..2 {
        cluster.run(&[&RECOVER[..], &YES].concat()).await;
    }
    assert_eq!(
        cluster.count(commands).await,
        restored + i64::try_from(unknown).expect("small"),
        "each is adopted once"
    );

    for process in (cluster.consumers.iter_mut())
        .chain(&mut cluster.servers)
        .chain(&mut cluster.outboxes)
    {
        process.restart().await;
    }
    // Everything once more: what was answered before has its answer still.
    let (code, _, error) = cluster.run_to_end(&[&RECOVER[..], &YES].concat()).await;
    assert_eq!(code, 1, "the shards are led: {error}");
    let reports = cluster.send(&stream.commands, "applied");
    let now: BTreeMap<_, _> = reports
        .iter()
        .map(|it| (it.line, outcome(&it.outcome)))
        .collect();
    for before in &told {
        assert_eq!(
            now.get(&before.line),
            Some(&outcome(&before.outcome)),
            "{before:?}"
        );
    }
    let expected: Vec<_> = stream.expected.outcomes.iter().map(outcome).collect();
    assert_eq!(now.into_values().collect::<Vec<_>>(), expected);
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    let broken = laws::broken(&cluster.database.session().await).await;
    assert_eq!(broken.expect("the laws can be asked"), []);
    redis_agrees(&cluster, true).await;
    // As an operator would look.
    let against = ["reconcile", "--all", "--against", "balance,redis,log"];
    cluster.run(&against).await;
    for shard in 0..SHARDS {
        let shard = shard.to_string();
        let replay = ["replay", "--shard", &shard, "--diff", "postgres,redis"];
        cluster.run(&replay).await;
    }
}

/// A copy from before a rebase: the log is another one than the copy has applied, and all of it
/// may be unknown. One of the same log: what is behind the copy's position.
#[tokio::test]
async fn a_log_that_the_copy_has_not_applied_is_read_from_its_beginning() {
    const SHARD: ShardId = ShardId(1);
    let database = Database::migrated(SHARDS).await;
    let topics = Topics::create(SHARDS).await;
    let (store, log) = (database.store().await, topics.log().await);
    let mut writer = Writer::new(&store);
    let mut records = Vec::new();
    for number in 0..5 {
        let command = change(7, &format!("lost-{number}"), 1, 1, 0);
        let command = writer.number(SHARD, command).await;
        records.push(NewRecord {
            shard: SHARD,
            account: Some(command.account),
            value: record::encode_command(&command),
            command: command.id.map(|id| (id, command.content_hash)),
            source: command.source.to_string(),
            time: Timestamp(0),
        });
    }
    assert_eq!(log.append(records).await, vec![Ok(()); 5]);
    let mut reader = log
        .open(SHARD, Position::ZERO, None)
        .await
        .expect("a reader");
    let mut anchors = Vec::new();
    while anchors.len() < 5 {
        let some = reader.fetch(10, usize::MAX, PATIENCE).await;
        anchors.extend(some.expect("records").iter().map(Record::anchor));
    }
    let mut leader = Leader::acquire(&store, SHARD).await;
    for (anchor, from, unknown) in [(anchors[0], 0, 5), (anchors[3], 4, 1)] {
        for at in 0..2 {
            leader.tick(Timestamp(at));
        }
        leader.flush.anchor = anchor;
        leader.commit(&store).await;
        let mut rows = store.shard_rows().await.expect("rows");
        let row = rows.swap_remove(usize::from(SHARD.0));
        let sources = recover::Sources {
            store: &store,
            log: &log,
            cache: None,
            results: &[],
        };
        let finding = recover::find(&sources, row, |_| {})
            .await
            .expect("a finding");
        assert_eq!((finding.from, finding.range), (from, (0, 5)));
        assert_eq!(finding.diverges(), from == 0);
        assert_eq!(finding.unknown.count(), unknown);
    }
}

/// Redis loses everything under load.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_is_filled_again() {
    let stream = Stream::load();
    let cluster = Cluster::start(Options::of(&stream, SHARDS)).await;
    let mut submit = cluster.submit(&stream.commands, "applied");
    for tenths in [3, 6] {
        submit.answered(stream.lines() * tenths / 10);
        for shard in 0..SHARDS {
            cluster.redis.delete_all(shard.cast_signed());
        }
    }
    let reports = submit.finish();
    stream.assert_balances(&stream.balances_after(&cluster.server(), &reports).await);
    redis_agrees(&cluster, true).await;
}
