//! What the clients of a run send: commands from a seed, each with what it would do to the total of
//! its assets. Pure; knows nothing of servers or faults.

use std::{collections::VecDeque, sync::Arc};

use super::ground::ASSETS;
use crate::core::{
    command::{CommandKind, amount},
    proto::{Change, Command, CommandResult, Fallback},
    types::{AccountId, Money},
    workload::random::Random,
};

/// Service name of the commands.
pub const SOURCE: &str = "axs.chaos";
/// Of every asset, in its minor units, in an account's opening balances.
const OPENING: i128 = 1_000_000;
/// Decided commands kept for sending them again, or reversing them.
const RECENT_MAX: usize = 256;
/// Accounts that a client opens beside those that were there from the start: the model that the
/// log is replayed on is slow with many.
const OPENS_MAX: u64 = 16;

/// Sums of minor units, one for each asset.
pub type Net = [i128; ASSETS.len()];

/// A command with what it does to the totals once it is applied.
#[derive(Clone, Debug)]
pub struct Planned {
    /// To send.
    pub command: Command,
    /// Of its account.
    pub shard: u16,
    /// Where it takes what it tries first ...
    pub net: Net,
    /// ... and where it takes its fallback.
    pub net_of_fallback: Net,
}

impl Planned {
    /// What it did to the totals, by its result.
    pub fn net_of(&self, result: &CommandResult) -> Net {
        match result.entries.iter().any(|entry| entry.fallback) {
            true => self.net_of_fallback,
            false => self.net,
        }
    }
}

/// Accounts by shard; the same for all clients.
pub type Accounts = Arc<Vec<Vec<u64>>>;

/// Accounts `1 ..= count`, by the shard that they go to.
pub fn accounts(count: u64, shards: u16) -> Accounts {
    let mut by_shard = vec![Vec::new(); usize::from(shards)];
    for account in 1..=count {
        by_shard[usize::from(shard_of(account, shards))].push(account);
    }
    Arc::new(by_shard)
}

/// Where an account that is not pinned goes.
pub fn shard_of(account: u64, shards: u16) -> u16 {
    AccountId(account).default_shard(shards).0
}

/// One client's commands.
pub struct Plan {
    random: Random,
    client: u64,
    shards: u16,
    accounts: Accounts,
    /// Number of the next command, part of its key.
    number: u64,
    opened: u64,
    recent: VecDeque<(u64, Planned)>,
}

impl Plan {
    /// Of one client, by its number; there is an account at least.
    pub fn new(seed: u64, client: u64, accounts: Accounts) -> Self {
        let mut random = Random::new(seed ^ client.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Streams of neighbouring seeds start alike: the first numbers are left out.
        random.next();
        Self {
            random,
            client,
            shards: u16::try_from(accounts.len()).expect("at most 1,024 shards"),
            accounts,
            number: 0,
            opened: 0,
            recent: VecDeque::new(),
        }
    }

    /// The opening of an account.
    pub fn open(&mut self, account: u64) -> Planned {
        let changes: Vec<(usize, i128, i128)> =
            (0..ASSETS.len()).map(|asset| (asset, OPENING, 0)).collect();
        let mut planned = self.planned(account, CommandKind::OpenAccount, &changes);
        planned.command.user_id = account;
        planned
    }

    /// The next command.
    pub fn next(&mut self) -> Planned {
        let accounts = Arc::clone(&self.accounts);
        let some: Vec<&Vec<u64>> = accounts.iter().filter(|of| !of.is_empty()).collect();
        let of_shard = some[self.random.below(some.len() as u64) as usize];
        let account = self.pick(of_shard);
        let other = self.pick(of_shard);
        let asset = self.random.below(ASSETS.len() as u64) as usize;
        let x = i128::from(self.random.between(1, 5_000));
        match self.random.below(100) {
            0..=17 => self.change(account, &[(asset, x, 0)]),
            18..=31 => self.change(account, &[(asset, -x, 0)]),
            32..=48 => self.change(account, &[(asset, -x, x)]),
            49..=57 => self.change(account, &[(asset, x, -x)]),
            58..=65 => self.change(account, &[(asset, 0, -x)]),
            66..=79 => self.transfer(account, other, asset, x),
            80..=85 => self.exchange(account, asset, x),
            86..=92 => self.reverse().unwrap_or_else(|| self.open(account)),
            93..=95 => self.impossible(account, asset),
            96 => self.open_another(account),
            97 => self.planned(account, CommandKind::BlockAccount, &[]),
            _ => self.planned(account, CommandKind::UnblockAccount, &[]),
        }
    }

    /// One that was decided lately.
    pub fn repeat(&mut self) -> Option<(u64, Planned)> {
        let at = self.random.below(RECENT_MAX as u64) as usize;
        self.recent.get(at).cloned()
    }

    /// A key that was decided lately, with another body.
    pub fn conflict(&mut self) -> Option<Planned> {
        let (_, mut planned) = self.repeat()?;
        planned.command.reference = "another body".into();
        Some(planned)
    }

    /// What was decided lately, each under its id.
    pub fn recent(&self) -> impl Iterator<Item = &(u64, Planned)> {
        self.recent.iter()
    }

    /// Below `bound`, for whoever sends.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// A command is decided, under this id.
    pub fn decided(&mut self, id: u64, planned: Planned) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((id, planned));
    }

    fn pick(&mut self, accounts: &[u64]) -> u64 {
        accounts[self.random.below(accounts.len() as u64) as usize]
    }

    fn planned(
        &mut self,
        account: u64,
        kind: CommandKind,
        changes: &[(usize, i128, i128)],
    ) -> Planned {
        self.number += 1;
        let mut net = Net::default();
        for (asset, available, frozen) in changes {
            net[*asset] += available + frozen;
        }
        let command = Command {
            idempotency_key: format!("{}-{}", self.client, self.number),
            source: SOURCE.into(),
            account_id: account,
            kind: kind.into(),
            changes: changes.iter().map(change).collect(),
            ..Command::default()
        };
        Planned {
            command,
            shard: shard_of(account, self.shards),
            net,
            net_of_fallback: Net::default(),
        }
    }

    fn change(&mut self, account: u64, changes: &[(usize, i128, i128)]) -> Planned {
        self.planned(account, CommandKind::Change, changes)
    }

    fn transfer(&mut self, from: u64, to: u64, asset: usize, x: i128) -> Planned {
        let mut planned = self.planned(
            from,
            CommandKind::Transfer,
            &[(asset, -x, 0), (asset, x, 0)],
        );
        planned.command.changes[1].account_id = to;
        planned
    }

    /// Sells one asset for another, and a third one where the first does not suffice.
    fn exchange(&mut self, account: u64, asset: usize, x: i128) -> Planned {
        let (bought, instead) = ((asset + 1) % ASSETS.len(), (asset + 2) % ASSETS.len());
        // Large, so that funds run short now and then.
        let x = x * 40;
        let mut planned = self.change(account, &[(asset, -x, 0), (bought, x, 0)]);
        planned.net_of_fallback[instead] -= x;
        planned.net_of_fallback[bought] += x;
        planned.command.changes[0].fallback = Some(Fallback {
            asset: ASSETS[instead].0.into(),
            available_delta: text(instead, -x),
            frozen_delta: String::new(),
        });
        planned
    }

    /// The inverse of a change or transfer that was decided lately; nothing is asked about it.
    fn reverse(&mut self) -> Option<Planned> {
        let (target, of_target) = self.repeat()?;
        let kind = of_target.command.kind();
        if !matches!(kind, CommandKind::Change | CommandKind::Transfer) {
            return None;
        }
        // Which of its moves was taken only the result says: what is sent must be known before.
        if of_target.net_of_fallback != Net::default() {
            return None;
        }
        let account = of_target.command.account_id;
        let mut planned = self.planned(account, CommandKind::Reverse, &[]);
        planned.command.reverses = target;
        planned.net = of_target.net.map(|net| -net);
        Some(planned)
    }

    /// More than anybody has.
    fn impossible(&mut self, account: u64, asset: usize) -> Planned {
        self.change(account, &[(asset, -OPENING * 1_000_000, 0)])
    }

    fn open_another(&mut self, account: u64) -> Planned {
        if self.opened == OPENS_MAX {
            return self.open(account);
        }
        self.opened += 1;
        let account = 1 << 40 | self.client << 20 | self.opened;
        self.open(account)
    }
}

fn change((asset, available, frozen): &(usize, i128, i128)) -> Change {
    Change {
        asset: ASSETS[*asset].0.into(),
        available_delta: text(*asset, *available),
        frozen_delta: text(*asset, *frozen),
        ..Change::default()
    }
}

/// Minor units as the API takes them; zero is left out.
fn text(asset: usize, minor_units: i128) -> String {
    let money = Money::new(minor_units).expect("amounts of a run are small");
    match money {
        Money::ZERO => String::new(),
        money => amount::format(money, ASSETS[asset].1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(seed: u64) -> Vec<Command> {
        let mut plan = Plan::new(seed, 1, accounts(40, 4));
        let mut commands = Vec::new();
        for id in 1..2_000 {
            let planned = plan.next();
            commands.push(planned.command.clone());
            plan.decided(id, planned);
        }
        commands
    }

    #[test]
    fn a_seed_is_a_stream_with_every_kind() {
        assert_eq!(commands(1), commands(1));
        assert_ne!(commands(1), commands(2));
        for kind in [
            CommandKind::Change,
            CommandKind::Transfer,
            CommandKind::OpenAccount,
            CommandKind::BlockAccount,
            CommandKind::UnblockAccount,
            CommandKind::Reverse,
        ] {
            assert!(commands(1).iter().any(|it| it.kind() == kind), "{kind:?}");
        }
    }

    #[test]
    fn transfers_stay_in_their_shard_and_sum_to_zero() {
        let mut plan = Plan::new(5, 1, accounts(40, 4));
        for _ in 0..2_000 {
            let planned = plan.next();
            if planned.command.kind() == CommandKind::Transfer {
                assert_eq!(planned.net, Net::default());
                let other = planned.command.changes[1].account_id;
                assert_eq!(shard_of(other, 4), planned.shard);
            }
        }
    }
}
