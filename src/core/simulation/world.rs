//! Time, messages and processes. One event after the other; what happens at the same moment happens
//! in the order in which it was planned.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use super::{
    MILLISECOND, Micros, SECOND,
    client::{self, Client},
    consumer::{self, Consumer},
    faults::Strike,
    history::History,
    outbox::{self, OutboxProcess},
    profile::{Noise, Profile},
    reader::{self, Reader},
    servers::{CacheServer, LogServer, StoreServer},
    writer::{self, WriterProcess},
};
use crate::core::{
    log::Record,
    types::{Position, ShardId},
    workload::random::Random,
};

/// Events of one run; more would be a run that does not end.
pub(super) const EVENTS_MAX: u64 = 3_000_000;
/// A process of one life: what is sent to an earlier one is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub process: usize,
    life: u32,
}

/// What runs in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Consumer,
    Writer,
    Outbox,
    Client(usize),
    Reader,
}

enum Actor {
    Consumer(Box<Consumer>),
    Writer(Box<WriterProcess>),
    Outbox(Box<OutboxProcess>),
    Client(Box<Client>),
    Reader(Box<Reader>),
}

/// What a process is told.
pub(super) enum Message {
    /// The process begins.
    Start,
    /// An answer that nobody needs.
    Nothing,
    /// Not for the process: goes on with what it has begun.
    Later(Action),
    Consumer(Box<consumer::Message>),
    Writer(Box<writer::Message>),
    Outbox(Box<outbox::Message>),
    Client(Box<client::Message>),
    Reader(Box<reader::Message>),
}

struct Process {
    role: Role,
    life: u32,
    up: bool,
    paused_until: Micros,
    /// Of its monotonic clock.
    skew: Micros,
    actor: Option<Actor>,
}

pub(super) type Action = Box<dyn FnOnce(&mut World)>;

enum What {
    Tell(Address, Message),
    Do(Action),
}

struct Event {
    at: Micros,
    order: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The cluster, its network and its clock.
pub(super) struct World {
    pub now: Micros,
    pub random: Random,
    pub profile: Profile,
    pub store: StoreServer,
    pub log: LogServer,
    pub cache: CacheServer,
    pub history: History,
    /// Shards that wait for an operator.
    pub stopped: BTreeSet<ShardId>,
    /// Processes with a stopped leader, to be started again.
    pub restarts: Vec<(usize, ShardId)>,
    /// Every record that was applied and committed, by position.
    pub archives: BTreeMap<ShardId, BTreeMap<Position, Record>>,
    /// A strike after a step of a leader: of an exhaustive run.
    pub strike: Option<Strike>,
    /// No more faults, no more noise.
    pub is_healed: bool,
    /// Until when something is held back for a process that was stopped when all was healed.
    pub held_until: Micros,
    pub trace: bool,
    pub hash: u64,
    pub events: u64,
    pub(super) noise: Noise,
    processes: Vec<Process>,
    heap: BinaryHeap<Reverse<Event>>,
    order: u64,
}

impl World {
    pub fn new(profile: Profile, random: Random, trace: bool) -> Self {
        let mut world = Self {
            now: 0,
            random,
            store: StoreServer::new(&profile),
            log: LogServer::new(&profile),
            cache: CacheServer::default(),
            history: History::default(),
            stopped: BTreeSet::new(),
            restarts: Vec::new(),
            archives: BTreeMap::new(),
            strike: None,
            is_healed: false,
            held_until: 0,
            trace,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            noise: profile.noise,
            processes: Vec::new(),
            heap: BinaryHeap::new(),
            order: 0,
            profile,
        };
        let profile = world.profile.clone();
        let roles = std::iter::repeat_n(Role::Consumer, profile.consumers)
            .chain(std::iter::repeat_n(Role::Writer, profile.writers))
            .chain(std::iter::repeat_n(Role::Outbox, profile.outboxes))
            .chain((0..profile.clients).map(Role::Client))
            .chain([Role::Reader]);
        for role in roles {
            let skew = world.random.below(3_600 * SECOND);
            world.processes.push(Process {
                role,
                life: 0,
                up: false,
                paused_until: 0,
                skew,
                actor: None,
            });
        }
        for process in 0..world.processes.len() {
            world.start(process);
        }
        world
    }

    // ---------------------------------------------------------------- processes

    /// The processes with this role, whether they run or not.
    pub fn with_role(&self, role: Role) -> Vec<usize> {
        let same = |process: &usize| match (self.processes[*process].role, role) {
            (Role::Client(_), Role::Client(_)) => true,
            (one, other) => one == other,
        };
        (0..self.processes.len()).filter(same).collect()
    }

    pub fn address(&self, process: usize) -> Address {
        let life = self.processes[process].life;
        Address { process, life }
    }

    /// The process's own clock, which nothing sets back.
    pub fn mono(&self, process: usize) -> Duration {
        Duration::from_micros(self.now + self.processes[process].skew)
    }

    /// When the clock of a process shows this.
    pub fn at_mono(&self, process: usize, mono: Duration) -> Micros {
        let mono = u64::try_from(mono.as_micros()).unwrap_or(u64::MAX);
        mono.saturating_sub(self.processes[process].skew)
    }

    /// Starts a process that does not run.
    pub fn start(&mut self, process: usize) {
        if self.processes[process].up {
            return;
        }
        self.note(process, || "starts".into());
        let entry = &mut self.processes[process];
        entry.up = true;
        entry.life += 1;
        let (role, me) = (entry.role, self.address(process));
        let actor = match role {
            Role::Consumer => Actor::Consumer(Box::new(Consumer::new(self, me))),
            Role::Writer => Actor::Writer(Box::new(WriterProcess::new(self, me))),
            Role::Outbox => Actor::Outbox(Box::new(OutboxProcess::new(self, me))),
            Role::Client(number) => Actor::Client(Box::new(Client::new(self, me, number))),
            Role::Reader => Actor::Reader(Box::new(Reader::new(me))),
        };
        self.processes[process].actor = Some(actor);
        self.tell_in(me, 0, Message::Start);
    }

    /// `kill -9`.
    pub fn crash(&mut self, process: usize) {
        self.note(process, || "dies".into());
        let entry = &mut self.processes[process];
        entry.up = false;
        entry.actor = None;
        entry.paused_until = 0;
    }

    /// `SIGSTOP`, and `SIGCONT` later: what arrives meanwhile is delivered then.
    pub fn pause(&mut self, process: usize, for_: Micros) {
        self.note(process, || {
            format!("is stopped for {} ms", for_ / MILLISECOND)
        });
        let until = self.now + for_;
        let entry = &mut self.processes[process];
        entry.paused_until = entry.paused_until.max(until);
    }

    /// No more noise, everybody runs, every server is there.
    pub fn heal(&mut self) {
        self.note(0, || "all is healed".into());
        self.is_healed = true;
        self.noise = Noise {
            latency_max: 5 * MILLISECOND,
            ..Noise::default()
        };
        self.store.away_until = 0;
        self.log.away_until = 0;
        self.cache.away_until = 0;
        for process in 0..self.processes.len() {
            let until = std::mem::take(&mut self.processes[process].paused_until);
            self.held_until = self.held_until.max(until);
            self.start(process);
        }
    }

    // ---------------------------------------------------------------- messages

    /// Does something later, whoever runs then.
    pub fn later(&mut self, delay: Micros, action: impl FnOnce(&mut Self) + 'static) {
        self.push(delay, What::Do(Box::new(action)));
    }

    /// Tells a process something after exactly this delay.
    pub fn tell_in(&mut self, to: Address, delay: Micros, message: Message) {
        self.push(delay, What::Tell(to, message));
    }

    /// Tells a process something over the network.
    pub fn tell(&mut self, to: Address, message: Message) {
        let delay = self.latency();
        self.tell_in(to, delay, message);
    }

    fn push(&mut self, delay: Micros, what: What) {
        self.order += 1;
        self.heap.push(Reverse(Event {
            at: self.now + delay,
            order: self.order,
            what,
        }));
    }

    /// How long a message takes: short most of the time, with a long tail.
    pub fn latency(&mut self) -> Micros {
        let most = self.noise.latency_max;
        let tail = self.random.below(8) == 0;
        50 + self.random.below(if tail { most } else { most / 8 + 1 })
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, of_a_thousand: u64) -> bool {
        of_a_thousand > 0 && self.random.below(1_000) < of_a_thousand
    }

    pub fn noise(&self) -> Noise {
        self.noise
    }

    // ---------------------------------------------------------------- time

    /// The next event, if it is not after `until`. False: time is there.
    pub fn step(&mut self, until: Micros) -> bool {
        let is_next = |event: &Reverse<Event>| event.0.at <= until;
        if !self.heap.peek().is_some_and(is_next) {
            self.now = self.now.max(until);
            return false;
        }
        let Reverse(event) = self.heap.pop().expect("it was peeked at");
        self.now = self.now.max(event.at);
        self.events += 1;
        match event.what {
            What::Do(action) => action(self),
            What::Tell(to, message) => self.deliver(to, message),
        }
        true
    }

    fn deliver(&mut self, to: Address, message: Message) {
        let process = &mut self.processes[to.process];
        if !process.up || process.life != to.life {
            return;
        }
        if process.paused_until > self.now {
            let delay = process.paused_until - self.now;
            return self.tell_in(to, delay, message);
        }
        let message = match message {
            Message::Nothing => return,
            Message::Later(action) => return action(self),
            message => message,
        };
        let process = &mut self.processes[to.process];
        let Some(mut actor) = process.actor.take() else {
            return;
        };
        self.fold(to.process as u64);
        match (&mut actor, message) {
            (Actor::Consumer(actor), message) => actor.on(self, message),
            (Actor::Writer(actor), message) => actor.on(self, message),
            (Actor::Outbox(actor), message) => actor.on(self, message),
            (Actor::Client(actor), message) => actor.on(self, message),
            (Actor::Reader(actor), message) => actor.on(self, message),
        }
        let process = &mut self.processes[to.process];
        // It may have died of this message.
        if process.up && process.life == to.life {
            process.actor = Some(actor);
        }
    }

    /// Adds to the hash of what happened: two runs of a seed must have the same.
    pub fn fold(&mut self, what: u64) {
        self.hash = (self.hash ^ self.now).wrapping_mul(0x100_0000_01b3);
        self.hash = (self.hash ^ what).wrapping_mul(0x100_0000_01b3);
    }

    /// A line of the trace.
    pub fn note(&self, process: usize, what: impl FnOnce() -> String) {
        if self.trace {
            let seconds = self.now / SECOND;
            let micros = self.now % SECOND;
            let role = self.processes.get(process).map(|process| process.role);
            let role = role.map_or_else(String::new, |role| format!("{role:?}"));
            println!(
                "{seconds:>4}.{micros:06} {process:>2} {role:<10} {}",
                what()
            );
        }
    }
}
