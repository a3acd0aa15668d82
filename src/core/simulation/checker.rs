//! What must hold at the end: the records that were applied are replayed on the naive model, and
//! outcomes, entries, balances, results, snapshots and what clients were told are compared with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{history::Told, servers::assets, world::World};
use crate::core::{
    canary::PANICS,
    command::{Command, hash, record},
    engine::{Entry, Outcome, model::Model},
    proto::CommandResult,
    result,
    store::{DeadLetter, DeadLetterReason, StoredResult},
    types::{CommandId, Position, ShardId},
};

/// More results or letters than any run has.
const ALL: usize = 1_000_000;
/// Copies of one command that may stand in the log beside those that the network made.
const RESENT_MAX: u64 = 4;
/// Differences of one kind that are told.
const TOLD_MAX: usize = 3;

/// Everything that is wrong.
pub(super) fn check(world: &mut World) -> Vec<String> {
    let mut wrong = std::mem::take(&mut world.history.violations);
    for shard in (0..world.profile.shards).map(ShardId) {
        check_shard(world, shard, &mut wrong);
    }
    check_alarms(world, &mut wrong);
    check_clients(world, &mut wrong);
    check_order(world, &mut wrong);
    check_amplification(world, &mut wrong);
    wrong
}

/// Snapshots that differ from what is committed.
pub(super) fn check_cache(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for shard in (0..world.profile.shards).map(ShardId) {
        let tables = &world.store.tables;
        let balances = tables.all_balances(shard);
        for account in tables.all_accounts(shard) {
            let Some(snapshot) = world.cache.read(shard, account.id) else {
                continue;
            };
            let stored = balances
                .iter()
                .filter(|balance| balance.account == account.id);
            let stored: Vec<_> = stored.copied().collect();
            if stored != snapshot.balances && wrong.len() < TOLD_MAX {
                wrong.push(format!(
                    "the snapshot of account {} is {:?}, {stored:?} is committed",
                    account.id, snapshot.balances
                ));
            }
        }
    }
    wrong
}

fn check_shard(world: &mut World, shard: ShardId, wrong: &mut Vec<String>) {
    let tables = &world.store.tables;
    let letters = tables
        .dead_letters(shard, Position::ZERO, ALL)
        .expect("the shard is there");
    let results = tables
        .results(shard, Position::ZERO, ALL)
        .expect("the shard is there");
    check_letters(world, shard, &letters, wrong);
    check_log(world, shard, wrong);
    let (model, expected) = replay(world, shard, &letters);
    let mut fail = |what: String| wrong.push(format!("shard {shard}: {what}"));
    if expected.len() != results.len() {
        fail(format!(
            "{} outcomes are stored, the log gives {}",
            results.len(),
            expected.len()
        ));
    }
    for (stored, expected) in results.iter().zip(&expected) {
        if (&stored.outcome, &stored.entries) != (&expected.0, &expected.1) {
            fail(format!("stored {stored:?}\n    the log gives {expected:?}"));
            break;
        }
    }
    let now = world.store.clock(world.now);
    let row = tables.shard_rows(now).swap_remove(usize::from(shard.0));
    if !tables.all_balances(shard).iter().eq(model.balances()) {
        let stored = tables.all_balances(shard);
        let model: Vec<_> = model.balances().collect();
        fail(format!("balances are {stored:?}, the log gives {model:?}"));
    }
    if !tables.all_accounts(shard).iter().eq(model.accounts()) {
        fail("accounts are not what the log gives".into());
    }
    if row.state_hash != model.state_hash() {
        fail("the state hash is not that of what is stored".into());
    }
    if row.applied != *model.applied() {
        fail("the applied set is not what the log gives".into());
    }
    check_results(world, shard, &results, wrong);
    check_commands(world, shard, &results, wrong);
}

/// The records that were applied, on the model; parked positions are passed over.
fn replay(
    world: &World,
    shard: ShardId,
    letters: &[DeadLetter],
) -> (Model, Vec<(Outcome, Vec<Entry>)>) {
    let parked: BTreeSet<_> = letters.iter().map(|letter| letter.position).collect();
    let mut model = Model::new(shard);
    let mut outcomes = Vec::new();
    for (at, record) in world.archives.get(&shard).into_iter().flatten() {
        if parked.contains(at) {
            continue;
        }
        match record::decode(&record.value) {
            Ok(record::LogItem::Command(command)) => {
                outcomes.extend(model.apply(*at, record.log_time, &command));
            }
            Ok(record::LogItem::Seal(seal)) => model.seal(seal.first.0, seal.last.0),
            _ => {}
        }
    }
    (model, outcomes)
}

/// Every record of the log's current generation was applied, and no other.
fn check_log(world: &World, shard: ShardId, wrong: &mut Vec<String>) {
    let now = world.store.clock(world.now);
    let row = world
        .store
        .tables
        .shard_rows(now)
        .swap_remove(usize::from(shard.0));
    let partition = &world.log.partitions[usize::from(shard.0)];
    let begins = Position::new(partition.generation, partition.begins);
    let begins_at = usize::try_from(partition.begins).expect("an offset");
    let records = partition.records[begins_at..].iter().flatten();
    let records = records.filter(|record| record.position < row.next_position);
    let applied = world.archives.get(&shard);
    let of_generation = applied
        .into_iter()
        .flat_map(|applied| applied.range(begins..));
    let of_generation = of_generation.map(|(_, record)| record);
    if !records.eq(of_generation) {
        wrong.push(format!(
            "shard {shard}: what was applied is not what the log has"
        ));
    }
}

fn check_letters(world: &World, shard: ShardId, letters: &[DeadLetter], wrong: &mut Vec<String>) {
    for letter in letters {
        let command = match record::decode(&letter.value.clone().into()) {
            Ok(record::LogItem::Command(command)) => Some(command),
            _ => None,
        };
        let reference = command.map(|command| command.reference).unwrap_or_default();
        let is_meant = match letter.reason {
            DeadLetterReason::Undecodable | DeadLetterReason::Unsupported => {
                record::decode(&letter.value.clone().into()).is_err()
            }
            DeadLetterReason::EnginePanic => reference == PANICS,
            DeadLetterReason::FlushRefused => reference == super::client::REFUSED,
            DeadLetterReason::ContentMismatch => world.store.restores > 0,
            DeadLetterReason::Misrouted => false,
        };
        if !is_meant {
            let (at, message) = (letter.position, &letter.message);
            wrong.push(format!("shard {shard}: dead letter at {at}: {message}"));
        }
        if !world.log.partitions[usize::from(shard.0)]
            .letters
            .contains(&letter.position)
        {
            wrong.push(format!(
                "shard {shard}: dead letter at {} is not published",
                letter.position
            ));
        }
    }
}

/// Exactly the committed outcomes are published, each with one content.
fn check_results(
    world: &mut World,
    shard: ShardId,
    stored: &[StoredResult],
    wrong: &mut Vec<String>,
) {
    let assets = assets();
    let was_restored = world.store.restores > 0;
    let plain = |mut result: CommandResult| {
        if was_restored {
            // Applied again under a later epoch, and the rest is as before.
            result.epoch = 0;
        }
        result
    };
    let mut expected: BTreeMap<CommandId, CommandResult> = stored
        .iter()
        .map(|stored| {
            (
                stored.outcome.id,
                plain(result::render_stored(stored, &assets)),
            )
        })
        .collect();
    let mut seen = BTreeSet::new();
    let partition = world.log.of(shard);
    let mut duplicates = 0;
    for published in &partition.results {
        let id = CommandId(published.command_id);
        match expected.get(&id) {
            Some(result) if *result == plain(published.clone()) => {}
            Some(result) => wrong.push(format!(
                "shard {shard}: published {published:?}\n    committed {result:?}"
            )),
            // Of a command that only the lost database knew.
            None if was_restored => {}
            None => wrong.push(format!(
                "shard {shard}: the result of {id} is not committed"
            )),
        }
        duplicates += u64::from(!seen.insert(id));
    }
    world.history.duplicate_results += duplicates;
    expected.retain(|id, _| !seen.contains(id));
    if let Some(id) = expected.keys().next() {
        wrong.push(format!(
            "shard {shard}: the result of {id} is not published"
        ));
    }
}

/// Every accepted command has an outcome, or is parked for a reason.
fn check_commands(world: &World, shard: ShardId, stored: &[StoredResult], wrong: &mut Vec<String>) {
    let outcomes: BTreeSet<_> = stored.iter().map(|stored| stored.outcome.id).collect();
    let is_meant = |command: &Command| {
        command.reference == PANICS || command.reference == super::client::REFUSED
    };
    let tables = &world.store.tables;
    let all = tables.all_commands().filter(|(id, _)| id.shard() == shard);
    for (id, command) in all {
        if !outcomes.contains(id) && !is_meant(command) {
            wrong.push(format!("command {id} was accepted and has no outcome"));
        }
    }
}

fn check_alarms(world: &World, wrong: &mut Vec<String>) {
    let was_restored = world.store.restores > 0;
    for alarm in &world.history.alarms {
        let is_conflict = alarm.contains("version conflict");
        let is_number = alarm.contains("with other content") || alarm.contains("was sealed or");
        if is_conflict || is_number && !was_restored {
            wrong.push(format!("alarm: {alarm}"));
        }
    }
}

/// What clients were told is so, for ever.
fn check_clients(world: &World, wrong: &mut Vec<String>) {
    let tables = &world.store.tables;
    let lost: BTreeSet<_> = world.history.lost.iter().collect();
    let mut fail = |what: String| {
        wrong.push(what);
    };
    for answered in &world.history.answers {
        let (key, told) = (&answered.key, answered.told);
        match told {
            Told::Stored(id) | Told::Conflict(id) if lost.contains(&id) => {}
            Told::Stored(id) | Told::Conflict(id) => {
                let same = matches!(told, Told::Stored(_));
                let stored = tables.commands(&[id]).swap_remove(0);
                let is_so = stored.is_some_and(|stored| {
                    *stored.command.idempotency_key == **key
                        && (stored.command.content_hash == answered.content) == same
                });
                let by_key = tables.command_of_key(hash::key_hash("simulation", key));
                if !is_so || by_key != Some(id) {
                    fail(format!(
                        "key {key} was told {told:?}, which is not so: {by_key:?}"
                    ));
                }
            }
            Told::Refused => fail(format!("key {key} was refused by the store")),
            Told::NotTaken | Told::Nothing => {}
        }
    }
}

/// A command sent after another one's outcome was seen stands behind it.
fn check_order(world: &World, wrong: &mut Vec<String>) {
    if world.store.restores > 0 {
        return;
    }
    let tables = &world.store.tables;
    for (key, seen) in &world.history.sent_after {
        let Some((before, at)) = seen else { continue };
        let id = tables.command_of_key(hash::key_hash("simulation", key));
        let Some(id) = id.filter(|id| id.shard() == before.shard()) else {
            continue;
        };
        if let Some(stored) = tables.outcomes(&[id]).swap_remove(0)
            && stored.outcome.position <= *at
        {
            wrong.push(format!(
                "{id} stands at {}, its client had seen {before} at {at} before it sent it",
                stored.outcome.position
            ));
        }
    }
}

/// The outbox does not fill the log with what stands there.
fn check_amplification(world: &World, wrong: &mut Vec<String>) {
    let commands = world.store.tables.all_commands().count() as u64;
    let outboxes = world.profile.outboxes as u64;
    let most = commands * RESENT_MAX * outboxes;
    let (resent, needless) = (world.history.resent, world.history.needless);
    if resent > most {
        wrong.push(format!("{resent} commands were sent again, of {commands}"));
    }
    if needless > commands * outboxes {
        wrong.push(format!(
            "{needless} commands were sent again that stood in the log unread"
        ));
    }
}
