//! What one caller has sent or will send, and when. What is to be stored and what is only asked for
//! take turns, so that neither waits for the other.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::plan::Planned;

/// Before a command is sent again; doubles up to the longest: a short one while it is not stored.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_FRESH_MAX: Duration = Duration::from_millis(400);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(RETRY_PAUSE_FRESH_MAX.as_millis() < RETRY_PAUSE_MAX.as_millis());

/// How a caller sends.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// New commands a second.
    pub rate: f64,
    /// Commands of one call, at most.
    pub batch_max: usize,
    /// Commands that are not decided; above, it sends nothing new.
    pub pending_max: usize,
    /// Of a hundred calls with new commands, those that wait for outcomes.
    pub waiting_of_100: u64,
}

/// Why a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// To have it done.
    New,
    /// Its key was decided, under this id: the answer must be the same.
    Repeat(u64),
    /// Its key was decided for something else: it must be refused.
    Conflict,
}

/// A command on its way.
pub struct Sent {
    /// What it is.
    pub planned: Planned,
    /// What for.
    pub why: Why,
    /// As it was told; 0: it was not.
    pub id: u64,
    /// How often it was sent.
    pub sends: u32,
    /// Not before.
    due: Instant,
    /// The greatest position of its shard seen when it was sent first.
    pub seen_before: i64,
}

/// Commands of a caller that are not decided.
#[derive(Default)]
pub struct Queue {
    /// To be stored ...
    fresh: VecDeque<Sent>,
    /// ... and stored, to be asked for.
    open: VecDeque<Sent>,
    /// Whose turn it is.
    open_next: bool,
}

impl Queue {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.open.len()
    }

    /// Nothing is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of everything that is not decided.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let all = self.fresh.iter().chain(&self.open);
        all.map(|sent| sent.planned.command.idempotency_key.clone())
    }

    /// To be sent as soon as possible.
    pub fn add(&mut self, planned: Planned, why: Why) {
        self.fresh.push_back(Sent {
            planned,
            why,
            id: 0,
            sends: 0,
            due: Instant::now(),
            seen_before: -1,
        });
    }

    /// A batch of what is due, and whether it is only asked for; `None`: nothing is due.
    pub fn due(&mut self, count_max: usize) -> Option<(Vec<Sent>, bool)> {
        for _ in 0..2 {
            let asks = self.open_next;
            self.open_next = !asks;
            let queue = match asks {
                true => &mut self.open,
                false => &mut self.fresh,
            };
            let batch = take_due(queue, count_max);
            if !batch.is_empty() {
                return Some((batch, asks));
            }
        }
        None
    }

    /// It is stored: its outcome is asked for.
    pub fn ask(&mut self, mut sent: Sent) {
        sent.due = Instant::now();
        self.open.push_back(sent);
    }

    /// To be sent again, later.
    pub fn again(&mut self, mut sent: Sent) {
        let pause = RETRY_PAUSE * (1 << sent.sends.min(8).saturating_sub(1));
        let (queue, most) = match sent.id {
            0 => (&mut self.fresh, RETRY_PAUSE_FRESH_MAX),
            _ => (&mut self.open, RETRY_PAUSE_MAX),
        };
        sent.due = Instant::now() + pause.min(most);
        queue.push_back(sent);
    }
}

fn take_due(queue: &mut VecDeque<Sent>, count_max: usize) -> Vec<Sent> {
    let now = Instant::now();
    let mut batch = Vec::new();
    for _ in 0..queue.len() {
        if batch.len() == count_max {
            break;
        }
        match queue.pop_front() {
            Some(mut sent) if sent.due <= now => {
                sent.sends += 1;
                batch.push(sent);
            }
            Some(sent) => queue.push_back(sent),
            None => break,
        }
    }
    batch
}
