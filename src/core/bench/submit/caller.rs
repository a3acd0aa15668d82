//! One caller of the API, by unary calls or on a stream.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::core::{
    bench::{
        callers::Call,
        requests::{self, Answered, Requests},
        workload::Operation,
    },
    proto::{
        SubmitStreamRequest, SubmitStreamResponse, WaitFor,
        write_service_client::WriteServiceClient,
    },
    testbed::Error,
};

/// One caller.
pub struct Caller {
    pub requests: Requests,
    pub number: u64,
    pub client: WriteServiceClient<Channel>,
    pub wait_applied: bool,
    /// Of a [`Streamer`], once it is open.
    pub stream: Option<Stream>,
}

impl Call for Caller {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let command = |operation| self.requests.command(self.number, operation);
        let commands = operations.iter().map(command).collect();
        requests::submit(&mut self.client, commands, self.wait_applied).await
    }
}

pub struct Stream {
    requests: mpsc::Sender<SubmitStreamRequest>,
    answers: Streaming<SubmitStreamResponse>,
}

/// A caller with a stream.
pub struct Streamer(pub Caller);

impl Streamer {
    async fn open(&mut self, room: usize) -> Result<&mut Stream, Error> {
        let caller = &mut self.0;
        if caller.stream.is_none() {
            let (requests, receiver) = mpsc::channel(room);
            let opened = caller
                .client
                .submit_stream(ReceiverStream::new(receiver))
                .await;
            let answers = opened.map_err(broken)?.into_inner();
            caller.stream = Some(Stream { requests, answers });
        }
        Ok(caller.stream.as_mut().expect("it is open"))
    }
}

fn broken(status: tonic::Status) -> Error {
    Error::Failed(format!("a stream broke: {status}"))
}

impl Call for Streamer {
    async fn call(&mut self, operations: &[Operation]) -> Result<Answered, Error> {
        let (requests, number) = (self.0.requests, self.0.number);
        let wait_for = match self.0.wait_applied {
            true => WaitFor::Applied,
            false => WaitFor::Accepted,
        };
        let stream = self.open(operations.len()).await?;
        for (index, operation) in operations.iter().enumerate() {
            let request = SubmitStreamRequest {
                correlation_id: index as u64,
                command: Some(requests.command(number, operation)),
                wait_for: wait_for.into(),
                wait_at_most: None,
            };
            let sent = stream.requests.send(request).await;
            sent.map_err(|_| Error::Failed("a stream ended".into()))?;
        }
        let mut answered = Answered::default();
        let mut refused = Vec::new();
        for _ in operations {
            let answer = stream.answers.message().await.map_err(broken)?;
            let answer = answer.ok_or_else(|| Error::Failed("a stream ended".into()))?;
            let outcome = answer.outcome.unwrap_or_default();
            if !requests::count(&mut answered, &outcome)? {
                let operation = &operations[usize::try_from(answer.correlation_id).unwrap_or(0)];
                refused.push(requests.command(number, operation));
            }
        }
        if !refused.is_empty() {
            answered.overloads += 1;
            let wait = self.0.wait_applied;
            answered.join(requests::submit(&mut self.0.client, refused, wait).await?);
        }
        Ok(answered)
    }
}
