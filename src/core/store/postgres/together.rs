//! Flushes of several shards in one statement. A process that leads many shards has a few commands
//! for each of them all the time, and most of what a small flush costs is the statement. So what comes
//! while one is under way waits for its end, and then goes together.
//!
//! It changes who pays, and nothing else: each flush has its own fence, and where they are not all
//! done, none is, and each is sent by itself. No shard waits for another one's locks for more than
//! milliseconds: not for a flush that is under way (`PATIENCE`), and not in a statement that they share
//! (`lock_timeout` in `axs_flush`).

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
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
    /// Statements under way.
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
                store.start(&mut waiting);
            });
        }
    }

    /// Sends what waits, in a task of its own: whoever asked may go away.
    fn start(&self, waiting: &mut Waiting) {
        let count = waiting.queue.len().min(TOGETHER_MAX);
        if count == 0 {
            return;
        }
        let mut together: Vec<_> = waiting.queue.drain(..count).collect();
        // In one order for everybody, so that two statements cannot deadlock.
        together.sort_unstable_by_key(|(request, _)| request.flush.shard);
        waiting.running += 1;
        let ended = Ended(self.clone());
        tokio::spawn(async move {
            let (requests, answers): (Vec<Request>, Vec<Answer>) = together.into_iter().unzip();
            let results = ended.0.flush_together(&requests).await;
            drop(ended);
            for (answer, result) in answers.into_iter().zip(results) {
                // Whoever went away finds out from the store.
                let _ = answer.send(result);
            }
        });
    }

    /// An answer for each.
    async fn flush_together(&self, requests: &[Request]) -> Vec<Result<Flushed, Error>> {
        if let [request] = requests {
            return vec![self.flush_alone(request).await];
        }
        match send(&self.together, requests).await {
            Ok(_) => requests.iter().map(|_| Ok(Flushed::Done)).collect(),
            Err(Error::AnswerLost(why)) => (requests.iter())
                .map(|_| Err(Error::AnswerLost(why.clone())))
                .collect(),
            // Nothing was done. What is wrong with one of them only that one is told.
            Err(_) => join_all(requests.iter().map(|request| self.flush_alone(request))).await,
        }
    }

    async fn flush_alone(&self, request: &Request) -> Result<Flushed, Error> {
        let line = self.leader(request.flush.shard);
        send(&line, std::slice::from_ref(request)).await
    }
}

/// A statement under way: what waits follows its end, whatever becomes of it.
struct Ended(Store);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().expect("no holder panics");
        waiting.running -= 1;
        if waiting.running == 0 {
            self.0.start(&mut waiting);
        }
    }
}
