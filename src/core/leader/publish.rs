//! What follows a commit: results in their order, again from the first that failed, and how far
//! they are published.

use std::{collections::VecDeque, sync::Arc};

use super::{Leader, MARK_PUBLISHED_AFTER, Mono, Output, Phase, RequestId, Retry};
use crate::core::{
    canary::{self, Guard},
    log,
    store::{self, Flush},
    types::Position,
};

/// The results that wait for publication.
pub(super) struct Publisher {
    queue: VecDeque<Work>,
    request: Option<RequestId>,
    pub retry: Retry,
    /// `published_to` is being stored up to here.
    pub mark: Option<(RequestId, Position)>,
    /// When `published_to` last rose, or failed to be stored.
    pub changed_at: Mono,
}

enum Work {
    /// A former leader committed them; whether it published them is not known.
    Stored { from: Position, to: Position },
    /// Committed by this tenure; the first `done` are acknowledged.
    Committed { flush: Arc<Flush>, done: usize },
}

impl Publisher {
    pub fn starting_with(now: Mono, published_to: Position, next_position: Position) -> Self {
        let stored = Work::Stored {
            from: published_to,
            to: next_position,
        };
        let is_owed = published_to < next_position && !canary::is_off(Guard::Republish);
        Self {
            queue: is_owed.then_some(stored).into_iter().collect(),
            request: None,
            retry: Retry::default(),
            mark: None,
            changed_at: now,
        }
    }

    pub fn push(&mut self, now: Mono, flush: Arc<Flush>) {
        self.queue.push_back(Work::Committed { flush, done: 0 });
        self.changed_at = now;
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_done(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Leader {
    pub(super) fn start_publish(&mut self, now: Mono, out: &mut Vec<Output>) {
        let id = self.next_request();
        let is_draining = self.phase == Phase::Draining;
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let publisher = &mut tenure.publisher;
        while let Some(Work::Committed { flush, .. }) = publisher.queue.front()
            && flush.outcomes.is_empty()
            && flush.dead_letters.is_empty()
        {
            tenure.published_to = flush.to;
            publisher.queue.pop_front();
        }
        if publisher.request.is_none() && publisher.retry.is_due(now) {
            match publisher.queue.front() {
                Some(Work::Stored { from, to }) => {
                    out.push(Output::Republish {
                        id,
                        from: *from,
                        to: *to,
                    });
                }
                Some(Work::Committed { flush, done }) => {
                    out.push(Output::Publish {
                        id,
                        flush: Arc::clone(flush),
                        skip: *done,
                    });
                }
                None => return self.start_mark(now, is_draining, out),
            }
            publisher.request = Some(id);
            publisher.retry.at = None;
        }
    }

    /// Stores `published_to` where no flush is about to.
    fn start_mark(&mut self, now: Mono, is_draining: bool, out: &mut Vec<Output>) {
        let id = self.next_request();
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let is_idle = tenure.is_idle();
        let (published_to, publisher) = (tenure.published_to, &mut tenure.publisher);
        let is_due = is_draining || now >= publisher.changed_at + MARK_PUBLISHED_AFTER;
        if published_to > tenure.marked_to && is_due && is_idle {
            publisher.mark = Some((id, published_to));
            publisher.retry.at = None;
            let (epoch, nonce) = (tenure.epoch, tenure.nonce);
            out.push(Output::MarkPublished {
                id,
                epoch,
                nonce,
                to: published_to,
            });
        }
    }

    pub(super) fn on_published(
        &mut self,
        now: Mono,
        id: RequestId,
        count: usize,
        error: Option<log::Error>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let publisher = &mut tenure.publisher;
        if publisher
            .request
            .take_if(|expected| *expected == id)
            .is_none()
        {
            return;
        }
        if let Some(Work::Committed { flush, done }) = publisher.queue.front_mut() {
            *done += count;
            if canary::is_off(Guard::ContiguousPublished) {
                *done = usize::MAX;
            }
            if *done >= flush.outcomes.len() + flush.dead_letters.len() {
                tenure.published_to = flush.to;
                publisher.queue.pop_front();
            }
        }
        publisher.changed_at = now;
        if error.is_some() {
            publisher.retry.after_failure(now);
        } else {
            publisher.retry.succeeded();
            tenure.log_seen_at = now;
        }
    }

    pub(super) fn on_republished(
        &mut self,
        now: Mono,
        id: RequestId,
        published_to: Position,
        error: Option<String>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let publisher = &mut tenure.publisher;
        if publisher
            .request
            .take_if(|expected| *expected == id)
            .is_none()
        {
            return;
        }
        if let Some(Work::Stored { from, to }) = publisher.queue.front_mut() {
            *from = published_to.max(*from);
            tenure.published_to = *from;
            if from >= to {
                publisher.queue.pop_front();
            }
        }
        publisher.changed_at = now;
        match error {
            Some(_) => publisher.retry.after_failure(now),
            None => publisher.retry.succeeded(),
        }
    }

    pub(super) fn on_marked_published(
        &mut self,
        now: Mono,
        id: RequestId,
        answer: Result<(), store::Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(tenure) = self.tenure.as_deref_mut() else {
            return;
        };
        let Some((_, to)) = tenure
            .publisher
            .mark
            .take_if(|(expected, _)| *expected == id)
        else {
            return;
        };
        tenure.publisher.changed_at = now;
        match answer {
            Ok(()) => tenure.marked_to = tenure.marked_to.max(to),
            Err(store::Error::Fenced(_)) => self.take_over_again(now, out),
            Err(_) => tenure.publisher.retry.after_failure(now),
        }
    }
}
