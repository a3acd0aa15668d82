//! Callers that go away cancel nothing: what was accepted is there, once.

use std::time::Duration;

use axs::core::proto::{
    BalanceKey, CommandStatus, GetBalancesRequest, GetCommandRequest, WaitFor,
    get_command_request::By,
};

use crate::api::{Api, credit, request};

const CALLS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cancelled_calls_lose_nothing_and_do_nothing_twice() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let mut calls = Vec::new();
    for n in 0..CALLS {
        let mut client = api.write();
        let request = request(
            vec![credit(&format!("k{n}"), 1, "EUR", "1")],
            WaitFor::Accepted,
        );
        let micros = getrandom::u64().expect("the system has random numbers") % 8_000;
        calls.push(tokio::spawn(async move {
            let call = client.submit(request);
            tokio::time::timeout(Duration::from_micros(micros), call).await
        }));
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut answered = Vec::new();
    for call in calls {
        if let Ok(Ok(response)) = call.await.expect("no panic") {
            let outcome = response.into_inner().outcomes.remove(0);
            assert_eq!(outcome.status(), CommandStatus::Accepted, "{outcome:?}");
            answered.push(outcome.command_id);
        }
    }
    assert!(answered.len() < CALLS, "some calls were cancelled");
    for &id in &answered {
        let request = GetCommandRequest {
            by: Some(By::CommandId(id)),
        };
        let found = api
            .read()
            .get_command(request)
            .await
            .expect("it was accepted");
        assert_eq!(found.into_inner().result.expect("a result").command_id, id);
    }
    // Every key again: each is a duplicate or new, and in the end there once.
    let again = (0..CALLS)
        .map(|n| credit(&format!("k{n}"), 1, "EUR", "1"))
        .collect();
    for outcome in api.submit(again, WaitFor::Applied).await {
        assert_eq!(outcome.status(), CommandStatus::Applied, "{outcome:?}");
        if answered.contains(&outcome.command_id) {
            assert!(outcome.duplicate);
        }
    }
    let request = GetBalancesRequest {
        keys: vec![BalanceKey {
            account_id: 1,
            asset: "EUR".into(),
        }],
        ..Default::default()
    };
    let balances = api
        .read()
        .get_balances(request)
        .await
        .expect("it reads")
        .into_inner();
    let balance = balances.balances[0].balance.as_ref().expect("a balance");
    assert_eq!(balance.available, CALLS.to_string());
    assert_eq!(balance.version, CALLS as u64);
    api.stop().await;
}
