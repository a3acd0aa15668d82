//! ReadService over what was really applied.

use axs::core::proto::{
    AccountStatus, BalanceKey, BalanceSnapshot, CommandKind, CommandStatus, GetAccountRequest,
    GetBalancesRequest, GetBalancesResponse, GetCommandRequest, IdempotencyKey, ListEntriesRequest,
    SubmitOutcome, WaitFor, balance_snapshot::Origin, get_command_request::By,
};
use tonic::Code;

use crate::api::{Api, command, credit, eventually, open};

fn key(account_id: u64, asset: &str) -> BalanceKey {
    BalanceKey {
        account_id,
        asset: asset.into(),
    }
}

fn of(keys: Vec<BalanceKey>) -> GetBalancesRequest {
    GetBalancesRequest {
        keys,
        ..Default::default()
    }
}

async fn balances(api: &Api, request: GetBalancesRequest) -> GetBalancesResponse {
    let response = api.read().get_balances(request).await;
    response.expect("it reads").into_inner()
}

async fn refused(api: &Api, request: GetBalancesRequest) -> (Code, String) {
    let status = api
        .read()
        .get_balances(request)
        .await
        .expect_err("it is refused");
    (status.code(), status.message().to_owned())
}

/// Account, asset, available, version.
fn shown(snapshot: &BalanceSnapshot) -> (u64, &str, &str, u64) {
    let balance = snapshot.balance.as_ref().expect("a balance");
    (
        balance.account_id,
        &balance.asset,
        &balance.available,
        balance.version,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_come_from_the_cache_else_from_the_store() {
    let api = Api::start().await;
    api.open(&[1, 2]).await;
    let batch = vec![credit("a", 1, "EUR", "1.25"), credit("b", 1, "XBT", "0.5")];
    let last = api.submit(batch, WaitFor::Applied).await.remove(1);
    let keys = || vec![key(1, "EUR"), key(2, "EUR"), key(1, ""), key(77, "EUR")];
    // The snapshot is written after the outcome is known: only naming the write makes sure.
    let read = balances(
        &api,
        GetBalancesRequest {
            after_command_id: last.command_id,
            ..of(keys())
        },
    )
    .await;
    let rows: Vec<_> = read.balances.iter().map(shown).collect();
    let expected = [
        (1, "EUR", "1.25", 1),
        (2, "EUR", "0", 0),
        (1, "XBT", "0.5", 1),
        (1, "EUR", "1.25", 1),
    ];
    let sorted = |mut rows: Vec<(u64, _, _, u64)>| {
        rows.sort_unstable();
        rows.into_iter()
            .map(|(a, b, c, d): (u64, &str, &str, u64)| (a, b.to_owned(), c.to_owned(), d))
            .collect::<Vec<_>>()
    };
    assert_eq!(sorted(rows), sorted(expected.to_vec()));
    assert_eq!(read.unknown_accounts, [77]);
    assert!(read.balances.iter().all(|balance| balance.as_of.is_some()));
    eventually("the cache has the snapshot", || async {
        let read = balances(&api, of(vec![key(1, "EUR")])).await;
        assert_eq!(shown(&read.balances[0]), (1, "EUR", "1.25", 1));
        read.balances[0].origin() == Origin::Cache
    })
    .await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_the_write_that_it_names() {
    let mut api = Api::without_leaders(Default::default()).await;
    let batch = vec![open(1), credit("a", 1, "EUR", "7")];
    let accepted = api.submit(batch, WaitFor::Accepted).await.remove(1);
    assert_eq!(accepted.status(), CommandStatus::Accepted);
    let after = |command_id| GetBalancesRequest {
        after_command_id: command_id,
        ..of(vec![key(1, "EUR")])
    };
    let mut client = api.read();
    let request = after(accepted.command_id);
    let waiting = tokio::spawn(async move { client.get_balances(request).await });
    api.lead();
    let read = waiting
        .await
        .expect("no panic")
        .expect("it reads")
        .into_inner();
    assert_eq!(shown(&read.balances[0]), (1, "EUR", "7", 1));
    let (code, says) = refused(&api, after(1 << 48 | 999)).await;
    assert_eq!(code, Code::NotFound, "{says}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_cannot_wait_long_enough_says_so() {
    let api = Api::without_leaders(Default::default()).await;
    let accepted = api.submit(vec![open(1)], WaitFor::Accepted).await.remove(0);
    let mut request = tonic::Request::new(GetBalancesRequest {
        after_command_id: accepted.command_id,
        ..of(vec![key(1, "EUR")])
    });
    request.set_timeout(std::time::Duration::from_millis(250));
    let error = api
        .read()
        .get_balances(request)
        .await
        .expect_err("nobody applies it");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().contains("read again"), "{error}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_are_named() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let twice = GetBalancesRequest {
        at_version: Some(1),
        ..of(vec![key(1, "EUR"), key(1, "XBT")])
    };
    let both = GetBalancesRequest {
        at: Some(Default::default()),
        at_version: Some(1),
        ..of(vec![key(1, "EUR")])
    };
    for (request, field) in [
        (of(vec![]), "keys must be 1 to 1000"),
        (of(vec![key(1, ""); 1_001]), "keys must be 1 to 1000"),
        (
            of(vec![key(1, ""), key(0, "")]),
            "keys[1].account_id must be set",
        ),
        (of(vec![key(1, "NOPE")]), "keys[0].asset must be"),
        (twice, "keys must be one key"),
        (both, "at must not be set"),
    ] {
        let (code, says) = refused(&api, request).await;
        assert_eq!(code, Code::InvalidArgument, "{says}");
        assert!(says.starts_with(field), "{says}");
    }
    api.stop().await;
}

/// Account 1 after 25 credits of one; their outcomes.
async fn with_history(api: &Api) -> Vec<SubmitOutcome> {
    api.open(&[1]).await;
    let batch = (1..=25)
        .map(|n| credit(&format!("k{n}"), 1, "EUR", "1"))
        .collect();
    api.submit(batch, WaitFor::Applied).await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_by_page() {
    let api = Api::start().await;
    with_history(&api).await;
    for oldest_first in [false, true] {
        let mut versions = Vec::new();
        let mut request = ListEntriesRequest {
            account_id: 1,
            asset: "EUR".into(),
            page_size: 10,
            oldest_first,
            ..Default::default()
        };
        loop {
            let page = api
                .read()
                .list_entries(request.clone())
                .await
                .expect("a page");
            let page = page.into_inner();
            versions.extend(page.entries.iter().map(|entry| entry.version));
            if page.next_page_token.is_empty() {
                break;
            }
            assert_eq!(page.entries.len(), 10);
            request.page_token = page.next_page_token;
        }
        let mut expected: Vec<u64> = (1..=25).collect();
        if !oldest_first {
            expected.reverse();
        }
        assert_eq!(versions, expected);
        request.oldest_first = !oldest_first;
        let error = api
            .read()
            .list_entries(request)
            .await
            .expect_err("another request");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with("page_token must be"), "{error}");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_known_at_every_version_and_time() {
    let api = Api::start().await;
    let outcomes = with_history(&api).await;
    for version in [0, 1, 13, 25] {
        let request = GetBalancesRequest {
            at_version: Some(version),
            ..of(vec![key(1, "EUR")])
        };
        let read = balances(&api, request).await;
        assert_eq!(
            shown(&read.balances[0]),
            (1, "EUR", version.to_string().as_str(), version)
        );
    }
    let ahead = GetBalancesRequest {
        at_version: Some(26),
        ..of(vec![key(1, "EUR")])
    };
    assert_eq!(refused(&api, ahead).await.0, Code::NotFound);
    let last = outcomes[24].result.as_ref().expect("it was waited for");
    let mut before = outcomes[0]
        .result
        .as_ref()
        .and_then(|r| r.applied_at)
        .expect("a time");
    before.seconds -= 1;
    for (at, expected) in [(last.applied_at, "25"), (Some(before), "0")] {
        let request = GetBalancesRequest {
            at,
            ..of(vec![key(1, ""), key(88, "")])
        };
        let read = balances(&api, request).await;
        assert_eq!(shown(&read.balances[0]).2, expected);
        assert_eq!(read.unknown_accounts, [88]);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_asked_for_in_full() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let request = |account_id, asset: &str, page_size, token: &str| ListEntriesRequest {
        account_id,
        asset: asset.into(),
        page_size,
        page_token: token.into(),
        oldest_first: false,
    };
    for (request, code, says) in [
        (
            request(0, "EUR", 0, ""),
            Code::InvalidArgument,
            "account_id must be set",
        ),
        (
            request(1, "", 0, ""),
            Code::InvalidArgument,
            "asset must be set",
        ),
        (
            request(1, "EUR", 1_001, ""),
            Code::InvalidArgument,
            "page_size must be 1 to 1000",
        ),
        (
            request(1, "EUR", 0, "00"),
            Code::InvalidArgument,
            "page_token must be",
        ),
        (
            request(55, "EUR", 0, ""),
            Code::NotFound,
            "account 55 was never opened",
        ),
    ] {
        let error = api.read().list_entries(request).await.expect_err(says);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().starts_with(says), "{error}");
    }
    let empty = api
        .read()
        .list_entries(request(1, "EUR", 0, ""))
        .await
        .expect("no entries");
    assert!(empty.into_inner().entries.is_empty(), "never touched");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_found_by_id_and_key() {
    let mut api = Api::without_leaders(Default::default()).await;
    let mut opening = open(1);
    opening.reference = "welcome".into();
    let accepted = api.submit(vec![opening], WaitFor::Accepted).await.remove(0);
    let by_id = GetCommandRequest {
        by: Some(By::CommandId(accepted.command_id)),
    };
    let by_key = GetCommandRequest {
        by: Some(By::Key(IdempotencyKey {
            source: "test".into(),
            idempotency_key: "open-1".into(),
        })),
    };
    for request in [by_id.clone(), by_key.clone()] {
        let found = api.read().get_command(request).await.expect("it is there");
        let result = found.into_inner().result.expect("a result");
        assert_eq!(
            result.status(),
            CommandStatus::Accepted,
            "nobody applied it"
        );
        assert_eq!(result.command_id, accepted.command_id);
        assert_eq!(
            (result.account_id, result.reference.as_str()),
            (1, "welcome")
        );
        assert_eq!(result.kind(), CommandKind::OpenAccount);
    }
    api.lead();
    api.submit(
        vec![command("block", 1, CommandKind::BlockAccount)],
        WaitFor::Applied,
    )
    .await;
    for request in [by_id, by_key] {
        let found = api.read().get_command(request).await.expect("it is there");
        let result = found.into_inner().result.expect("a result");
        assert_eq!(result.status(), CommandStatus::Applied);
    }
    for (by, code) in [
        (None, Code::InvalidArgument),
        (Some(By::CommandId(0)), Code::InvalidArgument),
        (Some(By::CommandId(1 << 48 | 77)), Code::NotFound),
        (Some(By::Key(IdempotencyKey::default())), Code::NotFound),
    ] {
        let error = api
            .read()
            .get_command(GetCommandRequest { by })
            .await
            .expect_err("none");
        assert_eq!(error.code(), code, "{error}");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_there_once_its_opening_is_applied() {
    let mut api = Api::without_leaders(Default::default()).await;
    let mut opening = open(1);
    opening.user_id = 42;
    api.submit(vec![opening], WaitFor::Accepted).await;
    let account = |account_id| GetAccountRequest { account_id };
    let error = api
        .read()
        .get_account(account(1))
        .await
        .expect_err("not applied");
    assert_eq!(error.code(), Code::NotFound);
    api.lead();
    api.submit(
        vec![command("block", 1, CommandKind::BlockAccount)],
        WaitFor::Applied,
    )
    .await;
    let found = api
        .read()
        .get_account(account(1))
        .await
        .expect("it was opened");
    let found = found.into_inner().account.expect("an account");
    assert_eq!(
        (found.user_id, found.shard_id),
        (42, 2),
        "account 1 is in shard 2 of 4"
    );
    assert_eq!(found.status(), AccountStatus::Blocked);
    api.stop().await;
}
