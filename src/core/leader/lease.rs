//! Taking a shard over, keeping the lease, giving it up. Only the row in the store decides; what is
//! in here only makes a leader stop early.

use super::{
    LOG_AWAY_MAX, Leader, Mono, Output, Parked, Phase, RequestId, Retry, Why, tenure::Tenure,
};
use crate::core::{
    canary::{self, Guard},
    log,
    store::{self, ShardState},
};

impl Leader {
    pub(super) fn on_lead(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.phase == Phase::Stopped {
            // An operator did something about it: as in a process that was just started.
            let requests = self.requests;
            *self = Self::new(self.shard, self.config.clone());
            self.requests = requests;
        }
        if self.phase == Phase::Idle {
            self.phase = Phase::Acquiring;
            self.retry = Retry {
                at: Some(now),
                ..Retry::default()
            };
            self.try_acquire(now, out);
        }
    }

    pub(super) fn on_drain(&mut self, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Acquiring => {
                self.phase = Phase::Idle;
                self.retry = Retry::default();
                self.acquire = None;
                out.push(Output::StepDown(Why::Drained));
            }
            Phase::Opening | Phase::Leading => {
                self.phase = Phase::Draining;
                // Nothing is read or loaded any more: nothing of it has to wake us.
                if let Some(tenure) = self.tenure.as_deref_mut() {
                    tenure.log_retry = Retry::default();
                    tenure.load_retry = Retry::default();
                }
            }
            Phase::Idle | Phase::Draining | Phase::Stopped => {}
        }
    }

    pub(super) fn try_acquire(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.phase != Phase::Acquiring || self.acquire.is_some() || !self.retry.is_due(now) {
            return;
        }
        let id = self.next_request();
        self.acquire = Some((id, now));
        self.retry.at = None;
        out.push(Output::Acquire {
            id,
            mine: self.nonce,
            ttl: self.config.lease_ttl,
        });
    }

    pub(super) fn on_acquired(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<Option<ShardState>, store::Error>,
        out: &mut Vec<Output>,
    ) {
        let Some((_, sent_at)) = self.acquire.take_if(|(expected, _)| *expected == id) else {
            // Drained while it was under way: a lease we do not want must not stay.
            if let Ok(Some(state)) = answer {
                let id = self.next_request();
                out.push(Output::Release {
                    id,
                    epoch: state.epoch,
                    nonce: state.nonce,
                });
            }
            return;
        };
        match answer {
            Ok(Some(state)) => {
                assert!(
                    state.shard == self.shard,
                    "the store answered for another shard"
                );
                self.nonce = Some(state.nonce);
                self.retry.succeeded();
                self.parked = self.parked.split_off(&state.next_position);
                let stored = state.parked.iter().map(|(at, reason)| {
                    let (reason, anchor) = (*reason, None);
                    (*at, Parked { reason, anchor })
                });
                self.parked.extend(stored);
                self.phase = Phase::Opening;
                let tenure = Tenure::new(sent_at, state);
                #[cfg(feature = "simulation")]
                let tenure = Tenure {
                    engine: self.kept.take().unwrap_or(tenure.engine),
                    ..tenure
                };
                self.tenure = Some(Box::new(tenure));
                self.open_log(now, out);
            }
            Ok(None) => {
                let why = if self.nonce.is_some() {
                    Why::LeaseLost
                } else {
                    Why::Held
                };
                self.step_down(why, out);
            }
            Err(store::Error::Mismatch(why)) => self.stop(why, out),
            Err(_) => self.retry.after_failure(now),
        }
    }

    fn open_log(&mut self, now: Mono, out: &mut Vec<Output>) {
        let id = self.next_request();
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        if tenure.open.is_some() || !tenure.log_retry.is_due(now) {
            return;
        }
        tenure.open = Some(id);
        tenure.log_retry.at = None;
        out.push(Output::Open {
            id,
            epoch: tenure.epoch,
            from: tenure.flushed_to,
            anchor: tenure.anchor,
        });
    }

    pub(super) fn on_opened(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<(), log::Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        if tenure.open.take_if(|expected| *expected == id).is_none() {
            return;
        }
        match answer {
            Ok(()) => {
                tenure.log_retry.succeeded();
                tenure.log_seen_at = now;
                if self.phase == Phase::Opening {
                    self.phase = Phase::Leading;
                }
            }
            Err(log::Error::Diverged(why) | log::Error::Refused(why)) => self.stop(why, out),
            Err(_) => tenure.log_retry.after_failure(now),
        }
    }

    /// True when the lease ran out by our own clock: the memory is gone.
    pub(super) fn lease_ran_out(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let Some(tenure) = self.tenure.as_deref() else {
            return false;
        };
        let is_held = now < tenure.confirmed_at + self.config.lease_ttl;
        if is_held || canary::is_off(Guard::LeaseLocal) {
            return false;
        }
        if let Some(records) = tenure.in_flight.as_ref().map(|flight| flight.records) {
            self.size_batches(self.config.lease_ttl, records);
        }
        self.take_over_again(now, out);
        true
    }

    /// Drops the memory and takes over anew, if nobody else did meanwhile.
    pub(super) fn take_over_again(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.drop_memory(out);
        if self.phase == Phase::Draining {
            self.step_down(Why::Drained, out);
            return;
        }
        self.phase = Phase::Acquiring;
        self.retry = Retry {
            at: Some(now),
            pause: self.retry.pause,
        };
        self.try_acquire(now, out);
    }

    pub(super) fn step_down(&mut self, why: Why, out: &mut Vec<Output>) {
        self.drop_memory(out);
        self.phase = Phase::Idle;
        self.retry = Retry::default();
        // A late answer to either belongs to a leadership that is over.
        self.acquire = None;
        self.release = None;
        if matches!(why, Why::LeaseLost | Why::LogAway(_)) {
            self.nonce = None;
        }
        out.push(Output::StepDown(why));
    }

    /// True when the log gave and took nothing for too long: another process may reach it.
    pub(super) fn log_is_away(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let Some(tenure) = self.tenure.as_deref() else {
            return false;
        };
        if now < tenure.log_seen_at + LOG_AWAY_MAX {
            if self.phase == Phase::Opening {
                self.open_log(now, out);
            }
            return false;
        }
        let (id, epoch, nonce) = (self.requests + 1, tenure.epoch, tenure.nonce);
        self.requests = id;
        out.push(Output::Release {
            id: RequestId(id),
            epoch,
            nonce,
        });
        let seconds = LOG_AWAY_MAX.as_secs();
        self.step_down(
            Why::LogAway(format!("no answer from the log for {seconds} s")),
            out,
        );
        true
    }

    pub(super) fn start_renewal(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.release.is_some() {
            return; // it could overtake the release, and keep a lease that nobody uses
        }
        let id = self.next_request();
        let ttl = self.config.lease_ttl;
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let due = now >= tenure.confirmed_at + ttl / 3 && tenure.renewal_retry.is_due(now);
        if due && tenure.renewal.is_none() {
            tenure.renewal = Some((id, now));
            tenure.renewal_retry.at = None;
            out.push(Output::Renew {
                id,
                epoch: tenure.epoch,
                nonce: tenure.nonce,
                ttl,
            });
        }
    }

    pub(super) fn on_renewed(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<(), store::Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let Some((_, sent_at)) = tenure.renewal.take_if(|(expected, _)| *expected == id) else {
            return;
        };
        match answer {
            Ok(()) => {
                tenure.renewal_retry.succeeded();
                tenure.confirmed_at = tenure.confirmed_at.max(sent_at);
            }
            Err(store::Error::Fenced(_)) => self.take_over_again(now, out),
            Err(_) => tenure.renewal_retry.after_failure(now),
        }
    }

    /// When everything applied is committed, published and marked, the lease is ended.
    pub(super) fn finish_drain(&mut self, _now: Mono, out: &mut Vec<Output>) {
        if self.phase != Phase::Draining || self.release.is_some() {
            return;
        }
        let id = self.next_request();
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let busy = tenure.in_flight.is_some()
            || tenure.building.records > 0
            || !tenure.publisher.is_done()
            || tenure.published_to > tenure.marked_to;
        if busy {
            return;
        }
        self.release = Some(id);
        out.push(Output::Release {
            id,
            epoch: tenure.epoch,
            nonce: tenure.nonce,
        });
    }

    pub(super) fn on_released(&mut self, id: RequestId, out: &mut Vec<Output>) {
        if self.release.take_if(|expected| *expected == id).is_some() {
            self.nonce = None;
            self.step_down(Why::Drained, out);
        }
    }
}
