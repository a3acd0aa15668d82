//! Measures AXS: one module for each bench, each from a seed, on parts or on a whole cluster of its own.
//!
//! - [`engine`]: the rules alone; [`codec`]: from the bytes of a record to the bytes of its result;
//! - [`flush`]: what the rules did, into PostgreSQL; [`consume`]: from the log to PostgreSQL, results
//!   and cache;
//! - [`submit`]: acceptance through the API, on a cluster of its own, by independent
//!   [`callers`], with [`requests`] of the API; [`baseline`]: row locks, to compare with;
//! - [`workload`]: which accounts a command touches, and what it does to them;
//! - [`recorder`]: latencies and throughput over time, as callers see them; [`pace`]: when a caller
//!   should send, whatever the answers do;
//! - [`e2e`]: the whole way, as one who waits sees it; [`floor`]: its hops without AXS; [`read`]:
//!   balances from the cache;
//! - [`cluster`]: services and servers, for benches of the whole way;
//! - [`usage`]: processor time and memory of our own and the servers' processes; [`statistics`]:
//!   what PostgreSQL counts;
//! - [`figures`]: what a run measured, in one shape for all benches.
//!
//! Floats and the clock are at home here and nowhere near the engine.

pub mod baseline;
pub mod callers;
pub mod cluster;
pub mod codec;
pub mod consume;
pub mod e2e;
pub mod engine;
pub mod figures;
pub mod floor;
pub mod flush;
pub mod pace;
pub mod read;
pub mod recorder;
pub mod requests;
pub mod statistics;
pub mod submit;
pub mod usage;
pub mod workload;

pub use figures::{Figures, Stage};
pub use pace::Pacemaker;
pub use recorder::Recorder;
pub use workload::{Draw, Shape, Workload};
