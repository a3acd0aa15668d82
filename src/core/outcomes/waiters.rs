//! Who waits for which command, which outcomes are recent, and which lookups are due. Pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hashbrown::HashMap;
use tokio::{sync::oneshot, time::Instant};

use super::{LOOKUP_AFTER, Waited};
use crate::core::{
    generations::Generations, proto::CommandResult, result::Published, types::CommandId,
};

/// Most outcomes in the cache of recent ones.
const RECENT_COUNT_MAX: usize = 100_000;
/// Most bytes of them, as encoded.
const RECENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest pause between two lookups of one command.
const LOOKUP_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Waiting commands and recent outcomes.
pub(super) struct Waiters {
    recent: Generations<CommandId, Published>,
    young_bytes: usize,
    waiting: HashMap<CommandId, Waiting>,
    due: BTreeSet<(Instant, CommandId)>,
    next_number: u64,
}

struct Waiting {
    callers: Vec<(u64, oneshot::Sender<Waited>)>,
    /// When it is looked up; `None` while it is.
    due: Option<Instant>,
    pause: Duration,
}

/// The answer to a registration.
pub(super) enum Registered {
    Recent(Arc<CommandResult>),
    Waiter(u64, oneshot::Receiver<Waited>),
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            recent: Generations::new(RECENT_COUNT_MAX),
            young_bytes: 0,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            next_number: 0,
        }
    }
}

impl Waiters {
    pub fn recent(&self, id: CommandId) -> Option<Arc<CommandResult>> {
        decoded(&self.recent.peek(&id)?)
    }

    /// Registers a waiter, unless the outcome is there.
    pub fn register(&mut self, id: CommandId, look_up_at: Instant) -> Registered {
        if let Some(outcome) = self.recent(id) {
            return Registered::Recent(outcome);
        }
        let (sender, receiver) = oneshot::channel();
        self.next_number += 1;
        let waiting = self.waiting.entry(id).or_insert_with(|| Waiting {
            callers: Vec::new(),
            due: None,
            pause: LOOKUP_AFTER,
        });
        let is_new = waiting.callers.is_empty();
        waiting.callers.push((self.next_number, sender));
        // One that is being looked up will be due again.
        if is_new || waiting.due.is_some_and(|due| look_up_at < due) {
            if let Some(due) = waiting.due.replace(look_up_at) {
                self.due.remove(&(due, id));
            }
            self.due.insert((look_up_at, id));
        }
        Registered::Waiter(self.next_number, receiver)
    }

    /// A waiter gives up, or was answered.
    pub fn leave(&mut self, id: CommandId, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        waiting.callers.retain(|(other, _)| *other != number);
        if waiting.callers.is_empty() {
            self.forget(id);
        }
    }

    /// An outcome became known. It is decoded for who waits; nearly all are waited for by nobody.
    pub fn feed(&mut self, result: Published) {
        let (id, bytes) = (result.id(), result.bytes());
        let waited_for = self.waiting.contains_key(&id).then(|| decoded(&result));
        self.recent.insert(id, result);
        self.young_bytes = match self.recent.young_len() {
            1 => bytes,
            _ => self.young_bytes + bytes,
        };
        if self.young_bytes > RECENT_BYTES_MAX / 2 {
            self.recent.age();
            self.young_bytes = 0;
        }
        // What cannot be decoded ends no wait: the journal is asked.
        if let Some(outcome) = waited_for.flatten() {
            self.end(id, &Waited::Outcome(outcome));
        }
    }

    /// A command turned out to be a dead letter.
    pub fn parked(&mut self, id: CommandId, reason: String) {
        self.end(id, &Waited::Parked(reason));
    }

    /// When the next lookup is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes at most `count` commands whose lookup is due.
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<CommandId> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.due = None;
                taken.push(id);
            }
        }
        taken
    }

    /// A lookup found nothing: the next one is due later.
    pub fn look_up_again(&mut self, id: CommandId, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&id)
            && waiting.due.is_none()
        {
            let due = now + waiting.pause;
            waiting.pause = (waiting.pause * 2).min(LOOKUP_PAUSE_MAX);
            waiting.due = Some(due);
            self.due.insert((due, id));
        }
    }

    fn end(&mut self, id: CommandId, waited: &Waited) {
        for (_, caller) in self.forget(id).into_iter().flat_map(|w| w.callers) {
            // Who gave up does not want it.
            let _ = caller.send(waited.clone());
        }
    }

    fn forget(&mut self, id: CommandId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(due) = waiting.due {
            self.due.remove(&(due, id));
        }
        Some(waiting)
    }
}

/// The message, if it is one.
fn decoded(result: &Published) -> Option<Arc<CommandResult>> {
    match result.decode() {
        Ok(message) => Some(Arc::new(message)),
        Err(error) => {
            let id = result.id().0;
            tracing::warn!(
                command.id = id,
                "its published result cannot be decoded: {error}"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::core::types::{Sequence, ShardId};

    fn id(sequence: u64) -> CommandId {
        CommandId::new(ShardId(1), Sequence(sequence))
    }

    fn message(sequence: u64) -> CommandResult {
        CommandResult {
            command_id: id(sequence).0,
            ..Default::default()
        }
    }

    fn result(sequence: u64) -> Published {
        Published::from(&message(sequence))
    }

    fn register(
        waiters: &mut Waiters,
        sequence: u64,
        at: Instant,
    ) -> (u64, oneshot::Receiver<Waited>) {
        match waiters.register(id(sequence), at) {
            Registered::Waiter(number, receiver) => (number, receiver),
            Registered::Recent(_) => panic!("{sequence} is not known yet"),
        }
    }

    #[test]
    fn an_outcome_reaches_all_who_wait_and_stays_for_who_comes_late() {
        let mut waiters = Waiters::default();
        let now = Instant::now();
        let mut receivers: Vec<_> = (0..3).map(|_| register(&mut waiters, 1, now).1).collect();
        waiters.feed(result(1));
        for receiver in &mut receivers {
            assert_eq!(
                receiver.try_recv(),
                Ok(Waited::Outcome(Arc::new(message(1))))
            );
        }
        assert!(matches!(
            waiters.register(id(1), now),
            Registered::Recent(_)
        ));
        assert_eq!(waiters.next_due(), None, "nothing is left to look up");
    }

    #[test]
    fn a_result_that_cannot_be_decoded_ends_no_wait() {
        let mut waiters = Waiters::default();
        let now = Instant::now();
        let (_, mut receiver) = register(&mut waiters, 1, now);
        // Field 12, `applied_at`, of one byte that is no message.
        let damaged = [&message(1).encode_to_vec()[..], &[0x62, 1, 0xff]].concat();
        let damaged = Published::parse(damaged.into()).expect("its fields are whole");
        waiters.feed(damaged);
        assert!(receiver.try_recv().is_err(), "it still waits");
        assert_eq!(waiters.recent(id(1)), None);
        assert_eq!(waiters.take_due(now, 10), [id(1)], "the journal is asked");
        waiters.feed(result(1));
        let outcome = Waited::Outcome(Arc::new(message(1)));
        assert_eq!(receiver.try_recv(), Ok(outcome));
    }

    #[test]
    fn lookups_come_back_ever_later_until_nobody_waits() {
        let mut waiters = Waiters::default();
        let mut now = Instant::now();
        let (number, _receiver) = register(&mut waiters, 1, now);
        for pause_ms in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert_eq!(waiters.take_due(now, 10), [id(1)]);
            assert_eq!(waiters.take_due(now, 10), [], "it is being looked up");
            waiters.look_up_again(id(1), now);
            let due = waiters.next_due().expect("it still waits");
            assert_eq!(due - now, Duration::from_millis(pause_ms));
            now = due;
        }
        waiters.leave(id(1), number);
        assert_eq!(waiters.take_due(now, 10), []);
        waiters.look_up_again(id(1), now);
        assert_eq!(waiters.next_due(), None);
    }

    #[test]
    fn a_repeat_that_waits_is_looked_up_at_once() {
        let mut waiters = Waiters::default();
        let now = Instant::now();
        let _first = register(&mut waiters, 1, now + LOOKUP_AFTER);
        let _second = register(&mut waiters, 1, now);
        assert_eq!(waiters.take_due(now, 10), [id(1)]);
    }

    #[test]
    fn lookups_are_taken_in_bounded_batches() {
        let mut waiters = Waiters::default();
        let now = Instant::now();
        let _receivers: Vec<_> = (1..=5).map(|n| register(&mut waiters, n, now)).collect();
        let sizes = [(); 3].map(|()| waiters.take_due(now, 2).len());
        assert_eq!(sizes, [2, 2, 1]);
    }

    #[test]
    fn a_parked_command_ends_the_wait_and_is_not_an_outcome() {
        let mut waiters = Waiters::default();
        let (_, mut receiver) = register(&mut waiters, 1, Instant::now());
        waiters.parked(id(1), "why".into());
        assert_eq!(receiver.try_recv(), Ok(Waited::Parked("why".into())));
        assert!(waiters.recent(id(1)).is_none());
    }
}
