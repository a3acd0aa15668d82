//! What an error of PostgreSQL means for the caller: the one place that knows SQLSTATEs.
//!
//! diesel keeps a SQLSTATE to itself, so our functions repeat it as the name of a constraint. What
//! comes without one (the server cancels a statement, ends the session) is not explained: a write
//! may then have been done or not.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::core::{
    store::Error,
    types::{CommandId, ShardId},
};

/// Whether a statement changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A failed one can be repeated.
    Reads,
    /// One whose answer is lost may have been done.
    Writes,
}

/// The meaning of a failed statement.
pub(super) fn explain(error: &DieselError, effect: Effect) -> Error {
    let DieselError::DatabaseError(kind, information) = error else {
        return match (error, effect) {
            (DieselError::SerializationError(_), _) => Error::Refused(error.to_string()),
            (_, Effect::Reads) => Error::Mismatch(format!("an answer cannot be read: {error}")),
            (_, Effect::Writes) => Error::AnswerLost(error.to_string()),
        };
    };
    let message = information.message().to_owned();
    let code = information.constraint_name().filter(|name| name.len() == 5);
    if let Some(code) = code {
        return explain_code(code, message, information.details());
    }
    match (kind, effect) {
        (
            DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::UniqueViolation,
            _,
        ) => Error::Refused(message),
        // A standby, or a server that was made read-only: refused before anything was done.
        (DatabaseErrorKind::ReadOnlyTransaction | DatabaseErrorKind::SerializationFailure, _) => {
            Error::Unavailable(message)
        }
        (_, Effect::Reads) => Error::Unavailable(message),
        (_, Effect::Writes) => Error::AnswerLost(message),
    }
}

/// The meaning of a SQLSTATE that one of our functions handed on. Nothing was done.
fn explain_code(code: &str, message: String, detail: Option<&str>) -> Error {
    match (code, detail.map(str::parse::<u64>)) {
        ("AX001", _) => Error::Fenced(message),
        ("AX002", _) => Error::Conflict(message),
        ("AX003", Some(Ok(shard))) => match u16::try_from(shard) {
            Ok(shard) => Error::BlockClosed(ShardId(shard)),
            Err(_) => Error::Mismatch(message),
        },
        ("AX004", Some(Ok(id))) => Error::NumberTaken(CommandId(id)),
        ("AX005", _) => Error::Mismatch(message),
        ("AX006", _) => Error::Refused(message),
        _ => match &code[..2] {
            // 22 data, 23 constraints, 54 sizes: the same data is refused each time. P0: raised by
            // a trigger or rule of the operator's own, about the data as well.
            "22" | "23" | "54" | "P0" => Error::Refused(message),
            // 42 names and rights, 0A features: schema and program do not fit.
            "42" | "0A" => Error::Mismatch(message),
            // 40 deadlocks, 53 resources, 55 and 57 locks and operators, and whatever else: it was
            // rolled back, and may work the next time.
            _ => Error::Unavailable(message),
        },
    }
}
