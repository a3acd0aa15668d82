//! A process of the outbox: the plan as in production, its reads and appends over the simulated
//! network.

use std::collections::BTreeMap;

use super::{
    MILLISECOND, Micros, SECOND,
    world::{Address, Message as Told, World},
};
use crate::core::{
    outbox::plan::{Memory, plan},
    store::{self, OutboxView},
    types::ShardId,
};

const INTERVAL: Micros = 500 * MILLISECOND;
const CLOSE_BLOCKS_INTERVAL: Micros = 2 * SECOND;
const LIMIT: usize = 1_000;

/// What an outbox is told.
pub(super) enum Message {
    Pass,
    CloseBlocks,
    View(ShardId, Result<OutboxView, store::Error>),
}

/// One process of `axs cron-outbox`.
pub(super) struct OutboxProcess {
    me: Address,
    memories: BTreeMap<ShardId, Memory>,
}

fn to(message: Message) -> Told {
    Told::Outbox(Box::new(message))
}

impl OutboxProcess {
    pub fn new(_: &World, me: Address) -> Self {
        Self {
            me,
            memories: BTreeMap::new(),
        }
    }

    pub fn on(&mut self, world: &mut World, message: Told) {
        let message = match message {
            Told::Outbox(message) => *message,
            _ => {
                let begins = world.random.below(INTERVAL);
                world.tell_in(self.me, begins, to(Message::Pass));
                return world.tell_in(self.me, begins, to(Message::CloseBlocks));
            }
        };
        match message {
            Message::Pass => {
                for shard in (0..world.profile.shards).map(ShardId) {
                    let margin = world.profile.margin;
                    world.tables(
                        self.me,
                        move |tables, now| tables.outbox_view(now, shard, margin, LIMIT),
                        move |view| to(Message::View(shard, view)),
                    );
                }
                world.tell_in(self.me, INTERVAL, to(Message::Pass));
            }
            Message::CloseBlocks => {
                let age = world.profile.block_age_max;
                world.tables(
                    self.me,
                    move |tables, now| Ok(tables.close_old_blocks(now, age)),
                    |_| Told::Nothing,
                );
                world.tell_in(self.me, CLOSE_BLOCKS_INTERVAL, to(Message::CloseBlocks));
            }
            Message::View(_, Err(_)) => {}
            Message::View(shard, Ok(view)) => {
                let now = world.mono(self.me.process);
                let margin = world.profile.margin;
                let memory = self.memories.entry(shard).or_default();
                let planned = plan(shard, &view, margin, memory, now);
                if !planned.records.is_empty() {
                    world.note(self.me.process, || {
                        let ids = planned
                            .records
                            .iter()
                            .map(|record| record.command.map(|c| c.0));
                        format!("shard {shard}: sends {:?}", ids.collect::<Vec<_>>())
                    });
                }
                let again = planned.records.iter().filter_map(|record| record.command);
                let needless = again.filter(|(id, _)| world.is_unread(*id)).count();
                world.history.needless += needless as u64;
                world.history.resent += planned.resent;
                world.append(self.me, planned.records);
            }
        }
    }
}
