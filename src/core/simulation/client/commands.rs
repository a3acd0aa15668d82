//! What clients send: commands of every kind on a few accounts, most of them sensible.

use super::{super::world::World, Client, REFUSED};
use crate::core::{
    canary::PANICS,
    command::{Change, Command, CommandKind, Move, hash},
    types::{AccountId, AssetId, ContentHash, Money, ShardId, Timestamp},
};

impl Client {
    pub(super) fn twin_of(&mut self, command: &Command) -> Command {
        let mut twin = command.clone();
        if self.random.below(2) == 0 {
            twin.user += 1;
            twin.content_hash = hash::content_hash(&twin);
        }
        twin
    }

    pub(super) fn command(&mut self, world: &World) -> Command {
        let kind = match self.random.below(100) {
            _ if self.operations <= 2 => CommandKind::OpenAccount,
            0..50 => CommandKind::Change,
            50..62 => CommandKind::Transfer,
            62..72 => CommandKind::OpenAccount,
            72..76 => CommandKind::BlockAccount,
            76..80 => CommandKind::UnblockAccount,
            80..82 => CommandKind::CloseAccount,
            _ => CommandKind::Reverse,
        };
        let account = self.account(world);
        let mut command = Command {
            id: None,
            content_hash: ContentHash([0; 16]),
            source: "simulation".into(),
            idempotency_key: format!("{}-{}", self.number, self.operations).into(),
            account,
            kind,
            changes: Vec::new().into(),
            reference: String::new().into(),
            created_at: None,
            accepted_at: Timestamp(0),
            user: 0,
            reverses: None,
            ack: None,
            pin: None,
        };
        match kind {
            CommandKind::OpenAccount => {
                let funds = i64::try_from(self.random.below(1_000)).expect("a small number");
                command.changes = vec![self.change(account, funds, 0)].into();
            }
            CommandKind::Change => {
                for _ in 0..1 + self.random.below(2) {
                    let (available, frozen) = self.deltas();
                    let change = self.change(account, available, frozen);
                    command.changes.push(change);
                }
            }
            CommandKind::Transfer => {
                let other = self.neighbour(world, account);
                let amount = i64::try_from(self.random.below(300)).expect("a small number");
                let asset = AssetId(1 + self.random.below(2) as u32);
                command.changes = vec![
                    one(account, asset, -amount, 0),
                    one(other, asset, amount, 0),
                ]
                .into();
            }
            CommandKind::Reverse => match self.known.last().copied() {
                Some(last) => {
                    // A recent one, most of the time: it may not be flushed yet.
                    let back = self.random.below(3) as usize;
                    let (id, account) = self.known.iter().rev().nth(back).copied().unwrap_or(last);
                    command.account = account;
                    command.reverses = Some(id);
                }
                None => command.kind = CommandKind::UnblockAccount,
            },
            _ => {}
        }
        match self.random.below(300) {
            0 => command.reference = PANICS.into(),
            1 => command.reference = REFUSED.into(),
            _ => {}
        }
        command.content_hash = hash::content_hash(&command);
        command
    }

    fn account(&mut self, world: &World) -> AccountId {
        AccountId(1 + self.random.below(world.profile.accounts))
    }

    /// Another account of the same shard, or the same.
    fn neighbour(&mut self, world: &World, account: AccountId) -> AccountId {
        let shards = world.profile.shards;
        let shard: ShardId = account.default_shard(shards);
        let first = self.random.below(world.profile.accounts);
        let mut others = (0..world.profile.accounts)
            .map(|offset| AccountId(1 + (first + offset) % world.profile.accounts));
        let is_near = |other: &AccountId| *other != account && other.default_shard(shards) == shard;
        others.find(is_near).unwrap_or(account)
    }

    fn deltas(&mut self) -> (i64, i64) {
        let amount = i64::try_from(self.random.below(200)).expect("a small number");
        match self.random.below(5) {
            0 => (amount, 0),
            1 => (-amount, 0),
            2 => (-amount, amount),
            3 => (amount, -amount),
            _ => (0, -amount),
        }
    }

    fn change(&mut self, account: AccountId, available: i64, frozen: i64) -> Change {
        let asset = AssetId(1 + self.random.below(2) as u32);
        let fallback = (self.random.below(5) == 0).then(|| Move {
            asset: AssetId(3 - asset.0),
            available_delta: Money::from(available),
            frozen_delta: Money::from(frozen),
        });
        Change {
            fallback,
            ..one(account, asset, available, frozen)
        }
    }
}

fn one(account: AccountId, asset: AssetId, available: i64, frozen: i64) -> Change {
    Change {
        account,
        primary: Move {
            asset,
            available_delta: Money::from(available),
            frozen_delta: Money::from(frozen),
        },
        fallback: None,
        if_version: None,
        if_min_available: None,
    }
}
