//! A process that reads balances: from the cache, and where that has none from the store, which then
//! fills the cache.

use super::{
    MILLISECOND, Micros, SECOND,
    world::{Address, Message as Told, World},
};
use crate::core::{
    cache::Snapshot,
    canary::{self, Guard},
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
                    move |world| world.write_cache(shard, epoch, None, vec![snapshot]),
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
        let is_known = !is_away && world.cache.read(shard, account).is_some();
        // Some come for what the cache may not have yet; once all is well, nobody may have to put
        // the cache right.
        if is_known && (world.is_healed || world.random.below(4) > 0) {
            return;
        }
        let me = self.me;
        let one_read = !canary::is_off(Guard::FillOneRead);
        world.tables(
            me,
            move |tables, now| Ok(tables.balances(now, &[account]).swap_remove(0)),
            move |stored| match stored {
                Ok(Some(stored)) if !one_read => {
                    // The epoch is read by a statement of its own, and the process may stand still
                    // in between.
                    Told::Later(Box::new(move |world: &mut World| {
                        let pause = world.random.below(2 * SECOND);
                        world.later(pause, move |world| read_epoch(world, me, shard, stored));
                    }))
                }
                stored => to(Message::Stored(shard, stored)),
            },
        );
    }
}

/// Only for the guard `FillOneRead`, switched off.
fn read_epoch(world: &mut World, me: Address, shard: ShardId, stored: AccountBalances) {
    world.tables(
        me,
        move |tables, now| Ok(tables.shard_rows(now)[usize::from(shard.0)].epoch),
        move |epoch| {
            let stored = epoch.map(|epoch| Some(AccountBalances { epoch, ..stored }));
            to(Message::Stored(shard, stored))
        },
    );
}
