//! A process that leads shards: a leader and a refresh of the cache for each, and what the driver
//! does between them and the servers.

use std::collections::VecDeque;

use super::{
    MILLISECOND, Micros, SECOND,
    servers::Cursor,
    world::{Address, Message as Told, World},
};
use crate::core::{
    canary::{self, Guard},
    consumer::refresh::plan::{self as refresh, Refresh},
    leader::{Input, Leader, Output, RequestId, Why},
    log::Record,
    store::{self},
    types::{Nonce, Position, ShardId},
};

/// How long a fetch waits for a first record.
const FETCH_WAIT: Micros = 500 * MILLISECOND;
/// Snapshots of so many flushes wait for the cache.
const TOLD_MAX: usize = 16;
/// Stored results read at a time.
const RESULTS_MAX: usize = 10_000;
/// Whoever does not lead tries again so often.
const TRY_AGAIN: Micros = 400 * MILLISECOND;

mod caching;
mod reading;

/// What a consumer is told. `seat` is the number of the shard.
pub(super) enum Message {
    Leader(usize, Input),
    Opened(usize, u64, Option<Cursor>, Input),
    Fetched(usize, u64, Cursor, Input),
    Republish(usize, RequestId, Position, Position, Stored),
    Refresh(usize, refresh::Input),
    RefreshDue(usize),
    Wake(usize),
    /// Hand the shard over.
    Drain(usize),
}

/// What a new leader publishes again.
type Stored = Result<(Vec<store::StoredResult>, Vec<Position>), store::Error>;

/// One process of `axs consume`.
pub(super) struct Consumer {
    me: Address,
    seats: Vec<Seat>,
}

struct Seat {
    shard: ShardId,
    leader: Leader,
    cursor: Option<Cursor>,
    /// Counts openings: what belongs to an earlier one is dropped.
    opening: u64,
    /// What was read since the log was opened, for the checker.
    fetched: Vec<Record>,
    wake_at: Option<Micros>,
    refresh: Refresh,
    refresh_is_busy: bool,
    refresh_due: Option<Micros>,
    told: VecDeque<refresh::Told>,
    missed: bool,
}

fn to(message: Message) -> Told {
    Told::Consumer(Box::new(message))
}

fn input(seat: usize, input: Input) -> Told {
    to(Message::Leader(seat, input))
}

impl Consumer {
    pub fn new(world: &World, me: Address) -> Self {
        let seat = |shard| Seat {
            shard,
            leader: Leader::new(shard, world.profile.leader.clone()),
            cursor: None,
            opening: 0,
            fetched: Vec::new(),
            wake_at: None,
            refresh: Refresh::new(world.mono(me.process)),
            refresh_is_busy: false,
            refresh_due: None,
            told: VecDeque::new(),
            missed: false,
        };
        Self {
            me,
            seats: (0..world.profile.shards).map(ShardId).map(seat).collect(),
        }
    }

    pub fn on(&mut self, world: &mut World, message: Told) {
        let message = match message {
            Told::Consumer(message) => *message,
            _ => {
                for seat in 0..self.seats.len() {
                    let delay = world.random.below(TRY_AGAIN);
                    world.tell_in(self.me, delay, input(seat, Input::Lead));
                }
                return;
            }
        };
        match message {
            Message::Leader(seat, input) => self.step(world, seat, input),
            Message::Opened(seat, opening, cursor, input) => {
                if self.seats[seat].opening == opening {
                    self.seats[seat].cursor = cursor;
                    self.step(world, seat, input);
                }
            }
            Message::Fetched(seat, opening, cursor, input) => {
                if self.seats[seat].opening == opening {
                    self.seats[seat].cursor = Some(cursor);
                    if let Input::Fetched(_, Ok(records)) = &input {
                        self.seats[seat].fetched.extend(records.iter().cloned());
                    }
                    self.step(world, seat, input);
                }
            }
            Message::Republish(seat, id, from, until, stored) => {
                self.republish(world, seat, id, from, until, stored);
            }
            Message::Refresh(seat, input) => self.refresh(world, seat, input),
            Message::RefreshDue(seat) => {
                self.seats[seat].refresh_due = None;
                let now = world.mono(self.me.process);
                let refresh = &self.seats[seat];
                if !refresh.refresh_is_busy && refresh.refresh.due() <= now {
                    self.refresh(world, seat, refresh::Input::Due);
                }
                self.go_on_refreshing(world, seat);
            }
            Message::Wake(seat) => {
                self.seats[seat].wake_at = None;
                self.step(world, seat, Input::Tick);
            }
            Message::Drain(seat) => self.step(world, seat, Input::Drain),
        }
    }

    // ---------------------------------------------------------------- the leader

    fn step(&mut self, world: &mut World, seat: usize, input: Input) {
        let now = world.mono(self.me.process);
        let mut outputs = Vec::new();
        let shard = self.seats[seat].shard;
        world.note(self.me.process, || format!("shard {shard}: {input:.160?}"));
        self.seats[seat].leader.step(now, input, &mut outputs);
        for output in outputs {
            self.carry_out(world, seat, output);
        }
        self.make_up_for_missed(world, seat);
        if let Some(wake_at) = self.seats[seat].leader.wake_at() {
            let at = world
                .at_mono(self.me.process, wake_at)
                .max(world.now + MILLISECOND);
            if self.seats[seat].wake_at.is_none_or(|known| at < known) {
                self.seats[seat].wake_at = Some(at);
                world.tell_in(self.me, at - world.now, to(Message::Wake(seat)));
            }
        }
        world.stepped(self.me.process, shard);
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each output, as in the driver"
    )]
    fn carry_out(&mut self, world: &mut World, seat: usize, output: Output) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        match output {
            Output::Acquire { id, mine, ttl } => {
                let nonce = Nonce(world.random.next().cast_signed());
                self.acquire(
                    world,
                    seat,
                    move |answer| input(seat, Input::Acquired(id, answer)),
                    (mine, nonce, ttl),
                );
            }
            Output::Renew {
                id,
                epoch,
                nonce,
                ttl,
            } => world.tables(
                me,
                move |tables, now| tables.renew(now, shard, epoch, nonce, ttl),
                move |answer| input(seat, Input::Renewed(id, answer)),
            ),
            Output::Release { id, epoch, nonce } => world.tables(
                me,
                move |tables, now| tables.release(now, shard, epoch, nonce),
                move |answer| input(seat, Input::Released(id, answer)),
            ),
            Output::Open {
                id,
                epoch,
                from,
                anchor,
            } => {
                self.tell_refresh(world, seat, refresh::Told::Leads(epoch));
                self.open(world, seat, id, from, anchor);
            }
            Output::Fetch { id, count_max, .. } => {
                let cursor = self.seats[seat].cursor.take();
                let cursor = cursor.expect("a leader fetches from an open log, once a time");
                let until = world.now + FETCH_WAIT;
                let opening = self.seats[seat].opening;
                let way = world.latency();
                world.later(way, move |world| {
                    reading::fetch(world, me, (seat, opening, id), cursor, count_max, until);
                });
            }
            Output::Load { id, request } => world.tables(
                me,
                move |tables, _| tables.load(shard, &request),
                move |answer| input(seat, Input::Loaded(id, answer)),
            ),
            Output::Flush { id, flush, ttl } => {
                let first = flush.from;
                let fetched = &mut self.seats[seat].fetched;
                fetched.retain(|record| record.position >= first);
                let records: Vec<_> = fetched
                    .iter()
                    .filter(|record| record.position < flush.to)
                    .cloned()
                    .collect();
                world.store(
                    me,
                    move |world| world.flush(&flush, &records, ttl),
                    move |answer| input(seat, Input::Flushed(id, answer)),
                );
            }
            Output::Publish { id, flush, skip } => self.publish(world, seat, id, &flush, skip),
            Output::Republish {
                id,
                from,
                to: until,
            } => world.store(
                me,
                move |world| {
                    let tables = &world.store.tables;
                    let results = tables.results(shard, from, RESULTS_MAX)?;
                    let letters = tables.dead_letters(shard, from, RESULTS_MAX)?;
                    let letters = letters.into_iter().map(|letter| letter.position);
                    Ok((results, letters.collect()))
                },
                move |stored| to(Message::Republish(seat, id, from, until, stored)),
            ),
            Output::MarkPublished {
                id,
                epoch,
                nonce,
                to: until,
            } => world.tables(
                me,
                move |tables, _| tables.mark_published(shard, epoch, nonce, until),
                move |answer| input(seat, Input::MarkedPublished(id, answer)),
            ),
            Output::Snapshot { epoch, snapshots } => {
                let told = refresh::Told::Committed(epoch, snapshots);
                self.tell_refresh(world, seat, told);
            }
            Output::Refresh { accounts } => {
                self.tell_refresh(world, seat, refresh::Told::Changed(accounts));
            }
            Output::Close => {
                self.seats[seat].opening += 1;
                self.seats[seat].cursor = None;
                self.seats[seat].fetched.clear();
                self.tell_refresh(world, seat, refresh::Told::SteppedDown);
            }
            Output::Alarm(message) => {
                world.note(me.process, || format!("alarm: {message}"));
                world.history.alarms.push(message);
            }
            Output::StepDown(why) => self.stepped_down(world, seat, &why),
        }
    }

    fn acquire(
        &mut self,
        world: &mut World,
        seat: usize,
        wrap: impl FnOnce(Result<Option<store::ShardState>, store::Error>) -> Told + 'static,
        (mine, nonce, ttl): (Option<Nonce>, Nonce, std::time::Duration),
    ) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let name = format!("consumer-{}", me.process);
        let take_over = move |world: &mut World| {
            let now = world.store.clock(world.now);
            let tables = &mut world.store.tables;
            let state = tables.acquire(now, shard, &name, mine, nonce, ttl)?;
            if state.is_some() {
                world
                    .history
                    .take_overs
                    .push((world.now, shard, me.process));
            }
            Ok(state)
        };
        if !canary::is_off(Guard::BumpFirst) {
            return world.store(me, take_over, wrap);
        }
        // Reads the state first, as a copy that is thrown away takes it over.
        world.store(
            me,
            move |world| {
                let now = world.store.clock(world.now);
                let mut copy = world.store.tables.clone();
                copy.acquire(now, shard, "", mine, nonce, ttl)
            },
            move |stale| {
                let Ok(Some(stale)) = stale else {
                    return wrap(stale);
                };
                Told::Later(Box::new(move |world: &mut World| {
                    world.store(me, take_over, move |answer| {
                        wrap(answer.map(|state| {
                            state.map(|state| store::ShardState {
                                epoch: state.epoch,
                                nonce: state.nonce,
                                ..stale
                            })
                        }))
                    });
                }))
            },
        );
    }

    fn stepped_down(&mut self, world: &mut World, seat: usize, why: &Why) {
        let shard = self.seats[seat].shard;
        world.note(self.me.process, || format!("shard {shard}: {why:?}"));
        let pause = match why {
            Why::Held => TRY_AGAIN,
            Why::LeaseLost => SECOND,
            Why::Drained => 2 * SECOND,
            Why::LogAway(_) => 5 * SECOND,
            Why::Stopped(why) => {
                world.shard_stopped(self.me.process, shard, why);
                return;
            }
        };
        let delay = pause + world.random.below(pause);
        world.tell_in(self.me, delay, input(seat, Input::Lead));
    }
}
