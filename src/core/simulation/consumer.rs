//! A process that leads shards: a leader and a refresh of the cache for each, and what the driver
//! does between them and the servers.

use std::{collections::VecDeque, sync::Arc};

use super::{
    MILLISECOND, Micros, SECOND,
    servers::{Cursor, assets},
    world::{Address, Message as Told, World},
};
use crate::core::{
    canary::Guard,
    consumer::{
        publish::results_of,
        refresh::plan::{self as refresh, Refresh},
    },
    leader::{Input, Leader, Output, RequestId, Why},
    log::{self, Record},
    result,
    store::{self, Flush},
    types::{Anchor, Nonce, Position, ShardId},
};

/// How long a fetch waits for a first record, and how often it looks.
const FETCH_WAIT: Micros = 500 * MILLISECOND;
const FETCH_LOOK: Micros = 100 * MILLISECOND;
/// Snapshots of so many flushes wait for the cache.
const TOLD_MAX: usize = 16;
/// Stored results read at a time.
const RESULTS_MAX: usize = 10_000;
/// Whoever does not lead tries again so often.
const TRY_AGAIN: Micros = 400 * MILLISECOND;

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
            Output::Open { id, from, anchor } => {
                self.tell_refresh(world, seat, refresh::Told::Leads);
                self.open(world, seat, id, from, anchor);
            }
            Output::Fetch { id, count_max, .. } => {
                let cursor = self.seats[seat].cursor.take();
                let cursor = cursor.expect("a leader fetches from an open log, once a time");
                let until = world.now + FETCH_WAIT;
                let opening = self.seats[seat].opening;
                let way = world.latency();
                world.later(way, move |world| {
                    fetch(world, me, (seat, opening, id), cursor, count_max, until);
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
        if !world.is_off(Guard::BumpFirst) {
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

    fn open(
        &mut self,
        world: &mut World,
        seat: usize,
        id: RequestId,
        from: Position,
        anchor: Option<Anchor>,
    ) {
        let me = self.me;
        self.seats[seat].opening += 1;
        self.seats[seat].cursor = None;
        self.seats[seat].fetched.clear();
        let (shard, opening) = (self.seats[seat].shard, self.seats[seat].opening);
        world.request(
            me,
            |world| world.now < world.log.away_until,
            move |world| world.log.of(shard).open(from, anchor),
            move |answer| {
                let answer = answer.unwrap_or_else(|| Err(away()));
                let cursor = answer.as_ref().ok().copied();
                let opened = Input::Opened(id, answer.map(|_| ()));
                to(Message::Opened(seat, opening, cursor, opened))
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

    // ---------------------------------------------------------------- results

    fn publish(
        &mut self,
        world: &mut World,
        seat: usize,
        id: RequestId,
        flush: &Arc<Flush>,
        skip: usize,
    ) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let mut results = results_of(flush, &assets());
        let letters = flush.dead_letters.iter().map(|letter| letter.position);
        let letters: Vec<_> = letters.skip(skip.saturating_sub(results.len())).collect();
        results.drain(..skip.min(results.len()));
        let all = results.len() + letters.len();
        // A broker may take some and refuse one in the middle.
        let broken = (world.noise().lost_after > 0 && world.chance(100) && all > 0)
            .then(|| world.random.below(all as u64) as usize);
        world.request(
            me,
            |world| world.now < world.log.away_until,
            move |world| world.publish(shard, results, &letters, broken),
            move |done| {
                let count = done.map(|()| broken.unwrap_or(all));
                let error = (count != Some(all)).then(away);
                input(seat, Input::Published(id, count.unwrap_or(0), error))
            },
        );
    }

    fn republish(
        &mut self,
        world: &mut World,
        seat: usize,
        id: RequestId,
        from: Position,
        until: Position,
        stored: Stored,
    ) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let (stored, mut letters) = match stored {
            Ok(stored) => stored,
            Err(error) => {
                let failed = Input::Republished(id, from, Some(error.to_string()));
                return self.step(world, seat, failed);
            }
        };
        letters.retain(|at| *at < until);
        let assets = assets();
        let results = stored
            .iter()
            .filter(|stored| stored.outcome.position < until);
        let results = results
            .map(|stored| result::render_stored(stored, &assets))
            .collect();
        world.request(
            me,
            |world| world.now < world.log.away_until,
            move |world| world.publish(shard, results, &letters, None),
            move |done| {
                let (reached, error) = match done {
                    Some(()) => (until, None),
                    None => (from, Some("the log is away".to_owned())),
                };
                input(seat, Input::Republished(id, reached, error))
            },
        );
    }

    // ---------------------------------------------------------------- the cache

    fn tell_refresh(&mut self, world: &mut World, seat: usize, told: refresh::Told) {
        let entry = &mut self.seats[seat];
        if entry.missed && entry.told.len() < TOLD_MAX {
            entry.told.push_back(refresh::Told::Leads);
            entry.missed = false;
        }
        if entry.told.len() < TOLD_MAX {
            entry.told.push_back(told);
        } else {
            entry.missed = true;
        }
        self.go_on_refreshing(world, seat);
    }

    fn go_on_refreshing(&mut self, world: &mut World, seat: usize) {
        while !self.seats[seat].refresh_is_busy {
            let Some(told) = self.seats[seat].told.pop_front() else {
                break;
            };
            self.refresh(world, seat, refresh::Input::Told(told));
        }
        let entry = &mut self.seats[seat];
        if entry.refresh_is_busy {
            return;
        }
        let due = world.at_mono(self.me.process, entry.refresh.due());
        let due = due.max(world.now + MILLISECOND);
        if entry.refresh_due.is_none_or(|known| due < known) {
            entry.refresh_due = Some(due);
            world.tell_in(self.me, due - world.now, to(Message::RefreshDue(seat)));
        }
    }

    fn refresh(&mut self, world: &mut World, seat: usize, input: refresh::Input) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let now = world.mono(me.process);
        let answer = move |input| to(Message::Refresh(seat, input));
        let failed = || refresh::Input::Failed("away".into());
        let output = self.seats[seat].refresh.step(now, input);
        self.seats[seat].refresh_is_busy = output.is_some();
        match output {
            None => self.go_on_refreshing(world, seat),
            Some(refresh::Output::Write { epoch, snapshots }) => world.request(
                me,
                |world| world.now < world.cache.away_until,
                move |world| world.write_cache(shard, epoch, snapshots),
                move |done| answer(done.map_or_else(failed, |()| refresh::Input::Written)),
            ),
            Some(refresh::Output::List { behind, limit }) => world.tables(
                me,
                move |tables, _| tables.accounts_behind(shard, behind, limit),
                move |page| answer(page.map_or_else(|_| failed(), refresh::Input::Listed)),
            ),
            Some(refresh::Output::Read { accounts }) => world.tables(
                me,
                move |tables, now| Ok(tables.balances(now, &accounts)),
                move |stored| {
                    let read = stored
                        .map(|stored| refresh::Input::read(stored.into_iter().flatten().collect()));
                    answer(read.unwrap_or_else(|_| failed()))
                },
            ),
        }
    }
}

fn away() -> log::Error {
    log::Error::Unavailable("the log is away".into())
}

/// Looks for records until there are some or the wait is over.
fn fetch(
    world: &mut World,
    me: Address,
    (seat, opening, id): (usize, u64, RequestId),
    mut cursor: Cursor,
    count_max: usize,
    until: Micros,
) {
    let shard = ShardId(u16::try_from(seat).expect("a few shards"));
    let fetched = move |cursor, answer| {
        to(Message::Fetched(
            seat,
            opening,
            cursor,
            Input::Fetched(id, answer),
        ))
    };
    if world.now < world.log.away_until {
        return world.tell_in(
            me,
            until - world.now.min(until),
            fetched(cursor, Err(away())),
        );
    }
    match world.log.of(shard).read(&mut cursor, count_max) {
        Ok(records) if records.is_empty() && world.now < until => {
            world.later(FETCH_LOOK, move |world| {
                fetch(world, me, (seat, opening, id), cursor, count_max, until);
            });
        }
        answer => world.tell(me, fetched(cursor, answer)),
    }
}
