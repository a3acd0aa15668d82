//! Flushes of several shards in one statement. A process that leads many shards has a few commands
//! for each of them all the time, and most of what a small flush costs is the statement. So what comes
//! while one is under way waits for its end, and then goes together.
//!
//! It changes who pays, and nothing else: each flush has its own fence, and where they are not all
//! done, none is, and each is sent by itself. No shard waits for another one's locks for more than
//! milliseconds: not for a flush that is under way (`PATIENCE`), and not in a statement that they share
//! (`lock_timeout` in `axs_flush`).

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    Store,
    flush::{check, send},
};
use crate::core::store::{Error, Flush, Flushed};

/// Larger flushes go by themselves, side by side: they have little to share.
const SMALL_COMMANDS_MAX: usize = 128;
/// Flushes of one statement: with all their commands no more than a large flush has.
const TOGETHER_MAX: usize = 32;
/// What waits longer for one under way goes beside it.
const PATIENCE: Duration = Duration::from_millis(5);

/// What `axs_acquire` knows the session by that flushes several shards.
pub(super) const TOGETHER_ROLE: &str = "axs-shards";

/// A flush to send.
pub(super) struct Request {
    pub flush: Arc<Flush>,
    /// Of the lease that it prolongs.
    pub ttl: Duration,
}

/// Small flushes of this process; at most one of each leader.
#[derive(Default)]
pub(super) struct Waiting {
    queue: Vec<(Request, Answer)>,
    /// Tasks that send them.
    running: usize,
}

type Answer = oneshot::Sender<Result<Flushed, Error>>;

impl Store {
    /// See [`super::super::Store::flush`].
    pub async fn flush(&self, flush: &Arc<Flush>, ttl: Duration) -> Result<Flushed, Error> {
        check(flush)?;
        let flush = flush.clone();
        let request = Request { flush, ttl };
        if request.flush.outcomes.len() > SMALL_COMMANDS_MAX {
            return self.flush_alone(&request).await;
        }
        let (answer, answered) = oneshot::channel();
        self.enqueue(request, answer);
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::AnswerLost("the flush was given up".into())),
        }
    }

    fn enqueue(&self, request: Request, answer: Answer) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.queue.push((request, answer));
        if waiting.running == 0 {
            self.start(&mut waiting);
        } else if waiting.queue.len() == 1 {
            let store = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                let mut waiting = store.waiting.lock().expect("no holder panics");
                if !waiting.queue.is_empty() {
                    store.start(&mut waiting);
                }
            });
        }
    }

    /// Sends what waits, and then what came meanwhile, in a task of its own: whoever asked may go away.
    fn start(&self, waiting: &mut Waiting) {
        waiting.running += 1;
        let mut running = Running {
            store: self.clone(),
            is_counted: true,
        };
        tokio::spawn(async move {
            while let Some(together) = running.next() {
                running.store.flush_together(together).await;
            }
        });
    }

    async fn flush_together(&self, together: Vec<(Request, Answer)>) {
        let (requests, answers): (Vec<Request>, Vec<Answer>) = together.into_iter().unzip();
        let sent = match &requests[..] {
            [request] => self.flush_alone(request).await,
            requests => send(&self.together, requests).await,
        };
        match sent {
            Err(error) if requests.len() > 1 && !matches!(error, Error::AnswerLost(_)) => {
                for (request, answer) in requests.into_iter().zip(answers) {
                    self.clone().again_alone(request, answer);
                }
            }
            sent => {
                for answer in answers {
                    // Whoever went away finds out from the store.
                    let _ = answer.send(sent.clone());
                }
            }
        }
    }

    /// Of those that were refused together, of which nothing was done: what is wrong with one of them
    /// only that one is told, and the others do not wait for it.
    fn again_alone(self, request: Request, answer: Answer) {
        tokio::spawn(async move {
            let _ = answer.send(self.flush_alone(&request).await);
        });
    }

    async fn flush_alone(&self, request: &Request) -> Result<Flushed, Error> {
        let line = self.leader(request.flush.shard);
        send(&line, std::slice::from_ref(request)).await
    }
}

/// A task that sends flushes: counted until it has nothing more to send, or breaks off.
struct Running {
    store: Store,
    is_counted: bool,
}

impl Running {
    /// What waits, in one order for everybody, so that two statements cannot deadlock.
    fn next(&mut self) -> Option<Vec<(Request, Answer)>> {
        let mut waiting = self.store.waiting.lock().expect("no holder panics");
        if waiting.queue.is_empty() {
            waiting.running -= 1;
            self.is_counted = false;
            return None;
        }
        let count = waiting.queue.len().min(TOGETHER_MAX);
        let mut together: Vec<_> = waiting.queue.drain(..count).collect();
        together.sort_unstable_by_key(|(request, _)| request.flush.shard);
        Some(together)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_counted {
            let mut waiting = self.store.waiting.lock().expect("no holder panics");
            waiting.running -= 1;
        }
    }
}
