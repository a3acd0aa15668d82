//! A cluster of its own on the servers that the settings name, for `axs chaos` and `axs bench`:
//! nothing that was there before is touched, and all of it is taken away again.
//!
//! - [`ground`]: a database, topics, keys and a folder;
//! - [`processes`]: services of this binary; [`fleet`]: all services of a run.

use crate::core::{cache, log, store};

pub mod fleet;
pub mod ground;
pub mod processes;

/// Why a run could not be brought to its end.
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
