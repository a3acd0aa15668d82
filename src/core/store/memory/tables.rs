//! The rows of the in-memory store, its registry of assets, routes and members.

use std::{collections::BTreeMap, time::Duration};

use super::{super::Error, journal::Journal};
use crate::core::{
    assets::{Asset, Assets, SCALE_MAX, is_valid_code},
    clock::micros,
    command::Command,
    engine::{Account, Balance},
    interval_set::IntervalSet,
    store::{DeadLetter, DeadLetterReason, Member},
    types::{
        AccountId, Anchor, AssetId, CommandId, ContentHash, Epoch, KeyHash, Nonce, Position,
        Sequence, ShardId, Timestamp,
    },
};

/// All tables: a plain value. Each method is one statement, all or nothing.
#[derive(Clone)]
pub struct Tables {
    pub(super) assets: Assets,
    pub(super) idempotency: BTreeMap<KeyHash, (CommandId, ContentHash)>,
    pub(super) routes: BTreeMap<AccountId, ShardId>,
    pub(super) commands: BTreeMap<CommandId, Command>,
    /// By the number of the nonce.
    pub(super) blocks: BTreeMap<i64, Block>,
    pub(super) members: BTreeMap<String, Seen>,
    /// Why a command is parked, by a dead letter of its own shard or of another.
    pub(super) parked: BTreeMap<CommandId, String>,
    /// By shard number.
    pub(super) shards: Vec<Shard>,
}

/// A lease on sequence numbers.
#[derive(Clone)]
pub(super) struct Block {
    pub shard: ShardId,
    pub first: Sequence,
    pub last: Sequence,
    pub leased_at: Timestamp,
    pub open: bool,
}

/// When a member was there last.
#[derive(Clone)]
pub(super) struct Seen {
    pub draining: bool,
    pub at: Timestamp,
}

/// One shard: its row, and its part of the tables that are partitioned by shard.
#[derive(Clone)]
pub(super) struct Shard {
    pub epoch: Epoch,
    pub nonce: Nonce,
    pub leader: String,
    pub lease_until: Timestamp,
    pub next_position: Position,
    pub published_to: Position,
    pub last_result: Position,
    pub anchor: Option<Anchor>,
    pub applied: IntervalSet,
    pub applied_at: Timestamp,
    pub passed_at: Timestamp,
    pub state_hash: u128,
    pub paused_by: Option<String>,
    pub interventions: u64,
    pub recovered_epoch: Epoch,
    /// Told by the log file: a leader does not apply these.
    pub parked: BTreeMap<Position, DeadLetterReason>,
    /// The first sequence number that was never leased.
    pub sequence_next: u64,
    /// Sequence numbers that have a command.
    pub numbers: IntervalSet,
    pub accounts: BTreeMap<AccountId, Account>,
    pub balances: BTreeMap<(AccountId, AssetId), Balance>,
    pub journal: Journal,
    /// Target to REVERSE.
    pub reversals: BTreeMap<CommandId, CommandId>,
    pub dead_letters: BTreeMap<Position, DeadLetter>,
}

impl Shard {
    fn new() -> Self {
        Self {
            epoch: Epoch(0),
            nonce: Nonce(0),
            leader: String::new(),
            lease_until: Timestamp(0),
            next_position: Position::ZERO,
            published_to: Position::ZERO,
            last_result: Position::NONE,
            anchor: None,
            applied: IntervalSet::new(),
            applied_at: Timestamp(0),
            passed_at: Timestamp(0),
            state_hash: 0,
            paused_by: None,
            interventions: 0,
            recovered_epoch: Epoch(0),
            parked: BTreeMap::new(),
            sequence_next: 1,
            numbers: IntervalSet::new(),
            accounts: BTreeMap::new(),
            balances: BTreeMap::new(),
            journal: Journal::default(),
            reversals: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
        }
    }

    /// All balances of one account, by asset id.
    pub fn balances_of(&self, account: AccountId) -> impl Iterator<Item = Balance> + '_ {
        let range = (account, AssetId(0))..=(account, AssetId(u32::MAX));
        self.balances.range(range).map(|(_, &balance)| balance)
    }
}

impl Tables {
    /// The tables of a cluster with so many shards, in which nothing happened yet.
    pub fn new(shards: u16, assets: Assets) -> Self {
        assert!(shards > 0, "a cluster has a shard");
        Self {
            assets,
            idempotency: BTreeMap::new(),
            routes: BTreeMap::new(),
            commands: BTreeMap::new(),
            blocks: BTreeMap::new(),
            members: BTreeMap::new(),
            parked: BTreeMap::new(),
            shards: (0..shards).map(|_| Shard::new()).collect(),
        }
    }

    /// The number of shards.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("made from a u16")
    }

    /// All assets.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Adds an asset, or returns the one that stands.
    pub fn add_asset(&mut self, code: &str, scale: u8) -> Result<Asset, Error> {
        if let Some(asset) = self.assets.by_code(code) {
            if asset.scale == scale {
                return Ok(asset.clone());
            }
            return Err(Error::Mismatch(format!(
                "asset `{code}` stands with scale {}, and a scale never changes",
                asset.scale
            )));
        }
        if !is_valid_code(code) || scale > SCALE_MAX {
            return Err(Error::Refused(format!(
                "asset `{code}` with scale {scale}: a code is 1 to 16 of A-Z, 0-9, `.`, `_`, `-`, \
                 a scale is 0 to {SCALE_MAX}"
            )));
        }
        let last = self.assets.iter().last().map_or(0, |asset| asset.id.0);
        let asset = Asset {
            id: AssetId(last + 1),
            code: code.to_owned(),
            scale,
        };
        let all = self.assets.iter().cloned().chain([asset.clone()]);
        self.assets = all.collect();
        Ok(asset)
    }

    /// The shard of each account that has a route.
    pub fn routes(&self, accounts: &[AccountId]) -> Vec<Option<ShardId>> {
        let route = |account| self.routes.get(account).copied();
        accounts.iter().map(route).collect()
    }

    /// Notes that a process is there and lists those seen within `seen_within`, by name.
    pub fn beat(&mut self, now: Timestamp, member: &Member, seen_within: Duration) -> Vec<Member> {
        let seen = Seen {
            draining: member.draining,
            at: now,
        };
        self.members.insert(member.name.clone(), seen);
        let since = now.plus_micros(-micros(seen_within));
        let recent = self.members.iter().filter(|(_, seen)| seen.at >= since);
        recent
            .map(|(name, seen)| Member {
                name: name.clone(),
                draining: seen.draining,
            })
            .collect()
    }

    /// Forgets a process.
    pub fn leave(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// Why a command is parked, unless it was applied since.
    pub(super) fn parked_reason(&self, id: CommandId) -> Option<&String> {
        let reason = self.parked.get(&id)?;
        let shard = self.shard(id.shard()).ok()?;
        (!shard.applied.contains(id.sequence().0)).then_some(reason)
    }

    pub(super) fn shard(&self, shard: ShardId) -> Result<&Shard, Error> {
        let found = self.shards.get(usize::from(shard.0));
        found.ok_or_else(|| no_shard(shard, self.shards.len()))
    }

    pub(super) fn shard_mut(&mut self, shard: ShardId) -> Result<&mut Shard, Error> {
        let count = self.shards.len();
        let found = self.shards.get_mut(usize::from(shard.0));
        found.ok_or_else(|| no_shard(shard, count))
    }

    /// Every shard with its id.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        (0..).map(ShardId).zip(&self.shards)
    }
}

fn no_shard(shard: ShardId, count: usize) -> Error {
    Error::Mismatch(format!(
        "there is no shard {shard}: the cluster has {count}"
    ))
}
