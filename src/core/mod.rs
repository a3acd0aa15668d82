//! Everything AXS does, without a command line.
//!
//! Imports point one way:
//! `types ← command ← engine ← leader ← {log, store, cache} ← {writer, consumer, outbox, grpc} ← cmd`.
//!
//! - [`types`], [`assets`], [`interval_set`]: the vocabulary.
//! - [`command`]: a command from the wire to the log record, its amounts and content hash.
//! - [`engine`]: the pure rules; [`leader`]: the sans-I/O owner of one shard.
//! - [`result`]: outcomes, entries and balances as messages of the API.
//! - [`log`], [`store`], [`cache`]: the three seams, each real and in memory.
//! - [`writer`]: group commit of acceptance; [`consumer`]: drives leaders; [`outbox`]: re-sends.
//! - [`embedded`]: store and log of one process over the log file.
//! - [`grpc`]: the API; [`telemetry`]: logs, metrics, the admin port.
//! - [`workload`]: commands as an exchange would send them, from a seed.

pub mod assets;
pub mod cache;
pub mod clock;
pub mod command;
pub mod config;
pub mod consumer;
pub mod doctor;
pub mod embedded;
pub mod engine;
pub mod generations;
pub mod grpc;
pub mod interval_set;
pub mod leader;
pub mod log;
pub mod outbox;
pub mod outcomes;
pub mod proto;
pub mod registry;
pub mod result;
pub mod seed;
pub mod startup;
pub mod store;
pub mod submit;
pub mod telemetry;
pub mod types;
pub mod workload;
pub mod writer;
