//! Users who trade BTC and ETH against USDT. It keeps their balances, so that a trade whose hold
//! is rejected is given up: nothing is settled that was not held, and every total stays what the
//! openings made it.

use std::collections::{BTreeMap, BTreeSet};

use super::{change, command, random::Random};
use crate::core::{
    command::CommandKind,
    proto::{Change, Command, Fallback},
};

/// The account that fees go to.
const FEE_ACCOUNT: u64 = 9;
/// The first user's account.
const FIRST_USER: u64 = 1_001;
/// Percent of users with enough money for every trade.
const RICH_PERCENT: u64 = 65;
/// How many trades a blocked user stays blocked.
const BLOCKED_TRADES: u32 = 12;
/// A membership is due every so many trades.
const MEMBERSHIP_EVERY: u32 = 6;
/// 4.99 in minor units of USDC and USDT.
const MEMBERSHIP: i128 = 4_990_000_000_000_000_000;
/// 10^-6 USDT in its minor units: a price in cents times a quantity in 10^-4.
const COST_UNIT: i128 = 1_000_000_000_000;

struct Pair {
    coin: &'static str,
    /// Minor units of 10^-4 coins.
    quantity_unit: i128,
    /// In cents; walks.
    price: u64,
}

pub(super) struct Market {
    users: u64,
    pairs: [Pair; 2],
    /// Of user and asset: available and frozen, in minor units.
    balances: BTreeMap<(u64, &'static str), (i128, i128)>,
    /// Until which trade.
    blocked: BTreeMap<u64, u32>,
}

impl Market {
    pub fn new(users: u32) -> Self {
        assert!(users >= 2, "it takes two to trade");
        let pairs = [
            ("BTC", 10_000, 6_412_350),
            ("ETH", 100_000_000_000_000, 318_420),
        ];
        Self {
            users: u64::from(users),
            pairs: pairs.map(|(coin, quantity_unit, price)| Pair {
                coin,
                quantity_unit,
                price,
            }),
            balances: BTreeMap::new(),
            blocked: BTreeMap::new(),
        }
    }

    /// The fee account and the users, with what they bring.
    pub fn open_accounts(&mut self, random: &mut Random) -> Vec<Command> {
        let mut commands = vec![open(FEE_ACCOUNT, Vec::new())];
        for user in FIRST_USER..FIRST_USER + self.users {
            let rich = random.below(100) < RICH_PERCENT;
            let (dollars, coins) = match rich {
                true => (250_000, 20_000),
                false => (random.between(50, 900), random.between(0, 30)),
            };
            let mut changes = Vec::new();
            let dollars = i128::from(dollars) * 1_000_000 * COST_UNIT;
            self.bring(user, "USDT", dollars, &mut changes);
            if random.below(3) == 0 {
                self.bring(user, "USDC", 2 * MEMBERSHIP, &mut changes);
            }
            for pair in 0..self.pairs.len() {
                let Pair {
                    coin,
                    quantity_unit,
                    ..
                } = self.pairs[pair];
                self.bring(user, coin, i128::from(coins) * quantity_unit, &mut changes);
            }
            commands.push(open(user, changes));
        }
        commands
    }

    fn bring(&mut self, user: u64, asset: &'static str, units: i128, changes: &mut Vec<Change>) {
        if units > 0 {
            self.balances.insert((user, asset), (units, 0));
            changes.push(change(asset, units, 0));
        }
    }

    /// One trade, and what else happens at its time.
    pub fn trade(&mut self, number: u32, random: &mut Random) -> Vec<Command> {
        let mut commands = self.block_and_unblock(number, random);
        if number.is_multiple_of(MEMBERSHIP_EVERY) {
            commands.extend(self.membership(number, random));
        }
        let pair = &mut self.pairs[random.below(2) as usize];
        // Up to 0.2 % up or down.
        let step = pair.price / 500;
        pair.price = pair.price - step + random.below(2 * step + 1);
        let quantity = i128::from(random.between(10, 5_000));
        let (coin, coins) = (pair.coin, quantity * pair.quantity_unit);
        let cost = i128::from(pair.price) * quantity * COST_UNIT;
        let fee = cost / 1_000;
        let buyer = random.below(self.users);
        let seller = (buyer + 1 + random.below(self.users - 1)) % self.users;
        let (buyer, seller) = (FIRST_USER + buyer, FIRST_USER + seller);

        let reference = format!("trade-{number}");
        let mut send = |step: &str, account, changes| {
            commands.push(Command {
                reference: reference.clone(),
                ..command(
                    format!("{number}:{step}"),
                    account,
                    CommandKind::Change,
                    changes,
                )
            });
        };
        let hold = |asset, units: i128| vec![change(asset, -units, units)];
        send("hold:buyer", buyer, hold("USDT", cost + fee));
        let buyer_holds = self.moves(buyer, "USDT", -(cost + fee), cost + fee);
        send("hold:seller", seller, hold(coin, coins));
        let seller_holds = self.moves(seller, coin, -coins, coins);
        match (buyer_holds, seller_holds) {
            (true, true) => {
                let bought = vec![change("USDT", 0, -(cost + fee)), change(coin, coins, 0)];
                send("settle:buyer", buyer, bought);
                self.moves(buyer, "USDT", 0, -(cost + fee));
                self.moves(buyer, coin, coins, 0);
                let sold = vec![change(coin, 0, -coins), change("USDT", cost - fee, 0)];
                send("settle:seller", seller, sold);
                self.moves(seller, coin, 0, -coins);
                self.moves(seller, "USDT", cost - fee, 0);
                send("fee", FEE_ACCOUNT, vec![change("USDT", 2 * fee, 0)]);
            }
            (true, false) => {
                send("release:buyer", buyer, hold("USDT", -(cost + fee)));
                self.moves(buyer, "USDT", cost + fee, -(cost + fee));
            }
            (false, true) => {
                send("release:seller", seller, hold(coin, -coins));
                self.moves(seller, coin, coins, -coins);
            }
            (false, false) => {}
        }
        commands
    }

    /// Does what a CHANGE of one balance does; false where it is rejected.
    fn moves(&mut self, user: u64, asset: &'static str, available: i128, frozen: i128) -> bool {
        let (had, held) = self
            .balances
            .get(&(user, asset))
            .copied()
            .unwrap_or_default();
        let after = (had + available, held + frozen);
        if self.blocked.contains_key(&user) || after.0 < 0 || after.1 < 0 {
            return false;
        }
        self.balances.insert((user, asset), after);
        true
    }

    fn block_and_unblock(&mut self, number: u32, random: &mut Random) -> Vec<Command> {
        let due: BTreeSet<u64> = self
            .blocked
            .iter()
            .filter(|(_, until)| **until <= number)
            .map(|(user, _)| *user)
            .collect();
        let mut commands = Vec::new();
        for user in due {
            self.blocked.remove(&user);
            let key = format!("{number}:unblock");
            commands.push(command(key, user, CommandKind::UnblockAccount, Vec::new()));
        }
        if random.below(40) == 0 {
            let user = FIRST_USER + random.below(self.users);
            self.blocked.insert(user, number + BLOCKED_TRADES);
            let key = format!("{number}:block");
            commands.push(command(key, user, CommandKind::BlockAccount, Vec::new()));
        }
        commands
    }

    /// A user pays in USDC, or else in USDT; the fee account gets what was paid.
    fn membership(&mut self, number: u32, random: &mut Random) -> Vec<Command> {
        let user = FIRST_USER + random.below(self.users);
        let due = Change {
            fallback: Some(Fallback {
                asset: "USDT".into(),
                available_delta: change("USDT", -MEMBERSHIP, 0).available_delta,
                frozen_delta: String::new(),
            }),
            ..change("USDC", -MEMBERSHIP, 0)
        };
        let pay = |step, account, change| Command {
            reference: "membership".into(),
            ..command(
                format!("{number}:{step}"),
                account,
                CommandKind::Change,
                vec![change],
            )
        };
        let mut commands = vec![pay("membership", user, due)];
        let paid = ["USDC", "USDT"]
            .into_iter()
            .find(|asset| self.moves(user, asset, -MEMBERSHIP, 0));
        if let Some(asset) = paid {
            commands.push(pay("dues", FEE_ACCOUNT, change(asset, MEMBERSHIP, 0)));
        }
        commands
    }
}

fn open(account: u64, changes: Vec<Change>) -> Command {
    Command {
        user_id: account,
        ..command(
            format!("open-{account}"),
            account,
            CommandKind::OpenAccount,
            changes,
        )
    }
}
