//! The two tasks behind the waiters: one follows the results, one asks the journal.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;
use crate::core::{
    log::{Error, Log, ResultTail},
    result::Published,
    store,
    types::CommandId,
};

/// Most commands of one lookup.
const LOOKUP_COUNT_MAX: usize = 256;
/// A lookup of n commands is followed by a pause of n times this: at most 2,500 a second.
const LOOKUP_PAUSE: Duration = Duration::from_micros(400);
/// A lookup that failed is followed by this pause.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);
/// First wait before the tail is opened again; doubles with each failure.
const TAIL_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before the tail is opened again.
const TAIL_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Feeds the waiters with results, and opens the tail again when it ends.
pub(super) async fn follow_tail(inner: Arc<Inner>, log: Log) {
    let mut backoff = TAIL_BACKOFF_MIN;
    loop {
        let error = tokio::select! {
            () = inner.stop.cancelled() => return,
            error = follow(&inner, &log, &mut backoff) => error,
        };
        tracing::warn!(%error, "results are not followed; waits ask the journal until they are");
        metrics::counter!("axs_results_tail_failures_total").increment(1);
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(TAIL_BACKOFF_MAX);
    }
}

/// Follows the results until that fails.
async fn follow(inner: &Inner, log: &Log, backoff: &mut Duration) -> Error {
    let mut tail: ResultTail = match log.tail_results().await {
        Ok(tail) => tail,
        Err(error) => return error,
    };
    loop {
        match tail.next().await {
            Ok(results) => {
                *backoff = TAIL_BACKOFF_MIN;
                let mut waiters = inner.waiters();
                for result in results {
                    inner.tail_brought(&result);
                    waiters.feed(result);
                }
                drop(waiters);
                inner.moved.send_modify(|count| *count += 1);
            }
            Err(error) => return error,
        }
    }
}

/// Asks the journal for who waits long.
pub(super) async fn look_up(inner: Arc<Inner>) {
    loop {
        let next_due = inner.waiters().next_due();
        let due = async {
            match next_due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            // A new waiter, which may be due before the others.
            () = inner.due.notified() => {}
            () = due => {}
        }
        let ids = inner.waiters().take_due(Instant::now(), LOOKUP_COUNT_MAX);
        if ids.is_empty() {
            continue;
        }
        metrics::counter!("axs_outcome_lookups_total").increment(ids.len() as u64);
        let pause = match look_up_batch(&inner, &ids).await {
            Ok(()) => LOOKUP_PAUSE * u32::try_from(ids.len()).expect("a small batch"),
            Err(error) => {
                tracing::warn!(%error, "outcomes could not be looked up; they are tried again");
                FAILURE_PAUSE
            }
        };
        let now = Instant::now();
        {
            // Those that were found do not wait any more.
            let mut waiters = inner.waiters();
            for id in ids {
                waiters.look_up_again(id, now);
            }
        }
        sleep(pause).await;
    }
}

async fn look_up_batch(inner: &Inner, ids: &[CommandId]) -> Result<(), store::Error> {
    let mut pending = Vec::new();
    for (id, stored) in ids.iter().zip(inner.store.outcomes(ids).await?) {
        match stored {
            Some(stored) => {
                let result = inner.render(&stored).await;
                inner.waiters().feed(Published::from(&result));
            }
            None => pending.push(*id),
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    for (id, stored) in pending.iter().zip(inner.store.commands(&pending).await?) {
        if let Some(reason) = stored.and_then(|stored| stored.parked) {
            inner.waiters().parked(*id, reason);
        }
    }
    Ok(())
}
