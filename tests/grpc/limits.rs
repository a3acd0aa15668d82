//! What keeps the API standing: sizes, bounds, health; and what it says about itself.

use std::collections::BTreeSet;

use axs::core::{
    config,
    proto::{AckRequest, WaitFor, ack_service_client::AckServiceClient},
};
use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::api::{Api, credit, open, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused_and_the_connection_goes_on() {
    let api = Api::without_leaders(Default::default()).await;
    let mut command = credit("k", 1, "EUR", "1");
    command.reference = "r".repeat(6 * 1024 * 1024);
    let huge = request(vec![command], WaitFor::Accepted);
    let error = api.write().submit(huge).await.expect_err("too large");
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    let outcomes = api.submit(vec![open(1)], WaitFor::Accepted).await;
    assert_eq!(outcomes[0].error, None);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_waits_than_there_are_places_are_shed_before_anything_is_stored() {
    let settings = config::Grpc {
        waiters_max: 10,
        ..Default::default()
    };
    let api = Api::without_leaders(settings).await;
    let batch = |count: u64| (1..=count).map(open).collect::<Vec<_>>();
    let waiting = request(batch(11), WaitFor::Applied);
    let error = api
        .write()
        .submit(waiting)
        .await
        .expect_err("too many wait");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let retry = error
        .get_details_retry_info()
        .expect("it says when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()));
    let outcomes = api.submit(batch(11), WaitFor::Accepted).await;
    assert!(
        outcomes.iter().all(|o| o.error.is_none() && !o.duplicate),
        "nothing was stored"
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let api = Api::without_leaders(Default::default()).await;
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "axs.v1.SubmitRequest".into(),
        )),
    ]);
    let mut answers = ServerReflectionClient::new(api.channel.clone())
        .server_reflection_info(questions)
        .await
        .expect("reflection answers")
        .into_inner();
    let mut next = async || {
        let answer = answers
            .message()
            .await
            .expect("no error")
            .expect("an answer");
        answer.message_response.expect("a message")
    };
    let MessageResponse::ListServicesResponse(list) = next().await else {
        panic!("no list of services");
    };
    let names: BTreeSet<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let expected = [
        "axs.v1.AckService",
        "axs.v1.ReadService",
        "axs.v1.WriteService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let answer = next().await;
    assert!(
        matches!(answer, MessageResponse::FileDescriptorResponse(_)),
        "{answer:?}"
    );
    older_reflection_answers(&api.channel).await;
    api.stop().await;
}

/// Many tools still speak v1alpha only.
async fn older_reflection_answers(channel: &Channel) {
    use tonic_reflection::pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::iter([question]))
        .await
        .expect("reflection answers")
        .into_inner()
        .message()
        .await
        .expect("no error")
        .expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "axs.v1.WriteService")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_serving_until_the_drain() {
    let api = Api::without_leaders(Default::default()).await;
    let mut client = HealthClient::new(api.channel.clone());
    let mut watches = Vec::new();
    for service in ["", "axs.v1.WriteService", "axs.v1.ReadService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let watch = client.watch(request).await.expect("health answers");
        watches.push(watch.into_inner());
    }
    for watch in &mut watches {
        let first = watch.message().await.expect("no error").expect("a status");
        assert_eq!(first.status(), ServingStatus::Serving);
    }
    api.shutdown.cancel();
    for watch in &mut watches {
        let next = watch.message().await.expect("no error").expect("a status");
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
    drop((client, watches));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_of_a_later_version() {
    let api = Api::without_leaders(Default::default()).await;
    let mut client = AckServiceClient::new(api.channel.clone());
    let error = client
        .ack(Request::new(AckRequest::default()))
        .await
        .expect_err("not yet");
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("later version"), "{error}");
    api.stop().await;
}
