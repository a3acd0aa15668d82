//! The log as a consumer has it: opened, read, results published to it.

use std::sync::Arc;

use prost::Message as _;

use super::{
    super::{
        MILLISECOND, Micros,
        servers::{Cursor, assets},
        world::{Address, World},
    },
    Consumer, Message, Stored, input, to,
};
use crate::core::{
    consumer::publish::encoded_results_of,
    leader::{Input, RequestId},
    log,
    proto::CommandResult,
    result,
    store::Flush,
    types::{Anchor, Position, ShardId},
};

/// How often a fetch looks for a first record.
const FETCH_LOOK: Micros = 100 * MILLISECOND;

impl Consumer {
    pub(super) fn open(
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

    pub(super) fn publish(
        &mut self,
        world: &mut World,
        seat: usize,
        id: RequestId,
        flush: &Arc<Flush>,
        skip: usize,
    ) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let encoded = encoded_results_of(flush, 0, &assets()).into_iter();
        let mut results: Vec<CommandResult> = encoded
            .map(|result| CommandResult::decode(result.value).expect("just encoded"))
            .collect();
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

    pub(super) fn republish(
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
}

fn away() -> log::Error {
    log::Error::Unavailable("the log is away".into())
}

/// Looks for records until there are some or the wait is over.
pub(super) fn fetch(
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
