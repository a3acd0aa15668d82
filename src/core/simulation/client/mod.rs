//! A client: one operation after the other on a few accounts, the same key again until it is
//! answered, now and then the same key twice at once, with the same body or another.

use super::{
    MILLISECOND, Micros, SECOND,
    history::Told as Knows,
    world::{Address, Message as Told, Role, World},
    writer,
};
use crate::core::{
    command::Command,
    store,
    types::{AccountId, CommandId, Position},
    workload::random::Random,
    writer::Answer,
};

mod commands;

/// A command with this reference is refused by the store each time.
pub(super) const REFUSED: &str = "refused by the store";
/// Without an answer for so long the same key is sent again.
const PATIENCE: Micros = 3 * SECOND;
const POLL: Micros = 300 * MILLISECOND;

/// Names one sending of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    operation: u64,
    attempt: u32,
    /// Sent beside the operation, with the same key.
    twin: bool,
}

/// What a client is told.
pub(super) enum Message {
    Answered(Ticket, Answer),
    Overdue(Ticket),
    Next,
    Looked(u64, Result<Option<Position>, store::Error>),
    Look(u64),
}

/// One operation.
struct Operation {
    number: u64,
    command: Command,
    attempt: u32,
    /// The other command with its key.
    twin: Option<Command>,
    waits: bool,
    id: Option<CommandId>,
}

/// One client.
pub(super) struct Client {
    me: Address,
    number: usize,
    left: u64,
    random: Random,
    current: Option<Operation>,
    operations: u64,
    /// Commands that were accepted, to reverse.
    known: Vec<(CommandId, AccountId)>,
    /// The last one whose outcome was seen, and where it stands.
    seen: Option<(CommandId, Position)>,
}

fn to(message: Message) -> Told {
    Told::Client(Box::new(message))
}

impl Client {
    pub fn new(world: &mut World, me: Address, number: usize) -> Self {
        let share = world.profile.commands / world.profile.clients as u64 + 1;
        world.history.clients_busy += 1;
        Self {
            me,
            number,
            left: share,
            random: Random::new(world.random.next()),
            current: None,
            operations: 0,
            known: Vec::new(),
            seen: None,
        }
    }

    pub fn on(&mut self, world: &mut World, message: Told) {
        let message = match message {
            Told::Client(message) => *message,
            _ => Message::Next,
        };
        match message {
            Message::Next => self.next(world),
            Message::Answered(ticket, answer) => self.answered(world, ticket, &answer),
            Message::Overdue(ticket) => {
                let is_ours = |operation: &Operation| {
                    operation.number == ticket.operation && operation.attempt == ticket.attempt
                };
                if self
                    .current
                    .as_ref()
                    .is_some_and(|current| is_ours(current) && current.id.is_none())
                {
                    self.send(world);
                }
            }
            Message::Look(number) => self.look(world, number),
            Message::Looked(number, outcome) => self.looked(world, number, outcome),
        }
    }

    fn next(&mut self, world: &mut World) {
        if self.current.is_some() {
            return;
        }
        if self.left == 0 {
            world.history.clients_busy -= 1;
            return;
        }
        self.left -= 1;
        self.operations += 1;
        let command = self.command(world);
        let twin = (self.random.below(8) == 0).then(|| self.twin_of(&command));
        self.current = Some(Operation {
            number: self.operations,
            command,
            attempt: 0,
            twin,
            waits: self.random.below(3) > 0,
            id: None,
        });
        self.send(world);
    }

    fn send(&mut self, world: &mut World) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.attempt += 1;
        let ticket = Ticket {
            operation: current.number,
            attempt: current.attempt,
            twin: false,
        };
        let twin = current.twin.clone().filter(|_| current.attempt == 1);
        let command = current.command.clone();
        world.note(self.me.process, || {
            format!("{ticket:?}: {} {:?}", command.idempotency_key, command.kind)
        });
        self.submit(world, ticket, command);
        if let Some(twin) = twin {
            self.submit(
                world,
                Ticket {
                    twin: true,
                    ..ticket
                },
                twin,
            );
        }
        let patience = PATIENCE + self.random.below(SECOND);
        world.tell_in(self.me, patience, to(Message::Overdue(ticket)));
    }

    fn submit(&mut self, world: &mut World, ticket: Ticket, command: Command) {
        let writers = world.with_role(Role::Writer);
        let writer = writers[self.random.below(writers.len() as u64) as usize];
        world.history.sent(&command, self.seen);
        let noise = world.noise();
        let copies = 1 + u64::from(world.chance(noise.twice));
        if world.chance(noise.lost_before) {
            return;
        }
        for _ in 0..copies {
            let submit = writer::Message::Submit(self.me, ticket, Box::new(command.clone()));
            world.tell(world.address(writer), Told::Writer(Box::new(submit)));
        }
    }

    fn answered(&mut self, world: &mut World, ticket: Ticket, answer: &Answer) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.number != ticket.operation {
            return;
        }
        let command = match (&current.twin, ticket.twin) {
            (Some(twin), true) => twin,
            _ => &current.command,
        };
        let (key, content) = (command.idempotency_key.clone(), command.content_hash);
        let knows = match answer {
            Answer::Accepted(id) | Answer::Duplicate(id) => Knows::Stored(*id),
            Answer::Conflict(id) => Knows::Conflict(*id),
            Answer::AccountNotFound(_)
            | Answer::AccountInOtherShard(_)
            | Answer::PinnedElsewhere { .. }
            | Answer::TransferBetweenShards => Knows::NotTaken,
            Answer::Unavailable(_) => Knows::Nothing,
            Answer::Internal(_) => Knows::Refused,
        };
        world.history.told(&key, content, knows);
        if ticket.twin || current.id.is_some() {
            return;
        }
        match knows {
            Knows::Stored(id) => {
                current.id = Some(id);
                let (account, waits, number) =
                    (current.command.account, current.waits, current.number);
                self.known.push((id, account));
                if waits {
                    world.tell_in(self.me, POLL, to(Message::Look(number)));
                } else {
                    self.finish(world);
                }
            }
            Knows::Nothing => {
                let pause = 100 * MILLISECOND + self.random.below(400 * MILLISECOND);
                let ticket = Ticket {
                    attempt: current.attempt,
                    ..ticket
                };
                world.tell_in(self.me, pause, to(Message::Overdue(ticket)));
            }
            Knows::Conflict(_) | Knows::NotTaken | Knows::Refused => self.finish(world),
        }
    }

    fn finish(&mut self, world: &mut World) {
        self.current = None;
        let pause = self.random.below(2) * self.random.below(SECOND);
        world.tell_in(self.me, pause, to(Message::Next));
    }

    // ---------------------------------------------------------------- outcomes

    fn look(&mut self, world: &mut World, number: u64) {
        let current = self
            .current
            .as_ref()
            .filter(|current| current.number == number);
        let Some(id) = current.and_then(|current| current.id) else {
            return;
        };
        world.tables(
            self.me,
            move |tables, _| {
                let parked = tables.commands(&[id]).swap_remove(0);
                let outcome = tables.outcomes(&[id]).swap_remove(0);
                let outcome = outcome.map(|stored| stored.outcome.position);
                // A parked command has no outcome, and a lost one never will.
                let is_parked = parked.is_none_or(|stored| stored.parked.is_some());
                Ok(outcome.or(is_parked.then_some(Position::NONE)))
            },
            move |outcome| to(Message::Looked(number, outcome)),
        );
    }

    fn looked(
        &mut self,
        world: &mut World,
        number: u64,
        outcome: Result<Option<Position>, store::Error>,
    ) {
        let current = self
            .current
            .as_ref()
            .filter(|current| current.number == number);
        let Some(id) = current.and_then(|current| current.id) else {
            return;
        };
        match outcome {
            Ok(Some(Position::NONE)) => self.finish(world),
            Ok(Some(position)) => {
                world.note(self.me.process, || format!("saw {id} at {position}"));
                self.seen = Some((id, position));
                self.finish(world);
            }
            Ok(None) | Err(_) => world.tell_in(self.me, POLL, to(Message::Look(number))),
        }
    }
}
