//! What became of a line, and of all lines together.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::core::{
    command::json::JsonError,
    proto::{CommandStatus, RejectCode, SubmitError, SubmitOutcome, submit_error::Code},
};

/// Names the shape of a [`LineReport`] in JSON.
pub const SCHEMA: &str = "axs.submit/v1";

/// What became of one line. Absent in JSON: false or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// From 1, blank lines counted.
    pub line: u64,
    /// As sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idempotency_key: String,
    /// Set: the server stored the command, or knew it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command_id: String,
    /// Name of the `CommandStatus`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Name of the `RejectCode`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reject_code: String,
    /// One sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reject_reason: String,
    /// The key was known with the same body.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// Name of the `SubmitError.Code`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Which field the error is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What it must be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How often it was sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The line was not answered for good; the same key may be sent again.
    #[serde(skip)]
    pub undecided: bool,
}

/// What became of all lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines with a command, or what should have been one.
    pub lines: u64,
    /// Lines by their label.
    pub counts: BTreeMap<String, u64>,
    /// Lines sent more than once.
    pub sent_again: u64,
    /// Lines without an answer for good.
    pub undecided: u64,
    /// The first of them.
    pub first_undecided: Option<u64>,
}

impl LineReport {
    /// A line that is no command: it was not sent.
    pub fn invalid(line: u64, error: JsonError) -> Self {
        Self {
            schema: SCHEMA,
            line,
            error: code_name(Code::Invalid),
            field: error.field,
            message: error.message,
            ..Self::default()
        }
    }

    /// A line that was answered for good.
    pub(super) fn answered(line: u64, key: String, attempts: u32, outcome: SubmitOutcome) -> Self {
        let mut report = Self {
            schema: SCHEMA,
            line,
            idempotency_key: key,
            command_id: match outcome.command_id {
                0 => String::new(),
                id => id.to_string(),
            },
            attempts,
            ..Self::default()
        };
        if let Some(error) = outcome.error {
            report.error = code_name(error.code());
            report.field = error.field;
            report.message = error.message;
            return report;
        }
        report.status = name(outcome.status().as_str_name(), "COMMAND_STATUS_");
        report.duplicate = outcome.duplicate;
        if let Some(result) = outcome.result {
            if result.reject_code() != RejectCode::Unspecified {
                report.reject_code = name(result.reject_code().as_str_name(), "REJECT_CODE_");
            }
            report.reject_reason = result.reject_reason;
        }
        report
    }

    /// A line that was not answered for good; `last` is what the server said last.
    pub(super) fn undecided(
        line: u64,
        key: String,
        attempts: u32,
        last: Option<SubmitError>,
        message: String,
    ) -> Self {
        let last = last.unwrap_or_default();
        let code = match last.code() {
            Code::Unspecified => Code::Unavailable,
            code => code,
        };
        let message = match last.message.as_str() {
            "" => message,
            said => format!("{message}; the last answer was: {said}"),
        };
        Self {
            schema: SCHEMA,
            line,
            idempotency_key: key,
            error: code_name(code),
            field: last.field,
            message,
            attempts,
            undecided: true,
            ..Self::default()
        }
    }

    /// Such as `APPLIED`, `REJECTED:INSUFFICIENT_FROZEN`, `DUPLICATE APPLIED`, `INVALID`.
    pub fn label(&self) -> String {
        if !self.error.is_empty() {
            return self.error.clone();
        }
        let duplicate = if self.duplicate { "DUPLICATE " } else { "" };
        match self.reject_code.as_str() {
            "" => format!("{duplicate}{}", self.status),
            code => format!("{duplicate}{}:{code}", self.status),
        }
    }
}

impl Summary {
    pub(super) fn count(&mut self, report: &LineReport) {
        self.lines += 1;
        *self.counts.entry(report.label()).or_default() += 1;
        self.sent_again += u64::from(report.attempts > 1);
        if report.undecided {
            self.undecided += 1;
            self.first_undecided.get_or_insert(report.line);
        }
    }
}

/// Whether an answer ends a line: rejections do, an outcome still unknown does not.
pub(super) fn is_final(outcome: &SubmitOutcome, applied: bool) -> bool {
    if let Some(error) = &outcome.error {
        let unknown = matches!(
            error.code(),
            Code::Unspecified
                | Code::DeadlineExceeded
                | Code::Unavailable
                | Code::Overloaded
                | Code::Internal
        );
        return !(error.retryable || unknown);
    }
    match outcome.status() {
        CommandStatus::Unspecified => false,
        CommandStatus::Accepted => !applied,
        CommandStatus::Applied | CommandStatus::Rejected | CommandStatus::Parked => true,
    }
}

fn code_name(code: Code) -> String {
    name(code.as_str_name(), "CODE_")
}

fn name(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix).unwrap_or(full).to_owned()
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
