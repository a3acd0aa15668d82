//! Re-sends what was accepted and did not reach the engine, and closes the numbers nobody will use.
//! Every pass may run twice, by two processes, at any time: the engine applies a number once.
//!
//! No clock of this process decides whether a command was passed over: TICK records carry the
//! store's clock through the log, and only what is older than the greatest TICK applied is sent
//! again (`plan`).

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::{
    config,
    log::{self, Log, NewRecord},
    store::{self, Store},
    types::ShardId,
};

pub(in crate::core) mod plan;
mod watch;

use plan::{Memory, Planned};
use watch::Watch;

/// Old sequence blocks are looked for this often.
const CLOSE_BLOCKS_INTERVAL: Duration = Duration::from_secs(10);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log did not take the records; the next pass sends them again.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// What one pass over all shards did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Commands pending, parked ones left out.
    pub pending: u64,
    /// TICK records appended.
    pub ticks: u64,
    /// Commands appended again.
    pub resent: u64,
    /// Sequence numbers in the SEAL records appended.
    pub sealed: u64,
    /// Sequence blocks closed because of their age.
    pub blocks_closed: u64,
}

/// The outbox of one process.
pub struct Outbox {
    store: Store,
    log: Log,
    settings: config::Outbox,
    shards: u16,
    memories: BTreeMap<ShardId, Memory>,
    watch: Watch,
    started: Instant,
    is_alone: bool,
    close_blocks_at: Option<Instant>,
}

impl Outbox {
    /// Reads the number of shards.
    pub async fn new(
        store: Store,
        log: Log,
        settings: config::Outbox,
    ) -> Result<Self, store::Error> {
        let shards = store.shards().await?;
        Ok(Self {
            store,
            log,
            settings,
            shards,
            memories: BTreeMap::new(),
            watch: Watch::new(),
            started: Instant::now(),
            is_alone: false,
            close_blocks_at: None,
        })
    }

    /// The outbox of a process that makes one pass and ends: it does not wait for a TICK of its own.
    #[must_use]
    pub fn for_one_pass(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Passes over all shards until `shutdown`. A pass that fails is only logged: the next one does
    /// its work.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(self.settings.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            match self.pass().await {
                Ok(pass) if pass.resent + pass.sealed > 0 => {
                    tracing::info!(resent = pass.resent, sealed = pass.sealed, "sent again");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "outbox pass failed"),
            }
        }
    }

    /// One pass over all shards; the first error, once all were tried.
    pub async fn pass(&mut self) -> Result<Pass, Error> {
        let pass = self.pass_all().await;
        Watch::passed(&pass);
        pass
    }

    async fn pass_all(&mut self) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let mut failed: Option<Error> = None;
        let now = Instant::now();
        if self.close_blocks_at.is_none_or(|at| now >= at) {
            match self
                .store
                .close_old_blocks(self.settings.block_age_max)
                .await
            {
                Ok(closed) => {
                    pass.blocks_closed = closed;
                    self.close_blocks_at = Some(now + CLOSE_BLOCKS_INTERVAL);
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        match self.store.shard_rows().await {
            Ok(rows) => watch::rows(&rows),
            Err(error) => failed = failed.or(Some(error.into())),
        }
        for shard in (0..self.shards).map(ShardId) {
            // One shard in trouble must not keep the others waiting.
            if let Err(error) = self.pass_shard(shard, &mut pass).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(pass), Err)
    }

    async fn pass_shard(&mut self, shard: ShardId, pass: &mut Pass) -> Result<(), Error> {
        let (margin, limit) = (self.settings.margin, self.settings.pass_count_max);
        let view = self.store.outbox_view(shard, margin, limit).await?;
        self.watch.view(shard, &view, self.started.elapsed());
        let new = if self.is_alone {
            Memory::alone
        } else {
            Memory::default
        };
        let memory = self.memories.entry(shard).or_insert_with(new);
        let Planned {
            records,
            tick,
            resent,
            sealed,
        } = plan::plan(shard, &view, margin, memory, self.started.elapsed());
        pass.pending += view.pending_count;
        self.append(records).await?;
        pass.ticks += u64::from(tick);
        pass.resent += resent;
        pass.sealed += sealed;
        metrics::counter!("axs_outbox_resent_total").increment(resent);
        Ok(())
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<(), log::Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.log.append(records).await.into_iter().collect()
    }
}
