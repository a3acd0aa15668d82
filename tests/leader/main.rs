//! The leader against the in-memory store, step by step: batching, the flush pipeline, refusals,
//! dead letters, publication, hand-over.

mod commands;
mod leadership;
mod pipeline;
mod refusals;
mod reversals;
mod world;

use std::time::Duration;

use axs::core::{
    command::{CommandKind, hash, record},
    engine::RejectCode,
    leader::{Config, Input, Output, Phase, Why},
    store::DeadLetterReason,
    types::{AccountId, AssetId, CommandId, Position, Sequence, ShardId},
};
use bytes::Bytes;
use commands::{command, credit, id, open, reverse};
use world::{FlushFault, LEASE, SHARD, World, config};

const SECOND: Duration = Duration::from_secs(1);

fn available(world: &World, account: u64) -> i128 {
    let found = world
        .tables
        .balances(world.clock(), &[AccountId(account)])
        .swap_remove(0);
    let balances = found.expect("the account is open").balances;
    balances
        .iter()
        .find(|balance| balance.asset == AssetId(1))
        .map_or(0, |balance| balance.available.minor_units())
}

/// Who follows the results deduplicates them by command id: a take-over sends some again.
fn results(world: &World) -> Vec<CommandId> {
    let ids: std::collections::BTreeSet<_> = world.published.iter().copied().collect();
    ids.into_iter().collect()
}

fn reject_code(world: &World, sequence: u64) -> Option<RejectCode> {
    let outcome = world.tables.outcomes(&[id(sequence)]).swap_remove(0);
    outcome
        .expect("the command has an outcome")
        .outcome
        .reject
        .map(|reject| reject.code)
}
