//! How long a call may wait, and for what: the request's wish, the call's deadline, our bounds.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::status::Failure;
use crate::core::proto::WaitFor;

/// A call waits so long for outcomes if it does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// A call waits at most so long for outcomes.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// The answer leaves so long before the call's deadline.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(100);
/// An acceptance that is not answered for so long is unknown.
pub const ACCEPT_MAX: Duration = Duration::from_secs(45);

const _: () = assert!(WAIT_DEFAULT.as_millis() <= WAIT_MAX.as_millis());

/// When one command is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its outcome is wanted.
    pub wants_outcome: bool,
    /// Whether it was accepted is said by then.
    pub accepted_by: Instant,
    /// Its outcome is said by then.
    pub outcome_by: Instant,
}

impl Terms {
    /// Reads the terms of a command that came at `now` in a call with this `deadline`. A wish above
    /// [`WAIT_MAX`] is cut to it.
    pub fn read(
        wait_for: i32,
        wait_at_most: Option<&prost_types::Duration>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Self, Failure> {
        let wants_outcome = match WaitFor::try_from(wait_for) {
            Ok(WaitFor::Applied) => true,
            Ok(WaitFor::Unspecified | WaitFor::Accepted) => false,
            Err(_) => {
                let text = format!("must be ACCEPTED or APPLIED, not {wait_for}");
                return Err(Failure::invalid("wait_for", text));
            }
        };
        let wait = match wait_at_most {
            None => WAIT_DEFAULT,
            Some(wait) => Duration::try_from(*wait)
                .map_err(|_| Failure::invalid("wait_at_most", "must be a time of 0 s to 60 s"))?
                .min(WAIT_MAX),
        };
        let latest = deadline.map(|deadline| deadline - ANSWER_MARGIN.min(deadline - now));
        let by = |at: Instant| latest.map_or(at, |latest| latest.min(at));
        Ok(Self {
            wants_outcome,
            accepted_by: by(now + ACCEPT_MAX),
            outcome_by: by(now + wait),
        })
    }
}

/// The deadline of a call that came at `now`, from its `grpc-timeout`: up to eight digits and a
/// unit (gRPC over HTTP/2, "Timeout"). What is no timeout counts as none.
pub fn deadline(metadata: &MetadataMap, now: Instant) -> Option<Instant> {
    let timeout = parse_timeout(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    now.checked_add(timeout)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLIED: i32 = WaitFor::Applied as i32;

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("400m", Some(Duration::from_millis(400))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("+1S", None),
            ("1s", None),
            ("999999999S", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn a_wait_is_bounded_by_its_default_its_maximum_and_the_deadline() {
        let now = Instant::now();
        let wait = |wish: Option<i64>, deadline_ms: Option<u64>| {
            let deadline = deadline_ms.map(|ms| now + Duration::from_millis(ms));
            let wish = wish.map(seconds);
            let terms = Terms::read(APPLIED, wish.as_ref(), deadline, now).expect("they are valid");
            (terms.outcome_by - now).as_millis()
        };
        assert_eq!(wait(None, None), 10_000);
        assert_eq!(wait(Some(3), None), 3_000);
        assert_eq!(wait(Some(61), None), 60_000);
        assert_eq!(wait(Some(3), Some(2_000)), 1_900);
        assert_eq!(wait(Some(3), Some(50)), 0, "no time is left");
    }

    #[test]
    fn what_is_no_wish_is_refused() {
        let now = Instant::now();
        let field = |wait_for, wish: prost_types::Duration| match Terms::read(
            wait_for,
            Some(&wish),
            None,
            now,
        ) {
            Err(Failure::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(9, seconds(1)), "wait_for");
        assert_eq!(field(APPLIED, seconds(-1)), "wait_at_most");
    }
}
