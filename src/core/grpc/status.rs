//! The one place where errors become a `tonic::Status`. A business rejection never comes here: it
//! is a normal reply.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::core::{
    store,
    writer::{NotTaken, RETRY_AFTER},
};

/// When to try again after the store or the log was away.
pub const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why a call fails as a whole. Nothing was attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request itself: which field, and what it must be.
    Invalid {
        /// Such as `keys[3].asset`.
        field: String,
        /// One sentence that begins with the field.
        message: String,
    },
    /// What was asked for does not exist.
    NotFound(String),
    /// What was asked for cannot be, as things stand.
    Precondition(String),
    /// Too much at a time.
    Overloaded(String),
    /// Not in time; it may be asked again.
    TooLate(String),
    /// A dependency or this process is not there.
    Unavailable(String),
    /// A bug or a broken installation.
    Internal(String),
    /// Part of the contract, not of this version.
    Unsupported(String),
}

impl Failure {
    /// `text` says what the field must be, and follows its name.
    pub fn invalid(field: impl Into<String>, text: impl AsRef<str>) -> Self {
        let field = field.into();
        let message = format!("{field} {}", text.as_ref());
        Self::Invalid { field, message }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid { field, message } => {
                let details = ErrorDetails::with_bad_request_violation(field, message.clone());
                Self::with_error_details(Code::InvalidArgument, message, details)
            }
            Failure::NotFound(message) => Self::not_found(message),
            Failure::Precondition(message) => Self::failed_precondition(message),
            Failure::Overloaded(message) => {
                let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
                Self::with_error_details(Code::ResourceExhausted, message, details)
            }
            Failure::TooLate(message) => Self::deadline_exceeded(message),
            Failure::Unavailable(message) => {
                let details = ErrorDetails::with_retry_info(Some(UNAVAILABLE_RETRY_AFTER));
                Self::with_error_details(Code::Unavailable, message, details)
            }
            Failure::Internal(message) => Self::internal(message),
            Failure::Unsupported(message) => Self::unimplemented(message),
        }
    }
}

impl From<NotTaken> for Failure {
    fn from(not_taken: NotTaken) -> Self {
        let message = not_taken.to_string();
        match not_taken {
            NotTaken::Overloaded => Self::Overloaded(message),
            NotTaken::StoreAway | NotTaken::Stopping => Self::Unavailable(message),
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let message = error.to_string();
        match error {
            store::Error::Unavailable(_) | store::Error::AnswerLost(_) => {
                Self::Unavailable(message)
            }
            store::Error::Fenced(_)
            | store::Error::Conflict(_)
            | store::Error::Refused(_)
            | store::Error::BlockClosed(_)
            | store::Error::NumberTaken(_)
            | store::Error::Mismatch(_) => {
                tracing::error!(error = message, "the store failed a read");
                Self::Internal(message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code_and_what_to_do() {
        let cases = [
            (
                Failure::invalid("keys", "must be set"),
                Code::InvalidArgument,
            ),
            (NotTaken::Overloaded.into(), Code::ResourceExhausted),
            (NotTaken::StoreAway.into(), Code::Unavailable),
            (NotTaken::Stopping.into(), Code::Unavailable),
            (
                store::Error::Unavailable("x".into()).into(),
                Code::Unavailable,
            ),
            (
                store::Error::AnswerLost("x".into()).into(),
                Code::Unavailable,
            ),
            (store::Error::Mismatch("x".into()).into(), Code::Internal),
            (Failure::TooLate("x".into()), Code::DeadlineExceeded),
        ];
        for (failure, code) in cases {
            let status = Status::from(failure.clone());
            assert_eq!(status.code(), code, "{failure:?}");
            let retries = matches!(code, Code::ResourceExhausted | Code::Unavailable);
            let info = status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay);
            assert_eq!(info.is_some(), retries, "{failure:?}");
        }
        let status = Status::from(Failure::invalid("keys", "must be set"));
        let violations = status
            .get_details_bad_request()
            .expect("it names the field");
        assert_eq!(violations.field_violations[0].field, "keys");
        assert_eq!(status.message(), "keys must be set");
    }
}
