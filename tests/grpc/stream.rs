//! SubmitStream: order, answers in any order, back-pressure, the end.

use std::collections::BTreeMap;

use axs::core::{
    command::hash,
    config,
    proto::{
        Command, CommandStatus, SubmitStreamRequest, SubmitStreamResponse, WaitFor,
        submit_error::Code,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code as Status, Streaming};

use crate::api::{Api, PATIENCE, credit, credit_at_version, eventually, open};

struct Stream {
    requests: Option<mpsc::Sender<SubmitStreamRequest>>,
    responses: Streaming<SubmitStreamResponse>,
}

impl Stream {
    async fn open(api: &Api) -> Self {
        let (requests, receiver) = mpsc::channel(10_000);
        let responses = api
            .write()
            .submit_stream(ReceiverStream::new(receiver))
            .await
            .expect("a stream")
            .into_inner();
        Self {
            requests: Some(requests),
            responses,
        }
    }

    async fn send(&self, correlation_id: u64, command: Option<Command>, wait_for: WaitFor) {
        let request = SubmitStreamRequest {
            correlation_id,
            command,
            wait_for: wait_for.into(),
            wait_at_most: crate::api::seconds(30.0),
        };
        let requests = self.requests.as_ref().expect("it is open");
        requests.send(request).await.expect("it has room");
    }

    async fn next(&mut self) -> Result<Option<SubmitStreamResponse>, tonic::Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("an answer in time")
    }

    /// So many answers, by correlation id.
    async fn answers(&mut self, count: usize) -> BTreeMap<u64, axs::core::proto::SubmitOutcome> {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let answer = self.next().await.expect("no error").expect("no end");
            let outcome = answer.outcome.expect("an outcome");
            let before = answers.insert(answer.correlation_id, outcome);
            assert!(
                before.is_none(),
                "{} is answered twice",
                answer.correlation_id
            );
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_stream_are_applied_in_their_order() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let mut stream = Stream::open(&api).await;
    for version in 0..3_000 {
        let command = credit_at_version(&format!("k{version}"), 1, version);
        stream.send(version, Some(command), WaitFor::Applied).await;
    }
    for (id, outcome) in stream.answers(3_000).await {
        assert_eq!(
            outcome.status(),
            CommandStatus::Applied,
            "{id}: {outcome:?}"
        );
    }
    stream.requests = None;
    assert_eq!(
        stream.next().await.expect("no error"),
        None,
        "all is answered"
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_item_is_answered_and_the_stream_goes_on() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let mut stream = Stream::open(&api).await;
    stream.send(1, None, WaitFor::Accepted).await;
    stream
        .send(2, Some(credit("a", 1, "EUR", "x")), WaitFor::Accepted)
        .await;
    stream
        .send(3, Some(credit("b", 5, "EUR", "1")), WaitFor::Applied)
        .await;
    stream
        .send(4, Some(credit("c", 1, "EUR", "1")), WaitFor::Applied)
        .await;
    let answers = stream.answers(4).await;
    let error = |id: u64| {
        let error = answers[&id].error.as_ref().expect("an error");
        (error.code(), error.field.clone())
    };
    assert_eq!(error(1), (Code::Invalid, "command".into()));
    assert_eq!(
        error(2),
        (Code::Invalid, "changes[0].available_delta".into())
    );
    assert_eq!(error(3), (Code::AccountNotFound, "account_id".into()));
    assert_eq!(answers[&4].status(), CommandStatus::Applied);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_than_may_be_in_flight() {
    let settings = config::Grpc {
        stream_in_flight_max: 4,
        ..Default::default()
    };
    let mut api = Api::without_leaders(settings).await;
    api.submit(vec![open(1)], WaitFor::Accepted).await;
    let mut stream = Stream::open(&api).await;
    for n in 0..10 {
        let command = credit(&format!("k{n}"), 1, "EUR", "1");
        stream.send(n, Some(command), WaitFor::Applied).await;
    }
    let is_stored = |n: u64| {
        let store = api.store.clone();
        async move {
            let key = hash::key_hash("test", &format!("k{n}"));
            store
                .command_of_key(key)
                .await
                .expect("memory answers")
                .is_some()
        }
    };
    eventually("four are stored", || is_stored(3)).await;
    // Whoever comes later on this connection is answered, so that what was sent before is read.
    api.submit(vec![open(2)], WaitFor::Accepted).await;
    assert!(!is_stored(4).await, "the fifth waits until one is answered");
    api.lead();
    assert_eq!(stream.answers(10).await.len(), 10);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_is_in_flight_and_ends_the_stream() {
    let api = Api::start().await;
    api.open(&[1]).await;
    let mut stream = Stream::open(&api).await;
    for n in 0..200 {
        let command = credit(&format!("k{n}"), 1, "EUR", "1");
        stream.send(n, Some(command), WaitFor::Applied).await;
    }
    let first = stream.next().await.expect("no error").expect("an answer");
    assert_eq!(
        first.outcome.expect("an outcome").status(),
        CommandStatus::Applied
    );
    let stop = tokio::spawn(api.stop());
    let mut answered = 1;
    let end = loop {
        match stream.next().await {
            Ok(Some(answer)) => {
                let outcome = answer.outcome.expect("an outcome");
                assert_eq!(outcome.status(), CommandStatus::Applied, "{outcome:?}");
                answered += 1;
            }
            Ok(None) => panic!("the stream ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Status::Unavailable, "{end}");
    assert!(answered <= 200);
    stop.await.expect("no panic");
}
