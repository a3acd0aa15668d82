//! Which accounts commands touch, and what they do: drawn from a seed, the same on any machine.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

use crate::core::{seed, types::AccountId, workload::random::Random};

/// Every account starts with so many minor units of each asset, so that no debit is short.
pub const OPENING_BALANCE: i64 = 1_000_000_000_000;
/// Largest delta in minor units.
const DELTA_MAX: u64 = 1_000_000;
/// Changes of a command of [`Shape::Multi`].
pub const MULTI_CHANGES: usize = 4;

/// How commands spread over accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every account as often as any other.
    Uniform,
    /// The k-th most used account 1/k as often as the first.
    Zipf,
    /// All on one account.
    Hot,
    /// As uniform, with four changes on two balances of the account.
    Multi,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Zipf, Self::Hot, Self::Multi];

    /// As in flags and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Hot => "hot",
            Self::Multi => "multi",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.name() == text)
            .ok_or_else(|| format!("`{text}` is none of uniform, zipf, hot, multi"))
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How commands spread.
    pub shape: Shape,
    /// How many accounts there are, at least 1.
    pub accounts: u64,
    /// Of a hundred commands, those that repeat an earlier one exactly.
    pub duplicates_percent: u8,
    /// Decides everything.
    pub seed: u64,
}

impl Workload {
    /// The id of an account by its number, `0 .. accounts`: scattered, as callers' ids are.
    pub fn account(&self, number: u64) -> AccountId {
        seed::account_id(self.seed, number)
    }

    /// How many assets an account has.
    pub fn assets(&self) -> usize {
        match self.shape {
            Shape::Multi => 2,
            Shape::Uniform | Shape::Zipf | Shape::Hot => 1,
        }
    }

    /// What of it a run's figures tell.
    pub fn to_json(&self) -> Map<String, Value> {
        let fields = [
            ("shape", json!(self.shape.name())),
            ("accounts", json!(self.accounts)),
            ("changes", json!(self.changes())),
            ("duplicates_percent", json!(self.duplicates_percent)),
            ("seed", json!(self.seed)),
        ];
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }

    /// How many changes a command has.
    pub fn changes(&self) -> usize {
        match self.shape {
            Shape::Multi => MULTI_CHANGES,
            Shape::Uniform | Shape::Zipf | Shape::Hot => 1,
        }
    }

    /// The commands of a caller; those of different callers differ.
    pub fn draw(&self, caller: u64) -> Draw {
        let shape = match self.shape {
            Shape::Zipf => Spread::Zipf(Zipf::new(self.accounts)),
            Shape::Hot => Spread::Even(1),
            Shape::Uniform | Shape::Multi => Spread::Even(self.accounts),
        };
        Draw {
            random: Random::new(self.seed ^ caller.wrapping_mul(0xd134_2543_de82_ef95)),
            spread: shape,
            changes: self.changes(),
            duplicates_percent: self.duplicates_percent,
            drawn: 0,
        }
    }
}

/// One command of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Number of the command among those of its caller, from 0. One seen before: that command again.
    pub number: u64,
    /// Number of the account.
    pub account: u64,
    /// Asset (0 or 1) and available delta in minor units of each change; never 0.
    pub changes: [(usize, i64); MULTI_CHANGES],
    /// How many of the changes count.
    pub count: usize,
}

impl Operation {
    /// Its changes.
    pub fn changes(&self) -> &[(usize, i64)] {
        &self.changes[..self.count]
    }
}

/// The commands of one caller, one after another. Copied, it draws the same ones again.
#[derive(Clone, Debug)]
pub struct Draw {
    random: Random,
    spread: Spread,
    changes: usize,
    duplicates_percent: u8,
    drawn: u64,
}

impl Draw {
    /// The next one. A duplicate has the number, account and changes of the one before it.
    pub fn next_operation(&mut self, last: Option<&Operation>) -> Operation {
        if let Some(last) = last
            && self.duplicates_percent > 0
            && self.random.below(100) < u64::from(self.duplicates_percent)
        {
            return *last;
        }
        let account = self.spread.draw(&mut self.random);
        let mut changes = [(0, 0); MULTI_CHANGES];
        for (index, change) in changes.iter_mut().enumerate().take(self.changes) {
            let random = self.random.next();
            let delta = i64::try_from(random % DELTA_MAX + 1).expect("small");
            let sign = if random >> 63 == 0 { 1 } else { -1 };
            *change = (index % 2, sign * delta);
        }
        let number = self.drawn;
        self.drawn += 1;
        Operation {
            number,
            account,
            changes,
            count: self.changes,
        }
    }
}

#[derive(Clone, Debug)]
enum Spread {
    Even(u64),
    Zipf(Zipf),
}

impl Spread {
    fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Self::Even(count) => random.below(*count),
            Self::Zipf(zipf) => zipf.draw(random) - 1,
        }
    }
}

/// Zipf's law with exponent 1 by rejection-inversion (Hörmann, Derflinger: "Rejection-inversion to
/// generate variates from monotone discrete distributions", 1996), where H(x) = ln x.
#[derive(Clone, Debug)]
struct Zipf {
    count: u64,
    least: f64,
    most: f64,
    squeeze: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are far below 2^53"
)]
impl Zipf {
    fn new(count: u64) -> Self {
        Self {
            count,
            least: 1.5_f64.ln() - 1.0,
            most: (count as f64 + 0.5).ln(),
            squeeze: 2.0 - (2.5_f64.ln() - 0.5).exp(),
        }
    }

    /// `1 ..= count`.
    fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let even = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let u = self.most + even * (self.least - self.most);
            let x = u.exp();
            let rank = (x.round() as u64).clamp(1, self.count);
            let k = rank as f64;
            if k - x <= self.squeeze || u >= (k + 0.5).ln() - 1.0 / k {
                return rank;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(shape: Shape, accounts: u64, draws: usize) -> Vec<u32> {
        let workload = Workload {
            shape,
            accounts,
            duplicates_percent: 0,
            seed: 5,
        };
        let mut draw = workload.draw(0);
        let mut counts = vec![0; accounts as usize];
        for _ in 0..draws {
            counts[draw.next_operation(None).account as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_draws_the_k_th_account_a_k_th_as_often() {
        const DRAWS: usize = 1_000_000;
        let counts = counts(Shape::Zipf, 1_000, DRAWS);
        let harmonic: f64 = (1..=1_000).map(|k| 1.0 / f64::from(k)).sum();
        for rank in [1_u32, 2, 3, 10, 100, 1_000] {
            let expected = DRAWS as f64 / (f64::from(rank) * harmonic);
            let seen = f64::from(counts[rank as usize - 1]);
            // Five standard deviations of a count with this mean.
            assert!(
                (seen - expected).abs() < 5.0 * expected.sqrt(),
                "rank {rank}: {seen}, not about {expected:.0}"
            );
        }
    }

    #[test]
    fn uniform_reaches_every_account_and_hot_one() {
        let even = counts(Shape::Uniform, 100, 100_000);
        assert!(even.iter().all(|count| (800..1_200).contains(count)));
        assert_eq!(counts(Shape::Hot, 3, 10), [10, 0, 0]);
    }

    #[test]
    fn duplicates_repeat_the_one_before_and_streams_repeat_themselves() {
        let workload = Workload {
            shape: Shape::Multi,
            accounts: 10,
            duplicates_percent: 5,
            seed: 1,
        };
        let draw = |caller| {
            let (mut draw, mut drawn) = (workload.draw(caller), Vec::<Operation>::new());
            for _ in 0..10_000 {
                let next = draw.next_operation(drawn.last());
                drawn.push(next);
            }
            drawn
        };
        let drawn = draw(3);
        let again = drawn.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((400..600).contains(&again), "{again} of 10,000");
        assert_eq!(drawn, draw(3));
        assert_ne!(drawn, draw(4));
        assert!(drawn.iter().all(|one| one.changes().len() == MULTI_CHANGES));
        assert!(
            drawn
                .iter()
                .all(|one| one.changes().iter().all(|change| change.1 != 0))
        );
    }
}
