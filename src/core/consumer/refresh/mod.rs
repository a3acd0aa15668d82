//! Keeps the cache true for one led shard: carries out what `plan` says, one thing at a time.

use tokio::{sync::mpsc, time::Instant};

use crate::core::{
    cache::{Cache, Snapshot},
    leader::Mono,
    store::{AccountBalances, Store},
    types::ShardId,
};

pub(in crate::core) mod plan;

pub(super) use plan::Told;
use plan::{Input, Output, Refresh};

/// Runs until the driver hangs up.
pub(super) async fn run(
    shard: ShardId,
    store: Store,
    cache: Cache,
    mut told: mpsc::Receiver<Told>,
) {
    // Of a counter that begins at 1 nobody sees the rise.
    for name in ["axs_cache_write_failures_total", "axs_cache_losses_total"] {
        metrics::counter!(name).increment(0);
    }
    let started = Instant::now();
    let mut refresh = Refresh::new(Mono::ZERO);
    loop {
        let due = started + refresh.due();
        let mut input = tokio::select! {
            biased;
            told = told.recv() => match told {
                Some(told) => Input::Told(told),
                None => return,
            },
            () = tokio::time::sleep_until(due) => Input::Due,
        };
        while let Some(output) = refresh.step(started.elapsed(), input) {
            input = carry_out(shard, &store, &cache, output).await;
            if let Input::Failed(error) = &input {
                tracing::debug!(%shard, error, "the cache was not written");
                metrics::counter!("axs_cache_write_failures_total").increment(1);
            }
        }
    }
}

async fn carry_out(shard: ShardId, store: &Store, cache: &Cache, output: Output) -> Input {
    match output {
        Output::Write {
            epoch,
            pulse,
            snapshots,
        } => match cache.write(shard, epoch, pulse, &snapshots).await {
            Ok(written) => {
                if written.is_lost {
                    tracing::warn!(%shard, "the cache lost what it had: all accounts are written to it again");
                    metrics::counter!("axs_cache_losses_total").increment(1);
                }
                Input::Written(written)
            }
            Err(error) => Input::Failed(error.to_string()),
        },
        Output::List { behind, limit } => match store.accounts_behind(shard, behind, limit).await {
            Ok(accounts) => Input::Listed(accounts),
            Err(error) => Input::Failed(error.to_string()),
        },
        // With the shard's epoch of the same statement: a newer value stays.
        Output::Read { accounts } => match store.balances(&accounts).await {
            Ok(stored) => Input::read(stored.into_iter().flatten().collect()),
            Err(error) => Input::Failed(error.to_string()),
        },
    }
}

impl Input {
    /// What the store said of some accounts, all of one shard.
    pub(in crate::core) fn read(stored: Vec<AccountBalances>) -> Self {
        let epoch = stored.first().map(|balances| balances.epoch);
        Self::Read {
            epoch,
            snapshots: stored.iter().map(Snapshot::from).collect(),
        }
    }
}
