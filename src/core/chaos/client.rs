//! One caller: sends commands in batches, sends the same key again while it is open what became of
//! it, and remembers everything that it was told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tonic::{Code, Status, transport::Channel};

use super::{
    Error,
    history::History,
    load::Shared,
    plan::{Plan, Planned},
    queue::{Manner, Queue, Sent, Why},
};
use crate::core::{
    proto::{
        Command, SubmitOutcome, SubmitRequest, WaitFor, submit_error::Code as ItemCode,
        write_service_client::WriteServiceClient,
    },
    submit,
};

/// Commands of one call.
pub const BATCH_MAX: usize = 64;
/// A call that waits for outcomes waits so long.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// A call without an answer is given up after this.
const CALL_MAX: Duration = Duration::from_secs(6);
/// After a call that failed, before the next server is tried.
const FAILED_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at the clock when there is nothing to send.
const IDLE: Duration = Duration::from_millis(2);
/// Of a hundred new commands: those that repeat a decided key ...
const REPEATS_OF_100: u64 = 5;
/// ... and those that use one for something else.
const CONFLICTS_OF_100: u64 = 2;
/// What was not sent while nothing could be is made up for, to so many seconds of it.
const BURST_SECONDS: f64 = 2.0;

const _: () = assert!(WAIT_MAX.as_millis() < CALL_MAX.as_millis());

/// One caller.
pub struct Client {
    shared: Arc<Shared>,
    plan: Plan,
    channels: Vec<WriteServiceClient<Channel>>,
    /// The one in use.
    channel: usize,
    manner: Manner,
    queue: Queue,
    history: History,
    /// New commands that may be sent now.
    allowed: f64,
    paced_at: Instant,
}

impl Client {
    /// Connects when it first sends.
    pub fn new(
        shared: Arc<Shared>,
        plan: Plan,
        manner: Manner,
        number: u32,
    ) -> Result<Self, Error> {
        let channels = shared
            .servers
            .iter()
            .map(|server| {
                let endpoint = submit::endpoint(server)
                    .map_err(|error| Error::Failed(format!("`{server}`: {error}")))?;
                Ok(WriteServiceClient::new(endpoint.connect_lazy()))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            channel: number as usize % channels.len(),
            channels,
            shared,
            plan,
            manner,
            queue: Queue::default(),
            history: History::default(),
            allowed: 0.0,
            paced_at: Instant::now(),
        })
    }

    /// Opens its accounts, then sends until it is told to stop, and until everything is decided or
    /// it is told to give up. Answers what it was told, and the keys that are open.
    pub async fn run(mut self, accounts: Vec<u64>) -> (History, Vec<String>) {
        let shared = Arc::clone(&self.shared);
        for account in accounts {
            let planned = self.plan.open(account);
            self.add(planned, Why::New);
        }
        self.drain().await;
        tokio::select! {
            _ = shared.opened.wait() => {}
            () = shared.stop.cancelled() => {}
        }
        self.paced_at = Instant::now();
        while !shared.stop.is_cancelled() {
            self.pace();
            if !self.send_due().await {
                tokio::time::sleep(IDLE).await;
            }
        }
        self.drain().await;
        self.ask_again().await;
        (self.history, self.queue.keys().collect())
    }

    async fn drain(&mut self) {
        while !self.queue.is_empty() && !self.shared.give_up.is_cancelled() {
            if !self.send_due().await {
                tokio::time::sleep(IDLE).await;
            }
        }
    }

    /// The same key, the same answer, in the end too.
    async fn ask_again(&mut self) {
        let decided: Vec<_> = self.plan.recent().cloned().collect();
        for (id, planned) in decided {
            self.add(planned, Why::Repeat(id));
        }
        self.drain().await;
    }

    /// Adds new commands as the rate allows.
    fn pace(&mut self) {
        let now = Instant::now();
        let earned = (now - self.paced_at).as_secs_f64() * self.manner.rate;
        self.paced_at = now;
        let most = (self.manner.rate * BURST_SECONDS).max(1.0);
        self.allowed = (self.allowed + earned).min(most);
        while self.allowed >= 1.0 && self.queue.len() < self.manner.pending_max {
            self.allowed -= 1.0;
            let dice = self.plan.below(100);
            if dice < REPEATS_OF_100 {
                if let Some((id, planned)) = self.plan.repeat() {
                    self.add(planned, Why::Repeat(id));
                    continue;
                }
            } else if dice < REPEATS_OF_100 + CONFLICTS_OF_100
                && let Some(planned) = self.plan.conflict()
            {
                self.add(planned, Why::Conflict);
                continue;
            }
            let planned = self.plan.next();
            self.add(planned, Why::New);
        }
    }

    fn add(&mut self, planned: Planned, why: Why) {
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        self.queue.add(planned, why);
    }

    /// Sends a batch of what is due; false: nothing is.
    async fn send_due(&mut self) -> bool {
        let Some((mut batch, asks)) = self.queue.due(self.manner.batch_max) else {
            return false;
        };
        for sent in batch.iter_mut().filter(|sent| sent.sends == 1) {
            let seen = &self.shared.seen[usize::from(sent.planned.shard)];
            sent.seen_before = seen.position();
        }
        let wait = match asks || self.plan.below(100) < self.manner.waiting_of_100 {
            true => WaitFor::Applied,
            false => WaitFor::Accepted,
        };
        self.send(batch, wait).await;
        true
    }

    async fn send(&mut self, batch: Vec<Sent>, wait: WaitFor) {
        let commands: Vec<Command> = batch.iter().map(|it| it.planned.command.clone()).collect();
        let again = batch.iter().filter(|sent| sent.sends > 1).count() as u64;
        let sent_at = Instant::now();
        let answer = self.call(commands, wait).await;
        let took = sent_at.elapsed();
        self.shared.meter.note(|window| {
            window.sent += batch.len() as u64;
            window.retried += again;
        });
        match answer {
            Ok(outcomes) if outcomes.len() == batch.len() => {
                self.shared.meter.note(|window| match wait {
                    WaitFor::Applied => window.applied.add(took),
                    _ => window.accepted.add(took),
                });
                for (sent, outcome) in batch.into_iter().zip(outcomes) {
                    self.settle(sent, outcome, took);
                }
            }
            Ok(outcomes) => {
                let count = outcomes.len();
                self.history
                    .contradict(format!("{} commands, {count} answers", batch.len()));
            }
            Err(status) => self.failed(batch, &status, took).await,
        }
    }

    async fn call(
        &mut self,
        commands: Vec<Command>,
        wait: WaitFor,
    ) -> Result<Vec<SubmitOutcome>, Status> {
        let mut request = tonic::Request::new(SubmitRequest {
            commands,
            wait_for: wait.into(),
            wait_at_most: prost_types::Duration::try_from(WAIT_MAX).ok(),
        });
        request.set_timeout(CALL_MAX);
        let call = self.channels[self.channel].submit(request);
        tokio::select! {
            answer = tokio::time::timeout(CALL_MAX, call) => match answer {
                Ok(answer) => answer.map(|response| response.into_inner().outcomes),
                Err(_) => Err(Status::deadline_exceeded("no answer")),
            },
            () = self.shared.give_up.cancelled() => Err(Status::cancelled("the run is over")),
        }
    }

    /// The whole call failed: every command of it is sent again, to the next server.
    async fn failed(&mut self, batch: Vec<Sent>, status: &Status, took: Duration) {
        let count = batch.len() as u64;
        self.shared.meter.note(|window| match status.code() {
            Code::Unavailable | Code::ResourceExhausted => window.refused.add(took),
            _ => window.unknown += count,
        });
        match status.code() {
            Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated => {
                self.history
                    .contradict(format!("a call was refused: {status}"));
            }
            _ => {}
        }
        for sent in batch {
            self.queue.again(sent);
        }
        self.channel = (self.channel + 1) % self.channels.len();
        tokio::time::sleep(FAILED_PAUSE).await;
    }

    /// One command is answered.
    fn settle(&mut self, mut sent: Sent, outcome: SubmitOutcome, took: Duration) {
        let key = sent.planned.command.idempotency_key.clone();
        if outcome.command_id != 0 && sent.why != Why::Conflict {
            if sent.id != 0 && sent.id != outcome.command_id {
                let told = outcome.command_id;
                self.history
                    .contradict(format!("`{key}` has id {}, later {told}", sent.id));
            }
            if sent.id == 0 {
                self.shared.meter.note(|window| window.stored += 1);
            }
            sent.id = outcome.command_id;
        }
        if let Some(error) = &outcome.error {
            return self.refused(sent, error.code(), &error.message, took);
        }
        let Some(result) = outcome.result else {
            // Accepted; the outcome is asked for.
            return self.queue.ask(sent);
        };
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        match sent.why {
            Why::Conflict => self
                .history
                .contradict(format!("`{key}` was taken for another body too")),
            Why::Repeat(id) => self.history.repeat(&key, id, &result),
            Why::New => {
                let seen = &self.shared.seen[usize::from(sent.planned.shard)];
                seen.note(result.position, result.epoch);
                self.history
                    .decide(&sent.planned, &result, sent.seen_before);
                self.shared.meter.note(|window| window.decided += 1);
                self.plan.decided(result.command_id, sent.planned);
            }
        }
    }

    fn refused(&mut self, sent: Sent, code: ItemCode, message: &str, took: Duration) {
        let is_final = match code {
            ItemCode::IdempotencyConflict if sent.why == Why::Conflict => {
                self.history.conflicts += 1;
                true
            }
            ItemCode::DeadlineExceeded => {
                self.shared.meter.note(|window| window.late += 1);
                false
            }
            ItemCode::Overloaded => {
                self.shared.meter.note(|window| window.refused.add(took));
                false
            }
            ItemCode::Unavailable | ItemCode::Internal => {
                self.shared.meter.note(|window| {
                    window.refused.add(took);
                    window.unknown += 1;
                });
                false
            }
            _ => {
                let key = &sent.planned.command.idempotency_key;
                let what = format!("`{key}` was refused: {}: {message}", code.as_str_name());
                self.history.contradict(what);
                true
            }
        };
        if is_final {
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.queue.again(sent);
    }
}
