//! What a restart over a data directory brings back before anything is applied again.

#[path = "support/ledger.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod ledger;

use std::{path::Path, time::Duration};

use axs::core::{
    clock::Clock,
    command::{Command, hash, record},
    embedded::{self, Embedded, Error},
    log::NewRecord,
    store::{AcceptAnswer, DeadLetter, DeadLetterReason, Error as StoreError},
    types::{AccountId, Position, Sequence, ShardId, Timestamp},
};
use ledger::{TTL, Writer, change, nonce, open, rehashed};

const SHARD: ShardId = ShardId(1);

fn start(directory: &Path) -> Embedded {
    let assets = [("EUR".to_owned(), 2), ("XBT".to_owned(), 8)];
    let opened = embedded::open(Some(directory), Some(2), &assets, Clock::System);
    opened.expect("the directory can be used")
}

/// As a writer does: nothing is answered before this is.
async fn log(embedded: &Embedded, commands: &[Command]) {
    let record = |command: &Command| {
        let id = command.id.expect("a number");
        NewRecord {
            shard: id.shard(),
            account: Some(command.account),
            value: record::encode_command(command),
            command: Some((id, command.content_hash)),
            source: command.source.to_string(),
            time: command.accepted_at,
        }
    };
    append(embedded, commands.iter().map(record).collect()).await;
}

async fn append(embedded: &Embedded, records: Vec<NewRecord>) {
    let count = records.len();
    assert_eq!(embedded.log.append(records).await, vec![Ok(()); count]);
}

fn control(value: bytes::Bytes) -> NewRecord {
    NewRecord {
        shard: SHARD,
        account: None,
        value,
        command: None,
        source: "axs".into(),
        time: Timestamp(0),
    }
}

#[tokio::test]
async fn accepted_commands_are_known_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let before = start(directory.path());
    assert_eq!(before.report, embedded::Report::default());
    let mut writer = Writer::new(&before.store);
    let commands = vec![open(1001), change(1001, "a", 1, 5, 0)];
    let accepted = writer.accept(SHARD, commands).await;
    log(&before, &accepted).await;
    // The outbox may have produced one of them again.
    log(&before, &accepted[1..]).await;
    let assets = before.store.assets().await.expect("an answer");
    drop(before);

    let after = start(directory.path());
    assert_eq!((after.report.commands, after.report.records), (2, 3));
    assert_eq!(after.report.to_string(), "2 commands in 3 records");
    assert_eq!(after.store.assets().await.expect("an answer"), assets);
    let ids: Vec<_> = accepted.iter().filter_map(|command| command.id).collect();
    let stored = after.store.commands(&ids).await.expect("an answer");
    let stored: Vec<_> = stored
        .into_iter()
        .flatten()
        .map(|stored| stored.command)
        .collect();
    assert_eq!(stored, accepted, "as they were, `accepted_at` too");
    let routes = after.store.routes(&[AccountId(1001)]).await;
    assert_eq!(routes.expect("an answer"), [Some(SHARD)]);

    let mut writer = Writer::new(&after.store);
    let same = writer.number(SHARD, change(1001, "a", 1, 5, 0)).await;
    assert_eq!(
        same.id.map(|id| id.sequence()),
        Some(Sequence(3)),
        "no number is used twice"
    );
    let id = ids[1];
    let answers = writer.send(vec![same]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Duplicate(id)]);
    let other = writer.number(SHARD, change(1001, "a", 1, 6, 0)).await;
    let answers = writer.send(vec![other]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Conflict(id)]);
    let mut again = open(1001);
    again.idempotency_key = "again".into();
    let again = writer.number(ShardId(0), rehashed(again)).await;
    let answers = writer.send(vec![again]).await.expect("a group");
    assert_eq!(answers, [AcceptAnswer::Routed(SHARD)]);
}

#[tokio::test]
async fn numbers_that_were_not_used_can_be_sealed_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let before = start(directory.path());
    let mut writer = Writer::new(&before.store);
    let sent = (0..4)
        .map(|n| change(1001, &format!("c{n}"), 1, 1, 0))
        .collect();
    let accepted = writer.accept(SHARD, sent).await;
    // Numbers 1 and 3 never reached the log, 10 to 20 were sealed.
    log(&before, &[accepted[1].clone(), accepted[3].clone()]).await;
    let seal = record::Seal {
        first: Sequence(10),
        last: Sequence(20),
    };
    append(&before, vec![control(record::encode_seal(&seal))]).await;
    drop(writer);
    drop(before);

    let after = start(directory.path());
    let block = after
        .store
        .lease_block(SHARD, nonce(), 5)
        .await
        .expect("a block");
    assert_eq!(block.first, Sequence(21), "a sealed number is never used");
    let view = after
        .store
        .outbox_view(SHARD, Duration::ZERO, 10)
        .await
        .expect("an answer");
    let sealable: Vec<_> = view.sealable.iter().map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(
        sealable,
        [(1, 1), (3, 3), (5, 20)],
        "the SEAL is applied later"
    );
    assert_eq!(view.pending_count, 2);
    let key = hash::key_hash("orders", "c0");
    let lost = after.store.command_of_key(key).await.expect("an answer");
    assert_eq!(
        lost, None,
        "its answer was never given, and its key is free"
    );
}

#[tokio::test]
async fn a_take_over_hears_what_is_parked() {
    let directory = tempfile::tempdir().expect("a directory");
    let before = start(directory.path());
    let mut writer = Writer::new(&before.store);
    let accepted = writer.accept(SHARD, vec![change(1001, "a", 1, 5, 0)]).await;
    log(&before, &accepted).await;
    let letter = DeadLetter {
        position: Position::ZERO,
        reason: DeadLetterReason::EnginePanic,
        message: "it panicked".into(),
        parks: accepted[0].id,
        log_time: Timestamp(0),
        key: vec![],
        value: vec![],
    };
    let answers = before.log.publish_dead_letters(SHARD, &[letter]).await;
    assert_eq!(answers, [Ok(())]);
    drop(before);

    let after = start(directory.path());
    assert_eq!(after.report.parked, 1);
    let state = after.store.acquire(SHARD, "dev", None, nonce(), TTL).await;
    let state = state.expect("an answer").expect("nobody leads");
    let parked: Vec<_> = state.parked.into_iter().collect();
    assert_eq!(parked, [(Position::ZERO, DeadLetterReason::EnginePanic)]);
    let other = after
        .store
        .acquire(ShardId(0), "dev", None, nonce(), TTL)
        .await;
    let other = other.expect("an answer").expect("nobody leads");
    assert!(other.parked.is_empty());
}

#[tokio::test]
async fn settings_that_do_not_fit_the_directory_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(start(directory.path()));
    let open = |shards, assets: &[(String, u8)]| {
        embedded::open(Some(directory.path()), shards, assets, Clock::System).map(|_| ())
    };
    let refused = open(Some(3), &[]).expect_err("another number of shards");
    assert!(
        matches!(
            refused,
            Error::Shards {
                stored: 2,
                asked: 3
            }
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("start it with 2"), "{refused}");
    let refused = open(None, &[("EUR".into(), 3)]).expect_err("another scale");
    assert!(
        matches!(refused, Error::Assets(StoreError::Mismatch(_))),
        "{refused}"
    );

    // Without a word about them, what stands is taken; a new asset is there after the next start.
    open(None, &[("USD".into(), 2)]).expect("it fits");
    let opened = embedded::open(Some(directory.path()), None, &[], Clock::System);
    let opened = opened.expect("it fits");
    assert_eq!(opened.store.shards().await.expect("an answer"), 2);
    let assets = opened.store.assets().await.expect("an answer");
    let codes: Vec<_> = assets
        .iter()
        .map(|asset| (asset.id.0, asset.code.as_str()))
        .collect();
    assert_eq!(codes, [(1, "EUR"), (2, "XBT"), (3, "USD")]);
}

#[tokio::test]
async fn without_a_directory_all_of_it_is_in_memory() {
    let opened = embedded::open(None, None, &[("EUR".into(), 2)], Clock::System);
    let opened = opened.expect("nothing can be in the way");
    assert_eq!(
        opened.store.shards().await.expect("an answer"),
        embedded::SHARDS_DEFAULT
    );
    assert_eq!(opened.log.ends().await.expect("an answer").len(), 4);
    assert_eq!(opened.report, embedded::Report::default());
}
