//! The writer itself, over the embedded store: what its pure plan cannot show.

use std::time::Duration;

use axs::core::{
    command::{Command, parse},
    proto,
    types::CommandId,
    writer::{Answer, BATCH_COUNT_MAX, NotTaken},
};

use crate::api::{Api, SHARDS, credit, open};

fn parsed(api: &Api, message: &proto::Command) -> Command {
    parse::parse(message, &api.registry.assets(), SHARDS).expect("it is valid")
}

async fn answers(api: &Api, commands: Vec<Command>) -> Vec<Answer> {
    let receivers = api.writer.submit(commands).expect("it has room");
    let mut answers = Vec::new();
    for receiver in receivers {
        answers.push(receiver.await.expect("every command is answered"));
    }
    answers
}

fn accepted(answer: &Answer) -> CommandId {
    match answer {
        Answer::Accepted(id) => *id,
        other => panic!("not accepted: {other:?}"),
    }
}

/// On one thread the writer's task runs only when this test waits: the inbox fills for sure.
#[tokio::test]
async fn a_full_inbox_refuses_at_once_and_empties_again() {
    let api = Api::without_leaders(Default::default()).await;
    let full = axs::core::config::Writer::default().inbox_count_max;
    let batch = |name: &str, count: usize| -> Vec<Command> {
        (0..count)
            .map(|n| parsed(&api, &credit(&format!("{name}{n}"), 1, "EUR", "1")))
            .collect()
    };
    answers(&api, vec![parsed(&api, &open(1))]).await;
    let mut receivers = Vec::new();
    for n in 0..full / BATCH_COUNT_MAX {
        let batch = batch(&format!("a{n}-"), BATCH_COUNT_MAX);
        receivers.extend(api.writer.submit(batch).expect("it has room"));
    }
    let refused = api.writer.submit(batch("b", 1));
    assert_eq!(refused.map(|_| ()), Err(NotTaken::Overloaded));
    for receiver in receivers {
        accepted(&receiver.await.expect("every command is answered"));
    }
    for answer in answers(&api, batch("b", 1)).await {
        accepted(&answer);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_store_refuses_stands_alone() {
    let api = Api::start().await;
    answers(&api, vec![parsed(&api, &open(1))]).await;
    let mut commands: Vec<_> = (0..100)
        .map(|n| parsed(&api, &credit(&format!("k{n}"), 1, "EUR", "1")))
        .collect();
    // No text like this passes the API: PostgreSQL cannot store it.
    commands[37].reference = "\0".into();
    for (n, answer) in answers(&api, commands).await.iter().enumerate() {
        match (n, answer) {
            (37, Answer::Internal(why)) => assert!(why.contains("U+0000"), "{why}"),
            (37, other) => panic!("{other:?}"),
            (_, answer) => {
                accepted(answer);
            }
        }
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_closed_is_replaced() {
    let api = Api::start().await;
    let first = answers(&api, vec![parsed(&api, &open(1))]).await;
    let closed = api
        .store
        .close_old_blocks(Duration::ZERO)
        .await
        .expect("memory answers");
    assert!(closed > 0, "the writer holds a block");
    let second = answers(&api, vec![parsed(&api, &credit("k", 1, "EUR", "1"))]).await;
    let (first, second) = (accepted(&first[0]), accepted(&second[0]));
    assert_eq!(first.shard(), second.shard());
    assert!(
        second.sequence().0 > first.sequence().0 + 1,
        "of another block"
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_writer_answers_what_it_took_and_leaves_no_open_block() {
    let api = Api::without_leaders(Default::default()).await;
    let commands: Vec<_> = (1..=500)
        .map(|account| parsed(&api, &open(account)))
        .collect();
    let receivers = api.writer.submit(commands).expect("it has room");
    api.writer.stop().await;
    for receiver in receivers {
        accepted(&receiver.await.expect("every command is answered"));
    }
    let refused = api.writer.submit(vec![parsed(&api, &open(900))]);
    assert_eq!(refused.map(|_| ()), Err(NotTaken::Stopping));
    let open_blocks = api
        .store
        .close_old_blocks(Duration::ZERO)
        .await
        .expect("memory answers");
    assert_eq!(open_blocks, 0);
    api.stop().await;
}
