//! Keeps the cache true for one led shard: carries out what `plan` says, one thing at a time.

use hashbrown::HashSet;
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

/// Most commits that are written to the cache at once.
const MERGED_MAX: usize = 8;

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
    let mut next = None;
    loop {
        let due = started + refresh.due();
        let first = match next.take() {
            Some(first) => Some(first),
            None => tokio::select! {
                biased;
                told = told.recv() => match told {
                    Some(told) => Some(told),
                    None => return,
                },
                () = tokio::time::sleep_until(due) => None,
            },
        };
        let mut input = match first {
            Some(first) => {
                let merged;
                (merged, next) = merge(first, &mut told);
                Input::Told(merged)
            }
            None => Input::Due,
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

/// A commit with those that wait behind it, because the cache is slower: of an account's snapshots
/// only the newest is written. And what was told next, if that is something else.
fn merge(first: Told, told: &mut mpsc::Receiver<Told>) -> (Told, Option<Told>) {
    let Told::Committed(epoch, mut snapshots) = first else {
        return (first, None);
    };
    let (mut next, alone) = (None, snapshots.len());
    for _ in 1..MERGED_MAX {
        match told.try_recv() {
            Ok(Told::Committed(of, more)) if of == epoch => snapshots.extend(more),
            other => {
                next = other.ok();
                break;
            }
        }
    }
    if snapshots.len() > alone {
        let mut seen = HashSet::with_capacity(snapshots.len());
        snapshots.reverse();
        snapshots.retain(|snapshot| seen.insert(snapshot.account));
    }
    (Told::Committed(epoch, snapshots), next)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{AccountId, Epoch, Position, Timestamp};

    fn committed(epoch: u64, position: i64, accounts: &[u64]) -> Told {
        let snapshot = |&account: &u64| Snapshot {
            account: AccountId(account),
            epoch: Epoch(epoch),
            position: Position(position),
            as_of: Timestamp(0),
            balances: Vec::new(),
        };
        Told::Committed(Epoch(epoch), accounts.iter().map(snapshot).collect())
    }

    fn merge_all(told: Vec<Told>) -> Vec<Vec<(u64, i64)>> {
        let (sender, mut receiver) = mpsc::channel(told.len());
        for one in told {
            sender.try_send(one).expect("there is room");
        }
        let (mut all, mut next) = (Vec::new(), receiver.try_recv().ok());
        while let Some(first) = next.take() {
            let (merged, behind) = merge(first, &mut receiver);
            next = behind.or_else(|| receiver.try_recv().ok());
            let Told::Committed(_, snapshots) = merged else {
                all.push(Vec::new());
                continue;
            };
            let pairs = snapshots.iter().map(|one| (one.account.0, one.position.0));
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort_unstable();
            all.push(pairs);
        }
        all
    }

    #[test]
    fn of_the_commits_that_wait_each_accounts_newest_snapshot_is_kept() {
        let told = vec![
            committed(1, 10, &[1, 2]),
            committed(1, 20, &[2, 3]),
            committed(1, 30, &[3]),
        ];
        assert_eq!(merge_all(told), [[(1, 10), (2, 20), (3, 30)]]);
    }

    #[test]
    fn commits_of_two_epochs_or_across_another_word_are_never_merged() {
        let told = vec![
            committed(1, 10, &[1]),
            committed(2, 20, &[1]),
            Told::SteppedDown,
            committed(2, 30, &[1]),
        ];
        let expected = [vec![(1, 10)], vec![(1, 20)], vec![], vec![(1, 30)]];
        assert_eq!(merge_all(told), expected);
    }

    #[test]
    fn no_more_than_so_many_are_merged_and_none_is_lost() {
        let count = 2 * MERGED_MAX as u64 + 1;
        let told = (1..=count).map(|number| committed(1, 1, &[number]));
        let merged = merge_all(told.collect());
        assert!(merged.iter().all(|one| one.len() <= MERGED_MAX));
        assert_eq!(merged.concat().len() as u64, count);
    }
}
