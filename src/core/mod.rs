//! Everything AXS does, without a command line.
//!
//! Imports point one way:
//! `types ← command ← engine ← contracts of {log, store, cache} ← leader ←
//! {writer, outcomes, consumer, outbox} ← {grpc, seed, testbed, chaos, bench} ← cmd`. The contract of a seam is the `mod.rs`
//! of its folder; the implementations beside it are used by nobody else.
//!
//! - [`types`], [`assets`], [`interval_set`], [`proto`]: the vocabulary; [`config`]: every setting.
//! - [`command`]: a command from the wire to the log record, its amounts and content hash.
//! - [`engine`]: the pure rules; [`leader`]: the sans-I/O owner of one shard.
//! - [`result`]: outcomes, entries and balances as messages of the API.
//! - [`log`], [`store`], [`cache`]: the three seams, each real and in memory.
//! - [`writer`]: group commit of acceptance; [`outcomes`]: waiting for what became of a command;
//!   [`consumer`]: drives leaders; [`drift`]: compares what they have with what is stored;
//!   [`outbox`]: re-sends.
//! - [`registry`]: the assets a process knows; [`generations`]: a bounded map; [`clock`]: the time of
//!   the in-memory parts.
//! - [`startup`]: what is checked before a process takes part; [`doctor`]: what an operator is told;
//!   [`inspect_command`]: the life of a command; [`shards`]: who leads each shard, how far it is, and
//!   what waits; [`replay`]: the log once more.
//! - [`embedded`]: store and log of one process over the log file.
//! - [`grpc`]: the API; [`telemetry`]: logs, metrics, the admin port.
//! - [`testbed`]: a cluster of its own on real servers, for [`chaos`] (proof by breaking) and
//!   [`mod@bench`] (how fast, and where the time goes).
//! - [`submit`]: the client of `axs submit`; [`seed`]: many accounts by the real path;
//!   [`workload`]: commands as an exchange would send them, from a seed.

pub mod assets;
pub mod bench;
pub mod cache;
pub mod canary;
pub mod chaos;
pub mod clock;
pub mod command;
pub mod config;
pub mod consumer;
pub mod doctor;
pub mod drift;
pub mod embedded;
pub mod engine;
pub mod generations;
pub mod grpc;
pub mod inspect_command;
pub mod interval_set;
pub mod leader;
pub mod log;
pub mod outbox;
pub mod outcomes;
pub mod proto;
pub mod reconcile;
pub mod registry;
pub mod replay;
pub mod result;
pub mod seed;
pub mod shards;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod startup;
pub mod store;
pub mod submit;
pub mod telemetry;
pub mod testbed;
pub mod types;
pub mod workload;
pub mod writer;
