//! The state at the beginning of a replay: nothing, where the log still begins with the shard's
//! first record; else what the journal says of everything before. Reads only.
//!
//! The journal has every outcome, and so every balance, account and applied number; it does not have
//! the numbers that were sealed. No outcome depends on those: a record with a sealed number is a
//! stored dead letter.

use std::collections::BTreeMap;

use super::{Error, Source, Sources, Until, row};
use crate::core::{
    command::CommandKind,
    engine::{Account, AccountStatus, Balance, Engine, Start, hash},
    interval_set::IntervalSet,
    store::{Store, StoredResult},
    types::{AccountId, AssetId, CommandId, Position, ShardId, Timestamp},
};

/// Results of the journal read at a time.
const PAGE: usize = 2_000;

/// Where a replay begins, and with what.
pub(super) struct Begin {
    pub engine: Engine,
    /// The first position to read.
    pub next: Position,
    pub last_result: Position,
    /// Commands that the state is from; `None`: from nothing.
    pub from_journal: Option<u64>,
    /// What was asked for ends here, or before the log begins.
    pub is_over: bool,
}

/// Finds the beginning, and builds the state there.
pub(super) async fn begin(sources: &Sources, shard: ShardId, until: Until) -> Result<Begin, Error> {
    let (low, high) = sources.source.range(shard).await?;
    let stored = match (&sources.source, &sources.store) {
        (Source::Log(_), Some(store)) => Some((store, row(store, shard).await?)),
        _ => None,
    };
    let Some((store, row)) = stored else {
        return match low {
            0 => within(until, Position::ZERO, high).map(|()| nothing(shard)),
            _ => Err(Error::OutOfReach(format!(
                "the log of shard {shard} begins at {low}, and there is no journal to begin with"
            ))),
        };
    };
    let generation = row.next_position.generation();
    let end = Position::new(generation, high);
    if end < row.next_position && matches!(until, Until::Position(to) if to > end) {
        let next = row.next_position;
        return Err(Error::Differs(format!(
            "the log of shard {shard} ends at {end}, but {next} is next to be applied: it was made \
             anew, or lost records; `axs shards rebase` goes on with it"
        )));
    }
    within(until, Position::new(generation, 0), high)?;
    if (generation, low) == (0, 0) {
        return Ok(nothing(shard));
    }
    let mut from = Position::new(generation, low);
    if generation > 0 {
        // What stands in this log before the place at which the shard went on with it was never
        // applied in this generation.
        let first = store
            .results(shard, Position::new(generation, 0), 1)
            .await?;
        let first = first.first().map(|result| result.outcome.position);
        from = from.max(first.unwrap_or(row.next_position));
    }
    let mut fold = Fold::new(shard);
    fold.read(store, from, until).await?;
    if from > row.next_position && fold.next == from {
        // Records between the two are gone, and were never applied: nothing can follow.
        fold.next = row.next_position;
        fold.is_over = true;
    }
    fold.end()
}

/// A state with nothing in it, at the log's first record.
fn nothing(shard: ShardId) -> Begin {
    Begin {
        engine: Engine::new(Start {
            shard,
            applied: IntervalSet::new(),
            applied_at: Timestamp(0),
            passed_at: Timestamp(0),
            state_hash: 0,
        }),
        next: Position::ZERO,
        last_result: Position::NONE,
        from_journal: None,
        is_over: false,
    }
}

/// Refuses a position behind the log's end.
fn within(until: Until, zero: Position, high: i64) -> Result<(), Error> {
    let end = Position::new(zero.generation(), high);
    match until {
        Until::Position(to) if to > end => {
            Err(Error::Beyond(format!("the log ends at {end}, before {to}")))
        }
        _ => Ok(()),
    }
}

/// The journal, folded.
struct Fold {
    shard: ShardId,
    next: Position,
    is_over: bool,
    commands: u64,
    last_result: Position,
    applied: IntervalSet,
    applied_at: Timestamp,
    accounts: BTreeMap<AccountId, Account>,
    balances: BTreeMap<(AccountId, AssetId), Balance>,
}

impl Fold {
    fn new(shard: ShardId) -> Self {
        Self {
            shard,
            next: Position::ZERO,
            is_over: false,
            commands: 0,
            last_result: Position::NONE,
            applied: IntervalSet::new(),
            applied_at: Timestamp(0),
            accounts: BTreeMap::new(),
            balances: BTreeMap::new(),
        }
    }

    /// Everything below `from`, or what of it was asked for.
    async fn read(&mut self, store: &Store, from: Position, until: Until) -> Result<(), Error> {
        let below = match until {
            Until::Position(end) => from.min(end),
            Until::Time(_) => from,
        };
        let mut next = Position::ZERO;
        'pages: loop {
            let page = store.results(self.shard, next, PAGE).await?;
            let Some(last) = page.last() else { break };
            next = last.outcome.position.next();
            let mut opened = Vec::new();
            for result in &page {
                let outcome = &result.outcome;
                if outcome.position >= below {
                    self.users(store, &opened).await?;
                    break 'pages;
                }
                if matches!(until, Until::Time(last) if outcome.applied_at > last) {
                    self.is_over = true;
                    self.next = outcome.position;
                    return self.users(store, &opened).await;
                }
                self.take(result)?;
                if outcome.kind == CommandKind::OpenAccount && outcome.reject.is_none() {
                    opened.push(outcome.id);
                }
            }
            self.users(store, &opened).await?;
        }
        self.next = below;
        self.is_over = below < from;
        Ok(())
    }

    fn take(&mut self, result: &StoredResult) -> Result<(), Error> {
        let (shard, outcome) = (self.shard, &result.outcome);
        let (at, before) = (outcome.position, self.last_result);
        if result.previous_position != before {
            let stored = result.previous_position;
            let message = match before {
                Position::NONE => format!(
                    "the log of shard {shard} does not reach back to its beginning, and neither \
                     does the journal: its first result, at {at}, has one before it, at {stored}"
                ),
                _ => format!(
                    "the journal of shard {shard} has a hole: the result at {at} has the one at \
                     {stored} before it, but in the journal {before} is before it"
                ),
            };
            return Err(match before {
                Position::NONE => Error::OutOfReach(message),
                _ => Error::Differs(message),
            });
        }
        self.commands += 1;
        self.last_result = at;
        self.applied.insert(outcome.id.sequence().0);
        self.applied_at = self.applied_at.max(outcome.applied_at);
        for entry in &result.entries {
            let balance = Balance {
                account: entry.account,
                asset: entry.asset,
                available: entry.available_after,
                frozen: entry.frozen_after,
                version: entry.version,
                last_position: at,
            };
            self.balances.insert((entry.account, entry.asset), balance);
        }
        let status = match outcome.kind {
            _ if outcome.reject.is_some() => return Ok(()),
            CommandKind::OpenAccount => {
                let account = Account {
                    id: outcome.account,
                    user: 0,
                    status: AccountStatus::Open,
                    opened_at: outcome.applied_at,
                };
                self.accounts.insert(account.id, account);
                return Ok(());
            }
            CommandKind::BlockAccount => AccountStatus::Blocked,
            CommandKind::UnblockAccount => AccountStatus::Open,
            CommandKind::CloseAccount => AccountStatus::Closed,
            _ => return Ok(()),
        };
        let Some(account) = self.accounts.get_mut(&outcome.account) else {
            let (id, account) = (outcome.id, outcome.account);
            return Err(Error::Differs(format!(
                "command {id} at {at} of the journal changes account {account}, which is not opened \
                 before it"
            )));
        };
        account.status = status;
        Ok(())
    }

    /// The owners of accounts stand in the commands that opened them.
    async fn users(&mut self, store: &Store, opened: &[CommandId]) -> Result<(), Error> {
        if opened.is_empty() {
            return Ok(());
        }
        for (id, stored) in opened.iter().zip(store.commands(opened).await?) {
            let Some(stored) = stored else {
                return Err(Error::Differs(format!(
                    "command {id} of the journal is not in table `command`"
                )));
            };
            if let Some(account) = self.accounts.get_mut(&stored.command.account) {
                account.user = stored.command.user;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<Begin, Error> {
        let balances = self.balances.values().map(hash::of_balance);
        let accounts = self.accounts.values().map(hash::of_account);
        let state_hash = balances.chain(accounts).fold(0, u128::wrapping_add);
        let mut engine = Engine::new(Start {
            shard: self.shard,
            applied: self.applied,
            applied_at: self.applied_at,
            passed_at: Timestamp(0),
            state_hash,
        });
        for &(account, asset) in self.balances.keys() {
            let clearing = || Account {
                id: account,
                user: 0,
                status: AccountStatus::Open,
                opened_at: Timestamp(0),
            };
            if account.clearing_shard().is_some() {
                self.accounts.entry(account).or_insert_with(clearing);
            } else if !self.accounts.contains_key(&account) {
                return Err(Error::Differs(format!(
                    "the journal has entries of account {account}, asset {asset}, which it does \
                     not open"
                )));
            }
        }
        for account in self.accounts.values() {
            let of = (account.id, AssetId(0))..=(account.id, AssetId(u32::MAX));
            let balances: Vec<Balance> = self.balances.range(of).map(|(_, it)| *it).collect();
            engine.install(*account, &balances);
        }
        Ok(Begin {
            engine,
            next: self.next,
            last_result: self.last_result,
            from_journal: Some(self.commands),
            is_over: self.is_over,
        })
    }
}
