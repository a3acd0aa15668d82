//! Requests to the servers: what is lost, what comes late, what was carried out all the same.

use super::{
    MILLISECOND, Micros, SECOND,
    world::{Address, Message, World},
};
use crate::core::{
    store::{self, memory::Tables},
    types::Timestamp,
};

/// Whoever waits for an answer gives up within so long.
const TIMEOUT_MAX: Micros = 3 * SECOND;
/// What is carried out late is so late at most.
const LATE_MAX: Micros = 20 * SECOND;

/// What becomes of a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    LostBefore,
    LostAfter,
    /// Carried out so long after its sender gave up.
    Late(Micros),
}

impl World {
    fn fate(&mut self) -> Fate {
        let noise = self.noise;
        if self.chance(noise.lost_before) {
            Fate::LostBefore
        } else if self.chance(noise.lost_after) {
            Fate::LostAfter
        } else if self.chance(noise.late) {
            Fate::Late(self.random.below(LATE_MAX))
        } else {
            Fate::Answered
        }
    }

    fn timeout(&mut self) -> Micros {
        200 * MILLISECOND + self.random.below(TIMEOUT_MAX)
    }

    /// A statement: carried out as a whole or not at all, its answer lost or not.
    pub fn store<T: 'static>(
        &mut self,
        from: Address,
        exec: impl FnOnce(&mut Self) -> Result<T, store::Error> + 'static,
        wrap: impl FnOnce(Result<T, store::Error>) -> Message + 'static,
    ) {
        let (fate, way, timeout) = (self.fate(), self.latency(), self.timeout());
        let connection = self.store.connections;
        let lost = || Err(store::Error::AnswerLost("the answer was lost".into()));
        self.later(way, move |world| {
            let is_cut = connection != world.store.connections;
            if is_cut || fate == Fate::LostBefore {
                return world.tell_in(from, timeout, wrap(lost()));
            }
            if world.now < world.store.away_until {
                let away = Err(store::Error::Unavailable("the store is away".into()));
                return world.tell(from, wrap(away));
            }
            match fate {
                Fate::LostAfter => {
                    // Nobody learns what it did.
                    let _ = exec(world);
                    world.tell_in(from, timeout, wrap(lost()));
                }
                Fate::Late(by) => {
                    world.tell_in(from, timeout, wrap(lost()));
                    world.later(timeout + by, move |world| {
                        let is_there = world.now >= world.store.away_until;
                        if is_there && connection == world.store.connections {
                            let _ = exec(world);
                        }
                    });
                }
                Fate::Answered | Fate::LostBefore => {
                    let answer = exec(world);
                    world.tell(from, wrap(answer));
                }
            }
        });
    }

    /// The same for the tables alone.
    pub fn tables<T: 'static>(
        &mut self,
        from: Address,
        exec: impl FnOnce(&mut Tables, Timestamp) -> Result<T, store::Error> + 'static,
        wrap: impl FnOnce(Result<T, store::Error>) -> Message + 'static,
    ) {
        let exec = move |world: &mut Self| {
            let now = world.store.clock(world.now);
            exec(&mut world.store.tables, now)
        };
        self.store(from, exec, wrap);
    }

    /// A request to log or cache, which say themselves what is lost: `None` when they are away or
    /// the request is.
    pub fn request<T: 'static>(
        &mut self,
        from: Address,
        is_away: impl FnOnce(&Self) -> bool + 'static,
        exec: impl FnOnce(&mut Self) -> T + 'static,
        wrap: impl FnOnce(Option<T>) -> Message + 'static,
    ) {
        let (fate, way, timeout) = (self.fate(), self.latency(), self.timeout());
        self.later(way, move |world| {
            if fate == Fate::LostBefore || is_away(world) {
                return world.tell_in(from, timeout, wrap(None));
            }
            match fate {
                Fate::LostAfter => {
                    exec(world);
                    world.tell_in(from, timeout, wrap(None));
                }
                Fate::Late(by) => {
                    world.tell_in(from, timeout, wrap(None));
                    world.later(timeout + by, move |world| {
                        exec(world);
                    });
                }
                Fate::Answered | Fate::LostBefore => {
                    let answer = exec(world);
                    world.tell(from, wrap(Some(answer)));
                }
            }
        });
    }
}
