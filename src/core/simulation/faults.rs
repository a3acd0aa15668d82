//! The faults of a run: a list made before it begins, so that it can be printed, shortened and
//! carried out again.

use super::{
    MILLISECOND, Micros, SECOND, consumer, operator,
    profile::Profile,
    world::{Message, World},
};
use crate::core::{
    command::record::{self, Seal},
    log::NewRecord,
    types::{Sequence, ShardId, Timestamp},
    workload::random::Random,
};

/// Most faults of a run.
const FAULTS_MAX: u64 = 14;

/// Something bad, and when.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Microseconds since the beginning.
    pub at: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Crash { process: usize, down: Micros },
    Pause { process: usize, lasts: Micros },
    StoreAway { lasts: Micros },
    StoreCut,
    LogAway { lasts: Micros },
    CacheAway { lasts: Micros },
    CacheFlush,
    CacheEvict { which: u64 },
    CacheFallBack { lost: usize },
    Restore { seconds_back: usize },
    Truncate { shard: u16, count: usize },
    ClockJump { by: Micros },
    Day { process: usize },
    BrokerClock { to: i64 },
    Drain { process: usize, shard: u16 },
    BadRecord { shard: u16, which: u64 },
    Marker { shard: u16 },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, rest) = (self.at / SECOND, self.at % SECOND / MILLISECOND);
        write!(f, "{seconds}.{rest:03} s: {:?}", self.kind)
    }
}

/// A strike of an exhaustive run: after this step of a leader, counted in its process.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// The process.
    pub process: usize,
    /// Its steps so far.
    pub steps: u64,
    /// After so many.
    pub at: u64,
    /// Stopped for a while, not killed.
    pub pauses: bool,
}

/// The schedule of a seed.
pub(super) fn schedule(profile: &Profile, random: &mut Random) -> Vec<Fault> {
    let (consumers, writers) = (profile.consumers, profile.writers);
    let servants = (consumers + writers + profile.outboxes) as u64;
    // Each seed knows some kinds of trouble only.
    let kinds: Vec<u64> = (0..16).filter(|_| random.below(2) == 0).collect();
    let count = random.below(FAULTS_MAX + 1);
    let mut faults = Vec::new();
    for _ in 0..count {
        let Some(&kind) = kinds.get(random.below(kinds.len().max(1) as u64) as usize) else {
            break;
        };
        let lasts = (100 + random.below(8_000)) * MILLISECOND;
        let shard = random.below(u64::from(profile.shards)) as u16;
        let leader = random.below(consumers as u64) as usize;
        let process = random.below(servants) as usize;
        let kind = match kind {
            0 | 1 => Kind::Crash {
                process: leader,
                down: lasts,
            },
            2 | 3 => Kind::Pause {
                process: leader,
                lasts,
            },
            4 => Kind::Crash {
                process,
                down: lasts / 4,
            },
            5 => Kind::Pause {
                process,
                lasts: lasts * 2,
            },
            6 => Kind::StoreAway { lasts },
            7 => Kind::StoreCut,
            8 if random.below(3) == 0 => Kind::CacheEvict {
                which: random.next(),
            },
            8 => Kind::LogAway { lasts: lasts * 2 },
            9 => Kind::CacheAway { lasts },
            10 if random.below(2) == 0 => Kind::CacheFlush,
            10 => Kind::CacheFallBack {
                lost: random.below(60) as usize,
            },
            11 if random.below(3) == 0 => Kind::Restore {
                seconds_back: random.below(4) as usize,
            },
            11 => Kind::BrokerClock {
                to: random.below(7_200 * SECOND) as i64 - 3_600 * SECOND as i64,
            },
            12 => Kind::Truncate {
                shard,
                count: 1 + random.below(8) as usize,
            },
            13 if random.below(4) == 0 => Kind::ClockJump {
                by: random.below(86_400) * SECOND,
            },
            13 if random.below(2) == 0 => Kind::Day { process },
            13 => Kind::Marker { shard },
            14 => Kind::Drain {
                process: leader,
                shard,
            },
            _ => Kind::BadRecord {
                shard,
                which: random.below(4),
            },
        };
        faults.push(Fault {
            at: 300 * MILLISECOND + random.below(profile.chaos - SECOND),
            kind,
        });
    }
    // A database from earlier and a log without its end lose more than any of the two can bring back.
    if faults.iter().any(Fault::is_restore) {
        faults.retain(|fault| !matches!(fault.kind, Kind::Truncate { .. }));
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

impl Fault {
    /// Whether earlier states of the store are needed.
    pub(super) fn is_restore(&self) -> bool {
        matches!(self.kind, Kind::Restore { .. })
    }

    pub(super) fn apply(&self, world: &mut World) {
        world.note(0, || format!("fault: {:?}", self.kind));
        world.fold(self.at);
        match self.kind {
            Kind::Crash { process, down } => {
                world.history.crashes += 1;
                world.crash(process);
                world.later(down, move |world| world.start_unless_down(process));
            }
            Kind::Pause { process, lasts } => {
                world.history.pauses += 1;
                world.pause(process, lasts);
            }
            Kind::StoreAway { lasts } => {
                world.store.connections += 1;
                world.store.away_until = world.store.away_until.max(world.now + lasts);
            }
            Kind::StoreCut => world.store.connections += 1,
            Kind::LogAway { lasts } => {
                world.log.away_until = world.log.away_until.max(world.now + lasts);
            }
            Kind::CacheAway { lasts } => {
                world.cache.away_until = world.cache.away_until.max(world.now + lasts);
            }
            Kind::CacheFlush => world.cache.fall_back(usize::MAX),
            Kind::CacheEvict { which } => world.cache.evict(which),
            Kind::CacheFallBack { lost } => world.cache.fall_back(lost),
            Kind::Restore { seconds_back } => operator::restore(world, seconds_back),
            Kind::Truncate { shard, count } => world.log.of(ShardId(shard)).truncate(count),
            Kind::ClockJump { by } => world.store.jumped += by,
            // Stopped for a day by the store's clock: what it had sent comes a day late.
            Kind::Day { process } => {
                world.history.pauses += 1;
                world.store.jumped += 86_400 * SECOND;
                world.pause(process, 10 * SECOND);
            }
            Kind::BrokerClock { to } => world.log.set_skew(to),
            Kind::Drain { process, shard } => {
                let drain = consumer::Message::Drain(usize::from(shard));
                let to = world.address(process);
                world.tell(to, Message::Consumer(Box::new(drain)));
            }
            Kind::BadRecord { shard, which } => bad_record(world, ShardId(shard), which),
            Kind::Marker { shard } => world.log.of(ShardId(shard)).records.push(None),
        }
    }
}

/// A record that must become a dead letter, or do nothing.
fn bad_record(world: &mut World, shard: ShardId, which: u64) {
    let value = match which {
        0 => bytes::Bytes::from_static(b"no log record"),
        // Of a later program.
        1 => bytes::Bytes::from_static(&[0x08, 0x63]),
        // Numbers that were never leased: nobody can use them, so that nothing changes.
        2 => record::encode_seal(&Seal {
            first: Sequence(1 << 40),
            last: Sequence(1 << 40),
        }),
        _ => bytes::Bytes::new(),
    };
    let record = NewRecord {
        shard,
        account: None,
        value,
        command: None,
        source: "nobody".into(),
        time: Timestamp(0),
    };
    world.log.append(world.now, &record);
}
