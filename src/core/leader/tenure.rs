//! What a leader has in memory while it leads: everything that a drop of the memory forgets.

use std::collections::VecDeque;

use super::{
    Config, Leader, MARK_PUBLISHED_AFTER, Mono, Phase, RequestId, Retry,
    batch::{Building, RecentHashes},
    flush::InFlight,
    intake::{Answers, Item},
    publish::Publisher,
};
use crate::core::{
    engine::{Balance, Engine, Start},
    store::{LoadRequest, ShardState},
    types::{AccountId, Anchor, Epoch, Nonce, Position},
};

/// One leadership: everything that a drop of the memory forgets.
pub(super) struct Tenure {
    pub epoch: Epoch,
    pub nonce: Nonce,
    pub engine: Engine,
    /// When the last request that the store confirmed was sent: the lease runs from there.
    pub confirmed_at: Mono,
    pub renewal: Option<(RequestId, Mono)>,
    pub renewal_retry: Retry,
    pub open: Option<RequestId>,
    pub log_retry: Retry,
    /// The last moment the log gave or took something.
    pub log_seen_at: Mono,
    pub fetch: Option<RequestId>,
    pub inbox: VecDeque<Item>,
    pub inbox_bytes: usize,
    /// So many items at the front of the inbox have what they need in memory.
    pub planned: usize,
    pub load: Option<(RequestId, usize)>,
    pub requested: LoadRequest,
    pub load_retry: Retry,
    pub answers: Answers,
    pub building: Building,
    pub in_flight: Option<InFlight>,
    pub next_flush_at: Mono,
    pub flushed_to: Position,
    pub anchor: Option<Anchor>,
    pub last_result: Position,
    pub publisher: Publisher,
    pub published_to: Position,
    /// As stored.
    pub marked_to: Position,
    pub recent_hashes: RecentHashes,
}

impl Leader {
    /// What is in memory of these accounts and flushed, with the epoch; `None` unless it leads.
    /// Changes nothing: for whoever compares it with what is stored.
    pub fn flushed_balances(&self, accounts: &[AccountId]) -> Option<(Epoch, Vec<Balance>)> {
        let tenure = self.tenure.as_deref()?;
        if self.phase != Phase::Leading {
            return None;
        }
        let engine = &tenure.engine;
        let balances = accounts
            .iter()
            .flat_map(|account| engine.flushed_balances_of(*account));
        Some((tenure.epoch, balances.collect()))
    }
}

impl Tenure {
    pub fn new(now: Mono, state: ShardState) -> Self {
        let engine = Engine::new(Start {
            shard: state.shard,
            applied: state.applied,
            applied_at: state.applied_at,
            passed_at: state.passed_at,
            state_hash: state.state_hash,
        });
        Self {
            epoch: state.epoch,
            nonce: state.nonce,
            engine,
            confirmed_at: now,
            renewal: None,
            renewal_retry: Retry::default(),
            open: None,
            log_retry: Retry::default(),
            log_seen_at: now,
            fetch: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            planned: 0,
            load: None,
            requested: LoadRequest::default(),
            load_retry: Retry::default(),
            answers: Answers::default(),
            building: Building::new(state.next_position),
            in_flight: None,
            next_flush_at: now,
            flushed_to: state.next_position,
            anchor: state.anchor,
            last_result: state.last_result,
            publisher: Publisher::starting_with(now, state.published_to, state.next_position),
            published_to: state.published_to,
            marked_to: state.published_to,
            recent_hashes: RecentHashes::default(),
        }
    }

    /// Whether what we send may still be believed without asking the store: 2/3 of the lease.
    pub fn is_surely_leader(&self, now: Mono, config: &Config) -> bool {
        now < self.confirmed_at + config.lease_ttl * 2 / 3
    }

    pub fn wake_at(&self, config: &Config) -> Mono {
        let renewal = self.renewal.is_none().then(|| {
            let due = self.confirmed_at + config.lease_ttl / 3;
            self.renewal_retry.at.map_or(due, |at| at.max(due))
        });
        let flush = match &self.in_flight {
            Some(flush) => flush.retry.at.filter(|_| flush.request.is_none()),
            // Else a publication that ends is what it waits for.
            None => self
                .building
                .closes_at(config)
                .map(|at| at.max(self.next_flush_at))
                .filter(|_| self.may_flush()),
        };
        let mark = (self.published_to > self.marked_to && self.is_idle())
            .then(|| self.publisher.changed_at + MARK_PUBLISHED_AFTER);
        [
            renewal,
            flush,
            mark,
            self.log_retry.at,
            self.load_retry.at,
            self.publisher.retry.at,
            Some(self.confirmed_at + config.lease_ttl),
        ]
        .into_iter()
        .flatten()
        .min()
        .expect("the lease always ends")
    }

    /// Nothing is on its way to the store that would carry `published_to`.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none()
            && self.building.records == 0
            && self.publisher.is_done()
            && self.publisher.mark.is_none()
    }

    pub fn records_unflushed(&self) -> usize {
        self.inbox.len()
            + self.building.records
            + self.in_flight.as_ref().map_or(0, |flush| flush.records)
    }
}
