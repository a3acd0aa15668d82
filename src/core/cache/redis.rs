//! (skeleton)
#![allow(unused)]
use super::{Error, Snapshot};
use crate::core::types::*;
use std::time::Duration;
#[derive(Clone)]
pub struct Cache {}
impl Cache {
    pub async fn write(
        &self,
        shard: ShardId,
        epoch: Epoch,
        snapshots: &[Snapshot],
    ) -> Result<usize, Error> {
        todo!()
    }
    pub async fn read(
        &self,
        keys: &[(ShardId, AccountId)],
    ) -> Result<Vec<Option<Snapshot>>, Error> {
        todo!()
    }
    pub async fn gate_enter(
        &self,
        shard: ShardId,
        who: &str,
        ttl: Duration,
    ) -> Result<bool, Error> {
        todo!()
    }
    pub async fn gate_leave(&self, shard: ShardId, who: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn ping(&self) -> Result<(), Error> {
        todo!()
    }
}
