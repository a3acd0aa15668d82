//! What a process says about itself: logs, metrics, health, and the admin port that shows them.
//!
//! - [`logs`]: tracing, as text or JSON lines; [`metrics`]: names, buckets, the recorder;
//! - [`health`]: named checks that services register; [`admin`]: `/healthz`, `/readyz`,
//!   `/metrics`, `/version`.
//!
//! Nothing in here decides anything, and nothing waits for it.

pub mod admin;
pub mod health;
pub mod logs;
pub mod metrics;

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be had.
    #[error("cannot listen on {address} for the admin port: {cause}")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// As the system says it.
        cause: std::io::Error,
    },
    /// Logs or metrics were started twice, or the log filter does not parse.
    #[error("{0}")]
    Setup(String),
}
