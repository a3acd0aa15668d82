//! What becomes of the records of one call: each is answered by the library, on its own thread, and
//! the caller is woken once, behind the last answer. A channel for each record costs more than the
//! record.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rdkafka::error::KafkaError;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// The records of one call.
pub struct Call {
    delivered: Vec<AtomicBool>,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    /// Records without an answer, and one for the caller while it still sends.
    open: AtomicUsize,
    done: Notify,
}

/// One record of a call; dropped without an answer it has none.
pub struct Waiting {
    call: Arc<Call>,
    index: usize,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All replicas in sync have it.
    Delivered,
    /// It was not delivered, or that is not known.
    Failed(KafkaError),
    /// Nobody said anything.
    None,
}

impl Call {
    /// Of so many records.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            delivered: (0..count).map(|_| AtomicBool::new(false)).collect(),
            failed: Mutex::default(),
            open: AtomicUsize::new(1),
            done: Notify::new(),
        })
    }

    /// To be sent along with a record.
    pub fn waiting(self: &Arc<Self>, index: usize) -> Waiting {
        self.open.fetch_add(1, Ordering::Relaxed);
        Waiting {
            call: Arc::clone(self),
            index,
        }
    }

    /// Waits until every record has its answer, or the deadline; nothing more may be sent.
    pub async fn answered(&self, deadline: Instant) -> Vec<Answer> {
        self.close_one();
        while self.open.load(Ordering::Acquire) > 0 {
            if timeout_at(deadline, self.done.notified()).await.is_err() {
                break;
            }
        }
        let answer = |delivered: &AtomicBool| match delivered.load(Ordering::Acquire) {
            true => Answer::Delivered,
            false => Answer::None,
        };
        let mut answers: Vec<Answer> = self.delivered.iter().map(answer).collect();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, error) in failed.iter() {
            answers[*index] = Answer::Failed(error.clone());
        }
        answers
    }

    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

impl Waiting {
    /// What the library says; `None`: delivered.
    pub fn answer(self, error: Option<KafkaError>) {
        match error {
            None => self.call.delivered[self.index].store(true, Ordering::Release),
            Some(error) => {
                let failed = self.call.failed.lock();
                let mut failed = failed.unwrap_or_else(PoisonError::into_inner);
                failed.push((self.index, error));
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.call.close_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::types::RDKafkaErrorCode;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn each_record_has_its_own_answer_whatever_the_order() {
        let call = Call::new(4);
        let mut waiting: Vec<Waiting> = (0..4).map(|index| call.waiting(index)).collect();
        let late = waiting.remove(0);
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        waiting.remove(1).answer(Some(error.clone()));
        drop(waiting.remove(1));
        waiting.remove(0).answer(None);
        let answering = tokio::spawn(async move {
            tokio::task::yield_now().await;
            late.answer(None);
        });
        let answers = call
            .answered(Instant::now() + Duration::from_secs(10))
            .await;
        answering.await.expect("it does not panic");
        let expected = [
            Answer::Delivered,
            Answer::Delivered,
            Answer::Failed(error),
            Answer::None,
        ];
        assert_eq!(answers, expected);
    }

    #[tokio::test]
    async fn who_is_not_answered_in_time_has_no_answer_and_none_is_at_once() {
        let call = Call::new(2);
        call.waiting(0).answer(None);
        let _late = call.waiting(1);
        assert_eq!(
            call.answered(soon()).await,
            [Answer::Delivered, Answer::None]
        );
        assert_eq!(Call::new(0).answered(soon()).await, []);
    }
}
