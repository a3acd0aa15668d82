//! (skeleton)
use super::*;
use crate::core::{
    assets::{Asset, Assets},
    types::*,
};
use std::time::Duration;

#[derive(Clone)]
pub struct Store {}

impl Store {
    pub async fn shards(&self) -> Result<u16, Error> {
        todo!()
    }
    pub async fn assets(&self) -> Result<Assets, Error> {
        todo!()
    }
    pub async fn add_asset(&self, code: &str, scale: u8) -> Result<Asset, Error> {
        todo!()
    }
    pub async fn health(&self) -> Result<Health, Error> {
        todo!()
    }
    pub async fn routes(&self, accounts: &[AccountId]) -> Result<Vec<Option<ShardId>>, Error> {
        todo!()
    }
    pub async fn lease_block(
        &self,
        shard: ShardId,
        nonce: Nonce,
        size: u32,
    ) -> Result<SequenceBlock, Error> {
        todo!()
    }
    pub async fn close_blocks(&self, nonces: &[Nonce]) -> Result<(), Error> {
        todo!()
    }
    pub async fn accept(&self, group: &AcceptGroup) -> Result<AcceptedGroup, Error> {
        todo!()
    }
    pub async fn beat(&self, member: &Member, seen_within: Duration) -> Result<Vec<Member>, Error> {
        todo!()
    }
    pub async fn leave(&self, name: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn shard_rows(&self) -> Result<Vec<ShardRow>, Error> {
        todo!()
    }
    pub async fn acquire(
        &self,
        shard: ShardId,
        leader: &str,
        mine: Option<Nonce>,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Option<ShardState>, Error> {
        todo!()
    }
    pub async fn renew(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<(), Error> {
        todo!()
    }
    pub async fn release(&self, shard: ShardId, epoch: Epoch, nonce: Nonce) -> Result<(), Error> {
        todo!()
    }
    pub async fn load(&self, shard: ShardId, request: &LoadRequest) -> Result<Loaded, Error> {
        todo!()
    }
    pub async fn flush(&self, flush: &Flush, ttl: Duration) -> Result<Flushed, Error> {
        todo!()
    }
    pub async fn mark_published(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        published_to: Position,
    ) -> Result<(), Error> {
        todo!()
    }
    pub async fn results(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredResult>, Error> {
        todo!()
    }
    pub async fn dead_letters(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        todo!()
    }
    pub async fn outcomes(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredResult>>, Error> {
        todo!()
    }
    pub async fn commands(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredCommand>>, Error> {
        todo!()
    }
    pub async fn command_of_key(&self, key: KeyHash) -> Result<Option<CommandId>, Error> {
        todo!()
    }
    pub async fn balances(
        &self,
        accounts: &[AccountId],
    ) -> Result<Vec<Option<AccountBalances>>, Error> {
        todo!()
    }
    pub async fn entries(&self, query: &HistoryQuery) -> Result<Vec<StoredEntry>, Error> {
        todo!()
    }
    pub async fn entry_at(
        &self,
        account: AccountId,
        asset: AssetId,
        at: Timestamp,
    ) -> Result<Option<StoredEntry>, Error> {
        todo!()
    }
    pub async fn outbox_view(
        &self,
        shard: ShardId,
        margin: Duration,
        limit: usize,
    ) -> Result<OutboxView, Error> {
        todo!()
    }
    pub async fn close_old_blocks(&self, age: Duration) -> Result<u64, Error> {
        todo!()
    }
}
