//! The batch call: answers by item, duplicates, order, waits.

use axs::core::proto::{
    Change, CommandKind, CommandStatus, RejectCode, WaitFor, submit_error::Code,
};
use tonic::{Code as Status, Request};

use crate::api::{Api, code, command, credit, credit_at_version, open, request, seconds};

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_never_fails_the_rest() {
    let api = Api::start().await;
    api.open(&[1, 2]).await;
    let mut unknown_other = credit("a", 1, "EUR", "1");
    unknown_other.changes.push(Change {
        account_id: 77,
        ..unknown_other.changes[0].clone()
    });
    let mut pinned = open(1);
    pinned.idempotency_key = "pinned".into();
    pinned.shard_id = Some(3); // account 1 is in shard 2 of 4
    let mut elsewhere = credit("e", 1, "EUR", "1");
    elsewhere.changes.push(Change {
        account_id: 9, // in shard 3 of 4
        ..elsewhere.changes[0].clone()
    });
    let mut transfer = elsewhere.clone();
    transfer.idempotency_key = "t".into();
    transfer.kind = CommandKind::Transfer.into();
    transfer.changes[0].available_delta = "-1".into();
    let mut ack = credit("ack", 1, "EUR", "1");
    ack.ack = Some(axs::core::proto::AckPolicy {
        deadline_seconds: 5,
        callback: "shop".into(),
        on_timeout: 1,
    });
    api.open(&[9]).await;
    let batch = vec![
        credit("x", 1, "EUR", "0.001"),
        credit("y", 1, "NOPE", "1"),
        credit("z", 66, "EUR", "1"),
        unknown_other,
        pinned,
        elsewhere,
        transfer,
        ack,
        credit("good", 1, "EUR", "1.50"),
        command("", 1, CommandKind::BlockAccount),
    ];
    let outcomes = api.submit(batch, WaitFor::Applied).await;
    let errors: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.error.as_ref().map(|e| (e.code(), e.field.as_str())))
        .collect();
    let expected = [
        Some((Code::Invalid, "changes[0].available_delta")),
        Some((Code::Invalid, "changes[0].asset")),
        Some((Code::AccountNotFound, "account_id")),
        Some((Code::AccountNotFound, "changes[1].account_id")),
        Some((Code::AccountInOtherShard, "shard_id")),
        Some((Code::AccountInOtherShard, "changes[1].account_id")),
        Some((Code::Unsupported, "changes")),
        Some((Code::Unsupported, "ack")),
        None,
        Some((Code::Invalid, "idempotency_key")),
    ];
    assert_eq!(errors, expected);
    for outcome in outcomes.iter().filter(|outcome| outcome.error.is_some()) {
        let error = outcome.error.as_ref().expect("it is an error");
        assert!(error.message.starts_with(&error.field), "{error:?}");
        assert!(!error.retryable, "{error:?}");
        assert_eq!(outcome.command_id, 0, "nothing was stored: {error:?}");
    }
    let good = &outcomes[8];
    assert_eq!(good.status(), CommandStatus::Applied);
    let result = good.result.as_ref().expect("it was waited for");
    assert_eq!(result.entries[0].available_after, "1.5");
    assert_eq!(result.command_id, good.command_id);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_answer_for_ever() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let first = api
        .submit(vec![credit("k", 1, "EUR", "1.0")], WaitFor::Applied)
        .await;
    let rejected = api
        .submit(vec![credit("r", 1, "EUR", "-5")], WaitFor::Applied)
        .await;
    assert_eq!(rejected[0].status(), CommandStatus::Rejected);
    let code_of = |outcome: &axs::core::proto::SubmitOutcome| {
        outcome.result.as_ref().map(|result| result.reject_code())
    };
    assert_eq!(
        code_of(&rejected[0]),
        Some(RejectCode::InsufficientAvailable)
    );
    for wait_for in [WaitFor::Applied, WaitFor::Accepted] {
        let again = vec![
            credit("k", 1, "EUR", "1"),
            credit("k", 1, "EUR", "2"),
            credit("r", 1, "EUR", "-5"),
        ];
        let again = api.submit(again, wait_for).await;
        assert!(again[0].duplicate, "1.0 and 1 are one body");
        assert_eq!(again[0].command_id, first[0].command_id);
        assert_eq!(
            again[0].result, first[0].result,
            "recent, so its outcome comes along"
        );
        assert_eq!(code(&again[1]), Some(Code::IdempotencyConflict));
        assert_eq!(
            again[1].error.as_ref().expect("an error").field,
            "idempotency_key"
        );
        assert!(again[2].duplicate);
        assert_eq!(again[2].result, rejected[0].result);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_stays_free() {
    let api = Api::start().await;
    let early = api
        .submit(vec![credit("k", 1, "EUR", "1")], WaitFor::Applied)
        .await;
    assert_eq!(code(&early[0]), Some(Code::AccountNotFound));
    // In one call: the account's route is made by the item before.
    let batch = vec![
        open(1),
        credit("k", 1, "EUR", "1"),
        credit("k", 1, "EUR", "1"),
    ];
    let outcomes = api.submit(batch, WaitFor::Applied).await;
    let statuses: Vec<_> = outcomes.iter().map(|o| (o.status(), o.duplicate)).collect();
    let applied = CommandStatus::Applied;
    assert_eq!(
        statuses,
        [(applied, false), (applied, false), (applied, true)]
    );
    assert_eq!(outcomes[1].command_id, outcomes[2].command_id);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_call_are_applied_in_their_order() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let batch = (0..1_000)
        .map(|version| credit_at_version(&format!("k{version}"), 1, version))
        .collect();
    let outcomes = api.submit(batch, WaitFor::Applied).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_eq!(
            outcome.status(),
            CommandStatus::Applied,
            "item {index}: {outcome:?}"
        );
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_ends_too_early_says_so_and_the_key_may_be_sent_again() {
    let mut api = Api::without_leaders(Default::default()).await;
    let batch = || vec![open(1), credit("k", 1, "EUR", "1")];
    let mut short = request(batch(), WaitFor::Applied);
    short.wait_at_most = seconds(0.05);
    let mut timed = Request::new(request(batch(), WaitFor::Applied));
    // The call's deadline less 100 ms: the answer is here before the client gives up.
    timed.set_timeout(std::time::Duration::from_millis(300));
    for request in [Request::new(short), timed] {
        let outcomes = api
            .write()
            .submit(request)
            .await
            .expect("an answer in time");
        for outcome in outcomes.into_inner().outcomes {
            let error = outcome.error.as_ref().expect("no outcome yet");
            assert_eq!(error.code(), Code::DeadlineExceeded);
            assert!(error.retryable && outcome.command_id > 0, "{outcome:?}");
        }
    }
    api.lead();
    for outcome in api.submit(batch(), WaitFor::Applied).await {
        assert!(outcome.duplicate);
        assert_eq!(outcome.status(), CommandStatus::Applied);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_fails_as_a_whole_only_when_nothing_was_attempted() {
    let api = Api::without_leaders(Default::default()).await;
    let many = (0..1_001)
        .map(|n| credit(&n.to_string(), 1, "EUR", "1"))
        .collect();
    let mut large = credit("large", 1, "EUR", "1");
    large.reference = "r".repeat(5_000);
    let large = vec![large; 840];
    for (commands, says) in [
        (vec![], "commands must be 1 to 1000, not 0"),
        (many, "commands must be 1 to 1000, not 1001"),
        (large, "commands must be at most 4194304 bytes together"),
    ] {
        let error = api
            .write()
            .submit(request(commands, WaitFor::Accepted))
            .await
            .expect_err(says);
        assert_eq!(error.code(), Status::InvalidArgument, "{error}");
        assert!(error.message().starts_with(says), "{error}");
    }
    let mut request = request(vec![open(1)], WaitFor::Accepted);
    request.wait_for = 7;
    let error = api.write().submit(request).await.expect_err("no such wait");
    assert!(error.message().starts_with("wait_for must be"), "{error}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_added_elsewhere_becomes_known() {
    let api = Api::start().await;
    api.open(&[1]).await;
    api.store.add_asset("DAI", 18).await.expect("a new asset");
    crate::api::eventually("the registry is read again", || async {
        let key = format!("k{}", api.registry.assets().len());
        let outcomes = api
            .submit(vec![credit(&key, 1, "DAI", "1")], WaitFor::Accepted)
            .await;
        outcomes[0].error.is_none()
    })
    .await;
    api.stop().await;
}
