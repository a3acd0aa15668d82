//! Leases and closes the blocks that sequence numbers come from. Every retry is bounded: what
//! cannot be closed here is closed by the outbox.

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    numbers::Numbers,
    task::{ATTEMPTS_MAX, BACKOFF},
};
use crate::core::{
    store::{self, SequenceBlock, Store},
    types::{Nonce, ShardId},
};

/// Most leases asked for at a time.
const LEASES_MAX: usize = 16;

/// A lease, and when it was asked for: by our clock it is never younger than that.
pub(super) type Lease = (SequenceBlock, Instant);

/// The blocks of this writer.
pub(super) struct Blocks {
    store: Store,
    size: u32,
    pub numbers: Numbers,
}

impl Blocks {
    pub fn new(store: Store, size: u32) -> Self {
        Self {
            store,
            size: size.max(1),
            numbers: Numbers::default(),
        }
    }

    /// Leases what is missing for these needs.
    pub async fn lease_missing(&mut self, needs: &[(ShardId, u64)]) -> Result<(), store::Error> {
        let missing = needs.iter().filter_map(|&(shard, needed)| {
            let missing = self.numbers.shortage(shard, needed);
            let missing = u32::try_from(missing).expect("a group is far smaller");
            (missing > 0).then_some((shard, self.size.max(missing)))
        });
        let leased = self.lease_all(missing.collect()).await;
        self.add(leased)
    }

    /// Leases the next block of those shards that will need one soon.
    pub async fn lease_next(&self, shards: &[ShardId]) -> Vec<Result<Lease, store::Error>> {
        let low = shards.iter().copied();
        let low = low.filter(|shard| self.numbers.is_low(*shard, self.size));
        self.lease_all(low.map(|shard| (shard, self.size)).collect())
            .await
    }

    /// Keeps what was leased; the last error, if there is one.
    pub fn add(&mut self, leased: Vec<Result<Lease, store::Error>>) -> Result<(), store::Error> {
        let mut result = Ok(());
        for lease in leased {
            match lease {
                Ok((block, asked_at)) => self.numbers.add(block, asked_at),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Closes the blocks that are not used any more; an execution under way is waited for, a late
    /// one refused. False: it could not, and remembers them.
    pub async fn close(&mut self) -> bool {
        let closing = self.numbers.take_closing();
        if closing.is_empty() {
            return true;
        }
        for attempt in 0..ATTEMPTS_MAX {
            match self.store.close_blocks(&closing).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!(%error, "sequence blocks were not closed"),
            }
            sleep(BACKOFF * 2_u32.pow(attempt)).await;
        }
        self.numbers.close_later(closing);
        false
    }

    async fn lease_all(&self, sizes: Vec<(ShardId, u32)>) -> Vec<Result<Lease, store::Error>> {
        let leases = sizes
            .into_iter()
            .map(|(shard, size)| self.lease(shard, size));
        stream::iter(leases).buffered(LEASES_MAX).collect().await
    }

    /// Leases a block; a lost answer is asked for again by the same nonce.
    async fn lease(&self, shard: ShardId, size: u32) -> Result<Lease, store::Error> {
        let nonce = random_nonce()?;
        // Counted from before the call: by our clock the block is never younger than it is.
        let asked_at = Instant::now();
        let block = match self.store.lease_block(shard, nonce, size).await {
            Err(store::Error::AnswerLost(_)) => self.store.lease_block(shard, nonce, size).await,
            answer => answer,
        };
        Ok((block?, asked_at))
    }
}

fn random_nonce() -> Result<Nonce, store::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| store::Error::Unavailable(format!("no random number: {error}")))?;
    Ok(Nonce(i64::from_le_bytes(bytes)))
}
