//! Proof by breaking: a cluster of this binary's own services on real servers, a seeded load, faults
//! while it runs, and a verdict on everything that was promised. For operators, on their servers;
//! nothing that was there before is touched.
//!
//! - [`stage`]: what a run stands on, of `ground` (database, topics, keys), [`proxy`] (broken
//!   connections), `processes` and `fleet` (services), [`hooks`] (the operator's commands).
//! - [`load`]: `client`s that send what `plan` says, and remember what they were told (`history`),
//!   with times in [`meter`].
//! - [`faults`]: what is done to all of it.
//! - [`judge`]: `replay` of the log on the model, [`laws`] in SQL, and the [`verdict`].
//! - [`run`] puts it together; [`failover`] measures how soon another process goes on, [`outage`]
//!   what minutes without a server, or ten times the load, do.

use crate::core::{cache, log, store};

mod client;
pub mod failover;
pub mod faults;
pub mod fleet;
mod ground;
mod history;
pub mod hooks;
pub mod judge;
pub mod laws;
pub mod load;
pub mod meter;
pub mod outage;
mod plan;
mod processes;
pub mod proxy;
mod queue;
mod replay;
pub mod run;
pub mod stage;
pub mod verdict;

/// Why a run could not be brought to its verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Kafka did not do it.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Redis did not do it.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A server is not there.
    #[error("{0}")]
    Unavailable(String),
    /// Told to stop.
    #[error("interrupted")]
    Interrupted,
    /// Anything else, with a hint where there is one.
    #[error("{0}")]
    Failed(String),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Unavailable(format!("postgresql: {}", ground::reason(&error)))
    }
}
