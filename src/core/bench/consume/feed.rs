//! What a bench of the leaders puts into their log: the accounts, then the commands of a workload,
//! under numbers that are leased as acceptance does it.

use std::collections::VecDeque;

use tokio::{task::JoinHandle, time::Instant};
use xxhash_rust::xxh3::xxh3_128;

use super::super::{
    Draw, Workload,
    workload::{OPENING_BALANCE, Operation},
};
use crate::core::{
    clock::Clock,
    command::{Change, Command, CommandKind, Move, record},
    log::{Log, NewRecord},
    store::{SequenceBlock, Store},
    testbed::Error,
    types::{AssetId, CommandId, ContentHash, Money, Nonce, Sequence, ShardId, Timestamp},
};

/// Service name of the commands.
const SOURCE: &str = "axs.bench";
/// Numbers leased at a time.
const BLOCK_SIZE: u32 = 1_000_000;
/// Records appended at a time ...
pub const CHUNK: usize = 10_000;
/// ... and how many such calls wait for their answer.
const CALLS_MAX: usize = 4;

/// Makes the records of a run.
pub struct Feed {
    store: Store,
    workload: Workload,
    /// Of the workload's assets, in its order.
    assets: Vec<AssetId>,
    /// Of each shard: what is left of its numbers.
    blocks: Vec<SequenceBlock>,
    now: Timestamp,
    draw: Draw,
    last: Option<(Operation, NewRecord)>,
    /// Records made for each shard.
    made: Vec<u64>,
}

/// Records of a call, and how far the shards are once they are applied.
pub struct Chunk {
    /// To append.
    pub records: Vec<NewRecord>,
    /// Of each shard, counted in records from the beginning of its log.
    pub ends: Vec<u64>,
}

impl Feed {
    /// Leases the first numbers of each shard, whose logs are empty.
    pub async fn new(
        store: &Store,
        workload: &Workload,
        shards: u16,
        assets: Vec<AssetId>,
    ) -> Result<Self, Error> {
        let mut blocks = Vec::new();
        for shard in (0..shards).map(ShardId) {
            blocks.push(lease(store, shard).await?);
        }
        Ok(Self {
            store: store.clone(),
            workload: *workload,
            assets,
            made: vec![0; blocks.len()],
            blocks,
            now: Clock::System.now(),
            draw: workload.draw(0),
            last: None,
        })
    }

    /// OPEN_ACCOUNT of the accounts with these numbers, each with a first credit.
    pub async fn openings(&mut self, numbers: std::ops::Range<u64>) -> Result<Chunk, Error> {
        let mut records = Vec::with_capacity(CHUNK);
        let assets = self.assets.len();
        for number in numbers {
            let changes: Vec<_> = (0..assets).map(|asset| (asset, OPENING_BALANCE)).collect();
            let kind = CommandKind::OpenAccount;
            records.push(self.record(kind, number, &changes, number + 1).await?);
        }
        Ok(self.chunk(records))
    }

    /// The next commands of the workload; how many of them are new.
    pub async fn commands(&mut self, count: usize) -> Result<(Chunk, u64), Error> {
        let mut records = Vec::with_capacity(count);
        let mut new = 0;
        for _ in 0..count {
            let before = self.last.as_ref().map(|(operation, _)| operation);
            let operation = self.draw.next_operation(before);
            let again = self.last.as_ref().filter(|(last, _)| *last == operation);
            let record = match again {
                Some((_, record)) => {
                    self.made[usize::from(record.shard.0)] += 1;
                    record.clone()
                }
                None => {
                    new += 1;
                    let changes = operation.changes();
                    self.record(CommandKind::Change, operation.account, changes, 0)
                        .await?
                }
            };
            if self.workload.duplicates_percent > 0 {
                self.last = Some((operation, record.clone()));
            }
            records.push(record);
        }
        Ok((self.chunk(records), new))
    }

    fn chunk(&self, records: Vec<NewRecord>) -> Chunk {
        let ends = self.made.clone();
        Chunk { records, ends }
    }

    async fn record(
        &mut self,
        kind: CommandKind,
        number: u64,
        changes: &[(usize, i64)],
        user: u64,
    ) -> Result<NewRecord, Error> {
        let account = self.workload.account(number);
        let shards = u16::try_from(self.blocks.len()).expect("a cluster's shards");
        let shard = account.default_shard(shards);
        let id = self.next_id(shard).await?;
        let change = |&(asset, delta): &(usize, i64)| Change {
            account,
            primary: Move {
                asset: self.assets[asset],
                available_delta: Money::from(delta),
                frozen_delta: Money::ZERO,
            },
            fallback: None,
            if_version: None,
            if_min_available: None,
        };
        // Nobody compares it with the body: as random as a real one is enough.
        let hash = ContentHash(xxh3_128(&id.0.to_le_bytes()).to_le_bytes());
        let command = Command {
            id: Some(id),
            content_hash: hash,
            source: SOURCE.into(),
            idempotency_key: format!("order-{:016x}", id.0).into(),
            account,
            kind,
            changes: changes.iter().map(change).collect(),
            reference: String::new().into(),
            created_at: None,
            accepted_at: self.now,
            user,
            reverses: None,
            ack: None,
            pin: None,
        };
        self.made[usize::from(shard.0)] += 1;
        Ok(NewRecord {
            shard,
            account: Some(account),
            value: record::encode_command(&command),
            command: Some((id, hash)),
            source: SOURCE.into(),
            time: self.now,
        })
    }

    async fn next_id(&mut self, shard: ShardId) -> Result<CommandId, Error> {
        let block = &mut self.blocks[usize::from(shard.0)];
        if block.first > block.last {
            *block = lease(&self.store, shard).await?;
        }
        let id = CommandId::new(shard, block.first);
        block.first = Sequence(block.first.0 + 1);
        Ok(id)
    }
}

async fn lease(store: &Store, shard: ShardId) -> Result<SequenceBlock, Error> {
    let random = getrandom::u64().map_err(|error| Error::Failed(error.to_string()))?;
    let nonce = Nonce(random.cast_signed());
    Ok(store.lease_block(shard, nonce, BLOCK_SIZE).await?)
}

/// Appends chunks, several calls at a time, and remembers when each was sent.
pub struct Sender {
    log: Log,
    calls: VecDeque<JoinHandle<Result<(), Error>>>,
    sent: VecDeque<Sent>,
}

/// A chunk on its way.
pub struct Sent {
    /// When it was handed to the log.
    pub at: Instant,
    /// See [`Chunk::ends`].
    pub ends: Vec<u64>,
    /// Its records.
    pub count: u64,
}

impl Sender {
    /// To a log.
    pub fn new(log: Log) -> Self {
        Self {
            log,
            calls: VecDeque::new(),
            sent: VecDeque::new(),
        }
    }

    /// Hands a chunk to the log; waits while too many are under way.
    pub async fn send(&mut self, chunk: Chunk) -> Result<(), Error> {
        while self.calls.len() >= CALLS_MAX {
            self.settle_one().await?;
        }
        let log = self.log.clone();
        self.sent.push_back(Sent {
            at: Instant::now(),
            ends: chunk.ends,
            count: chunk.records.len() as u64,
        });
        self.calls.push_back(tokio::spawn(async move {
            let answers = log.append(chunk.records).await;
            let all: Result<Vec<()>, _> = answers.into_iter().collect();
            Ok(all.map(drop)?)
        }));
        Ok(())
    }

    /// Hands all chunks to the log in one call, so that nobody reads the first before the last is
    /// there.
    pub async fn send_all(&mut self, chunks: Vec<Chunk>) -> Result<(), Error> {
        let (mut records, mut sent) = (Vec::new(), Vec::new());
        for chunk in chunks {
            sent.push((chunk.ends, chunk.records.len() as u64));
            records.extend(chunk.records);
        }
        let answers = self.log.append(records).await;
        answers.into_iter().collect::<Result<Vec<()>, _>>()?;
        let at = Instant::now();
        let sent = sent
            .into_iter()
            .map(|(ends, count)| Sent { at, ends, count });
        self.sent.extend(sent);
        Ok(())
    }

    /// What stands in the log counts from here.
    pub fn begin(&mut self, at: Instant) {
        for sent in &mut self.sent {
            sent.at = at;
        }
    }

    /// Waits until everything stands in the log.
    pub async fn settle(&mut self) -> Result<(), Error> {
        while !self.calls.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Error> {
        let Some(call) = self.calls.pop_front() else {
            return Ok(());
        };
        match call.await {
            Ok(sent) => sent,
            Err(error) => Err(Error::Failed(error.to_string())),
        }
    }

    /// The next chunk that is applied, now that the shards are so far.
    pub fn applied(&mut self, positions: &[u64]) -> Option<Sent> {
        let front = self.sent.front()?;
        let is_applied = front.ends.iter().zip(positions).all(|(end, at)| end <= at);
        is_applied.then(|| self.sent.pop_front()).flatten()
    }

    /// Everything that was sent is applied.
    pub fn is_done(&self) -> bool {
        self.sent.is_empty()
    }
}
