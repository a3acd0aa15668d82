//! Proof by breaking: a cluster of this binary's own services on real servers, a seeded load, faults
//! while it runs, and a verdict on everything that was promised. For operators, on their servers;
//! nothing that was there before is touched.
//!
//! - [`stage`]: what a run stands on: a test bed, [`proxy`] (broken connections) and [`hooks`] (the
//!   operator's commands).
//! - [`load`]: `client`s that send what `plan` says, and remember what they were told (`history`),
//!   with times in [`meter`].
//! - [`faults`]: what is done to all of it.
//! - [`judge`]: `replay` of the log on the model, [`laws`] in SQL, and the [`verdict`].
//! - [`run`] puts it together; [`failover`] measures how soon another process goes on, [`outage`]
//!   what minutes without a server, or ten times the load, do.

pub use crate::core::testbed::{Error, fleet};
use crate::core::testbed::{ground, processes};

mod client;
pub mod failover;
pub mod faults;
mod history;
pub mod hooks;
pub mod judge;
pub mod laws;
pub mod load;
pub mod meter;
pub mod outage;
mod plan;
pub mod proxy;
mod queue;
mod replay;
pub mod run;
pub mod stage;
pub mod verdict;
