//! Connections and time around the `flow`: opens SubmitStream, opens it again when it breaks.

use std::time::{Duration, Instant};

use tokio::{
    io::AsyncRead,
    sync::mpsc::{self, error::TryRecvError},
    time::sleep_until,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::{
    ACCOUNTS_IN_FLIGHT_MAX, Error, LineReport, Options, Summary, WaitFor,
    flow::Flow,
    input::{self, Line},
};
use crate::core::proto::{
    SubmitOutcome, SubmitStreamRequest, write_service_client::WriteServiceClient,
};

/// A server that is only just starting gets so long before there is none.
const FIRST_CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// One attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect; doubles up to the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// A server that answers no ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Answers taken in before the next lines are sent.
const EVENTS_MAX: usize = 1_024;

/// A connection for calls to `server`, made when it is first used.
pub fn endpoint(server: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(server.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Sends every line of `input` and tells what became of each, in the input's order.
pub async fn run(
    options: &Options,
    input: impl AsyncRead + Unpin + Send + 'static,
    mut tell: impl FnMut(&LineReport),
) -> Result<Summary, Error> {
    let mut run = Run::new(options)?;
    let mut lines = input::read(input);
    let mut lines_end = false;
    let mut broken = None;
    let mut summary = Summary::default();
    loop {
        let now = Instant::now();
        run.flow.expire(now);
        if run.gives_up_at().is_some_and(|at| at <= now) {
            run.flow.give_up();
        }
        while let Some(report) = run.flow.take_done() {
            summary.count(&report);
            tell(&report);
        }
        if lines_end && run.flow.is_empty() {
            return match broken {
                Some(error) => Err(Error::Input(error)),
                None => Ok(summary),
            };
        }
        run.connect_when_due(now);
        run.send(now);
        let wakes_at = run.wakes_at().unwrap_or(now + KEEP_ALIVE);
        tokio::select! {
            line = lines.recv(), if !lines_end && run.may_read() => match line {
                Some(Line::Command { line, command, bytes }) => {
                    run.flow.push(line, *command, bytes);
                }
                Some(Line::Invalid(report)) => run.flow.push_done(*report),
                Some(Line::Broken(error)) => broken = Some(error),
                None => lines_end = true,
            },
            event = run.events.recv() => {
                let event = event.expect("the run itself holds a sender");
                run.take(Instant::now(), event)?;
                run.take_what_is_there()?;
            }
            () = sleep_until(wakes_at.into()) => {}
        }
    }
}

/// One run: the flow, and at most one connection at a time.
struct Run<'a> {
    options: &'a Options,
    endpoint: Endpoint,
    flow: Flow,
    link: Link,
    /// Counts connections: events of an earlier one are late and mean nothing.
    connection: u64,
    events: mpsc::Receiver<(u64, Event)>,
    events_sender: mpsc::Sender<(u64, Event)>,
    pause: Duration,
    /// Without a connection since; `None`: connected.
    away_since: Option<Instant>,
    was_connected: bool,
}

enum Link {
    /// Connect at that time.
    Down(Instant),
    /// A connection is being made; requests wait in its queue.
    Rising(mpsc::Sender<SubmitStreamRequest>),
    /// Lines may be sent.
    Up(mpsc::Sender<SubmitStreamRequest>),
}

enum Event {
    Up,
    Answer(u64, Box<SubmitOutcome>),
    Down(Failure),
}

enum Failure {
    /// Worth another try.
    Lost(String),
    /// The same each time.
    Refused(String),
}

impl<'a> Run<'a> {
    fn new(options: &'a Options) -> Result<Self, Error> {
        let endpoint = endpoint(&options.server).map_err(|error| Error::NoServer {
            server: options.server.clone(),
            cause: error.to_string(),
        })?;
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let now = Instant::now();
        Ok(Self {
            options,
            endpoint,
            flow: Flow::new(options.wait == WaitFor::Applied, options.timeout),
            link: Link::Down(now),
            connection: 0,
            events,
            events_sender,
            pause: RECONNECT_FIRST,
            away_since: Some(now),
            was_connected: false,
        })
    }

    /// Nothing is read before the first connection: without a server nothing happens at all.
    fn may_read(&self) -> bool {
        self.was_connected && self.flow.has_room()
    }

    fn connect_when_due(&mut self, now: Instant) {
        if !matches!(self.link, Link::Down(at) if at <= now) {
            return;
        }
        self.connection += 1;
        // A line is only under way once, so that this queue is never full.
        let (requests, queue) = mpsc::channel(ACCOUNTS_IN_FLIGHT_MAX);
        let session = Session {
            connection: self.connection,
            events: self.events_sender.clone(),
        };
        tokio::spawn(session.run(self.endpoint.clone(), ReceiverStream::new(queue)));
        self.link = Link::Rising(requests);
    }

    fn send(&mut self, now: Instant) {
        let Link::Up(requests) = &self.link else {
            return;
        };
        while let Some(send) = self.flow.next(now) {
            let request = SubmitStreamRequest {
                correlation_id: send.correlation_id,
                command: Some(send.command),
                wait_for: self.options.wait.into(),
                wait_at_most: prost_types::Duration::try_from(send.wait_at_most).ok(),
            };
            if requests.try_send(request).is_err() {
                // The session ended; its `Down` is on the way and puts the line back.
                return;
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let connects_at = match &self.link {
            Link::Down(at) => Some(*at),
            Link::Rising(_) | Link::Up(_) => None,
        };
        let resends_at = match &self.link {
            Link::Up(_) => self.flow.resends_at(),
            Link::Down(_) | Link::Rising(_) => None,
        };
        let times = [
            connects_at,
            resends_at,
            self.flow.expires_at(),
            self.gives_up_at(),
        ];
        times.into_iter().flatten().min()
    }

    /// When a server that was there has been away for the whole timeout.
    fn gives_up_at(&self) -> Option<Instant> {
        let away_since = self.away_since.filter(|_| self.was_connected)?;
        (!self.flow.has_given_up()).then_some(away_since + self.options.timeout)
    }

    fn take_what_is_there(&mut self) -> Result<(), Error> {
        for _ in 0..EVENTS_MAX {
            match self.events.try_recv() {
                Ok(event) => self.take(Instant::now(), event)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, now: Instant, event: (u64, Event)) -> Result<(), Error> {
        let (connection, event) = event;
        if connection != self.connection {
            return Ok(());
        }
        match event {
            Event::Up => {
                if let Link::Rising(requests) = &self.link {
                    self.link = Link::Up(requests.clone());
                }
                self.was_connected = true;
                self.away_since = None;
            }
            Event::Answer(correlation_id, outcome) => {
                self.pause = RECONNECT_FIRST;
                self.flow.answered(now, correlation_id, *outcome);
            }
            Event::Down(failure) => self.down(now, failure)?,
        }
        Ok(())
    }

    fn down(&mut self, now: Instant, failure: Failure) -> Result<(), Error> {
        let server = self.options.server.clone();
        let cause = match failure {
            Failure::Lost(cause) => cause,
            Failure::Refused(cause) => return Err(Error::Refused { server, cause }),
        };
        self.flow.disconnected();
        let away_since = *self.away_since.get_or_insert(now);
        if !self.was_connected && now >= away_since + FIRST_CONNECT_PATIENCE {
            return Err(Error::NoServer { server, cause });
        }
        // Said once per outage, not per try.
        if self.was_connected && away_since == now {
            tracing::warn!(server, cause, "connection lost, trying again");
        } else {
            tracing::debug!(server, cause, "no connection yet");
        }
        self.link = Link::Down(now + self.pause);
        self.pause = (self.pause * 2).min(RECONNECT_MAX);
        Ok(())
    }
}

/// One connection, from its first byte to its end.
struct Session {
    connection: u64,
    events: mpsc::Sender<(u64, Event)>,
}

impl Session {
    async fn run(self, endpoint: Endpoint, requests: ReceiverStream<SubmitStreamRequest>) {
        let failure = match endpoint.connect().await {
            Ok(channel) => {
                if !self.tell(Event::Up).await {
                    return;
                }
                self.stream(channel, requests).await
            }
            Err(error) => Failure::Lost(reason(&error)),
        };
        self.tell(Event::Down(failure)).await;
    }

    async fn stream(
        &self,
        channel: Channel,
        requests: ReceiverStream<SubmitStreamRequest>,
    ) -> Failure {
        let mut client = WriteServiceClient::new(channel);
        let mut answers = match client.submit_stream(requests).await {
            Ok(response) => response.into_inner(),
            Err(status) => return failure(&status),
        };
        loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    let outcome = Box::new(answer.outcome.unwrap_or_default());
                    if !self
                        .tell(Event::Answer(answer.correlation_id, outcome))
                        .await
                    {
                        return Failure::Lost("the run is over".into());
                    }
                }
                Ok(None) => return Failure::Lost("the server ended the stream".into()),
                Err(status) => return failure(&status),
            }
        }
    }

    /// False: the run is over.
    async fn tell(&self, event: Event) -> bool {
        self.events.send((self.connection, event)).await.is_ok()
    }
}

fn failure(status: &tonic::Status) -> Failure {
    let cause = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unimplemented
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::OutOfRange => Failure::Refused(cause),
        _ => Failure::Lost(cause),
    }
}

/// The innermost reason: what the system said.
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
