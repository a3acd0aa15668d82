//! The pipeline to the store: one flush is on its way while the next batch is applied. A refused
//! flush drops the memory; an unexplained answer is settled by sending the same flush again.

use std::{sync::Arc, time::Duration};

use super::{
    BATCH_COUNT_MIN, Config, Leader, Mono, Output, Parked, Phase, QUICK_FLUSH_PART, Refusals,
    RequestId, Retry, SLOW_FLUSH_PART, UNPUBLISHED_FLUSHES_MAX, batch::Building, tenure::Tenure,
};
use crate::core::{
    cache::Snapshot,
    canary::{self, Guard},
    store::{self, DeadLetterReason, Flush, Flushed},
    types::Position,
};

/// A flush that was sent and is not known to be committed.
pub(super) struct InFlight {
    /// `None`: the answer was lost, it waits to be sent again.
    pub request: Option<RequestId>,
    pub retry: Retry,
    pub sent_at: Mono,
    pub flush: Arc<Flush>,
    pub snapshots: Vec<Snapshot>,
    /// The engine's number for these changes.
    pub batch: u64,
    pub records: usize,
}

impl Leader {
    pub(super) fn start_flush(&mut self, now: Mono, out: &mut Vec<Output>) {
        let id = self.next_request();
        let ttl = self.config.lease_ttl;
        let is_draining = self.phase == Phase::Draining;
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        if let Some(flight) = &mut tenure.in_flight {
            if flight.request.is_none() && flight.retry.is_due(now) {
                flight.request = Some(id);
                flight.sent_at = now;
                flight.retry.at = None;
                out.push(Output::Flush {
                    id,
                    flush: Arc::clone(&flight.flush),
                    ttl,
                });
            }
            return;
        }
        let Some(closes_at) = tenure.building.closes_at(&self.config) else {
            return;
        };
        let has_gathered = is_draining || now >= closes_at;
        if !has_gathered || !tenure.may_flush() || now < tenure.next_flush_at && !is_draining {
            return;
        }
        let flight = tenure.build_flight(id, now);
        tenure.next_flush_at = now + self.config.flush_interval_min;
        if canary::is_off(Guard::SnapshotAfterCommit) {
            let (epoch, snapshots) = (tenure.epoch, flight.snapshots.clone());
            out.push(Output::Snapshot { epoch, snapshots });
        }
        if canary::is_off(Guard::PublishAfterCommit) {
            tenure.publisher.push(now, Arc::clone(&flight.flush));
        }
        out.push(Output::Flush {
            id,
            flush: Arc::clone(&flight.flush),
            ttl,
        });
        tenure.in_flight = Some(flight);
        // The batch is not full any more: what is planned goes on while the flush is on its way.
        self.plan_and_apply(now, out);
    }

    pub(super) fn on_flushed(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<Flushed, store::Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let is_expected = |flight: &mut InFlight| flight.request == Some(id);
        let Some(mut flight) = tenure.in_flight.take_if(is_expected) else {
            return;
        };
        match answer {
            Ok(_) => {
                self.last_flush_at = Some(now);
                let is_over = |below: Position| flight.flush.to >= below;
                if self
                    .refusals
                    .is_some_and(|r| r.single_below.is_none_or(is_over))
                {
                    self.refusals = None;
                }
                let (took, records) = (now.saturating_sub(flight.sent_at), flight.records);
                tenure.committed(now, flight, &self.config, out);
                self.size_batches(took, records);
            }
            Err(store::Error::Fenced(_)) => self.take_over_again(now, out),
            Err(error @ (store::Error::Refused(_) | store::Error::Conflict(_))) => {
                self.on_refused(now, &flight, error, out);
            }
            Err(store::Error::Mismatch(why)) => self.stop(why, out),
            Err(store::Error::AnswerLost(_)) if canary::is_off(Guard::FlushAgain) => {
                tenure.committed(now, flight, &self.config, out);
            }
            Err(_) => {
                flight.request = None;
                flight.retry.after_failure(now);
                tenure.in_flight = Some(flight);
            }
        }
    }

    /// Batches shrink while flushes are slow and grow while they are quick, within the setting.
    pub(super) fn size_batches(&mut self, took: Duration, records: usize) {
        let (ttl, max) = (self.config.lease_ttl, self.config.batch_count_max);
        if took > ttl / SLOW_FLUSH_PART {
            let smaller = records.min(self.batch_count) / 2;
            self.batch_count = smaller.max(BATCH_COUNT_MIN).min(max);
        } else if took < ttl / QUICK_FLUSH_PART {
            self.batch_count = (self.batch_count * 2).min(max);
        }
    }

    /// The fence was intact and the store refused the data. Once may be a stale load; twice at one
    /// position is looked at record by record.
    fn on_refused(
        &mut self,
        now: Mono,
        flight: &InFlight,
        error: store::Error,
        out: &mut Vec<Output>,
    ) {
        let Flush {
            from, to, anchor, ..
        } = *flight.flush;
        let records = flight.records;
        out.push(Output::Alarm(format!(
            "flush {from}..{to} of shard {}: {error}",
            self.shard
        )));
        if canary::is_off(Guard::RefusalParked) {
            return self.take_over_again(now, out);
        }
        let earlier = self.refusals.filter(|refusals| refusals.from == from);
        let single = self
            .refusals
            .and_then(|r| r.single_below)
            .filter(|below| from < *below);
        match (single, earlier, &error) {
            (Some(_), _, store::Error::Conflict(why)) if records == 1 => {
                let why = format!("version conflict at {from} after a fresh load: {why}");
                return self.stop(why, out);
            }
            (Some(_), _, _) if records == 1 => {
                // The record itself: behind a hole in the offsets it does not stand at `from`.
                let at = Position(to.0 - 1);
                let parked = Parked {
                    reason: DeadLetterReason::FlushRefused,
                    anchor: Some(anchor),
                };
                let before = self.parked.insert(at, parked);
                if before.is_some_and(|before| before.anchor == parked.anchor) {
                    return self.stop(format!("position {at} cannot even be parked: {error}"), out);
                }
            }
            (Some(_), _, _) => {}
            (None, Some(_), _) => {
                self.refusals = Some(Refusals {
                    from,
                    single_below: Some(to),
                })
            }
            (None, None, _) => {
                self.refusals = Some(Refusals {
                    from,
                    single_below: None,
                })
            }
        }
        self.take_over_again(now, out);
    }
}

impl Tenure {
    /// Results wait for publication only up to a bound.
    pub fn may_flush(&self) -> bool {
        self.publisher.len() < UNPUBLISHED_FLUSHES_MAX
    }

    fn build_flight(&mut self, id: RequestId, now: Mono) -> InFlight {
        let building = std::mem::replace(&mut self.building, Building::new(Position::ZERO));
        self.building = Building::new(building.to);
        let changes = self.engine.take_changes();
        let anchor = building.last.as_ref().map(crate::core::log::Record::anchor);
        let last_result = building
            .outcomes
            .last()
            .map_or(self.last_result, |last| last.position);
        let flush = Flush {
            shard: self.engine.shard(),
            epoch: self.epoch,
            nonce: self.nonce,
            from: building.from,
            to: building.to,
            anchor: anchor.expect("a flush covers a record"),
            applied: changes.applied,
            passed_at: self.engine.passed_at(),
            applied_at: self.engine.applied_at(),
            previous_result: self.last_result,
            last_result,
            state_hash: self.engine.state_hash(),
            published_to: self.published_to,
            balances: changes.balances,
            accounts: changes.accounts,
            outcomes: building.outcomes,
            entries: building.entries,
            labels: building.labels,
            reversals: changes.reversals,
            dead_letters: building.dead_letters,
        };
        self.last_result = last_result;
        InFlight {
            request: Some(id),
            retry: Retry::default(),
            sent_at: now,
            snapshots: self.snapshots_of(&flush),
            flush: Arc::new(flush),
            batch: changes.batch,
            records: building.records,
        }
    }

    /// Every balance of every account that the flush touches, as they are once it is committed.
    fn snapshots_of(&self, flush: &Flush) -> Vec<Snapshot> {
        let mut accounts: Vec<_> = flush
            .balances
            .iter()
            .map(|write| write.balance.account)
            .collect();
        accounts.extend(flush.accounts.iter().map(|write| write.account.id));
        accounts.sort_unstable();
        accounts.dedup();
        accounts
            .into_iter()
            .map(|account| {
                let mut balances: Vec<_> = self.engine.balances_of(account).collect();
                balances.sort_unstable_by_key(|balance| balance.asset);
                let last = balances.iter().map(|balance| balance.last_position).max();
                Snapshot {
                    account,
                    epoch: self.epoch,
                    position: last.unwrap_or(Position::ZERO),
                    as_of: flush.applied_at,
                    balances,
                }
            })
            .collect()
    }

    fn committed(&mut self, now: Mono, flight: InFlight, config: &Config, out: &mut Vec<Output>) {
        let InFlight {
            flush,
            snapshots,
            batch,
            sent_at,
            ..
        } = flight;
        assert!(
            flush.from == self.flushed_to,
            "flushes are committed in their order"
        );
        self.engine.flushed(batch);
        self.confirmed_at = self.confirmed_at.max(sent_at);
        self.flushed_to = flush.to;
        self.anchor = Some(flush.anchor);
        self.marked_to = self.marked_to.max(flush.published_to);
        // A leader that may have been replaced without knowing sends nothing of its own to the cache.
        if !snapshots.is_empty() {
            out.push(if self.is_surely_leader(now, config) {
                Output::Snapshot {
                    epoch: self.epoch,
                    snapshots,
                }
            } else {
                let accounts = snapshots.iter().map(|snapshot| snapshot.account);
                Output::Refresh {
                    accounts: accounts.collect(),
                }
            });
        }
        if self.planned > 0 {
            self.answers.committed.push(Arc::clone(&flush));
        }
        if !canary::is_off(Guard::PublishAfterCommit) {
            self.publisher.push(now, flush);
        }
    }
}
