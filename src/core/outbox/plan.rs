//! What a pass over one shard appends: pure, from what the store shows and what was sent before.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::core::{
    canary::{self, Guard},
    command::record::{self, Seal, Tick},
    log::NewRecord,
    store::OutboxView,
    types::{CommandId, ShardId, Timestamp},
};

/// A shard gets a TICK at most this often, whoever sends it.
const TICK_INTERVAL: Duration = Duration::from_secs(2);
/// When the engine has heard nothing of the outbox that sends a shard's TICKs for so long, another
/// one does.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(6);
/// TICKs remembered: what the engine applied last is among them, or another process sent it.
const TICKS_MAX: usize = 64;
/// A command sent again waits this long before the next time; it doubles ...
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(32);
/// Commands that were sent again before and are sent once more in a pass: a shard that is slow must
/// not be slowed further by what it has in its log already.
const REPEATS_MAX: u64 = 100;

/// What one process remembers of a shard between passes.
#[derive(Debug, Default)]
pub(in crate::core) struct Memory {
    ticked_at: Option<Duration>,
    /// Of the TICKs sent last.
    ticks: VecDeque<Timestamp>,
    /// There is no other outbox: everything is ours, whoever sent the TICK.
    is_alone: bool,
    sealed: Option<Sent>,
    resent: BTreeMap<CommandId, Sent>,
}

/// What was appended, and when that may be done once more.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// By the store's clock: not again before the engine has passed this moment too, because until
    /// then the record may still be before it.
    at: Timestamp,
    /// By our own clock.
    again_at: Duration,
    /// The next pause.
    pause: Duration,
}

impl Memory {
    /// Of a process that makes one pass and ends: it cannot wait for its own TICK.
    pub(in crate::core) fn alone() -> Self {
        Self {
            is_alone: true,
            ..Self::default()
        }
    }

    fn ticked(&mut self, view: &OutboxView, now: Duration) {
        self.ticked_at = Some(now);
        self.ticks.push_back(view.now);
        if self.ticks.len() > TICKS_MAX {
            self.ticks.pop_front();
        }
    }

    /// Of several outboxes the one whose TICK the engine applied last sends again: without it each
    /// would send everything. When it dies, another one's TICK is the next.
    fn is_ours(&self, view: &OutboxView) -> bool {
        self.is_alone || self.ticks.contains(&view.passed_at) || canary::is_off(Guard::LagAware)
    }
}

impl Sent {
    fn now(view: &OutboxView, now: Duration, before: Option<Self>) -> Self {
        let pause = before.map_or(PAUSE_MIN, |before| before.pause);
        Self {
            at: view.now,
            again_at: now + pause,
            pause: (pause * 2).min(PAUSE_MAX),
        }
    }

    fn is_due(&self, view: &OutboxView, margin: Duration, now: Duration) -> bool {
        let passed = self.at < earlier(view.passed_at, margin);
        (passed || canary::is_off(Guard::LagAware)) && now >= self.again_at
            || canary::is_off(Guard::BackOff)
    }
}

/// What to append, and what it is.
#[derive(Debug, Default)]
pub(in crate::core) struct Planned {
    pub records: Vec<NewRecord>,
    pub tick: bool,
    pub resent: u64,
    pub sealed: u64,
}

/// Plans a pass at `now` of this process's monotonic clock, which only spaces what is sent.
pub(in crate::core) fn plan(
    shard: ShardId,
    view: &OutboxView,
    margin: Duration,
    memory: &mut Memory,
    now: Duration,
) -> Planned {
    let mut planned = Planned::default();
    if wants_tick(view, margin, memory, now) {
        memory.ticked(view, now);
        planned.tick = true;
        let tick = Tick {
            now: view.now,
            wal_position: view.wal_position,
        };
        planned
            .records
            .push(control(shard, record::encode_tick(&tick), view.now));
    }
    if memory.is_ours(view) && !canary::is_off(Guard::OutboxResend) {
        plan_resends(shard, view, margin, memory, now, &mut planned);
    }
    if view.sealable.is_empty() {
        memory.sealed = None;
    } else if (memory.sealed).is_none_or(|sealed| sealed.is_due(view, margin, now)) {
        memory.sealed = Some(Sent::now(view, now, memory.sealed));
        for &(first, last) in &view.sealable {
            planned.sealed += last.0 - first.0 + 1;
            let seal = record::encode_seal(&Seal { first, last });
            planned.records.push(control(shard, seal, view.now));
        }
    }
    planned
}

/// A TICK is wanted where commands or seals are pending for longer than the margin and the shard's
/// time does not say so yet.
fn wants_tick(view: &OutboxView, margin: Duration, memory: &Memory, now: Duration) -> bool {
    let sealed = memory.sealed.filter(|_| !view.sealable.is_empty());
    let pending = view.oldest_pending_at.into_iter();
    let Some(oldest) = pending.chain(sealed.map(|sealed| sealed.at)).min() else {
        return false;
    };
    let is_old = oldest < earlier(view.now, margin);
    let interval = match memory.is_ours(view) {
        true => TICK_INTERVAL,
        false => TAKE_OVER_AFTER,
    };
    let others_ticked = view.passed_at > earlier(view.now, interval);
    let we_ticked = memory.ticked_at.is_some_and(|at| now < at + TICK_INTERVAL);
    is_old && !others_ticked && !we_ticked
}

fn plan_resends(
    shard: ShardId,
    view: &OutboxView,
    margin: Duration,
    memory: &mut Memory,
    now: Duration,
    planned: &mut Planned,
) {
    let mut next = BTreeMap::new();
    let mut repeats = 0;
    for command in &view.pending {
        let id = command.id.expect("stored commands have their id");
        let before = memory.resent.get(&id).copied();
        let is_due =
            before.is_none_or(|sent| sent.is_due(view, margin, now) && repeats < REPEATS_MAX);
        if !is_due {
            next.extend(before.map(|before| (id, before)));
            continue;
        }
        repeats += u64::from(before.is_some());
        next.insert(id, Sent::now(view, now, before));
        planned.resent += 1;
        planned.records.push(NewRecord {
            shard,
            account: Some(command.account),
            value: record::encode_command(command),
            command: Some((id, command.content_hash)),
            source: command.source.to_string(),
            time: command.accepted_at,
        });
    }
    // What is not pending any more is forgotten.
    memory.resent = next;
}

fn control(shard: ShardId, value: bytes::Bytes, time: Timestamp) -> NewRecord {
    NewRecord {
        shard,
        account: None,
        value,
        command: None,
        source: "axs".into(),
        time,
    }
}

fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    moment.plus_micros(-i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        command::{Command, CommandKind},
        types::{AccountId, ContentHash, Sequence},
    };

    const MARGIN: Duration = Duration::from_secs(6);

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    fn command(sequence: u64, accepted_at: Timestamp) -> Command {
        Command {
            id: Some(CommandId::new(ShardId(0), Sequence(sequence))),
            content_hash: ContentHash([7; 16]),
            source: "test".into(),
            idempotency_key: format!("key-{sequence}").into(),
            account: AccountId(1),
            kind: CommandKind::OpenAccount,
            changes: Vec::new().into(),
            reference: String::new().into(),
            created_at: None,
            accepted_at,
            user: 0,
            reverses: None,
            ack: None,
            pin: None,
        }
    }

    fn view(now: i64, passed_at: i64, oldest: Option<i64>, pending: Vec<Command>) -> OutboxView {
        OutboxView {
            now: second(now),
            wal_position: 9,
            passed_at: second(passed_at),
            pending_count: pending.len() as u64,
            oldest_pending_at: oldest.map(second),
            pending,
            sealable: Vec::new(),
        }
    }

    #[test]
    fn a_tick_is_sent_for_old_pending_commands_only_and_not_too_often() {
        let mut memory = Memory::default();
        let mut ticks = |view: &OutboxView, at: u64| {
            plan(
                ShardId(0),
                view,
                MARGIN,
                &mut memory,
                Duration::from_secs(at),
            )
            .tick
        };
        assert!(!ticks(&view(100, 0, None, vec![]), 0), "nothing is pending");
        assert!(
            !ticks(&view(100, 0, Some(95), vec![]), 0),
            "younger than the margin"
        );
        assert!(
            !ticks(&view(100, 99, Some(90), vec![]), 0),
            "another outbox sent one"
        );
        assert!(ticks(&view(100, 0, Some(90), vec![]), 0));
        assert!(!ticks(&view(101, 0, Some(90), vec![]), 1), "we sent one");
        assert!(ticks(&view(102, 0, Some(90), vec![]), 2));
    }

    #[test]
    fn a_pending_command_is_sent_again_with_growing_pauses() {
        let mut memory = Memory::alone();
        let pending = vec![command(5, second(10))];
        let mut sent_at = Vec::new();
        for at in 0..140 {
            // The engine passes everything at once.
            let view = view(1_000 + at, 1_007 + at, Some(10), pending.clone());
            let planned = plan(
                ShardId(0),
                &view,
                MARGIN,
                &mut memory,
                Duration::from_secs(at as u64),
            );
            if planned.resent > 0 {
                sent_at.push(at);
            }
        }
        assert_eq!(sent_at, [0, 2, 6, 14, 30, 62, 94, 126]);
        plan(
            ShardId(0),
            &view(1_000, 990, None, vec![]),
            MARGIN,
            &mut memory,
            Duration::ZERO,
        );
        assert!(memory.resent.is_empty(), "what is applied is forgotten");
    }

    #[test]
    fn of_several_outboxes_the_one_whose_tick_was_applied_sends_again() {
        let (mut one, mut other) = (Memory::default(), Memory::default());
        let planned = |memory: &mut Memory, now: i64, passed_at: i64| {
            let view = view(now, passed_at, Some(10), vec![command(5, second(10))]);
            let at = Duration::from_secs(now as u64);
            let planned = plan(ShardId(0), &view, MARGIN, memory, at);
            (planned.tick, planned.resent)
        };
        assert_eq!(planned(&mut one, 100, 0), (true, 0), "it asks the engine");
        assert_eq!(planned(&mut other, 101, 100), (false, 0), "not its TICK");
        assert_eq!(planned(&mut one, 101, 100), (false, 1));
        // The first one died: the other one asks, and goes on.
        assert_eq!(planned(&mut other, 103, 100), (false, 0));
        assert_eq!(planned(&mut other, 106, 100), (true, 0));
        assert_eq!(planned(&mut other, 107, 106), (false, 1));
    }

    #[test]
    fn what_was_sent_again_waits_until_the_engine_has_passed_that_too() {
        let mut memory = Memory::alone();
        let mut resent = |now: i64, passed_at: i64| {
            let view = view(now, passed_at, Some(10), vec![command(5, second(10))]);
            let now = Duration::from_secs(now as u64);
            plan(ShardId(0), &view, MARGIN, &mut memory, now).resent
        };
        assert_eq!(resent(100, 20), 1, "passed over");
        assert_eq!(
            resent(200, 20),
            0,
            "a shard that stands still gets nothing more"
        );
        assert_eq!(
            resent(201, 106),
            0,
            "what was sent may stand right before it"
        );
        assert_eq!(resent(202, 107), 1, "that was passed over too");
    }

    #[test]
    fn unusable_numbers_are_sealed_again_until_they_are_applied() {
        let mut memory = Memory::default();
        let mut planned = |now: i64, passed_at: i64| {
            let mut view = view(now, passed_at, None, vec![]);
            view.sealable = vec![(Sequence(3), Sequence(9)), (Sequence(20), Sequence(20))];
            let now = Duration::from_secs(now as u64);
            let planned = plan(ShardId(2), &view, MARGIN, &mut memory, now);
            (planned.sealed, planned.tick)
        };
        assert_eq!(planned(100, 0), (8, false));
        assert_eq!(planned(102, 0), (0, false));
        assert_eq!(planned(107, 0), (0, true), "was the SEAL passed over?");
        assert_eq!(planned(108, 107), (8, false), "it was");
    }
}
