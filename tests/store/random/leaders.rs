//! Leaders: the current one of each shard, those that lost it, and flushes that do not fit.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axs::core::{
    command::{Command, CommandKind, Move},
    engine::Reject,
    proto::RejectCode,
    store::{BalanceWrite, DeadLetterReason, Flush, Flushed, LoadRequest},
    types::{AccountId, AssetId, CommandId, Money, Nonce, Position, ShardId, Timestamp},
};

use super::{ACCOUNTS, LONG, World, same};
use crate::ledger::Leader;

/// Leaders that are remembered, the lost ones included.
const LEADERS_MAX: usize = 5;

/// A leader and what it knows.
pub struct Leading {
    leader: Leader,
    shard: ShardId,
    nonce: Nonce,
    opened: BTreeSet<AccountId>,
    applied: axs::core::interval_set::IntervalSet,
    /// Sent before.
    last: Option<Flush>,
}

impl World {
    /// Most leases end at once, so that others get their turn.
    fn ttl(&mut self) -> Duration {
        if self.random.once_in(4) {
            LONG
        } else {
            Duration::ZERO
        }
    }

    pub async fn acquire(&mut self) {
        let shard = self.random.shard();
        let recent = self.nonces.len().saturating_sub(3);
        let mine = self.random.pick(&self.nonces[recent..]).copied();
        let (nonce, ttl) = (self.random.nonce(), self.ttl());
        self.trace.push(format!("acquire {shard} for {ttl:?}"));
        let one = self.one.acquire(shard, mine, nonce, ttl).await;
        let other = self.other.acquire(shard, mine, nonce, ttl).await;
        same(&self.trace, "taken over", &one, &other);
        let Ok(Some(state)) = one else { return };
        self.nonces.push(nonce);

        let request = LoadRequest {
            accounts: accounts(shard),
            targets: self.some_ids(3),
            hashes: self.some_ids(3),
            accepted: self.some_ids(3),
        };
        let mut one = self.one.store.load(shard, &request).await;
        let mut other = self.other.store.load(shard, &request).await;
        for loaded in [&mut one, &mut other].into_iter().flatten() {
            loaded.accounts.sort_by_key(|account| account.id);
            loaded
                .balances
                .sort_by_key(|balance| (balance.account, balance.asset));
            loaded.targets.sort_by_key(|target| target.id);
            loaded.targets.dedup();
            loaded.hashes.sort();
            loaded.hashes.dedup();
            loaded.accepted.sort();
            loaded.accepted.dedup();
        }
        same(&self.trace, &format!("load of {shard}"), &one, &other);
        let loaded = one.expect("both loaded");
        let mut leader = Leader::of(&state);
        for balance in loaded.balances {
            leader
                .balances
                .insert((balance.account, balance.asset), balance);
        }
        self.leading.push(Leading {
            leader,
            shard,
            nonce,
            opened: loaded.accounts.iter().map(|account| account.id).collect(),
            applied: state.applied,
            last: None,
        });
        if self.leading.len() > LEADERS_MAX {
            self.leading.remove(0);
        }
    }

    fn some_ids(&mut self, count: u64) -> Vec<CommandId> {
        let ids: Vec<_> = self
            .accepted
            .iter()
            .filter_map(|command| command.id)
            .collect();
        (0..count)
            .filter_map(|_| self.random.pick(&ids).copied())
            .collect()
    }

    /// The last one mostly; an old one at times.
    fn some_leader(&mut self) -> Option<usize> {
        let last = self.leading.len().checked_sub(1)?;
        if self.random.once_in(6) {
            return usize::try_from(self.random.below(last as u64 + 1)).ok();
        }
        Some(last)
    }

    /// Renews, publishes or releases.
    pub async fn hold(&mut self) {
        let Some(index) = self.some_leader() else {
            return;
        };
        let (shard, nonce) = (self.leading[index].shard, self.leading[index].nonce);
        let epoch = self.leading[index].leader.flush.epoch;
        let (one, other) = (&self.one.store, &self.other.store);
        let what = self.random.below(3);
        self.trace
            .push(format!("hold {shard} under {epoch}: {what}"));
        let (one, other) = match what {
            0 => {
                let ttl = if self.random.once_in(4) {
                    LONG
                } else {
                    Duration::ZERO
                };
                let one = one.renew(shard, epoch, nonce, ttl).await;
                (one, other.renew(shard, epoch, nonce, ttl).await)
            }
            1 => {
                let to = Position(self.random.below(100).cast_signed());
                let one = one.mark_published(shard, epoch, nonce, to).await;
                (one, other.mark_published(shard, epoch, nonce, to).await)
            }
            _ => {
                let one = one.release(shard, epoch, nonce).await;
                (one, other.release(shard, epoch, nonce).await)
            }
        };
        same(&self.trace, "held", &one, &other);
    }

    /// A flush of some commands; or the last one again; or a spoilt one.
    pub async fn flush(&mut self) {
        let Some(index) = self.some_leader() else {
            return;
        };
        let mut leading = self.leading.remove(index);
        let again = self.random.once_in(10);
        let mut flush = match leading.last.clone().filter(|_| again) {
            Some(last) => last,
            None => self.fill(&mut leading),
        };
        let spoilt = self.random.once_in(8).then(|| self.spoil(&mut flush));
        let ttl = self.ttl();
        self.trace.push(format!(
            "flush {} under {} from {} to {}, ids {}, again: {again}, {spoilt:?}",
            flush.shard, flush.epoch, flush.from, flush.to, flush.applied
        ));
        let one = self.one.flush(&flush, ttl).await;
        let other = self.other.flush(&flush, ttl).await;
        same(&self.trace, "flushed", &one, &other);
        match &one {
            Ok(Flushed::Done) => {
                self.answered("done");
                let after = |end| move |write: &BalanceWrite| write.balance.available == end;
                for (answer, end) in [("greatest", Money::MAX), ("least", Money::MIN)] {
                    if flush.balances.iter().any(after(end)) {
                        self.answered(answer);
                    }
                }
            }
            Ok(Flushed::Already) => self.answered("already"),
            Err(error) => self.failed(error),
        }
        // A leader whose flush was refused has a memory that is not the store's, and drops it.
        // Some stay, as if they did not know it yet: what they send must do no harm.
        if matches!(one, Ok(Flushed::Done)) && spoilt.is_none() {
            leading.applied.extend(&flush.applied);
            leading.last = Some(flush);
            self.leading.insert(index, leading);
        } else if matches!(one, Ok(Flushed::Already)) || self.random.once_in(3) {
            self.leading.insert(index, leading);
        }
    }

    fn fill(&mut self, leading: &mut Leading) -> Flush {
        for _ in 0..=self.random.below(4) {
            let next = self.accepted.iter();
            let gathered = &leading.leader.flush.applied;
            let fits = |command: &&Command| {
                let id = command.id.expect("accepted");
                let number = id.sequence().0;
                let fresh = !leading.applied.contains(number) && !gathered.contains(number);
                id.shard() == leading.shard && fresh
            };
            let command = next
                .filter(fits)
                .nth(self.random.once_in(4).into())
                .cloned();
            match (self.random.below(13), command) {
                (0, _) => leading.leader.tick(Timestamp(self.tick())),
                (1, _) => {
                    let first = self.random.below(120) + 1;
                    seal(leading, first, first + self.random.below(3));
                }
                (2, _) => {
                    leading
                        .leader
                        .dead_letter(DeadLetterReason::Undecodable, None);
                }
                (3, Some(command)) => {
                    leading
                        .leader
                        .dead_letter(DeadLetterReason::EnginePanic, command.id);
                }
                (4, Some(command)) => self.reverse(leading, &command),
                (5, Some(command)) => self.go_to_an_end(leading, &command),
                (_, Some(command)) => happen(leading, &command),
                (_, None) => {
                    leading.leader.consume();
                }
            }
        }
        Arc::unwrap_or_clone(leading.leader.take())
    }

    /// A label near the acceptance of some group.
    fn tick(&mut self) -> i64 {
        match self.one.groups() {
            0 => 0,
            groups => (4 * self.random.below(groups) + 1 + self.random.below(3)).cast_signed(),
        }
    }

    /// A target at random: reversed twice at times, which is a conflict.
    fn reverse(&mut self, leading: &mut Leading, by: &Command) {
        let ids = self.some_ids(1);
        let target = ids.into_iter().find(|id| id.shard() == leading.shard);
        let taken = |target| {
            let reversals = &leading.leader.flush.reversals;
            reversals.iter().any(|reversal| reversal.target == target)
        };
        match target {
            Some(target) if !taken(target) => leading.leader.reverse(target, by),
            _ => happen(leading, by),
        }
    }

    /// To the last amount that a balance can have, or away from it.
    fn go_to_an_end(&mut self, leading: &mut Leading, command: &Command) {
        let clearing = AccountId::clearing(leading.shard);
        let (account, least) = match self.random.once_in(2) {
            true => (clearing, Money::MIN),
            false => (command.account, Money::ZERO),
        };
        let asset = AssetId(u32::try_from(self.random.below(2)).expect("small") + 1);
        let stands = leading.leader.balances.get(&(account, asset));
        let stands = stands.map_or(Money::ZERO, |balance| balance.available);
        let ends = [Money::MAX, least, Money::ZERO];
        let end = *self.random.pick(&ends).expect("there are some");
        // From one end to the other is further than a delta goes: half the way then.
        let delta = end
            .checked_add(stands.negated())
            .unwrap_or(stands.negated());
        let change = Move {
            asset,
            available_delta: delta,
            frozen_delta: Money::ZERO,
        };
        let position = leading.leader.outcome(command, None);
        leading.leader.entries(position, &[(account, change)]);
    }

    /// What makes it not fit. One thing only: which of two is noticed is not promised.
    fn spoil(&mut self, flush: &mut Flush) -> &'static str {
        match (self.random.below(9), flush.balances.first_mut()) {
            (0, _) => {
                flush.nonce = Nonce(flush.nonce.0.wrapping_add(1));
                "nonce"
            }
            (1, _) => {
                flush.epoch.0 += 1;
                "epoch"
            }
            (2, _) => {
                flush.applied.insert(1);
                "a number more"
            }
            (3..6, Some(write)) => {
                write.expected_version += 1;
                "version"
            }
            (6..8, Some(write)) => {
                write.balance.frozen = Money::from(-1);
                "below the floor"
            }
            _ => {
                flush.published_to = Position(flush.to.0);
                "published"
            }
        }
    }
}

/// What a leader loads: all of them.
fn accounts(shard: ShardId) -> Vec<AccountId> {
    let clearing = [AccountId::clearing(shard)];
    (1..=ACCOUNTS).map(AccountId).chain(clearing).collect()
}

/// Numbers that were not applied, as the leader knows.
fn seal(leading: &mut Leading, first: u64, last: u64) {
    leading.leader.consume();
    for (first, last) in leading.applied.gaps(first, last) {
        leading.leader.flush.applied.insert_range(first, last);
    }
}

/// Whether every sum stays an amount.
fn fits(leading: &Leading, command: &Command) -> bool {
    command.changes.iter().all(|change| {
        let stands = (leading.leader.balances).get(&(change.account, change.primary.asset));
        stands.is_none_or(|balance| {
            let sum = balance
                .available
                .checked_add(change.primary.available_delta);
            sum.is_some()
        })
    })
}

/// OPEN of a new account opens it, a CHANGE is applied mostly; the rest is rejected. What the rules
/// would say of it is not the store's business.
fn happen(leading: &mut Leading, command: &Command) {
    let known = leading.opened.contains(&command.account);
    match (command.kind, known) {
        (CommandKind::OpenAccount, false) => {
            leading.opened.insert(command.account);
            leading.leader.open(command);
        }
        (CommandKind::Change, _) if command.idempotency_key.len() > 2 && fits(leading, command) => {
            leading.leader.apply(command);
        }
        _ => {
            let reject = Reject {
                code: RejectCode::AccountNotFound,
                leg: 0,
                account: command.account,
                asset: None,
                had: Money::ZERO,
                needed: Money::ZERO,
            };
            leading.leader.outcome(command, Some(reject));
        }
    }
}
