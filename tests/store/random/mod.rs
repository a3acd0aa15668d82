//! Random sequences of statements of several writers and leaders, old and spoilt ones among them:
//! two stores must give the same answers to all of them.
//!
//! `AXS_TEST_STORE_SEQUENCES` is how many sequences run, of `AXS_TEST_STORE_STATEMENTS` each, and
//! `AXS_TEST_STORE_SEED` where they start.

mod leaders;
mod side;
mod writers;

use std::{collections::BTreeMap, mem::discriminant, time::Duration};

use axs::core::{
    command::Command,
    store::{Error, HistoryQuery, Store},
    types::{AccountId, AssetId, CommandId, Nonce, Position, Sequence, ShardId},
};

use leaders::Leading;
use side::Side;

/// Statements of one sequence when nothing else is said.
const STATEMENTS: u64 = 500;
/// Sequences when nothing else is said.
const SEQUENCES: u64 = 8;
/// Accounts, from 1.
const ACCOUNTS: u64 = 8;
/// A lease that outlives the test.
const LONG: Duration = Duration::from_secs(3_600);

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn shard(&mut self) -> ShardId {
        ShardId(u16::try_from(self.below(2)).expect("two shards are enough"))
    }

    pub fn nonce(&mut self) -> Nonce {
        Nonce(self.next().cast_signed())
    }

    /// At most `end`, which may be 0.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = self.below((from.len() as u64).max(1));
        from.get(usize::try_from(index).expect("an index"))
    }
}

/// Both stores, and what the sequence knows of what it did.
pub struct World {
    pub random: Random,
    pub one: Side,
    pub other: Side,
    /// Blocks with the next number of each, open or not.
    pub blocks: Vec<(ShardId, Nonce, u64, u64)>,
    pub accepted: Vec<Command>,
    pub leading: Vec<Leading>,
    /// Of all take-overs.
    pub nonces: Vec<Nonce>,
    /// For a failure.
    pub trace: Vec<String>,
    /// How often each kind of answer was given.
    pub answers: Answers,
}

/// Of acceptance and flushes.
pub type Answers = BTreeMap<&'static str, u64>;

/// What the sequences must have met, so that equal answers say something.
pub const ANSWERS: [&str; 14] = [
    "accepted",
    "already",
    "block closed",
    "conflict",
    "done",
    "duplicate",
    "fenced",
    "greatest",
    "key unknown",
    "least",
    "number taken",
    "other content",
    "refused",
    "routed",
];

/// Runs one sequence on a pair of empty stores.
pub async fn compare(seed: u64, one: Store, other: Store) -> Answers {
    let mut world = World {
        random: Random(seed),
        one: Side::new(one),
        other: Side::new(other),
        blocks: Vec::new(),
        accepted: Vec::new(),
        leading: Vec::new(),
        nonces: Vec::new(),
        trace: vec![format!("seed {seed}")],
        answers: Answers::new(),
    };
    for _ in 0..number("AXS_TEST_STORE_STATEMENTS", STATEMENTS) {
        world.step().await;
    }
    for shard in [ShardId(0), ShardId(1)] {
        world
            .read_shard(shard, Position::ZERO, usize::MAX / 4)
            .await;
    }
    world.answers
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("`{name}` is no number: `{text}`")),
        Err(_) => default,
    }
}

/// The seeds to run.
pub fn seeds() -> std::ops::Range<u64> {
    let first = number("AXS_TEST_STORE_SEED", 1);
    first..first + number("AXS_TEST_STORE_SEQUENCES", SEQUENCES)
}

/// Equal, or the same kind of error.
pub fn same<T: PartialEq + std::fmt::Debug>(
    trace: &[String],
    what: &str,
    one: &Result<T, Error>,
    other: &Result<T, Error>,
) {
    let equal = match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => discriminant(one) == discriminant(other),
        _ => false,
    };
    let last = trace
        .iter()
        .rev()
        .take(12)
        .rev()
        .cloned()
        .collect::<Vec<_>>();
    assert!(
        equal,
        "{}\n{}\n{what}:\n  {one:?}\n  {other:?}",
        trace[0],
        last.join("\n")
    );
}

impl World {
    /// Counts an answer.
    pub fn answered(&mut self, answer: &'static str) {
        *self.answers.entry(answer).or_default() += 1;
    }

    /// Counts an error.
    pub fn failed(&mut self, error: &Error) {
        self.answered(match error {
            Error::BlockClosed(_) => "block closed",
            Error::Conflict(_) => "conflict",
            Error::Fenced(_) => "fenced",
            Error::NumberTaken(_) => "number taken",
            Error::Refused(_) => "refused",
            error => panic!("both stores failed: {error}\n{}", self.trace.join("\n")),
        });
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..8 => self.lease_block().await,
            8..36 => self.accept().await,
            36..38 => self.close_blocks().await,
            38..39 => self.close_old_blocks().await,
            39..50 => self.acquire().await,
            50..55 => self.hold().await,
            55..78 => self.flush().await,
            78..84 => self.view().await,
            84..92 => self.read_history().await,
            92..96 => {
                let from = Position(self.random.below(60).cast_signed());
                let limit = self.random.below(9) as usize;
                let shard = self.random.shard();
                self.read_shard(shard, from, limit).await;
            }
            _ => self.read_commands().await,
        }
    }

    async fn view(&mut self) {
        let shard = self.random.shard();
        let limit = self.random.below(6) as usize;
        let one = self.one.outbox_view(shard, limit).await;
        let other = self.other.outbox_view(shard, limit).await;
        same(
            &self.trace,
            &format!("outbox of {shard}, {limit}"),
            &one,
            &other,
        );
    }

    async fn read_shard(&mut self, shard: ShardId, from: Position, limit: usize) {
        let one = self.one.store.results(shard, from, limit).await;
        let other = self.other.store.results(shard, from, limit).await;
        same(&self.trace, "results", &one, &other);
        let one = self.one.store.dead_letters(shard, from, limit).await;
        let other = self.other.store.dead_letters(shard, from, limit).await;
        same(&self.trace, "dead letters", &one, &other);
        let (one, other) = (self.one.rows().await, self.other.rows().await);
        same(&self.trace, "rows", &one, &other);
    }

    async fn read_commands(&mut self) {
        let mut ids = Vec::new();
        for _ in 0..6 {
            let sequence = Sequence(self.random.below(200) + 1);
            ids.push(CommandId::new(self.random.shard(), sequence));
        }
        let (one, other) = (
            self.one.commands(&ids).await,
            self.other.commands(&ids).await,
        );
        same(&self.trace, "commands", &one, &other);
        let one = self.one.store.outcomes(&ids).await;
        let other = self.other.store.outcomes(&ids).await;
        same(&self.trace, "outcomes", &one, &other);
    }

    async fn read_history(&mut self) {
        let account = match self.random.once_in(8) {
            true => AccountId::clearing(self.random.shard()),
            false => AccountId(self.random.below(ACCOUNTS) + 1),
        };
        let asset = AssetId(u32::try_from(self.random.below(2)).expect("small") + 1);
        let one = self.one.balances(account).await;
        let other = self.other.balances(account).await;
        same(&self.trace, "balances", &one, &other);
        let one = self.one.store.routes(&[account]).await;
        let other = self.other.store.routes(&[account]).await;
        same(&self.trace, "routes", &one, &other);
        let from_version = match self.random.below(3) {
            0 => None,
            _ => Some(self.random.below(30)),
        };
        let query = HistoryQuery {
            account,
            asset,
            from_version,
            oldest_first: self.random.once_in(2),
            limit: self.random.below(12) as usize + 1,
        };
        let one = self.one.store.entries(&query).await;
        let other = self.other.store.entries(&query).await;
        same(&self.trace, &format!("{query:?}"), &one, &other);
        let micros = self.random.below(120).cast_signed() * 500;
        let at = crate::ledger::START.plus_micros(micros);
        let one = self.one.store.entry_at(account, asset, at).await;
        let other = self.other.store.entry_at(account, asset, at).await;
        same(
            &self.trace,
            &format!("entry of {account} {asset} at {at}"),
            &one,
            &other,
        );
    }
}
