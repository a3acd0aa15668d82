//! One command from the API's message to its answer, for the call and the stream alike.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    status::{Failure, UNAVAILABLE_RETRY_AFTER},
    terms::Terms,
};
use crate::core::{
    command::{Command, parse},
    outcomes::{Known, Outcomes, Slots, Waited},
    proto::{self, CommandResult, CommandStatus, SubmitError, SubmitOutcome, submit_error::Code},
    registry::Registry,
    types::{AccountId, CommandId},
    writer::{Answer, NotTaken, RETRY_AFTER, WriterHandle},
};

/// A wait that is under way when this process goes away ends so long after.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Takes commands and says what became of them. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    /// The way into the writer.
    pub writer: WriterHandle,
    /// Waits for outcomes.
    pub outcomes: Outcomes,
    /// Asset codes.
    pub registry: Registry,
    /// This process goes away.
    pub drain: CancellationToken,
}

/// A command that the writer has taken.
pub struct Taken {
    /// The writer's answer.
    pub answer: oneshot::Receiver<Answer>,
    /// A place to wait in, when its outcome is wanted.
    pub slot: Option<Slots>,
    /// When to answer.
    pub terms: Terms,
    /// Where its accounts stand in the message.
    pub fields: AccountFields,
}

/// Which field of a message named which account, to say so in an error.
pub struct AccountFields(Vec<(usize, u64)>);

impl AccountFields {
    /// Of a message.
    pub fn of(message: &proto::Command) -> Self {
        let changes = message.changes.iter().enumerate();
        let named = changes.map(|(index, change)| (index, change.account_id));
        let others = named.filter(|(_, id)| *id != 0 && *id != message.account_id);
        Self(others.collect())
    }

    fn name(&self, account: AccountId) -> String {
        let other = self.0.iter().find(|(_, id)| *id == account.0);
        other.map_or_else(
            || "account_id".into(),
            |(index, _)| format!("changes[{index}].account_id"),
        )
    }
}

impl Submitter {
    /// Checks and resolves a command; an unknown asset is looked for once more in the store.
    pub async fn parse(&self, message: &proto::Command) -> Result<Command, SubmitError> {
        let shards = self.writer.shards();
        let mut parsed = parse::parse(message, &self.registry.assets(), shards);
        if parsed
            .as_ref()
            .is_err_and(|error| error.unknown_asset.is_some())
        {
            parsed = parse::parse(message, &*self.registry.refresh().await, shards);
        }
        parsed.map_err(|error| SubmitError {
            code: error.code.into(),
            message: error.message,
            field: error.field,
            ..Default::default()
        })
    }

    /// Follows a command to the answer that its terms ask for.
    pub async fn outcome(&self, mut taken: Taken) -> SubmitOutcome {
        let too_late = pin!(sleep_until(taken.terms.accepted_by));
        let answer = accepted(&mut taken.answer, too_late).await;
        self.outcome_of(taken, answer).await
    }

    /// The same for the commands of one call: their answers come together, so one timer does for
    /// all of them.
    pub async fn outcomes(&self, taken: Vec<Taken>) -> Vec<SubmitOutcome> {
        let Some(first) = taken.first() else {
            return Vec::new();
        };
        let mut too_late = pin!(sleep_until(first.terms.accepted_by));
        let wants_outcome = first.terms.wants_outcome;
        let mut followed = Vec::with_capacity(taken.len());
        for mut taken in taken {
            let answer = accepted(&mut taken.answer, too_late.as_mut()).await;
            followed.push(self.outcome_of(taken, answer));
        }
        if wants_outcome {
            return join_all(followed).await;
        }
        let mut outcomes = Vec::with_capacity(followed.len());
        for outcome in followed {
            outcomes.push(outcome.await);
        }
        outcomes
    }

    async fn outcome_of(&self, taken: Taken, answer: Answer) -> SubmitOutcome {
        let (id, known) = match answer {
            Answer::Accepted(id) => (id, Known::New),
            Answer::Duplicate(id) => (id, Known::Before),
            refused => return failed(refusal(refused, &taken.fields)),
        };
        let duplicate = known == Known::Before;
        let waited = match &taken.slot {
            Some(_) => self.wait(id, known, taken.terms.outcome_by).await,
            None if duplicate => self.outcomes.recent(id).map(Waited::Outcome),
            None => None,
        };
        let too_late = waited.is_none() && taken.slot.is_some();
        let (status, result) = match waited {
            Some(Waited::Outcome(result)) => (result.status, Some((*result).clone())),
            Some(Waited::Parked(reason)) => {
                (CommandStatus::Parked.into(), Some(parked(id, reason)))
            }
            None => (CommandStatus::Accepted.into(), None),
        };
        SubmitOutcome {
            command_id: id.0,
            status,
            duplicate,
            result,
            error: too_late.then(deadline_exceeded),
        }
    }

    async fn wait(&self, id: CommandId, known: Known, by: Instant) -> Option<Waited> {
        let drained = async {
            self.drain.cancelled().await;
            sleep(DRAIN_WAIT).await;
        };
        tokio::select! {
            waited = self.outcomes.wait(id, known, by) => waited,
            () = drained => None,
        }
    }
}

/// The writer's answer, or what is said when it is too late for one.
async fn accepted(answer: &mut oneshot::Receiver<Answer>, too_late: Pin<&mut Sleep>) -> Answer {
    tokio::select! {
        biased;
        answer = answer => answer
            .unwrap_or_else(|_| Answer::Unavailable("this process is shutting down".into())),
        () = too_late => {
            let text = "whether it was stored is not known yet; send the same key again";
            Answer::Unavailable(text.into())
        }
    }
}

/// An item that ended in an error, with nothing known to be stored.
pub fn failed(error: SubmitError) -> SubmitOutcome {
    SubmitOutcome {
        error: Some(error),
        ..Default::default()
    }
}

/// The error of an item whose call was not valid in this field.
pub fn invalid(failure: Failure) -> SubmitError {
    match failure {
        Failure::Invalid { field, message } => SubmitError {
            code: Code::Invalid.into(),
            message,
            field,
            ..Default::default()
        },
        other => unreachable!("terms are only ever invalid, not {other:?}"),
    }
}

/// The error of an item that the writer did not take.
pub fn not_taken(not_taken: &NotTaken) -> SubmitError {
    let (code, after) = match not_taken {
        NotTaken::Overloaded => (Code::Overloaded, RETRY_AFTER),
        NotTaken::StoreAway | NotTaken::Stopping => (Code::Unavailable, UNAVAILABLE_RETRY_AFTER),
    };
    retryable(code, not_taken.to_string(), after)
}

fn refusal(answer: Answer, fields: &AccountFields) -> SubmitError {
    let error = |code: Code, field: String, text: String| SubmitError {
        code: code.into(),
        message: format!("{field} {text}"),
        field,
        ..Default::default()
    };
    match answer {
        Answer::Accepted(_) | Answer::Duplicate(_) => unreachable!("these are no refusals"),
        Answer::Conflict(id) => error(
            Code::IdempotencyConflict,
            "idempotency_key".into(),
            format!("is known with another body, as command {id}; send a new key"),
        ),
        Answer::AccountNotFound(account) => error(
            Code::AccountNotFound,
            fields.name(account),
            format!("must be an account that was opened; {account} never was"),
        ),
        Answer::AccountInOtherShard(account) => error(
            Code::AccountInOtherShard,
            fields.name(account),
            format!("must be in the shard of account_id; {account} is in another one"),
        ),
        Answer::PinnedElsewhere { pin, shard } => error(
            Code::AccountInOtherShard,
            "shard_id".into(),
            format!("must be the account's shard, which is {shard}, not {pin}"),
        ),
        Answer::TransferBetweenShards => error(
            Code::Unsupported,
            "changes".into(),
            "must be on accounts of one shard: transfers between shards come with a later version"
                .into(),
        ),
        Answer::Unavailable(why) => {
            retryable(Code::Unavailable, why.to_string(), UNAVAILABLE_RETRY_AFTER)
        }
        Answer::Internal(why) => SubmitError {
            code: Code::Internal.into(),
            message: format!("the command cannot be stored: {why}"),
            ..Default::default()
        },
    }
}

fn retryable(code: Code, message: String, after: Duration) -> SubmitError {
    SubmitError {
        code: code.into(),
        message,
        field: String::new(),
        retryable: true,
        retry_after: Some(after.try_into().expect("a short time")),
    }
}

fn deadline_exceeded() -> SubmitError {
    SubmitError {
        code: Code::DeadlineExceeded.into(),
        message: "stored, but its outcome is not known yet; send the same key again".into(),
        retryable: true,
        ..Default::default()
    }
}

fn parked(id: CommandId, reason: String) -> CommandResult {
    CommandResult {
        command_id: id.0,
        status: CommandStatus::Parked.into(),
        reject_reason: reason,
        shard_id: id.shard().0.into(),
        ..Default::default()
    }
}
