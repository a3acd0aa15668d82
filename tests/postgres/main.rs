//! What is PostgreSQL's alone: the schema, its guards against hand-made SQL, concurrent sessions,
//! sessions that hang, are cut off or are ended. What every store does is in `tests/store`.

mod concurrency;
mod cuts;
#[path = "../support/database.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod database;
mod interference;
mod journal;
mod leadership;
#[expect(dead_code, reason = "the suite of every store uses the rest")]
#[path = "../support/ledger.rs"]
mod ledger;
mod proxy;
mod schema;
#[path = "../support/mod.rs"]
mod support;
mod together;

use std::time::Duration;

use axs::core::types::ShardId;

/// Of each database.
const SHARDS: u16 = 4;
/// The shard that most tests use.
const SHARD: ShardId = ShardId(2);
/// What must not happen is watched for so long.
const WATCH: Duration = Duration::from_millis(300);
/// What must happen, happens within this on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);
