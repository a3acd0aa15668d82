//! WriteService: the stream. Commands are taken in the order they are sent and answered in any;
//! what is not read pushes back on the client, by HTTP/2.

use futures::{
    Stream, StreamExt,
    future::{self, Either, Future},
    stream::FuturesUnordered,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    status::Failure,
    submit::{self, AccountFields, Submitter, Taken},
    terms::Terms,
};
use crate::core::{
    proto::{SubmitError, SubmitOutcome, SubmitStreamRequest, SubmitStreamResponse},
    writer::NotTaken,
};

/// Answers that wait for the client to read them.
const ANSWERS_MAX: usize = 64;

/// Starts the task of a stream; its answers.
pub fn start(
    submitter: Submitter,
    requests: Streaming<SubmitStreamRequest>,
    deadline: Option<Instant>,
    in_flight_max: usize,
) -> impl Stream<Item = Result<SubmitStreamResponse, Status>> {
    let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
    tokio::spawn(run(submitter, requests, deadline, in_flight_max, answers));
    ReceiverStream::new(receiver)
}

/// Ends when the client has sent all and is answered, when it is gone, or when this process drains:
/// then what is in flight is answered, and UNAVAILABLE tells the client to connect again.
async fn run(
    submitter: Submitter,
    mut requests: Streaming<SubmitStreamRequest>,
    deadline: Option<Instant>,
    in_flight_max: usize,
    answers: mpsc::Sender<Result<SubmitStreamResponse, Status>>,
) {
    let mut in_flight = FuturesUnordered::new();
    let mut end = None;
    let mut reading = true;
    while reading || !in_flight.is_empty() {
        tokio::select! {
            Some(answer) = in_flight.next(), if !in_flight.is_empty() => {
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            request = requests.message(), if reading && in_flight.len() < in_flight_max.max(1) => {
                match request {
                    Ok(Some(request)) => in_flight.push(take(&submitter, request, deadline).await),
                    Ok(None) => reading = false,
                    Err(status) => {
                        // The client broke off, or sent what is no request: it may still listen.
                        reading = false;
                        end = Some(status);
                    }
                }
            }
            () = submitter.drain.cancelled(), if reading => {
                reading = false;
                end = Some(Failure::from(NotTaken::Stopping).into());
            }
            () = answers.closed() => return,
        }
    }
    if let Some(status) = end {
        // Who went away does not want it.
        let _ = answers.send(Err(status)).await;
    }
}

/// Hands one command to the writer, in its turn; the answer comes later.
async fn take<'a>(
    submitter: &'a Submitter,
    request: SubmitStreamRequest,
    deadline: Option<Instant>,
) -> impl Future<Output = SubmitStreamResponse> + use<'a> {
    let correlation_id = request.correlation_id;
    let outcome = match hand_over(submitter, request, deadline).await {
        Ok(taken) => Either::Left(submitter.outcome(taken)),
        Err(error) => Either::Right(future::ready(submit::failed(error))),
    };
    async move {
        let outcome: SubmitOutcome = outcome.await;
        SubmitStreamResponse {
            correlation_id,
            outcome: Some(outcome),
        }
    }
}

async fn hand_over(
    submitter: &Submitter,
    request: SubmitStreamRequest,
    deadline: Option<Instant>,
) -> Result<Taken, SubmitError> {
    let wait_at_most = request.wait_at_most.as_ref();
    let terms = Terms::read(request.wait_for, wait_at_most, deadline, Instant::now())
        .map_err(submit::invalid)?;
    let Some(message) = request.command else {
        return Err(submit::invalid(Failure::invalid("command", "must be set")));
    };
    let command = submitter.parse(&message).await?;
    let slot = match terms.wants_outcome {
        true => Some(
            submitter
                .outcomes
                .reserve(1)
                .ok_or_else(|| submit::not_taken(&NotTaken::Overloaded))?,
        ),
        false => None,
    };
    let mut answers = submitter
        .writer
        .submit(vec![command])
        .map_err(|not_taken| submit::not_taken(&not_taken))?;
    Ok(Taken {
        answer: answers.pop().expect("an answer for the command"),
        slot,
        terms,
        fields: AccountFields::of(&message),
    })
}
