//! Sends commands, one JSON object a line, to a server's SubmitStream and tells what became of
//! each line. Exactly once is the server's work: a line is sent again with the same key.
//!
//! - [`report`]: what became of a line; `input`: lines from a file or a pipe;
//! - `flow`: which line may go out when, without I/O; `client`: connections and time.
//!
//! A line goes out when the answer (with [`WaitFor::Applied`]: the outcome) of its account's
//! previous line is in. A line's time counts from its first sending. An account with an undecided
//! line gets no later lines: they could overtake it.

use std::time::Duration;

pub use report::{LineReport, Summary};

pub use crate::core::proto::WaitFor;

mod client;
mod flow;
mod input;
pub mod report;

pub use client::{endpoint, reason, run};

/// Most accounts with a line under way.
pub const ACCOUNTS_IN_FLIGHT_MAX: usize = 1_024;
/// Longest line; a command is 32 KiB at most, JSON may spell it out.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How lines are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port` of the API.
    pub server: String,
    /// What counts as answered.
    pub wait: WaitFor,
    /// How long a line is sent again, from its first sending.
    pub timeout: Duration,
}

/// Why a run ended before its last line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection was ever made; nothing was sent.
    #[error("no server at {server}: {cause}")]
    NoServer {
        /// As given.
        server: String,
        /// The last attempt's error.
        cause: String,
    },
    /// The server will never take these calls.
    #[error("the server at {server} refuses the call: {cause}")]
    Refused {
        /// As given.
        server: String,
        /// With its status code.
        cause: String,
    },
    /// The lines cannot be read to their end.
    #[error("cannot read the commands: {0}")]
    Input(#[source] std::io::Error),
}
