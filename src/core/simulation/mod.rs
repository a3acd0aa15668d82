//! The seeded simulation: several leaders, writers, outboxes, clients and readers of one cluster in
//! one thread, over the in-memory store, a log and a cache with faults. A seed decides everything:
//! what clients send, how long each message takes, what is lost, who dies, which server is away.
//! Then all is healed, the cluster must come to rest, and `checker` compares what is there with
//! the naive model and with what clients were told.
//!
//! The leader, the engine, the tables, the group commit, the sequence numbers, the outbox's plan and
//! the cache's refresh are the ones that run in production; what carries their messages is in here.
//!
//! - `profile`: limits, noise and size of a run; `faults`: the schedule; `world`: time, messages,
//!   processes; `network`: what becomes of a request; `servers`: store, log and cache; `consumer`, `writer`, `outbox`, `client`, `reader`:
//!   the processes; `operator`: what a person does when a shard stops; `checker`: what must hold.
//! - `run`: a seed from beginning to end; `shrink`: the fewest faults that still fail; `canaries`:
//!   every guard switched off; `exhaustive`: a strike after every step of a leader.

pub use canaries::{Canary, Detection, canaries, detect};
pub use exhaustive::{Exhaustive, SCENARIOS, exhaustive};
pub use run::{Options, Report, run};
pub use shrink::shrink;
pub use sum::{Counts, Sum};

mod canaries;
mod checker;
mod client;
mod consumer;
mod exhaustive;
mod faults;
mod history;
mod network;
mod operator;
mod outbox;
mod profile;
mod reader;
mod run;
mod servers;
mod shrink;
mod sum;
mod world;
mod writer;

/// Microseconds of the simulation since its beginning.
type Micros = u64;

const MILLISECOND: Micros = 1_000;
const SECOND: Micros = 1_000_000;
