//! A world for one leader, all in one thread: the in-memory store's tables, a log that is a vector,
//! and faults that a test asks for. Time moves only when a test says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use axs::core::{
    assets::{Asset, Assets},
    cache::Snapshot,
    command::{hash, record},
    leader::{Config, Input, Leader, Output, Status, Why},
    log::{self, Record},
    store::{self, Flush, memory::Tables},
    types::{AccountId, AssetId, CommandId, ContentHash, Nonce, Position, ShardId, Timestamp},
};
use bytes::Bytes;

pub const SHARD: ShardId = ShardId(1);
pub const LEASE: Duration = Duration::from_secs(2);
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// What happens to the next flush that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushFault {
    /// Not executed, and no answer.
    LostBefore,
    /// Executed, and no answer.
    LostAfter,
    /// The store is away.
    Unavailable,
    /// A stale version, whatever the data.
    Conflict,
    /// Refused, whatever the data.
    Refused,
}

pub struct World {
    pub now: Duration,
    pub tables: Tables,
    pub leader: Leader,
    pub log: Vec<Record>,
    pub read_to: usize,
    fetch: Option<Output>,
    fetched_at: Duration,
    pub hold_flushes: bool,
    pub held: VecDeque<Output>,
    pub flush_faults: VecDeque<FlushFault>,
    /// A flush whose entries or outcomes touch this position is refused.
    pub refused_position: Option<Position>,
    /// Whatever has an outcome is refused.
    pub refuses_outcomes: bool,
    /// The next publications acknowledge only so many, then fail.
    pub publish_faults: VecDeque<usize>,
    pub loads_fail: bool,
    pub log_is_away: bool,
    pub diverged: bool,
    pub loads: Vec<store::LoadRequest>,
    pub flushes: Vec<Arc<Flush>>,
    pub published: Vec<CommandId>,
    pub letters_published: usize,
    pub snapshots: BTreeMap<AccountId, Snapshot>,
    pub refreshed: Vec<AccountId>,
    pub alarms: Vec<String>,
    pub stepped_down: Vec<Why>,
    nonce: i64,
}

pub fn config() -> Config {
    Config {
        batch_count_max: 8,
        batch_bytes_max: 1 << 20,
        batch_age_max: Duration::ZERO,
        flush_interval_min: Duration::ZERO,
        lease_ttl: LEASE,
        accounts_max: 2,
        embedded: false,
    }
}

impl World {
    pub fn new(config: Config) -> Self {
        let usd = Asset {
            id: AssetId(1),
            code: "USD".into(),
            scale: 2,
        };
        Self {
            now: Duration::ZERO,
            tables: Tables::new(2, [usd].into_iter().collect::<Assets>()),
            leader: Leader::new(SHARD, config),
            log: Vec::new(),
            read_to: 0,
            fetch: None,
            fetched_at: Duration::ZERO,
            hold_flushes: false,
            held: VecDeque::new(),
            flush_faults: VecDeque::new(),
            refused_position: None,
            refuses_outcomes: false,
            publish_faults: VecDeque::new(),
            loads_fail: false,
            log_is_away: false,
            diverged: false,
            loads: Vec::new(),
            flushes: Vec::new(),
            published: Vec::new(),
            letters_published: 0,
            snapshots: BTreeMap::new(),
            refreshed: Vec::new(),
            alarms: Vec::new(),
            stepped_down: Vec::new(),
            nonce: 0,
        }
    }

    /// A world whose leader leads.
    pub fn leading(config: Config) -> Self {
        let mut world = Self::new(config);
        world.step(Input::Lead);
        world
    }

    pub fn clock(&self) -> Timestamp {
        Timestamp(1_000_000_000_000 + i64::try_from(self.now.as_micros()).unwrap())
    }

    pub fn status(&self) -> Status {
        self.leader.status()
    }

    pub fn row(&self) -> store::ShardRow {
        self.tables
            .shard_rows(self.clock())
            .swap_remove(usize::from(SHARD.0))
    }

    /// One input, then everything that follows without time passing.
    pub fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            self.leader.step(self.now, input, &mut outputs);
            for output in outputs {
                inputs.extend(self.carry_out(output));
            }
            if inputs.is_empty() {
                inputs.extend(self.fetched());
            }
        }
    }

    /// Lets time pass, waking the leader whenever it asks to be woken.
    pub fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..100_000 {
            let wake_at = self.leader.wake_at().unwrap_or(until).max(self.now);
            self.now = wake_at.max(self.now + Duration::from_millis(1)).min(until);
            self.step(Input::Tick);
            if self.now >= until {
                return;
            }
            // A fetch that waited for long enough is answered: nothing came.
            if let Some(&Output::Fetch { id, .. }) = self.fetch.as_ref()
                && !self.log_is_away
                && self.now >= self.fetched_at + FETCH_WAIT
            {
                self.fetched_at = self.now;
                self.fetch = None;
                self.step(Input::Fetched(id, Ok(Vec::new())));
            }
        }
        panic!("the leader does not come to rest");
    }

    /// The process ends and another one starts, `later`.
    pub fn restart(&mut self, config: Config, later: Duration) {
        self.leader = Leader::new(SHARD, config);
        self.fetch = None;
        self.held.clear();
        self.now += later;
        self.step(Input::Lead);
    }

    /// Sends the oldest flush that was held back; later ones are held back still.
    pub fn let_one_flush_go(&mut self) {
        let held = self.held.pop_front().expect("a flush is held back");
        self.hold_flushes = false;
        let input = self.carry_out(held);
        self.hold_flushes = true;
        self.step(input.expect("a flush is answered"));
    }

    /// Sends the flushes that were held back, in their order.
    pub fn let_flushes_go(&mut self) {
        self.hold_flushes = false;
        while let Some(output) = self.held.pop_front() {
            if let Some(input) = self.carry_out(output) {
                self.step(input);
            }
        }
    }

    pub fn append(&mut self, values: Vec<Bytes>) {
        for value in values {
            self.append_record(value, None);
        }
        self.step(Input::Tick);
    }

    pub fn append_record(&mut self, value: Bytes, names: Option<(CommandId, ContentHash)>) {
        // What stands in the log was accepted, unless a test says otherwise by forging.
        if let Ok(record::LogItem::Command(command)) = record::decode(&value)
            && command.id.is_some_and(|id| id.shard() == SHARD)
        {
            let key = hash::key_hash(&command.source, &command.idempotency_key);
            self.tables.restore_command(key, command).unwrap();
        }
        let position = Position::new(0, i64::try_from(self.log.len()).unwrap());
        self.log.push(Record {
            position,
            log_time: self.clock(),
            key: Bytes::new(),
            value,
            command_id: names.map(|(id, _)| id),
            content_hash: names.map(|(_, hash)| hash),
        });
    }

    fn fetched(&mut self) -> Option<Input> {
        let Some(Output::Fetch { id, count_max, .. }) = self.fetch else {
            return None;
        };
        if self.log_is_away {
            self.fetch = None;
            return Some(Input::Fetched(
                id,
                Err(log::Error::Unavailable("away".into())),
            ));
        }
        let behind = (self.read_to + count_max).min(self.log.len());
        if self.read_to >= behind {
            return None;
        }
        let records = self.log[self.read_to..behind].to_vec();
        self.read_to = behind;
        self.fetch = None;
        Some(Input::Fetched(id, Ok(records)))
    }

    fn carry_out(&mut self, output: Output) -> Option<Input> {
        let now = self.clock();
        match output {
            Output::Acquire { id, mine, ttl } => {
                self.nonce += 1;
                let nonce = Nonce(self.nonce);
                let answer = self.tables.acquire(now, SHARD, "me", mine, nonce, ttl);
                Some(Input::Acquired(id, answer))
            }
            Output::Renew {
                id,
                epoch,
                nonce,
                ttl,
            } => Some(Input::Renewed(
                id,
                self.tables.renew(now, SHARD, epoch, nonce, ttl),
            )),
            Output::Release { id, epoch, nonce } => Some(Input::Released(
                id,
                self.tables.release(now, SHARD, epoch, nonce),
            )),
            Output::Open {
                id, from, anchor, ..
            } => Some(Input::Opened(id, self.open(from, anchor))),
            Output::Fetch { .. } => {
                assert!(self.fetch.is_none(), "one fetch at a time");
                self.fetch = Some(output);
                None
            }
            Output::Load { id, request } => {
                let answer = match self.loads_fail {
                    true => Err(store::Error::Unavailable("away".into())),
                    false => self.tables.load(SHARD, &request),
                };
                self.loads.push(request);
                Some(Input::Loaded(id, answer))
            }
            Output::Flush { .. } if self.hold_flushes => {
                self.held.push_back(output);
                None
            }
            Output::Flush { id, flush, ttl } => {
                Some(Input::Flushed(id, self.flush(now, &flush, ttl)))
            }
            Output::Publish { id, flush, skip } => Some(self.publish(id, &flush, skip)),
            Output::Republish { id, from, to } => {
                let stored = self.tables.results(SHARD, from, 1_000).unwrap();
                let stored = stored.iter().filter(|stored| stored.outcome.position < to);
                self.published
                    .extend(stored.map(|stored| stored.outcome.id));
                Some(Input::Republished(id, to, None))
            }
            Output::MarkPublished {
                id,
                epoch,
                nonce,
                to,
            } => {
                let answer = self.tables.mark_published(SHARD, epoch, nonce, to);
                Some(Input::MarkedPublished(id, answer))
            }
            Output::Snapshot { snapshots, .. } => {
                self.snapshots
                    .extend(snapshots.into_iter().map(|new| (new.account, new)));
                None
            }
            Output::Refresh { accounts } => {
                self.refreshed.extend(accounts);
                None
            }
            Output::Close => {
                self.fetch = None;
                None
            }
            Output::Alarm(message) => {
                self.alarms.push(message);
                None
            }
            Output::StepDown(why) => {
                self.stepped_down.push(why);
                None
            }
        }
    }

    fn open(
        &mut self,
        from: Position,
        anchor: Option<axs::core::types::Anchor>,
    ) -> Result<(), log::Error> {
        if self.diverged {
            return Err(log::Error::Diverged("the log is another one".into()));
        }
        if self.log_is_away {
            return Err(log::Error::Unavailable("away".into()));
        }
        self.read_to = usize::try_from(from.offset()).unwrap();
        let before = self
            .read_to
            .checked_sub(1)
            .map(|index| self.log[index].anchor());
        assert_eq!(before, anchor, "the anchor is that of the record before");
        Ok(())
    }

    fn flush(
        &mut self,
        now: Timestamp,
        flush: &Arc<Flush>,
        ttl: Duration,
    ) -> Result<store::Flushed, store::Error> {
        self.flushes.push(Arc::clone(flush));
        let touches = |at: Position| flush.outcomes.iter().any(|outcome| outcome.position == at);
        if self.refused_position.is_some_and(touches) {
            return Err(store::Error::Refused("a value it does not like".into()));
        }
        if self.refuses_outcomes && !flush.outcomes.is_empty() {
            return Err(store::Error::Refused("none of them".into()));
        }
        match self.flush_faults.pop_front() {
            None => self.tables.flush(now, flush, ttl),
            Some(FlushFault::LostAfter) => {
                self.tables.flush(now, flush, ttl)?;
                Err(store::Error::AnswerLost("cut".into()))
            }
            Some(FlushFault::LostBefore) => Err(store::Error::AnswerLost("cut".into())),
            Some(FlushFault::Unavailable) => Err(store::Error::Unavailable("away".into())),
            Some(FlushFault::Conflict) => Err(store::Error::Conflict("stale".into())),
            Some(FlushFault::Refused) => Err(store::Error::Refused("not today".into())),
        }
    }

    fn publish(&mut self, id: axs::core::leader::RequestId, flush: &Flush, skip: usize) -> Input {
        let all = flush.outcomes.len() + flush.dead_letters.len();
        let (count, error) = match self.publish_faults.pop_front() {
            Some(count) if count < all - skip => {
                (count, Some(log::Error::Unavailable("away".into())))
            }
            _ => (all - skip, None),
        };
        let ids = flush.outcomes.iter().map(|outcome| outcome.id);
        self.published.extend(ids.skip(skip).take(count));
        self.letters_published += (skip + count).saturating_sub(flush.outcomes.len());
        Input::Published(id, count, error)
    }
}
