//! Which line may go out when. No I/O and no clock: the caller passes the time in.
//!
//! The window holds the lines that were read and not yet taken out again, in the input's order; it
//! bounds the memory whatever the size of the input. Each account's lines form a lane; only the
//! first line of a lane is ever under way.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{ACCOUNTS_IN_FLIGHT_MAX, LineReport, report::is_final};
use crate::core::proto::{Command, SubmitError, SubmitOutcome};

/// Most lines in the window.
const WINDOW_LINES_MAX: usize = 65_536;
/// Most bytes of lines in the window.
const WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Wait before the second attempt; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// Longest wait before an attempt.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Longest wait that one attempt asks the server for; a further attempt follows.
const WAIT_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(WINDOW_LINES_MAX > ACCOUNTS_IN_FLIGHT_MAX);

/// Lines on their way to an answer.
pub(super) struct Flow {
    applied: bool,
    timeout: Duration,
    window: VecDeque<Slot>,
    window_bytes: usize,
    /// Ticket of the window's first slot; a slot's ticket is its correlation id.
    first_ticket: u64,
    lanes: HashMap<u64, VecDeque<u64>>,
    /// First in their lanes and free to go.
    eligible: VecDeque<u64>,
    in_flight: BTreeSet<u64>,
    /// First in their lanes, to be sent again from then on.
    again: BTreeSet<(Instant, u64)>,
    /// Of lines sent at least once, in the order of time.
    deadlines: VecDeque<(Instant, u64)>,
    /// Account → its undecided line.
    stuck: HashMap<u64, u64>,
    given_up: bool,
}

struct Slot {
    line: u64,
    bytes: usize,
    state: State,
}

enum State {
    Waiting(Box<Waiting>),
    Done(Box<LineReport>),
}

struct Waiting {
    command: Command,
    attempts: u32,
    deadline: Option<Instant>,
    last: Option<SubmitError>,
}

/// A line to send now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Send {
    pub(super) correlation_id: u64,
    pub(super) command: Command,
    pub(super) wait_at_most: Duration,
}

impl Flow {
    pub(super) fn new(applied: bool, timeout: Duration) -> Self {
        Self {
            applied,
            timeout,
            window: VecDeque::new(),
            window_bytes: 0,
            first_ticket: 1,
            lanes: HashMap::new(),
            eligible: VecDeque::new(),
            in_flight: BTreeSet::new(),
            again: BTreeSet::new(),
            deadlines: VecDeque::new(),
            stuck: HashMap::new(),
            given_up: false,
        }
    }

    /// Whether a further line may be read.
    pub(super) fn has_room(&self) -> bool {
        self.window.len() < WINDOW_LINES_MAX && self.window_bytes < WINDOW_BYTES_MAX
    }

    /// Nothing is left to send, to wait for or to take.
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// A line that needs no sending.
    pub(super) fn push_done(&mut self, report: LineReport) {
        self.window.push_back(Slot {
            line: report.line,
            bytes: 0,
            state: State::Done(Box::new(report)),
        });
    }

    /// A line to send.
    pub(super) fn push(&mut self, line: u64, command: Command, bytes: usize) {
        let account = command.account_id;
        let ticket = self.first_ticket + self.window.len() as u64;
        self.window_bytes += bytes;
        self.window.push_back(Slot {
            line,
            bytes,
            state: State::Waiting(Box::new(Waiting {
                command,
                attempts: 0,
                deadline: None,
                last: None,
            })),
        });
        if let Some(undecided) = self.stuck.get(&account) {
            let why = not_sent(*undecided);
            return self.finish_undecided(ticket, why);
        }
        if self.given_up {
            return self.finish_undecided(ticket, "not sent: the server is away".into());
        }
        let lane = self.lanes.entry(account).or_default();
        lane.push_back(ticket);
        if lane.len() == 1 {
            self.eligible.push_back(ticket);
        }
    }

    /// The next line to send, if one may go out.
    pub(super) fn next(&mut self, now: Instant) -> Option<Send> {
        while let Some((at, ticket)) = self.again.first().copied()
            && at <= now
        {
            self.again.pop_first();
            self.eligible.push_front(ticket);
        }
        if self.in_flight.len() + self.again.len() >= ACCOUNTS_IN_FLIGHT_MAX {
            return None;
        }
        let ticket = self.eligible.pop_front()?;
        self.in_flight.insert(ticket);
        let timeout = self.timeout;
        let waiting = self.waiting(ticket).expect("an eligible line waits");
        waiting.attempts += 1;
        let is_first = waiting.deadline.is_none();
        let deadline = *waiting.deadline.get_or_insert(now + timeout);
        let command = waiting.command.clone();
        if is_first {
            self.deadlines.push_back((deadline, ticket));
        }
        Some(Send {
            correlation_id: ticket,
            command,
            wait_at_most: deadline.saturating_duration_since(now).min(WAIT_MAX),
        })
    }

    /// The server answered. What it answers for a line that is not under way is ignored.
    pub(super) fn answered(&mut self, now: Instant, correlation_id: u64, outcome: SubmitOutcome) {
        if !self.in_flight.remove(&correlation_id) {
            return;
        }
        let applied = self.applied;
        let line = self.line(correlation_id);
        let waiting = self
            .waiting(correlation_id)
            .expect("a line under way waits");
        if is_final(&outcome, applied) {
            let key = std::mem::take(&mut waiting.command.idempotency_key);
            let report = LineReport::answered(line, key, waiting.attempts, outcome);
            let account = waiting.command.account_id;
            self.finish(correlation_id, report);
            self.leave_lane(account, correlation_id);
            return;
        }
        let asked = outcome.error.as_ref().and_then(|error| error.retry_after);
        let asked = asked.and_then(|after| Duration::try_from(after).ok());
        let doublings = waiting.attempts.saturating_sub(1).min(16);
        let pause = RETRY_FIRST * 2_u32.pow(doublings);
        let pause = pause.max(asked.unwrap_or_default()).min(RETRY_MAX);
        waiting.last = outcome.error;
        self.again.insert((now + pause, correlation_id));
    }

    /// The connection is gone: what was under way goes out again, first of all.
    pub(super) fn disconnected(&mut self) {
        for ticket in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.eligible.push_front(ticket);
        }
    }

    /// Ends the lines whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((deadline, ticket)) = self.deadlines.front().copied() {
            if self.waiting(ticket).is_some() {
                if deadline > now {
                    return;
                }
                let shown = humantime::format_duration(self.timeout);
                self.strand(ticket, format!("no answer for good within {shown}"));
            }
            self.deadlines.pop_front();
        }
    }

    /// Ends every line, and each that is still to come.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.lanes.clear();
        self.eligible.clear();
        self.in_flight.clear();
        self.again.clear();
        self.deadlines.clear();
        for ticket in self.first_ticket..self.first_ticket + self.window.len() as u64 {
            if let Some(waiting) = self.waiting(ticket) {
                let sent = if waiting.attempts > 0 {
                    "no answer"
                } else {
                    "not sent"
                };
                self.finish_undecided(ticket, format!("{sent}: the server is away"));
            }
        }
    }

    /// When [`Flow::next`] has a line to send again.
    pub(super) fn resends_at(&self) -> Option<Instant> {
        self.again.first().map(|(at, _)| *at)
    }

    /// When [`Flow::expire`] may end a line.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Whether [`Flow::give_up`] was called.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// The report of the next line in the input's order, once it is there.
    pub(super) fn take_done(&mut self) -> Option<LineReport> {
        let Some(State::Done(_)) = self.window.front().map(|slot| &slot.state) else {
            return None;
        };
        let slot = self.window.pop_front()?;
        self.first_ticket += 1;
        self.window_bytes -= slot.bytes;
        match slot.state {
            State::Done(report) => Some(*report),
            State::Waiting(_) => unreachable!("it was done a moment ago"),
        }
    }

    /// Ends a line without an answer, and with it the rest of its lane.
    fn strand(&mut self, ticket: u64, why: String) {
        self.in_flight.remove(&ticket);
        self.again.retain(|(_, other)| *other != ticket);
        self.eligible.retain(|other| *other != ticket);
        let line = self.line(ticket);
        let waiting = self
            .waiting(ticket)
            .expect("only lines that wait are stranded");
        let account = waiting.command.account_id;
        self.finish_undecided(ticket, why);
        self.stuck.insert(account, line);
        for behind in self.lanes.remove(&account).unwrap_or_default() {
            if behind != ticket {
                self.finish_undecided(behind, not_sent(line));
            }
        }
    }

    fn leave_lane(&mut self, account: u64, ticket: u64) {
        let lane = self
            .lanes
            .get_mut(&account)
            .expect("a line under way has a lane");
        let left = lane.pop_front();
        assert_eq!(
            left,
            Some(ticket),
            "only the first line of a lane is under way"
        );
        match lane.front() {
            Some(next) => self.eligible.push_back(*next),
            None => {
                self.lanes.remove(&account);
            }
        }
    }

    fn finish_undecided(&mut self, ticket: u64, why: String) {
        let line = self.line(ticket);
        let waiting = self
            .waiting(ticket)
            .expect("only lines that wait are ended");
        let key = std::mem::take(&mut waiting.command.idempotency_key);
        let (attempts, last) = (waiting.attempts, waiting.last.take());
        self.finish(
            ticket,
            LineReport::undecided(line, key, attempts, last, why),
        );
    }

    fn finish(&mut self, ticket: u64, report: LineReport) {
        let slot = self
            .slot(ticket)
            .expect("a line that waits is in the window");
        slot.state = State::Done(Box::new(report));
    }

    fn line(&mut self, ticket: u64) -> u64 {
        self.slot(ticket).map_or(0, |slot| slot.line)
    }

    fn waiting(&mut self, ticket: u64) -> Option<&mut Waiting> {
        match &mut self.slot(ticket)?.state {
            State::Waiting(waiting) => Some(waiting),
            State::Done(_) => None,
        }
    }

    fn slot(&mut self, ticket: u64) -> Option<&mut Slot> {
        let at = usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?;
        self.window.get_mut(at)
    }
}

fn not_sent(undecided: u64) -> String {
    format!("not sent: line {undecided} of the same account is undecided")
}

#[cfg(test)]
mod tests;
