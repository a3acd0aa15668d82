//! A process that reads balances: from the cache, and where that has none from the store, which then
//! fills the cache.

use super::{
    MILLISECOND, Micros,
    world::{Address, Message as Told, World},
};
use crate::core::{
    cache::Snapshot,
    canary::Guard,
    store::{self, AccountBalances},
    types::{AccountId, ShardId},
};

const INTERVAL: Micros = 200 * MILLISECOND;

/// What a reader is told.
pub(super) enum Message {
    Read,
    Stored(ShardId, Result<Option<AccountBalances>, store::Error>),
}

/// One process that reads.
pub(super) struct Reader {
    me: Address,
}

fn to(message: Message) -> Told {
    Told::Reader(Box::new(message))
}

impl Reader {
    pub fn new(me: Address) -> Self {
        Self { me }
    }

    pub fn on(&mut self, world: &mut World, message: Told) {
        let message = match message {
            Told::Reader(message) => *message,
            _ => Message::Read,
        };
        match message {
            Message::Read => {
                self.read(world);
                world.tell_in(self.me, INTERVAL, to(Message::Read));
            }
            Message::Stored(shard, Ok(Some(stored))) => {
                let (epoch, snapshot) = (stored.epoch, Snapshot::from(&stored));
                world.request(
                    self.me,
                    |world| world.now < world.cache.away_until,
                    move |world| world.write_cache(shard, epoch, vec![snapshot]),
                    |_| Told::Nothing,
                );
            }
            Message::Stored(..) => {}
        }
    }

    fn read(&mut self, world: &mut World) {
        let account = AccountId(1 + world.random.below(world.profile.accounts));
        let shard = account.default_shard(world.profile.shards);
        let is_away = world.now < world.cache.away_until;
        if !is_away && world.cache.read(shard, account).is_some() && world.random.below(4) > 0 {
            return;
        }
        let me = self.me;
        let one_read = !world.is_off(Guard::FillOneRead);
        world.tables(
            me,
            move |tables, now| Ok(tables.balances(now, &[account]).swap_remove(0)),
            move |stored| match stored {
                Ok(Some(stored)) if !one_read => {
                    // The epoch is read by a statement of its own, later.
                    Told::Later(Box::new(move |world: &mut World| {
                        world.tables(
                            me,
                            move |tables, now| {
                                let rows = tables.shard_rows(now);
                                Ok(rows[usize::from(shard.0)].epoch)
                            },
                            move |epoch| {
                                let stored =
                                    epoch.map(|epoch| Some(AccountBalances { epoch, ..stored }));
                                to(Message::Stored(shard, stored))
                            },
                        );
                    }))
                }
                stored => to(Message::Stored(shard, stored)),
            },
        );
    }
}
