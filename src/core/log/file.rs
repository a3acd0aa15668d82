//! (skeleton)
#![allow(unused)]
use super::{Error, NewRecord, Record};
use crate::core::{proto::CommandResult, store::DeadLetter, types::*};
use std::time::Duration;
#[derive(Clone)]
pub struct Log {}
pub struct Reader {}
pub struct ResultTail {}
impl Log {
    pub async fn append(&self, records: Vec<NewRecord>) -> Vec<Result<(), Error>> {
        todo!()
    }
    pub async fn open(
        &self,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Reader, Error> {
        todo!()
    }
    pub async fn ends(&self) -> Result<Vec<Position>, Error> {
        todo!()
    }
    pub async fn publish(&self, results: Vec<CommandResult>) -> Vec<Result<(), Error>> {
        todo!()
    }
    pub async fn publish_dead_letters(
        &self,
        shard: ShardId,
        letters: &[DeadLetter],
    ) -> Vec<Result<(), Error>> {
        todo!()
    }
    pub fn tail_results(&self) -> ResultTail {
        todo!()
    }
}
impl Reader {
    pub async fn fetch(
        &mut self,
        count_max: usize,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        todo!()
    }
}
impl ResultTail {
    pub async fn next(&mut self) -> Result<Vec<CommandResult>, Error> {
        todo!()
    }
}
