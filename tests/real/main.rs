//! The built binary on real PostgreSQL, Kafka and Redis, driven as a user does: `axs migrate`,
//! `serve-grpc`, `consume`, `cron-outbox` as processes, `axs submit` as the client.
//!
//! - `exact`: files of commands give exactly what independent models say they must;
//! - `kills`: so they do when any process is killed in the middle; `outages`: or away for a while;
//! - `members`: several processes share the work; `outbox`: what was lost on the way arrives;
//! - `refusals`: what does not fit together is refused; `restore`: what comes back from an earlier time;
//! - `shards`: what operators see of them;
//! - `audit`: what must hold in the end, wherever one looks; `watchers`: it would notice.

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

mod audit;
mod exact;
mod kills;
mod members;
mod outages;
mod outbox;
mod refusals;
mod restore;
mod shards;
mod watchers;
