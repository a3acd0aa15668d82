//! The store in memory: PostgreSQL's answers without PostgreSQL, for `axs dev`, the simulation and
//! the conformance suite.
//!
//! [`Tables`] is the synchronous core: one method per statement, each all or nothing, the time an
//! argument, no randomness, no hash order. [`Store`] puts a lock and a clock around it and never
//! awaits. Nothing in here is durable: `core::embedded` rebuilds it from the log file.
//!
//! - `tables`: the rows, the registry, the members; `accept`: blocks and acceptance;
//! - `lead`: leases and loads; `flush`: the one write of a leader; `journal`: what happened;
//! - `read`: what the APIs ask; `outbox`: what was passed over; `operate`: what operators do.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    AcceptGroup, AcceptedGroup, AccountBalances, Act, DeadLetter, Error, Flush, Flushed, Health,
    HistoryQuery, Known, LoadRequest, Loaded, Member, OutboxView, Recovery, SequenceBlock,
    ShardRow, ShardState, StoredCommand, StoredEntry, StoredResult,
};
use crate::core::{
    assets::{Asset, Assets},
    clock::Clock,
    command::Command,
    types::{AccountId, AssetId, CommandId, Epoch, KeyHash, Nonce, Position, ShardId, Timestamp},
};

mod accept;
#[cfg(feature = "simulation")]
mod audit;
mod flush;
mod journal;
mod lead;
mod operate;
mod outbox;
mod read;
mod tables;

pub use tables::Tables;

/// The tables behind a lock, with a clock. Cheap to clone; clones share the tables.
#[derive(Clone)]
pub struct Store {
    tables: Arc<Mutex<Tables>>,
    clock: Clock,
}

impl Store {
    /// An empty store of a cluster with so many shards (at least 1).
    pub fn new(shards: u16, assets: Assets, clock: Clock) -> Self {
        Self::with_tables(Tables::new(shards, assets), clock)
    }

    /// A store over tables that were filled before.
    pub fn with_tables(tables: Tables, clock: Clock) -> Self {
        Self {
            tables: Arc::new(Mutex::new(tables)),
            clock,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables
            .lock()
            .expect("no statement panics half-way through")
    }

    /// See [`super::Store::shards`].
    pub async fn shards(&self) -> Result<u16, Error> {
        Ok(self.tables().shards())
    }

    /// See [`super::Store::assets`].
    pub async fn assets(&self) -> Result<Assets, Error> {
        Ok(self.tables().assets().clone())
    }

    /// See [`super::Store::add_asset`].
    pub async fn add_asset(&self, code: &str, scale: u8) -> Result<Asset, Error> {
        self.tables().add_asset(code, scale)
    }

    /// See [`super::Store::health`]. There is no server: no settings, no schema, no latency.
    pub async fn health(&self) -> Result<Health, Error> {
        Ok(Health {
            shards: Some(self.tables().shards()),
            ..Health::default()
        })
    }

    /// See [`super::Store::routes`].
    pub async fn routes(&self, accounts: &[AccountId]) -> Result<Vec<Option<ShardId>>, Error> {
        Ok(self.tables().routes(accounts))
    }

    /// See [`super::Store::lease_block`].
    pub async fn lease_block(
        &self,
        shard: ShardId,
        nonce: Nonce,
        size: u32,
    ) -> Result<SequenceBlock, Error> {
        let now = self.clock.now();
        self.tables().lease_block(now, shard, nonce, size)
    }

    /// See [`super::Store::close_blocks`].
    pub async fn close_blocks(&self, nonces: &[Nonce]) -> Result<(), Error> {
        self.tables().close_blocks(nonces);
        Ok(())
    }

    /// See [`super::Store::accept`].
    pub async fn accept(&self, group: &AcceptGroup) -> Result<AcceptedGroup, Error> {
        let now = self.clock.now();
        self.tables().accept(now, group)
    }

    /// See [`super::Store::beat`].
    pub async fn beat(&self, member: &Member, seen_within: Duration) -> Result<Vec<Member>, Error> {
        let now = self.clock.now();
        Ok(self.tables().beat(now, member, seen_within))
    }

    /// See [`super::Store::leave`].
    pub async fn leave(&self, name: &str) -> Result<(), Error> {
        self.tables().leave(name);
        Ok(())
    }

    /// See [`super::Store::shard_rows`].
    pub async fn shard_rows(&self) -> Result<Vec<ShardRow>, Error> {
        let now = self.clock.now();
        Ok(self.tables().shard_rows(now))
    }

    /// See [`super::Store::acquire`].
    pub async fn acquire(
        &self,
        shard: ShardId,
        leader: &str,
        mine: Option<Nonce>,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Option<ShardState>, Error> {
        let now = self.clock.now();
        self.tables().acquire(now, shard, leader, mine, nonce, ttl)
    }

    /// See [`super::Store::renew`].
    pub async fn renew(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        self.tables().renew(now, shard, epoch, nonce, ttl)
    }

    /// See [`super::Store::release`].
    pub async fn release(&self, shard: ShardId, epoch: Epoch, nonce: Nonce) -> Result<(), Error> {
        let now = self.clock.now();
        self.tables().release(now, shard, epoch, nonce)
    }

    /// See [`super::Store::load`].
    pub async fn load(&self, shard: ShardId, request: &LoadRequest) -> Result<Loaded, Error> {
        self.tables().load(shard, request)
    }

    /// See [`super::Store::flush`].
    pub async fn flush(&self, flush: &Flush, ttl: Duration) -> Result<Flushed, Error> {
        let now = self.clock.now();
        self.tables().flush(now, flush, ttl)
    }

    /// See [`super::Store::mark_published`].
    pub async fn mark_published(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        published_to: Position,
    ) -> Result<(), Error> {
        self.tables()
            .mark_published(shard, epoch, nonce, published_to)
    }

    /// See [`super::Store::pause`]. There is no `audit` in memory.
    pub async fn pause(&self, shard: ShardId, act: &Act) -> Result<bool, Error> {
        self.tables().pause(shard, &act.operator)
    }

    /// See [`super::Store::resume`].
    pub async fn resume(&self, shard: ShardId, _act: &Act) -> Result<bool, Error> {
        self.tables().resume(shard)
    }

    /// See [`super::Store::fence`].
    pub async fn fence(&self, shard: ShardId, nonce: Nonce, _act: &Act) -> Result<(), Error> {
        let now = self.clock.now();
        self.tables().fence(now, shard, nonce)
    }

    /// See [`super::Store::rebase`].
    pub async fn rebase(
        &self,
        shard: ShardId,
        from: Position,
        to: Position,
        nonce: Nonce,
        _act: &Act,
    ) -> Result<bool, Error> {
        let now = self.clock.now();
        self.tables().rebase(now, shard, from, to, nonce)
    }

    /// See [`super::Store::known`].
    pub async fn known(&self, _shard: ShardId, commands: &[Command]) -> Result<Vec<Known>, Error> {
        Ok(self.tables().known(commands))
    }

    /// See [`super::Store::adopt`].
    pub async fn adopt(&self, shard: ShardId, commands: &[Command]) -> Result<Vec<Known>, Error> {
        self.tables().adopt(shard, commands)
    }

    /// See [`super::Store::recover`].
    pub async fn recover(
        &self,
        shard: ShardId,
        recovery: Recovery,
        nonce: Nonce,
        _act: &Act,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        self.tables().recover(now, shard, recovery, nonce)
    }

    /// See [`super::Store::results`].
    pub async fn results(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredResult>, Error> {
        self.tables().results(shard, from, limit)
    }

    /// See [`super::Store::dead_letters`].
    pub async fn dead_letters(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        self.tables().dead_letters(shard, from, limit)
    }

    /// See [`super::Store::outcomes`].
    pub async fn outcomes(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredResult>>, Error> {
        Ok(self.tables().outcomes(ids))
    }

    /// See [`super::Store::commands`].
    pub async fn commands(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredCommand>>, Error> {
        Ok(self.tables().commands(ids))
    }

    /// See [`super::Store::command_of_key`].
    pub async fn command_of_key(&self, key: KeyHash) -> Result<Option<CommandId>, Error> {
        Ok(self.tables().command_of_key(key))
    }

    /// See [`super::Store::balances`].
    pub async fn balances(
        &self,
        accounts: &[AccountId],
    ) -> Result<Vec<Option<AccountBalances>>, Error> {
        let now = self.clock.now();
        Ok(self.tables().balances(now, accounts))
    }

    /// See [`super::Store::accounts_behind`].
    pub async fn accounts_behind(
        &self,
        shard: ShardId,
        behind: AccountId,
        limit: usize,
    ) -> Result<Vec<AccountId>, Error> {
        self.tables().accounts_behind(shard, behind, limit)
    }

    /// See [`super::Store::entries`].
    pub async fn entries(&self, query: &HistoryQuery) -> Result<Vec<StoredEntry>, Error> {
        Ok(self.tables().entries(query))
    }

    /// See [`super::Store::entry_at`].
    pub async fn entry_at(
        &self,
        account: AccountId,
        asset: AssetId,
        at: Timestamp,
    ) -> Result<Option<StoredEntry>, Error> {
        Ok(self.tables().entry_at(account, asset, at))
    }

    /// See [`super::Store::outbox_view`].
    pub async fn outbox_view(
        &self,
        shard: ShardId,
        margin: Duration,
        limit: usize,
    ) -> Result<OutboxView, Error> {
        let now = self.clock.now();
        self.tables().outbox_view(now, shard, margin, limit)
    }

    /// See [`super::Store::close_old_blocks`].
    pub async fn close_old_blocks(&self, age: Duration) -> Result<u64, Error> {
        let now = self.clock.now();
        Ok(self.tables().close_old_blocks(now, age))
    }
}
