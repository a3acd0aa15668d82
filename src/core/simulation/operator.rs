//! What a person does when a shard stops or the database comes back from earlier: `axs shards
//! rebase` and `axs shards recover`, as DESIGN describes them. And what the servers do for everybody,
//! with the checker watching.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    MILLISECOND, SECOND,
    client::REFUSED,
    servers::CacheWrite,
    world::{Address, Message, Role, World},
};
use crate::core::{
    cache::{Pulse, Snapshot, Written},
    canary::{self, Guard},
    command::record,
    log::{NewRecord, Record},
    proto::CommandResult,
    shards::recover::Seen,
    store::{self, Flush, Flushed},
    types::{CommandId, Epoch, Nonce, Position, ShardId},
};

impl World {
    /// `axs_flush`.
    pub fn flush(
        &mut self,
        flush: &Arc<Flush>,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Flushed, store::Error> {
        if flush.labels.iter().any(|label| label.reference == REFUSED) {
            return Err(store::Error::Refused("a value it does not like".into()));
        }
        if canary::is_off(Guard::AtomicPosition) && self.chance(100) {
            self.store.tables.flush_position(flush)?;
            return Err(store::Error::AnswerLost("cut in the middle".into()));
        }
        let now = self.store.clock(self.now);
        let answer = self.store.tables.flush(now, flush, ttl);
        match &answer {
            Ok(Flushed::Done) => {
                let archive = self.archives.entry(flush.shard).or_default();
                archive.extend(
                    records
                        .iter()
                        .map(|record| (record.position, record.clone())),
                );
            }
            Err(store::Error::Fenced(_)) => self.history.fenced += 1,
            _ => {}
        }
        answer
    }

    /// Appends records: each may be lost, come twice or late.
    pub fn append(&mut self, from: Address, records: Vec<NewRecord>) {
        if records.is_empty() {
            return;
        }
        let noise = self.noise();
        let connection = self.store.restores;
        for record in &records {
            if self.chance(noise.late_copy) {
                let (record, late) = (record.clone(), self.random.below(30 * SECOND));
                self.later(late, move |world| world.append_one(connection, &record));
            }
        }
        self.request(
            from,
            |world| world.now < world.log.away_until,
            move |world| {
                for record in records {
                    world.append_one(connection, &record);
                    if world.chance(noise.twice) {
                        world.append_one(connection, &record);
                    }
                }
            },
            |_| Message::Nothing,
        );
    }

    fn append_one(&mut self, connection: u32, record: &NewRecord) {
        // Who restores a database first makes sure that no old producer is left.
        if connection == self.store.restores {
            self.log.append(self.now, record);
        }
    }

    /// Whether a command stands in the log where no leader has committed it yet.
    pub fn is_unread(&self, id: CommandId) -> bool {
        let shard = usize::from(id.shard().0);
        let now = self.store.clock(self.now);
        let row = self.store.tables.shard_rows(now).swap_remove(shard);
        let partition = &self.log.partitions[shard];
        if row.next_position.generation() != partition.generation {
            return false;
        }
        let from = usize::try_from(row.next_position.offset()).expect("an offset");
        let unread = partition.records.get(from..).unwrap_or_default();
        unread
            .iter()
            .flatten()
            .any(|record| record.command_id == Some(id))
    }

    /// Publishes results and dead letters; the broker refuses the one at `broken`.
    pub fn publish(
        &mut self,
        shard: ShardId,
        results: Vec<CommandResult>,
        letters: &[Position],
        broken: Option<usize>,
    ) {
        let count = results.len();
        for (index, result) in results.into_iter().enumerate() {
            if broken == Some(index) {
                continue;
            }
            let id = CommandId(result.command_id);
            let known = self.store.tables.outcomes(&[id]).swap_remove(0);
            if known.is_none() && self.store.restores == 0 {
                let why = format!("a result of {id} was published that is not committed");
                self.history.violations.push(why);
            }
            self.log.of(shard).results.push(result);
        }
        for (index, letter) in letters.iter().enumerate() {
            if broken != Some(count + index) {
                self.log.of(shard).letters.insert(*letter);
            }
        }
    }

    /// Writes to the cache what must be committed already.
    pub fn write_cache(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        pulse: Option<Pulse>,
        snapshots: Vec<Snapshot>,
    ) -> Written {
        if self.store.restores == 0 {
            for snapshot in &snapshots {
                for balance in &snapshot.balances {
                    let now = self.store.clock(self.now);
                    let stored = self.store.tables.balances(now, &[balance.account]);
                    let stored = stored
                        .into_iter()
                        .flatten()
                        .flat_map(|stored| stored.balances);
                    let mut same = stored.filter(|stored| stored.asset == balance.asset);
                    let version = same.next().map_or(0, |stored| stored.version);
                    if version < balance.version {
                        self.history.violations.push(format!(
                            "a snapshot of account {} has version {}, {version} is committed",
                            balance.account, balance.version
                        ));
                    }
                }
            }
        }
        self.cache.write(CacheWrite {
            shard,
            epoch,
            pulse,
            snapshots,
        })
    }

    /// Starts a process, unless the database is being brought back.
    pub fn start_unless_down(&mut self, process: usize) {
        if self.store.is_down {
            return;
        }
        self.start(process);
    }

    /// A leader stopped and asks for an operator.
    pub fn shard_stopped(&mut self, process: usize, shard: ShardId, why: &str) {
        let is_cut = !self.log.of(shard).truncations.is_empty() || self.store.restores > 0;
        if !is_cut {
            let why = format!("shard {shard} stopped without a reason: {why}");
            self.history.violations.push(why);
        }
        if !is_cut || !self.stopped.insert(shard) {
            // Somebody looks after it already; this process is started again then.
            self.restarts.push((process, shard));
            return;
        }
        self.restarts.push((process, shard));
        let delay = SECOND + self.random.below(3 * SECOND);
        self.later(delay, move |world| rebase(world, shard));
    }

    /// A leader or a writer made a step: the strike of an exhaustive run may be due.
    pub fn stepped(&mut self, process: usize, shard: ShardId) {
        let Some(strike) = &mut self.strike else {
            return;
        };
        if strike.process != process || shard != ShardId(0) {
            return;
        }
        strike.steps += 1;
        let strike = *strike;
        if strike.steps != strike.at {
            return;
        }
        if strike.pauses {
            self.pause(process, 2_500 * MILLISECOND);
        } else {
            self.crash(process);
            self.later(300 * MILLISECOND, move |world| world.start(process));
        }
    }
}

/// `axs shards rebase`: the shard goes on at the end of its log, under a new generation; what is
/// pending is produced again by the outbox.
fn rebase(world: &mut World, shard: ShardId) {
    world.note(0, || format!("operator: rebase of shard {shard}"));
    let now = world.store.clock(world.now);
    let partition = world.log.of(shard);
    partition.generation += 1;
    partition.begins = partition.end();
    let to = Position::new(partition.generation, partition.begins);
    let nonce = Nonce(world.random.next().cast_signed());
    let from = world.store.tables.shard_rows(now)[usize::from(shard.0)].next_position;
    let rebased = world.store.tables.rebase(now, shard, from, to, nonce);
    assert_eq!(rebased.ok(), Some(true), "nobody else moves it");
    world.stopped.remove(&shard);
    let (ours, others) = std::mem::take(&mut world.restarts)
        .into_iter()
        .partition(|(_, stopped)| *stopped == shard);
    world.restarts = others;
    let ours: Vec<(usize, ShardId)> = ours;
    for (process, _) in ours {
        world.crash(process);
        world.start_unless_down(process);
    }
}

/// The database comes back from an earlier state; every process is stopped, and started once
/// `axs shards recover` is through. Nobody brings back another one meanwhile.
pub(super) fn restore(world: &mut World, seconds_back: usize) {
    if world.store.is_down {
        return;
    }
    let checkpoints = &mut world.store.checkpoints;
    let Some(index) = checkpoints.len().checked_sub(seconds_back + 1) else {
        return;
    };
    let (_, earlier) = checkpoints[index].clone();
    checkpoints.truncate(index + 1);
    for role in [Role::Consumer, Role::Writer, Role::Outbox, Role::Reader] {
        for process in world.with_role(role) {
            world.crash(process);
        }
    }
    let before = std::mem::replace(&mut world.store.tables, earlier);
    world.store.connections += 1;
    world.store.restores += 1;
    world.store.is_down = true;
    world.history.restores.push(world.now);
    world.later(SECOND, move |world| {
        recover(world);
        for (id, _) in before.all_commands() {
            if world.store.tables.commands(&[*id])[0].is_none() {
                world.history.lost.push(*id);
            }
        }
        world.store.is_down = false;
        for role in [Role::Consumer, Role::Writer, Role::Outbox, Role::Reader] {
            for process in world.with_role(role) {
                world.start(process);
            }
        }
    });
}

/// `axs shards recover`: adopts the commands of the log that have no row, and sets numbers and
/// epochs above all that log, results and cache have seen.
fn recover(world: &mut World) {
    world.note(0, || "operator: recover".into());
    let now = world.store.clock(world.now);
    for shard in (0..world.profile.shards).map(ShardId) {
        let row = world
            .store
            .tables
            .shard_rows(now)
            .swap_remove(usize::from(shard.0));
        let nonce = Nonce(world.random.next().cast_signed());
        let partition = world.log.of(shard);
        let mut seen = Seen::default();
        let mut commands = BTreeMap::new();
        for record in partition.records.iter().flatten() {
            let Ok(item) = record::decode(&record.value) else {
                continue;
            };
            seen.item(shard, &item);
            if let record::LogItem::Command(command) = item
                && let Some(id) = command.id.filter(|id| id.shard() == shard)
            {
                commands.entry(id).or_insert(command);
            }
        }
        for result in &partition.results {
            seen.result(result);
        }
        seen.epoch(world.cache.epochs.get(&shard).copied().unwrap_or(0));
        let commands: Vec<_> = commands.into_values().collect();
        let tables = &mut world.store.tables;
        tables.adopt(shard, &commands).expect("the shard is there");
        tables
            .recover(now, shard, seen.recovery(row.epoch), nonce)
            .expect("the shard is there");
        // What was applied after the earlier state is applied again.
        let archive = world.archives.entry(shard).or_default();
        archive.split_off(&row.next_position);
    }
}
