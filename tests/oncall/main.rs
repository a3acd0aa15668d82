//! What an engineer on call does, on real PostgreSQL, Kafka and Redis, with the built binary: each
//! test breaks something, and the commands that the message names bring it back.

#![expect(dead_code, reason = "what supports tests serves others too")]

#[path = "../real/audit.rs"]
mod audit;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/expected.rs"]
mod expected;
#[path = "../support/kafka.rs"]
mod fixture;
#[path = "../support/ledger.rs"]
mod ledger;
#[path = "../support/member.rs"]
mod member;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/stack.rs"]
mod stack;
#[path = "../support/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod drift;
mod inspect;
mod pause;
mod rebase;
mod reconcile;
mod recover;
mod replay;
