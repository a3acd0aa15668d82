//! A process that accepts commands: group commit as in production, its statements over the
//! simulated network.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use tokio::{sync::oneshot, time::Instant};

use super::{
    MILLISECOND, Micros, client,
    world::{Address, Message as Told, World},
};
use crate::core::{
    command::{Command, hash},
    store::{self, AcceptItem, AcceptedGroup, SequenceBlock, StoredCommand},
    types::{AccountId, CommandId, Nonce, ShardId},
    writer::{
        Answer,
        gate::Gate,
        group::{Caller, Group, Limits, Next, Pending, Settled},
        numbers::Numbers,
        publish::records,
        routes::Routes,
    },
};

/// Statements sent for one group before its callers are told that the outcome is unknown.
const ATTEMPTS_MAX: u32 = 4;
const BACKOFF: Micros = 25 * MILLISECOND;
/// After giving up, the next group waits for so long.
const AWAY: Micros = 200 * MILLISECOND;

/// What a writer is told.
pub(super) enum Message {
    Submit(Address, client::Ticket, Box<Command>),
    Routed(u64, Result<Vec<Option<ShardId>>, store::Error>),
    Leased(u64, Result<SequenceBlock, store::Error>),
    Accepted(u64, Result<AcceptedGroup, store::Error>),
    Found(u64, Result<Vec<Option<StoredCommand>>, store::Error>),
    Closed(u64, Result<(), store::Error>),
    GoOn(u64),
}

/// What the group under way waits for.
enum Stage {
    Routes(Group, Vec<AccountId>),
    Leases(Group, Vec<(ShardId, u64)>),
    Accept(Group),
    Found(Group, AcceptedGroup, Vec<CommandId>),
    /// Blocks are being closed, tried so often; then the group is sent again.
    Close(Group, String, Vec<Nonce>, u32),
    /// A pause.
    Later(Group),
    Away,
}

/// One process of `axs serve-grpc`.
pub(super) struct WriterProcess {
    me: Address,
    base: Instant,
    gate: Arc<Gate>,
    routes: Routes,
    numbers: Numbers,
    queue: VecDeque<Pending>,
    work: Vec<Group>,
    stage: Option<Stage>,
    /// Counts stages: what belongs to an earlier one is dropped.
    turn: u64,
    waiting: Vec<(Address, client::Ticket, oneshot::Receiver<Answer>)>,
}

fn to(message: Message) -> Told {
    Told::Writer(Box::new(message))
}

impl WriterProcess {
    pub fn new(_: &World, me: Address) -> Self {
        Self {
            me,
            base: Instant::now(),
            gate: Gate::new(10_000),
            routes: Routes::new(1_000),
            numbers: Numbers::default(),
            queue: VecDeque::new(),
            work: Vec::new(),
            stage: None,
            turn: 0,
            waiting: Vec::new(),
        }
    }

    pub fn on(&mut self, world: &mut World, message: Told) {
        let Told::Writer(message) = message else {
            return;
        };
        match *message {
            Message::Submit(client, ticket, command) => self.enter(client, ticket, *command),
            Message::Routed(turn, answer) if turn == self.turn => self.on_routed(world, answer),
            Message::Leased(turn, answer) if turn == self.turn => self.on_leased(world, answer),
            Message::Accepted(turn, answer) if turn == self.turn => self.on_accepted(world, answer),
            Message::Found(turn, answer) if turn == self.turn => self.on_found(world, answer),
            Message::Closed(turn, answer) if turn == self.turn => self.on_closed(world, answer),
            Message::GoOn(turn) if turn == self.turn => match self.stage.take() {
                Some(Stage::Later(group)) => self.send(world, group),
                Some(Stage::Close(group, why, nonces, tries)) => {
                    self.close(world, group, why, nonces, tries);
                }
                Some(Stage::Away) | None => {}
                other => self.stage = other,
            },
            _ => {}
        }
        self.begin(world);
        world.stepped(self.me.process, ShardId(0));
    }

    fn now(&self, world: &World) -> Instant {
        self.base + world.mono(self.me.process)
    }

    fn enter(&mut self, client: Address, ticket: client::Ticket, command: Command) {
        let commands = [command];
        let mut permits = self.gate.enter(&commands).expect("the gate is wide");
        let [command] = commands;
        let (answer, receiver) = oneshot::channel();
        self.waiting.push((client, ticket, receiver));
        self.queue.push_back(Pending {
            item: AcceptItem {
                key_hash: hash::key_hash(&command.source, &command.idempotency_key),
                command,
            },
            caller: Caller {
                answer,
                submitted: self.base,
                sent: Vec::new(),
                followers: Vec::new(),
                verdict: None,
                shard: None,
                nonce: None,
                permit: permits.pop().expect("one for each command"),
            },
        });
    }

    /// The next group, if none is under way.
    fn begin(&mut self, world: &mut World) {
        while self.stage.is_none() {
            let now = self.now(world);
            self.numbers.retire(now);
            let group = match self.work.pop() {
                Some(group) => group,
                None if self.queue.is_empty() => return,
                None => {
                    let count_max = world.profile.group_count_max;
                    let limits = Limits {
                        count_max,
                        bytes_max: usize::MAX,
                        scan_max: count_max * 4,
                    };
                    Group::select(&mut self.queue, &self.routes, limits)
                }
            };
            self.send(world, group);
        }
    }

    fn stage(&mut self, stage: Stage) -> u64 {
        self.turn += 1;
        self.stage = Some(stage);
        self.turn
    }

    fn send(&mut self, world: &mut World, mut group: Group) {
        if group.attempts >= ATTEMPTS_MAX {
            let unknown = Answer::Unavailable("it did not succeed in several attempts".into());
            return self.deliver(world, group.fail(&unknown));
        }
        group.attempts += 1;
        let unknown = group.unknown_accounts(&self.routes);
        if unknown.is_empty() {
            return self.place(world, group);
        }
        let asked = unknown.clone();
        let turn = self.stage(Stage::Routes(group, unknown));
        world.tables(
            self.me,
            move |tables, _| Ok(tables.routes(&asked)),
            move |answer| to(Message::Routed(turn, answer)),
        );
    }

    fn on_routed(&mut self, world: &mut World, answer: Result<Vec<Option<ShardId>>, store::Error>) {
        let Some(Stage::Routes(mut group, unknown)) = self.stage.take() else {
            return;
        };
        match answer {
            Ok(found) => {
                for (account, shard) in unknown.into_iter().zip(found) {
                    if let Some(shard) = shard {
                        self.routes.learn(account, shard);
                        group.routes.insert(account, shard);
                    }
                }
                self.place(world, group);
            }
            Err(error) => self.not_sent(world, group, &error),
        }
    }

    fn place(&mut self, world: &mut World, mut group: Group) {
        let needs = group.place(world.profile.shards);
        self.lease(world, group, needs);
    }

    fn lease(&mut self, world: &mut World, mut group: Group, needs: Vec<(ShardId, u64)>) {
        let short = needs.iter().find_map(|&(shard, needed)| {
            let missing = self.numbers.shortage(shard, needed);
            (missing > 0).then_some((shard, missing))
        });
        let Some((shard, missing)) = short else {
            group.number(&mut self.numbers);
            let accept = group.accept.clone();
            let turn = self.stage(Stage::Accept(group));
            return world.tables(
                self.me,
                move |tables, now| tables.accept(now, &accept),
                move |answer| to(Message::Accepted(turn, answer)),
            );
        };
        let size = world
            .profile
            .block_size
            .max(u32::try_from(missing).expect("a few"));
        let nonce = Nonce(world.random.next().cast_signed());
        let turn = self.stage(Stage::Leases(group, needs));
        world.tables(
            self.me,
            move |tables, now| tables.lease_block(now, shard, nonce, size),
            move |answer| to(Message::Leased(turn, answer)),
        );
    }

    fn on_leased(&mut self, world: &mut World, answer: Result<SequenceBlock, store::Error>) {
        let Some(Stage::Leases(group, needs)) = self.stage.take() else {
            return;
        };
        match answer {
            Ok(block) => {
                let now = self.now(world);
                self.numbers.add(block, now);
                self.lease(world, group, needs);
            }
            Err(error) => self.not_sent(world, group, &error),
        }
    }

    /// Nothing was sent, whatever it is.
    fn not_sent(&mut self, world: &mut World, group: Group, error: &store::Error) {
        let error = store::Error::Unavailable(error.to_string());
        self.trouble(world, group, error);
    }

    fn on_accepted(&mut self, world: &mut World, answer: Result<AcceptedGroup, store::Error>) {
        let Some(Stage::Accept(group)) = self.stage.take() else {
            return;
        };
        let accepted = match answer {
            Ok(accepted) => accepted,
            Err(error) => return self.trouble(world, group, error),
        };
        let found = group.found(&accepted);
        if found.is_empty() {
            return self.settle(world, group, &accepted, &[], Vec::new());
        }
        let asked = found.clone();
        let turn = self.stage(Stage::Found(group, accepted, found));
        world.tables(
            self.me,
            move |tables, _| Ok(tables.commands(&asked)),
            move |answer| to(Message::Found(turn, answer)),
        );
    }

    fn on_found(
        &mut self,
        world: &mut World,
        answer: Result<Vec<Option<StoredCommand>>, store::Error>,
    ) {
        if let Some(Stage::Found(group, accepted, found)) = self.stage.take() {
            self.settle(world, group, &accepted, &found, answer.unwrap_or_default());
        }
    }

    fn settle(
        &mut self,
        world: &mut World,
        group: Group,
        accepted: &AcceptedGroup,
        found: &[CommandId],
        stored: Vec<Option<StoredCommand>>,
    ) {
        let found_at: HashMap<_, _> = (found.iter().zip(stored))
            .filter_map(|(id, stored)| Some((*id, stored?.command.accepted_at)))
            .collect();
        let attempts = group.attempts;
        let mut settled = group.settle(accepted, &found_at, &self.routes, &mut self.numbers);
        let again = std::mem::take(&mut settled.again);
        self.deliver(world, settled);
        if !again.is_empty() {
            let mut again = Group::new(again);
            again.attempts = attempts;
            self.work.push(again);
        }
    }

    fn trouble(&mut self, world: &mut World, group: Group, error: store::Error) {
        match group.after(error, &mut self.numbers) {
            Next::Halves(first, second) => self.work.extend([second, first]),
            Next::Refused(group, why) => {
                let settled = group.fail(&Answer::Internal(why.into()));
                self.deliver(world, settled);
            }
            Next::Again(group) => self.work.push(group),
            Next::CloseThenAgain(group, why) => {
                let nonces = self.numbers.take_closing();
                self.close(world, group, why, nonces, 0);
            }
            Next::Later(group, why) if group.attempts >= ATTEMPTS_MAX => {
                self.give_up(world, group, &why);
            }
            Next::Later(group, _) => {
                let turn = self.stage(Stage::Later(group));
                world.tell_in(self.me, BACKOFF, to(Message::GoOn(turn)));
            }
            Next::GiveUp(group, why) => self.give_up(world, group, &why),
        }
    }

    fn close(
        &mut self,
        world: &mut World,
        group: Group,
        why: String,
        nonces: Vec<Nonce>,
        tries: u32,
    ) {
        let asked = nonces.clone();
        let turn = self.stage(Stage::Close(group, why, nonces, tries));
        world.tables(
            self.me,
            move |tables, _| {
                tables.close_blocks(&asked);
                Ok(())
            },
            move |answer| to(Message::Closed(turn, answer)),
        );
    }

    fn on_closed(&mut self, world: &mut World, answer: Result<(), store::Error>) {
        let Some(Stage::Close(group, why, nonces, tries)) = self.stage.take() else {
            return;
        };
        match answer {
            Ok(()) => self.work.push(group),
            Err(_) if tries + 1 >= ATTEMPTS_MAX => {
                self.numbers.close_later(nonces);
                self.give_up(world, group, &why);
            }
            Err(_) => {
                let turn = self.stage(Stage::Close(group, why, nonces, tries + 1));
                world.tell_in(self.me, BACKOFF, to(Message::GoOn(turn)));
            }
        }
    }

    fn give_up(&mut self, world: &mut World, group: Group, why: &str) {
        let settled = group.fail(&Answer::Unavailable(why.into()));
        self.deliver(world, settled);
        let turn = self.stage(Stage::Away);
        world.tell_in(self.me, AWAY, to(Message::GoOn(turn)));
    }

    fn deliver(&mut self, world: &mut World, settled: Settled) {
        for pending in settled.requeued.into_iter().rev() {
            self.queue.push_front(pending);
        }
        for (caller, answer) in settled.answered {
            // Who went away does not want it.
            let _ = caller.answer.send(answer);
        }
        world.append(self.me, records(&settled.stored));
        let me = self.me.process;
        self.waiting.retain_mut(|(client, ticket, receiver)| {
            let Ok(answer) = receiver.try_recv() else {
                return true;
            };
            world.note(me, || format!("{ticket:?}: {answer:?}"));
            let (client, ticket) = (*client, *ticket);
            let noise = world.noise();
            if !world.chance(noise.lost_after) {
                let answered = client::Message::Answered(ticket, answer);
                world.tell(client, Told::Client(Box::new(answered)));
            }
            false
        });
    }
}
