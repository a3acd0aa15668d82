//! Order, retries, deadlines and bounds of the flow, by a clock of the test's own.

use super::*;
use crate::core::proto::{CommandStatus, submit_error::Code};

const TIMEOUT: Duration = Duration::from_secs(60);

fn command(account_id: u64, key: &str) -> Command {
    Command {
        account_id,
        idempotency_key: key.into(),
        ..Command::default()
    }
}

/// Pushes (line, account) pairs; the key is the line.
fn flow(lines: &[(u64, u64)]) -> Flow {
    let mut flow = Flow::new(true, TIMEOUT);
    for (line, account) in lines {
        flow.push(*line, command(*account, &line.to_string()), 10);
    }
    flow
}

/// Keys of all lines that may go out now, with their correlation ids.
fn sent(flow: &mut Flow, now: Instant) -> Vec<(String, u64)> {
    std::iter::from_fn(|| flow.next(now))
        .map(|send| (send.command.idempotency_key, send.correlation_id))
        .collect()
}

fn keys(sent: &[(String, u64)]) -> Vec<&str> {
    sent.iter().map(|(key, _)| key.as_str()).collect()
}

fn applied() -> SubmitOutcome {
    SubmitOutcome {
        command_id: 7,
        status: CommandStatus::Applied.into(),
        ..SubmitOutcome::default()
    }
}

fn failed(code: Code) -> SubmitOutcome {
    SubmitOutcome {
        error: Some(SubmitError {
            code: code.into(),
            message: "because".into(),
            ..SubmitError::default()
        }),
        ..SubmitOutcome::default()
    }
}

fn taken(flow: &mut Flow) -> Vec<(u64, String, u32)> {
    std::iter::from_fn(|| flow.take_done())
        .map(|report| (report.line, report.label(), report.attempts))
        .collect()
}

#[test]
fn a_line_waits_for_the_previous_one_of_its_account_only() {
    let now = Instant::now();
    let mut flow = flow(&[(1, 5), (2, 5), (3, 6)]);
    let first = sent(&mut flow, now);
    assert_eq!(keys(&first), ["1", "3"]);
    flow.answered(now, first[1].1, applied());
    assert_eq!(taken(&mut flow), [], "line 1 is reported first");
    assert_eq!(sent(&mut flow, now), [], "line 2 waits");
    flow.answered(now, first[0].1, applied());
    assert_eq!(taken(&mut flow), [(1, "APPLIED".into(), 1)]);
    let second = sent(&mut flow, now);
    assert_eq!(keys(&second), ["2"]);
    flow.answered(now, second[0].1, failed(Code::IdempotencyConflict));
    let conflict = (2, "IDEMPOTENCY_CONFLICT".into(), 1);
    assert_eq!(taken(&mut flow), [conflict, (3, "APPLIED".into(), 1)]);
    assert!(flow.is_empty());
}

#[test]
fn what_is_unknown_goes_out_again_and_keeps_its_lane() {
    let start = Instant::now();
    let retried = [
        failed(Code::DeadlineExceeded),
        failed(Code::Unavailable),
        failed(Code::Overloaded),
        failed(Code::Internal),
        SubmitOutcome {
            status: CommandStatus::Accepted.into(),
            ..SubmitOutcome::default()
        },
    ];
    for outcome in retried {
        let mut flow = flow(&[(1, 5), (2, 5)]);
        let first = sent(&mut flow, start);
        flow.answered(start, first[0].1, outcome);
        assert_eq!(sent(&mut flow, start), [], "not at once");
        let later = flow.resends_at().expect("a time");
        assert_eq!(keys(&sent(&mut flow, later)), ["1"]);
        flow.answered(later, first[0].1, applied());
        assert_eq!(taken(&mut flow), [(1, "APPLIED".into(), 2)]);
        assert_eq!(keys(&sent(&mut flow, later)), ["2"]);
    }
}

#[test]
fn accepted_is_an_answer_where_acceptance_is_awaited() {
    let now = Instant::now();
    let mut flow = Flow::new(false, TIMEOUT);
    flow.push(1, command(5, "1"), 10);
    let first = sent(&mut flow, now);
    let accepted = SubmitOutcome {
        status: CommandStatus::Accepted.into(),
        duplicate: true,
        ..SubmitOutcome::default()
    };
    flow.answered(now, first[0].1, accepted);
    assert_eq!(taken(&mut flow), [(1, "DUPLICATE ACCEPTED".into(), 1)]);
}

#[test]
fn a_lost_connection_sends_again_what_was_under_way() {
    let now = Instant::now();
    let mut flow = flow(&[(1, 5), (2, 6), (3, 5)]);
    let first = sent(&mut flow, now);
    flow.disconnected();
    let again = sent(&mut flow, now);
    assert_eq!(again, first);
    flow.answered(now, again[0].1, applied());
    flow.answered(now, again[1].1, applied());
    assert_eq!(
        taken(&mut flow),
        [(1, "APPLIED".into(), 2), (2, "APPLIED".into(), 2)]
    );
    flow.answered(now, again[0].1, applied());
    assert_eq!(
        keys(&sent(&mut flow, now)),
        ["3"],
        "a late answer means nothing"
    );
}

#[test]
fn an_undecided_line_ends_its_account_and_no_other() {
    let start = Instant::now();
    let mut flow = flow(&[(1, 5), (2, 5), (3, 6)]);
    let first = sent(&mut flow, start);
    flow.answered(start, first[0].1, failed(Code::Overloaded));
    flow.answered(start, first[1].1, applied());
    flow.expire(start + TIMEOUT - Duration::from_millis(1));
    assert_eq!(taken(&mut flow), []);
    flow.expire(start + TIMEOUT);
    flow.push(4, command(5, "4"), 10);
    flow.push(5, command(6, "5"), 10);
    let reports: Vec<_> = std::iter::from_fn(|| flow.take_done()).collect();
    let shapes: Vec<_> = reports
        .iter()
        .map(|report| {
            (
                report.line,
                report.label(),
                report.attempts,
                report.undecided,
            )
        })
        .collect();
    assert_eq!(
        shapes,
        [
            (1, "OVERLOADED".into(), 1, true),
            (2, "UNAVAILABLE".into(), 0, true),
            (3, "APPLIED".into(), 1, false),
            (4, "UNAVAILABLE".into(), 0, true),
        ]
    );
    assert_eq!(
        reports[0].message,
        "no answer for good within 1m; the last answer was: because"
    );
    assert_eq!(
        reports[3].message,
        "not sent: line 1 of the same account is undecided"
    );
    assert_eq!(keys(&sent(&mut flow, start + TIMEOUT)), ["5"]);
}

#[test]
fn time_counts_from_a_lines_first_sending() {
    let start = Instant::now();
    let mut flow = flow(&[(1, 5), (2, 5)]);
    let first = sent(&mut flow, start);
    let later = start + TIMEOUT / 2;
    flow.answered(later, first[0].1, applied());
    assert_eq!(keys(&sent(&mut flow, later)), ["2"]);
    flow.expire(start + TIMEOUT);
    assert_eq!(taken(&mut flow), [(1, "APPLIED".into(), 1)]);
    assert_eq!(flow.expires_at(), Some(later + TIMEOUT));
}

#[test]
fn giving_up_ends_every_line_and_each_that_comes() {
    let now = Instant::now();
    let mut flow = flow(&[(1, 5), (2, 5)]);
    sent(&mut flow, now);
    flow.give_up();
    flow.push(3, command(6, "3"), 10);
    let attempts: Vec<_> = taken(&mut flow).iter().map(|taken| taken.2).collect();
    assert_eq!(attempts, [1, 0, 0]);
    assert!(flow.is_empty() && flow.next(now).is_none() && flow.expires_at().is_none());
}

#[test]
fn accounts_in_flight_and_the_window_are_bounded() {
    let now = Instant::now();
    let mut flow = Flow::new(true, TIMEOUT);
    let mut line = 0;
    while flow.has_room() {
        line += 1;
        flow.push(
            line,
            command(line, "k"),
            2 * WINDOW_BYTES_MAX / WINDOW_LINES_MAX,
        );
    }
    assert_eq!(
        line as usize,
        WINDOW_LINES_MAX / 2,
        "bytes bound the window too"
    );
    let first = sent(&mut flow, now);
    assert_eq!(first.len(), ACCOUNTS_IN_FLIGHT_MAX);
    flow.answered(now, first[0].1, failed(Code::Overloaded));
    assert_eq!(
        sent(&mut flow, now),
        [],
        "a line to be sent again counts as under way"
    );
    flow.answered(now, first[1].1, applied());
    assert_eq!(sent(&mut flow, now).len(), 1);
}
