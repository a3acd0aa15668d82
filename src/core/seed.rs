//! Opens many accounts with balances, the same each time: for CI and benchmarks. It takes the real
//! path (group commit, log, engine, flush), so that log, journal and balances agree. Where nobody
//! leads the shards it leads them itself and leaves when it is done.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::core::{
    assets::Asset,
    command::{Change, Command, CommandKind, Move, hash},
    config::Settings,
    consumer::{self, Parts, Shards},
    interval_set::IntervalSet,
    outbox::Outbox,
    store,
    types::{AccountId, CommandId, ContentHash, Money, Timestamp},
    writer::{self, Answer, NotTaken, WriterHandle, routes::Routes},
};

/// Service name of seeded commands.
const SOURCE: &str = "axs.seed";
/// Batches whose answers are not in yet.
const BATCHES_IN_FLIGHT_MAX: usize = 16;
/// How often the shards are asked how far they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Without any command applied for so long, seeding fails.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Outcomes looked at in the end, spread evenly: the accounts may have been there before.
const OUTCOMES_CHECKED: usize = 1_000;

/// What to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many accounts.
    pub accounts: u64,
    /// In which each account gets a balance.
    pub assets: Vec<Asset>,
    /// In minor units, one for each asset.
    pub balances: Vec<Money>,
    /// Part of the keys; scatters the ids.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Accounts asked for.
    pub accounts: u64,
    /// Commands accepted now.
    pub accepted: u64,
    /// Commands that were there from an earlier run.
    pub duplicates: u64,
    /// This process led the shards.
    pub led_here: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Commands answered by the writer.
    pub accepted: u64,
    /// Of those, in the shards' applied sets.
    pub applied: u64,
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A command was not stored.
    #[error("account {0} was not seeded: {1}")]
    NotStored(AccountId, String),
    /// Accepted commands are not applied.
    #[error(
        "{0} accepted commands are not applied after a minute without progress\nhint: look at the shards' leaders (`axs doctor`), then run it again"
    )]
    Stalled(u64),
    /// An account was there before, with another history.
    #[error("command {0} was rejected: {1}\nhint: use another --seed, or a fresh database")]
    Rejected(CommandId, String),
}

/// The `number`th account id of a seed: a bijection of 61-bit numbers, so that none repeats.
pub fn account_id(seed: u64, number: u64) -> AccountId {
    const MASK: u64 = (1 << 61) - 1;
    let mut id = number
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(seed)
        & MASK;
    id ^= id >> 31;
    id = id.wrapping_mul(0xbf58_476d_1ce4_e5b9) & MASK;
    id ^= id >> 29;
    AccountId(id + 1)
}

/// Seeds and waits until everything is applied.
pub async fn run(
    parts: Parts,
    settings: &Settings,
    options: &Options,
    mut tell: impl FnMut(Progress),
) -> Result<Report, Error> {
    let shards = parts.store.shards().await?;
    let rows = parts.store.shard_rows().await?;
    let led_here = rows.iter().all(|row| row.lease_left.is_zero());
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    if led_here {
        let (parts, consume, stop) = (parts.clone(), settings.consume.clone(), stop.clone());
        let outbox = Outbox::new(
            parts.store.clone(),
            parts.log.clone(),
            settings.outbox.clone(),
        );
        tasks.spawn(outbox.await?.run(stop.clone()));
        tasks.spawn(async move {
            if let Err(error) = consumer::run(parts, &consume, Shards::default(), stop).await {
                tracing::error!(%error, "the shards could not be led");
            }
        });
    }
    let (store, log) = (parts.store.clone(), parts.log.clone());
    let writer = writer::start(store, log, &settings.writer, shards, Routes::default());
    let mut seeding = Seeding {
        parts: &parts,
        report: Report {
            accounts: options.accounts,
            led_here,
            ..Report::default()
        },
        in_flight: VecDeque::new(),
        stored: vec![IntervalSet::new(); usize::from(shards)],
        progress: Progress::default(),
        progressed_at: Instant::now(),
    };
    let done = match seeding.submit_all(&writer, options, &mut tell).await {
        Ok(()) => seeding.wait_until_applied(&mut tell).await,
        Err(error) => Err(error),
    };
    writer.stop().await;
    stop.cancel();
    tasks.join_all().await;
    done?;
    seeding.check_outcomes().await?;
    Ok(seeding.report)
}

type Batch = Vec<(AccountId, oneshot::Receiver<Answer>)>;

struct Seeding<'a> {
    parts: &'a Parts,
    report: Report,
    in_flight: VecDeque<Batch>,
    /// Numbers of our commands, by shard.
    stored: Vec<IntervalSet>,
    progress: Progress,
    progressed_at: Instant,
}

impl Seeding<'_> {
    async fn submit_all(
        &mut self,
        writer: &WriterHandle,
        options: &Options,
        tell: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next = 0;
        while next < options.accounts || !self.in_flight.is_empty() {
            let end = options.accounts.min(next + writer::BATCH_COUNT_MAX as u64);
            if next < end && self.in_flight.len() < BATCHES_IN_FLIGHT_MAX {
                let commands: Vec<Command> =
                    (next..end).map(|number| command(options, number)).collect();
                let accounts: Vec<AccountId> =
                    commands.iter().map(|command| command.account).collect();
                match writer.submit(commands) {
                    Ok(answers) => {
                        self.in_flight
                            .push_back(accounts.into_iter().zip(answers).collect());
                        next = end;
                        continue;
                    }
                    Err(NotTaken::Overloaded) => {}
                    Err(error) => {
                        return Err(Error::NotStored(accounts[0], error.to_string()));
                    }
                }
            }
            match self.in_flight.pop_front() {
                Some(batch) => self.settle(batch).await?,
                // The log takes no more for now: what was accepted before has to go out first.
                None => tokio::time::sleep(writer::RETRY_AFTER).await,
            }
            if futures::FutureExt::now_or_never(look.tick()).is_some() {
                self.look().await?;
            }
            tell(self.progress);
        }
        Ok(())
    }

    async fn settle(&mut self, batch: Batch) -> Result<(), Error> {
        for (account, answer) in batch {
            let answer = answer.await;
            let id = match answer {
                Ok(Answer::Accepted(id)) => {
                    self.report.accepted += 1;
                    id
                }
                Ok(Answer::Duplicate(id)) => {
                    self.report.duplicates += 1;
                    id
                }
                Ok(other) => return Err(Error::NotStored(account, format!("{other:?}"))),
                Err(_) => return Err(Error::NotStored(account, "the writer ended".into())),
            };
            self.stored[usize::from(id.shard().0)].insert(id.sequence().0);
            self.progress.accepted += 1;
        }
        Ok(())
    }

    /// Reads how many of our commands are applied.
    async fn look(&mut self) -> Result<(), Error> {
        let rows = self.parts.store.shard_rows().await?;
        let mut pending = 0;
        for (row, stored) in rows.iter().zip(&self.stored) {
            for (first, last) in stored.iter() {
                let gaps = row.applied.gaps(first, last);
                pending += gaps
                    .iter()
                    .map(|(first, last)| last - first + 1)
                    .sum::<u64>();
            }
        }
        let applied = self.progress.accepted - pending;
        if applied > self.progress.applied {
            self.progress.applied = applied;
            self.progressed_at = Instant::now();
        }
        Ok(())
    }

    async fn wait_until_applied(&mut self, tell: &mut impl FnMut(Progress)) -> Result<(), Error> {
        self.progressed_at = Instant::now();
        loop {
            self.look().await?;
            tell(self.progress);
            let pending = self.progress.accepted - self.progress.applied;
            if pending == 0 {
                return Ok(());
            }
            if self.progressed_at.elapsed() > STALLED_AFTER {
                return Err(Error::Stalled(pending));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn check_outcomes(&self) -> Result<(), Error> {
        let step = (self.progress.accepted as usize / OUTCOMES_CHECKED).max(1);
        let all = self.stored.iter().enumerate().flat_map(|(shard, numbers)| {
            let shard = crate::core::types::ShardId(shard as u16);
            let numbers = numbers.iter().flat_map(|(first, last)| first..=last);
            numbers.map(move |number| CommandId::new(shard, crate::core::types::Sequence(number)))
        });
        let ids: Vec<CommandId> = all.step_by(step).collect();
        for (id, outcome) in ids.iter().zip(self.parts.store.outcomes(&ids).await?) {
            let reject = outcome.and_then(|stored| stored.outcome.reject);
            if let Some(reject) = reject {
                let why =
                    crate::core::result::reject_sentence(&reject, &self.parts.registry.assets());
                return Err(Error::Rejected(*id, why));
            }
        }
        Ok(())
    }
}

/// Opens the `number`th account with a balance in every asset.
fn command(options: &Options, number: u64) -> Command {
    let account = account_id(options.seed, number);
    let change = |(asset, balance): (&Asset, &Money)| Change {
        account,
        primary: Move {
            asset: asset.id,
            available_delta: *balance,
            frozen_delta: Money::ZERO,
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    };
    let mut command = Command {
        id: None,
        content_hash: ContentHash([0; 16]),
        source: SOURCE.into(),
        idempotency_key: format!("{}:{number}", options.seed).into(),
        account,
        kind: CommandKind::OpenAccount,
        changes: options
            .assets
            .iter()
            .zip(&options.balances)
            .map(change)
            .collect(),
        reference: String::new().into(),
        created_at: None,
        accepted_at: Timestamp::default(),
        user: number + 1,
        reverses: None,
        ack: None,
        pin: None,
    };
    command.content_hash = hash::content_hash(&command);
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_the_callers_never_repeat_and_depend_on_the_seed() {
        let ids: BTreeSet<AccountId> = (0..100_000).map(|number| account_id(7, number)).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.is_callers()));
        assert_ne!(account_id(7, 5), account_id(8, 5));
        let low = ids.iter().filter(|id| id.0 < 1 << 60).count();
        assert!(
            (45_000..55_000).contains(&low),
            "scattered over the whole range: {low}"
        );
    }
}
