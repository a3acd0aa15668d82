//! WriteService: the batch call. Per-item errors never fail the batch; the call fails only when
//! nothing was attempted.

use std::pin::Pin;

use futures::Stream;
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    status::Failure,
    stream,
    submit::{AccountFields, Submitter, Taken, failed},
    terms::{self, Terms},
};
use crate::core::{
    command::Command,
    outcomes::Slots,
    proto::{
        self, SubmitError, SubmitRequest, SubmitResponse, SubmitStreamRequest,
        SubmitStreamResponse, write_service_server,
    },
    writer::BATCH_COUNT_MAX,
};

/// Most bytes of the commands of one call, as encoded.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Takes commands.
pub struct WriteService {
    /// Shared with the streams.
    pub submitter: Submitter,
    /// Most commands of one stream that are not answered yet.
    pub in_flight_max: usize,
}

#[tonic::async_trait]
impl write_service_server::WriteService for WriteService {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let now = Instant::now();
        let deadline = terms::deadline(request.metadata(), now);
        let request = request.into_inner();
        check_batch(&request.commands)?;
        let wait_at_most = request.wait_at_most.as_ref();
        let terms = Terms::read(request.wait_for, wait_at_most, deadline, now)?;
        let outcomes = submit_batch(&self.submitter, &request.commands, terms).await?;
        Ok(Response::new(SubmitResponse { outcomes }))
    }

    type SubmitStreamStream =
        Pin<Box<dyn Stream<Item = Result<SubmitStreamResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let deadline = terms::deadline(request.metadata(), Instant::now());
        let responses = stream::start(
            self.submitter.clone(),
            request.into_inner(),
            deadline,
            self.in_flight_max,
        );
        Ok(Response::new(Box::pin(responses)))
    }
}

fn check_batch(commands: &[proto::Command]) -> Result<(), Failure> {
    let count = commands.len();
    if !(1..=BATCH_COUNT_MAX).contains(&count) {
        let text = format!("must be 1 to {BATCH_COUNT_MAX}, not {count}");
        return Err(Failure::invalid("commands", text));
    }
    let bytes: usize = commands.iter().map(Message::encoded_len).sum();
    if bytes > BATCH_BYTES_MAX {
        let text = format!("must be at most {BATCH_BYTES_MAX} bytes together, not {bytes}");
        return Err(Failure::invalid("commands", text));
    }
    Ok(())
}

async fn submit_batch(
    submitter: &Submitter,
    messages: &[proto::Command],
    terms: Terms,
) -> Result<Vec<proto::SubmitOutcome>, Failure> {
    let mut commands: Vec<Command> = Vec::with_capacity(messages.len());
    let mut refused: Vec<Option<SubmitError>> = Vec::with_capacity(messages.len());
    for message in messages {
        match submitter.parse(message).await {
            Ok(command) => {
                commands.push(command);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let mut slots = reserve(submitter, commands.len(), terms)?;
    let answers = match commands.is_empty() {
        true => Vec::new(),
        // From here on nothing is cancelled, whoever goes away.
        false => submitter.writer.submit(commands)?,
    };
    let mut answers = answers.into_iter();
    let mut taken = Vec::with_capacity(messages.len());
    for (message, refused) in messages.iter().zip(&refused) {
        if refused.is_none() {
            taken.push(Taken {
                answer: answers.next().expect("an answer for each command"),
                slot: slots
                    .as_mut()
                    .map(|slots| slots.take_one().expect("one for each")),
                terms,
                fields: AccountFields::of(message),
            });
        }
    }
    let mut outcomes = submitter.outcomes(taken).await.into_iter();
    let outcome = |refused: Option<SubmitError>| match refused {
        Some(error) => failed(error),
        None => outcomes.next().expect("an outcome for each that was taken"),
    };
    Ok(refused.into_iter().map(outcome).collect())
}

fn reserve(submitter: &Submitter, count: usize, terms: Terms) -> Result<Option<Slots>, Failure> {
    if !terms.wants_outcome {
        return Ok(None);
    }
    let slots = submitter.outcomes.reserve(count);
    let text = "too many commands wait for their outcome; try again or wait for ACCEPTED only";
    slots
        .map(Some)
        .ok_or_else(|| Failure::Overloaded(text.into()))
}
