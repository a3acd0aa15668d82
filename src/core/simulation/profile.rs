//! What a seed makes of a run before it begins: how large it is, how tight its limits are, how bad
//! its network. Each seed has another mix, because tiny limits and single kinds of trouble find
//! races that a little of everything hides.

use std::time::Duration;

use super::{MILLISECOND, Micros, SECOND};
use crate::core::{leader, workload::random::Random};

/// A lease of the simulated leaders.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How bad the network is, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    /// A request is lost before it is carried out.
    pub lost_before: u64,
    /// An answer is lost after the request was carried out.
    pub lost_after: u64,
    /// A request is carried out long after its sender gave up.
    pub late: u64,
    /// A record is appended twice.
    pub twice: u64,
    /// A record comes once more, much later.
    pub late_copy: u64,
    /// Longest way of a message.
    pub latency_max: Micros,
}

/// Sizes and limits of one run.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub shards: u16,
    pub consumers: usize,
    pub writers: usize,
    pub outboxes: usize,
    pub clients: usize,
    pub accounts: u64,
    pub commands: u64,
    pub leader: leader::Config,
    pub group_count_max: usize,
    pub block_size: u32,
    pub block_age_max: Duration,
    pub margin: Duration,
    pub noise: Noise,
    /// Faults happen until then; then everything is healed.
    pub chaos: Micros,
}

impl Profile {
    /// The mix of a seed.
    pub fn of(random: &mut Random) -> Self {
        let pick =
            |random: &mut Random, from: &[u64]| from[random.below(from.len() as u64) as usize];
        let noisy = |random: &mut Random| pick(random, &[0, 0, 10, 50, 150]);
        let noise = Noise {
            lost_before: noisy(random),
            lost_after: noisy(random),
            late: noisy(random),
            twice: noisy(random),
            late_copy: noisy(random),
            latency_max: pick(random, &[2, 5, 40, 200]) * MILLISECOND,
        };
        let leader = leader::Config {
            batch_count_max: pick(random, &[1, 2, 3, 12, 64]) as usize,
            batch_bytes_max: 1 << 20,
            batch_age_max: Duration::from_millis(pick(random, &[0, 0, 5, 50])),
            flush_interval_min: Duration::from_millis(pick(random, &[0, 0, 20])),
            lease_ttl: LEASE,
            accounts_max: pick(random, &[1, 2, 3, 6, 1_000]) as usize,
            embedded: false,
        };
        Self {
            shards: pick(random, &[1, 1, 2]) as u16,
            consumers: pick(random, &[1, 2, 2, 3]) as usize,
            writers: pick(random, &[1, 2, 2]) as usize,
            outboxes: pick(random, &[1, 2]) as usize,
            clients: random.between(1, 4) as usize,
            accounts: random.between(2, 8),
            commands: random.between(10, 60),
            leader,
            group_count_max: pick(random, &[1, 2, 5, 100]) as usize,
            block_size: pick(random, &[1, 2, 3, 8, 64]) as u32,
            block_age_max: Duration::from_secs(pick(random, &[3, 10, 60])),
            margin: Duration::from_secs(6),
            noise,
            chaos: random.between(5, 30) * SECOND,
        }
    }
}
