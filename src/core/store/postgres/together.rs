//! Flushes of several shards in one statement. A process that leads many shards has a few commands
//! for each of them all the time, and most of what a small flush costs is the statement. So what comes
//! while one is under way waits for its end, and then goes together.
//!
//! It changes who pays, and nothing else: each flush has its own fence, and where they are refused
//! together, nothing was done, and each is sent by itself. A leader's statements keep their order: its
//! line is held from the flush's call to its answer. No shard waits long for another one: for a flush
//! under way at most [`PATIENCE`], in a statement that they share for no lock longer than the
//! `lock_timeout` in `axs_flush`, and while the shared session hangs each goes alone.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    Store,
    connection::Held,
    flush::{check, send},
};
use crate::core::store::{Error, Flush, Flushed};

/// Larger flushes go by themselves, side by side: they have little to share.
const SMALL_COMMANDS_MAX: usize = 128;
/// Of those commands.
const SMALL_ENTRIES_MAX: usize = 4 * SMALL_COMMANDS_MAX;
/// Flushes of one statement: with all their commands no more than a large flush has.
const TOGETHER_MAX: usize = 32;
/// What waits longer for one under way goes beside it: longer than a commit takes on slow disks.
const PATIENCE: Duration = Duration::from_millis(25);

/// What `axs_acquire` knows the session by that flushes several shards.
pub(super) const TOGETHER_ROLE: &str = "axs-flushes";

/// A flush to send.
pub(super) struct Request {
    pub flush: Arc<Flush>,
    /// Of the lease that it prolongs.
    pub ttl: Duration,
}

/// Small flushes of this process; at most one of each leader, because it holds the leader's line.
#[derive(Default)]
pub(super) struct Waiting {
    queue: Vec<Waiter>,
    /// How often what waited was taken.
    taken: u64,
    /// The task that will take what waits, unless it was found late: then another one is.
    runner: Option<u64>,
    runners: u64,
    /// A statement of several is under way.
    is_sharing: bool,
}

struct Waiter {
    request: Request,
    line: Held,
    answer: oneshot::Sender<Result<Flushed, Error>>,
}

impl Waiter {
    async fn send_alone(mut self) {
        let sent = send(&mut self.line, &[&self.request]).await;
        self.tell(sent);
    }

    /// Whoever went away finds out from the store.
    fn tell(self, sent: Result<Flushed, Error>) {
        drop(self.line);
        let _ = self.answer.send(sent);
    }
}

impl Store {
    /// See [`super::super::Store::flush`].
    pub async fn flush(&self, flush: &Arc<Flush>, ttl: Duration) -> Result<Flushed, Error> {
        check(flush)?;
        let (answer, answered) = oneshot::channel();
        let flush = flush.clone();
        let waiter = Waiter {
            line: self.leader(flush.shard).hold().await?,
            request: Request { flush, ttl },
            answer,
        };
        // Sent in a task of its own: whoever asked may go away.
        if is_small(&waiter.request.flush) {
            self.enqueue(waiter);
        } else {
            tokio::spawn(waiter.send_alone());
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::AnswerLost("the flush was given up".into())),
        }
    }

    fn enqueue(&self, waiter: Waiter) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.queue.push(waiter);
        if waiting.runner.is_none() {
            self.start(&mut waiting);
        } else if waiting.queue.len() == 1 {
            self.watch(&waiting);
        }
    }

    /// Sends what waits, and then what came meanwhile.
    fn start(&self, waiting: &mut Waiting) {
        waiting.runners += 1;
        let runner = waiting.runners;
        waiting.runner = Some(runner);
        let store = self.clone();
        tokio::spawn(async move {
            while let Some(together) = store.take_waiting(runner) {
                store.send_together(together).await;
            }
        });
    }

    /// Whoever is to take what waits now and does not is late, whatever became of him.
    fn watch(&self, waiting: &Waiting) {
        let (store, taken) = (self.clone(), waiting.taken);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            let mut waiting = store.waiting.lock().expect("no holder panics");
            if waiting.taken == taken && !waiting.queue.is_empty() {
                store.start(&mut waiting);
            }
        });
    }

    /// In one order for everybody, so that two statements cannot deadlock. `None`: there is nothing,
    /// or it is another one's turn.
    fn take_waiting(&self, runner: u64) -> Option<Vec<Waiter>> {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        if waiting.runner != Some(runner) {
            return None;
        }
        if waiting.queue.is_empty() {
            waiting.runner = None;
            return None;
        }
        let count = waiting.queue.len().min(TOGETHER_MAX);
        let mut together: Vec<_> = waiting.queue.drain(..count).collect();
        together.sort_unstable_by_key(|waiter| waiter.request.flush.shard);
        waiting.taken += 1;
        if !waiting.queue.is_empty() {
            self.watch(&waiting);
        }
        Some(together)
    }

    async fn send_together(&self, mut together: Vec<Waiter>) {
        if together.len() == 1
            && let Some(waiter) = together.pop()
        {
            return waiter.send_alone().await;
        }
        let Some(sharing) = Sharing::begin(self) else {
            return each_alone(together);
        };
        let requests: Vec<_> = together.iter().map(|waiter| &waiter.request).collect();
        let sent = match self.together.hold().await {
            Ok(mut line) => send(&mut line, &requests).await,
            Err(error) => Err(error),
        };
        drop(sharing);
        match sent {
            Ok(_) | Err(Error::AnswerLost(_)) => {
                for waiter in together {
                    waiter.tell(sent.clone());
                }
            }
            // Nothing was done. What is wrong with one of them only that one is told.
            Err(_) => each_alone(together),
        }
    }
}

fn is_small(flush: &Flush) -> bool {
    flush.outcomes.len() <= SMALL_COMMANDS_MAX
        && flush.entries.len() <= SMALL_ENTRIES_MAX
        && flush.dead_letters.is_empty()
}

/// None waits for another one.
fn each_alone(waiters: Vec<Waiter>) {
    for waiter in waiters {
        tokio::spawn(waiter.send_alone());
    }
}

/// The one statement of several that may be under way.
struct Sharing<'a>(&'a Store);

impl<'a> Sharing<'a> {
    fn begin(store: &'a Store) -> Option<Self> {
        let mut waiting = store.waiting.lock().expect("no holder panics");
        let is_free = !std::mem::replace(&mut waiting.is_sharing, true);
        // Not `then_some`, which would make one to be dropped at once, and free what another one has.
        is_free.then(|| Self(store))
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().expect("no holder panics");
        waiting.is_sharing = false;
    }
}
