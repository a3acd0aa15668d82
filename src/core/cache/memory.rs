//! (skeleton)
#![allow(unused)]
use super::{Error, Snapshot};
use crate::core::types::*;
use std::time::Duration;
#[derive(Clone)]
pub struct Cache {}
impl Cache {
    pub fn write(&self, shard: ShardId, epoch: Epoch, snapshots: &[Snapshot]) -> usize {
        todo!()
    }
    pub fn read(&self, keys: &[(ShardId, AccountId)]) -> Vec<Option<Snapshot>> {
        todo!()
    }
    pub fn gate_enter(&self, shard: ShardId, who: &str, ttl: Duration) -> bool {
        todo!()
    }
    pub fn gate_leave(&self, shard: ShardId, who: &str) -> () {
        todo!()
    }
}
