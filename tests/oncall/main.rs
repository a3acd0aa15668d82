//! What an engineer on call does, on real PostgreSQL, Kafka and Redis, with the built binary: each
//! test breaks something, and the commands that the message names bring it back.

#[path = "../support/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "the binary itself makes the schema here")]
#[path = "../support/database.rs"]
mod database;
#[path = "../support/expected.rs"]
mod expected;
#[expect(dead_code, reason = "the binary itself makes the topics here")]
#[path = "../support/kafka.rs"]
mod fixture;
#[path = "../support/member.rs"]
mod member;
#[expect(dead_code, reason = "services are members of a cluster here")]
#[path = "../support/process.rs"]
mod process;
#[expect(dead_code, reason = "only hooks name its folder")]
#[path = "../support/stack.rs"]
mod stack;
#[expect(dead_code, reason = "balances are read after what was written here")]
#[path = "../support/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;

mod drift;
mod reconcile;
