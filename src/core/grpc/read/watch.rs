//! Every result from a position on, without a gap: read from the journal, woken by the tail.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use hashbrown::HashSet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Failure, ReadService};
use crate::core::{
    proto::{WatchResultsRequest, WatchResultsResponse},
    types::{AccountId, Position, ShardId},
    writer::NotTaken,
};

/// Most watches of this process.
const WATCHES_MAX: usize = 256;
/// Most accounts of one watch.
const ACCOUNTS_MAX: usize = 10_000;
/// Results read at a time.
const RESULTS_MAX: usize = 256;
/// Results that wait for the client to read them.
const BUFFER_MAX: usize = 512;
/// A client that takes no result for so long is too slow.
const SLOW_MAX: Duration = Duration::from_secs(10);
/// Without a word from the tail the store is asked this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds the watches.
#[derive(Clone)]
pub(super) struct Watches(Arc<Semaphore>);

impl Default for Watches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHES_MAX)))
    }
}

/// One watch.
struct Watch {
    service: ReadService,
    /// First position of each shard that was not read yet.
    next: Vec<Position>,
    /// Empty: all.
    accounts: HashSet<AccountId>,
    results: mpsc::Sender<Result<WatchResultsResponse, Status>>,
    _permit: OwnedSemaphorePermit,
}

/// Why a watch ends.
enum End {
    /// Nobody listens.
    Gone,
    /// To tell.
    Failed(Failure),
}

impl ReadService {
    pub(super) async fn watch(
        &self,
        request: WatchResultsRequest,
    ) -> Result<impl Stream<Item = Result<WatchResultsResponse, Status>> + use<>, Failure> {
        if request.account_ids.len() > ACCOUNTS_MAX {
            let text = format!("must be at most {ACCOUNTS_MAX}");
            return Err(Failure::invalid("account_ids", text));
        }
        let text = "too many watches; try again later";
        let permit = self.watches.0.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Failure::Overloaded(text.into()))?;
        let next = self.start_positions(&request).await?;
        let (results, receiver) = mpsc::channel(BUFFER_MAX);
        let (end, ended) = oneshot::channel();
        let mut watch = Watch {
            service: self.clone(),
            next,
            accounts: request.account_ids.into_iter().map(AccountId).collect(),
            results,
            _permit: permit,
        };
        tokio::spawn(async move {
            if let End::Failed(failure) = watch.run().await {
                // Who went away does not want it.
                let _ = end.send(Status::from(failure));
            }
        });
        // The reason stands behind the results that are still buffered, however full the buffer.
        let last = stream::once(ended).filter_map(async |end| end.ok().map(Err));
        Ok(ReceiverStream::new(receiver).chain(last))
    }

    async fn start_positions(
        &self,
        request: &WatchResultsRequest,
    ) -> Result<Vec<Position>, Failure> {
        let mut next = vec![Position::ZERO; self.shards.into()];
        for row in self.store.shard_rows().await? {
            if let Some(next) = next.get_mut(usize::from(row.shard.0)) {
                *next = row.next_position;
            }
        }
        for (&shard, &after) in &request.after_positions {
            let field = format!("after_positions[{shard}]");
            let at = usize::try_from(shard).ok();
            let Some(next) = at.and_then(|shard| next.get_mut(shard)) else {
                let text = format!("must name a shard below {}", self.shards);
                return Err(Failure::invalid(field, text));
            };
            let from = after.checked_add(1).filter(|from| *from >= 0);
            let text = "must be the position of a result, or -1 for all";
            *next = Position(from.ok_or_else(|| Failure::invalid(field, text))?);
        }
        Ok(next)
    }
}

impl Watch {
    async fn run(&mut self) -> End {
        let outcomes = self.service.outcomes.clone();
        let drain = self.service.drain.clone();
        let mut moved = outcomes.moved();
        // What is behind the start is read at once, whatever the tail knows.
        let mut behind: Vec<_> = (0..self.service.shards).map(ShardId).collect();
        loop {
            for shard in behind {
                if let Err(end) = self.catch_up(shard).await {
                    return end;
                }
            }
            behind = tokio::select! {
                () = drain.cancelled() => return End::Failed(NotTaken::Stopping.into()),
                () = self.results.closed() => return End::Gone,
                // The sender lives as long as the service.
                _ = moved.changed() => {
                    let shards = (0..self.service.shards).map(ShardId);
                    shards.filter(|shard| outcomes.latest(*shard) >= self.next_of(*shard)).collect()
                }
                () = sleep(LOOK_INTERVAL) => match self.service.store.shard_rows().await {
                    Ok(rows) => rows
                        .into_iter()
                        .filter(|row| row.next_position > self.next_of(row.shard))
                        .map(|row| row.shard)
                        .collect(),
                    Err(error) => return End::Failed(error.into()),
                },
            };
        }
    }

    async fn catch_up(&mut self, shard: ShardId) -> Result<(), End> {
        loop {
            if self.service.drain.is_cancelled() {
                return Err(End::Failed(NotTaken::Stopping.into()));
            }
            let from = self.next_of(shard);
            let read = self.service.store.results(shard, from, RESULTS_MAX).await;
            let results = read.map_err(|error| End::Failed(error.into()))?;
            for stored in &results {
                if self.accounts.is_empty() || self.accounts.contains(&stored.outcome.account) {
                    let result = self.service.outcomes.render(stored).await;
                    self.send(WatchResultsResponse {
                        result: Some(result),
                    })
                    .await?;
                }
                self.next[usize::from(shard.0)] = Position(stored.outcome.position.0 + 1);
            }
            if results.len() < RESULTS_MAX {
                return Ok(());
            }
        }
    }

    async fn send(&self, response: WatchResultsResponse) -> Result<(), End> {
        match timeout(SLOW_MAX, self.results.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                let text = "the client reads too slowly; watch again from the last position seen";
                Err(End::Failed(Failure::Overloaded(text.into())))
            }
        }
    }

    fn next_of(&self, shard: ShardId) -> Position {
        self.next
            .get(usize::from(shard.0))
            .copied()
            .unwrap_or(Position(i64::MAX))
    }
}
