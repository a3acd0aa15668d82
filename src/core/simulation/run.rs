//! One seed from its beginning to its end.

use super::{
    MILLISECOND, Micros, SECOND, checker,
    faults::{Fault, Strike, schedule},
    profile::Profile,
    sum::Counts,
    world::{EVENTS_MAX, World},
};
use crate::core::{
    canary::{self, Guard},
    types::ShardId,
    workload::random::Random,
};

/// After healing, the cluster must have come to rest within so long.
const REST_MAX: Micros = 300 * SECOND;
/// How often it is looked at.
const LOOK: Micros = 250 * MILLISECOND;
/// It rests when so many looks in a row see nothing under way.
/// Longer than any pause before a leader tries again.
const LOOKS: u32 = 12;
/// A shard may be taken over so often after that part of the rest.
const TAKE_OVERS_MAX: usize = 2;
const SETTLING: Micros = 15 * SECOND;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Guards that are switched off.
    pub off: Vec<Guard>,
    /// Print every event.
    pub trace: bool,
    /// Only these faults of the schedule, by number.
    pub keep: Option<Vec<usize>>,
    /// No schedule, no noise: one strike.
    pub strike: Option<Strike>,
}

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What is wrong; empty: nothing.
    pub wrong: Vec<String>,
    /// The faults that were carried out, by number.
    pub faults: Vec<(usize, Fault)>,
    /// Of everything that happened, in its order.
    pub hash: u64,
    /// How much happened.
    pub counts: Counts,
    /// Steps of the leader that a strike is aimed at.
    pub steps: u64,
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Report {
    canary::switch_off(&options.off);
    let mut random = Random::new(seed);
    let mut profile = Profile::of(&mut random);
    let mut faults: Vec<_> = schedule(&profile, &mut random)
        .into_iter()
        .enumerate()
        .collect();
    if let Some(keep) = &options.keep {
        faults.retain(|(number, _)| keep.contains(number));
    }
    if options.strike.is_some() {
        super::exhaustive::narrow(&mut profile, seed);
        faults.clear();
    }
    let noise = Random::new(random.next());
    let mut world = World::new(profile, noise, options.trace);
    world.strike = options.strike;
    let mut wrong = drive(&mut world, &faults);
    wrong.extend(checker::check(&mut world));
    if wrong.is_empty() {
        wrong = rest_of_cache(&mut world);
    }
    canary::switch_off(&[]);
    let partitions = world.log.partitions.iter();
    Report {
        seed,
        wrong,
        faults,
        hash: world.hash,
        counts: Counts {
            events: world.events,
            simulated: world.now,
            commands: world.store.tables.all_commands().count() as u64,
            records: partitions
                .map(|partition| partition.records.len() as u64)
                .sum(),
            crashes: world.history.crashes,
            pauses: world.history.pauses,
            fenced: world.history.fenced,
            take_overs: world.history.take_overs.len() as u64,
            duplicate_results: world.history.duplicate_results,
        },
        steps: world.strike.map_or(0, |strike| strike.steps),
    }
}

/// The chaos, the healing, the rest.
fn drive(world: &mut World, faults: &[(usize, Fault)]) -> Vec<String> {
    if faults.iter().any(|(_, fault)| fault.is_restore()) {
        keep_checkpoints(world);
    }
    for (_, fault) in faults.iter().cloned() {
        world.later(fault.at, move |world| fault.apply(world));
    }
    let chaos = world.profile.chaos;
    while world.events < EVENTS_MAX && world.step(chaos) {}
    // A database that is being brought back is waited for.
    while world.store.is_down && world.events < EVENTS_MAX {
        let until = world.now + LOOK;
        while world.step(until) {}
    }
    world.heal();
    let healed = world.now;
    match rest(world) {
        Ok(()) => flapping(world, healed),
        Err(why) => vec![why],
    }
}

fn keep_checkpoints(world: &mut World) {
    let now = world.now;
    world.store.keep_checkpoint(now);
    if now < world.profile.chaos {
        world.later(SECOND, keep_checkpoints);
    }
}

/// Runs until nothing is under way any more.
fn rest(world: &mut World) -> Result<(), String> {
    let until = world.now + REST_MAX;
    let (mut why, mut quiet) = (String::new(), 0);
    while world.now < until && world.events < EVENTS_MAX {
        let look = world.now + LOOK;
        while world.step(look) {}
        match unfinished(world) {
            None if quiet + 1 == LOOKS => return Ok(()),
            None => quiet += 1,
            Some(what) => (why, quiet) = (what, 0),
        }
    }
    Err(format!("it does not come to rest: {why}"))
}

/// What is under way still.
fn unfinished(world: &mut World) -> Option<String> {
    if world.history.clients_busy > 0 {
        return Some(format!("{} clients wait", world.history.clients_busy));
    }
    if !world.stopped.is_empty() {
        return Some("an operator is at work".into());
    }
    let now = world.store.clock(world.now);
    for shard in (0..world.profile.shards).map(ShardId) {
        let row = world
            .store
            .tables
            .shard_rows(now)
            .swap_remove(usize::from(shard.0));
        let margin = std::time::Duration::ZERO;
        let view = world.store.tables.outbox_view(now, shard, margin, 1);
        let pending = view.expect("the shard is there").pending_count;
        if pending > 0 {
            return Some(format!("{pending} commands of shard {shard} are pending"));
        }
        if row.lease_left.is_zero() {
            return Some(format!("nobody leads shard {shard}"));
        }
        let end = world.log.of(shard).visible_end();
        let next = row.next_position;
        if next.offset() < end || next.offset() > world.log.of(shard).end() {
            return Some(format!("shard {shard} is at {next}, its log ends at {end}"));
        }
        if row.published_to < next {
            return Some(format!(
                "shard {shard} is published to {}, not {next}",
                row.published_to
            ));
        }
    }
    None
}

/// Nobody takes shards away from each other once all is well.
fn flapping(world: &World, healed: Micros) -> Vec<String> {
    let from = healed + SETTLING;
    // From one process to another: who takes its own shard over had a flush refused.
    let mut leaders = std::collections::BTreeMap::new();
    let changes = world
        .history
        .take_overs
        .iter()
        .filter(|(_, shard, process)| {
            let before = leaders.insert(*shard, *process);
            before.is_some_and(|before| before != *process)
        });
    let late = changes.filter(|(at, ..)| *at > from);
    let minutes = (world.now.saturating_sub(from) / (60 * SECOND)) as usize + 1;
    let most = TAKE_OVERS_MAX * usize::from(world.profile.shards) * minutes;
    let count = late.count();
    if count > most {
        return vec![format!(
            "{count} take-overs in {minutes} minutes after all was healed"
        )];
    }
    Vec::new()
}

/// The cache holds what is committed, so soon after everything else has come to rest; in some runs
/// it loses its last writes before that, when no take-over comes to put them right.
fn rest_of_cache(world: &mut World) -> Vec<String> {
    if world.random.below(4) == 0 {
        let lost = 1 + world.random.below(20);
        world.cache.fall_back(lost as usize);
    }
    // Answers may still be on their way to who was stopped when all was healed.
    let until = world.now.max(world.held_until) + 5 * SECOND;
    while world.events < EVENTS_MAX && world.step(until) {}
    checker::check_cache(world)
}
