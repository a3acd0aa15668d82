//! A stream of commands as an exchange would send it, from a seed: the same options give the same
//! lines on any machine. For the demonstration, tests and benchmarks. Integers only, no clock.
//!
//! Users open accounts with money, trades walk through two markets, and each trade is five
//! commands: hold the buyer's money with the fee, hold the seller's coins, settle both, credit the
//! fee account; where one hold is rejected, the other is released. In between a desk transfers
//! money between its accounts, short scenes show a rule each, and clients make mistakes: exact
//! repeats, keys used twice for different things, lines that are no commands.
//!
//! The outcome of a line depends on earlier lines of its own `account_id` only, so that any
//! interleaving of accounts gives the same outcomes. The one exception is the desk's accounts,
//! opened by the first lines and moved by commands of the desk alone, the first of them
//! [`DESK_LINES_BEFORE_TRANSFERS`] answers later; they are pinned to shard 0.

use crate::core::{
    command::{CommandKind, amount, json},
    proto::{Change, Command},
    types::Money,
};

mod market;
pub(crate) mod random;
mod scenes;

use market::Market;
use random::Random;

/// The service that all commands come from.
const SOURCE: &str = "market";
/// How many lines of its own the desk has before its first transfer.
pub const DESK_LINES_BEFORE_TRANSFERS: usize = 12;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything that is random.
    pub seed: u64,
    /// Accounts that trade, at least 2.
    pub users: u32,
    /// Trades, five lines each.
    pub trades: u32,
}

/// The stream of testdata/demo.commands.jsonl.
pub const DEMO: Options = Options {
    seed: 7,
    users: 24,
    trades: 290,
};

/// The lines of a stream, each without its line break.
pub fn lines(options: &Options) -> Vec<String> {
    let mut random = Random::new(options.seed);
    let mut market = Market::new(options.users);
    let mut scenes = scenes::all();
    let spread = scenes.len();
    let mut lines: Vec<String> = scenes::openings().iter().map(json::to_json).collect();
    let mut sent = market.open_accounts(&mut random);
    lines.extend(sent.iter().map(json::to_json));
    for number in 1..=options.trades {
        let commands = market.trade(number, &mut random);
        lines.extend(commands.iter().map(json::to_json));
        sent.extend(commands);
        lines.extend(mistake(number, &sent, &mut random));
        let left = spread * (options.trades - number) as usize / options.trades as usize;
        while scenes.len() > left {
            lines.extend(scenes.pop_front());
        }
    }
    lines
}

/// Now and then what a client does wrong; `sent` are commands of good shape and known accounts.
fn mistake(number: u32, sent: &[Command], random: &mut Random) -> Option<String> {
    let earlier = &sent[random.below(sent.len() as u64) as usize];
    let account = earlier.account_id;
    let bad = |body: &str| {
        let head = format!(r#""source":"{SOURCE}","idempotency_key":"bad-{number}""#);
        format!(r#"{{{head},"account_id":{account},{body}}}"#)
    };
    let credit = |change: &str| bad(&format!(r#""kind":"CHANGE","changes":[{change}]"#));
    Some(match random.below(100) {
        0..=7 => json::to_json(earlier),
        8..=10 => json::to_json(&Command {
            kind: CommandKind::Change.into(),
            changes: vec![change("USD", 100, 0)],
            user_id: 0,
            ..earlier.clone()
        }),
        11 => credit(r#"{"asset":"DOGE","available_delta":"1"}"#),
        12 => credit(r#"{"asset":"BTC","available_delta":"0.000000001"}"#),
        13 => credit(r#"{"asset":"USDT","available_delta":5}"#),
        14 => credit(r#"{"asset":"USDT","amount":"5"}"#),
        15 => credit(r#"{"asset":"USDT","available_delta":"1e3"}"#),
        16 => credit(""),
        17 => bad(
            r#""kind":"TRANSFER","changes":[{"asset":"EUR"},{"asset":"EUR","frozen_delta":"1"}]"#,
        ),
        18 => format!("trade {number} was a good one"),
        19 => json::to_json(&command(
            format!("nobody-{number}"),
            NOBODY,
            CommandKind::Change,
            vec![change("USD", 100, 0)],
        )),
        _ => return None,
    })
}

/// An account that is never opened.
const NOBODY: u64 = 77;

/// Digits behind the point of the assets that the stream uses, as `axs dev` has them.
fn scale(asset: &str) -> u8 {
    match asset {
        "BTC" => 8,
        "EUR" | "USD" => 2,
        _ => 18,
    }
}

fn command(
    key: impl Into<String>,
    account: u64,
    kind: CommandKind,
    changes: Vec<Change>,
) -> Command {
    Command {
        idempotency_key: key.into(),
        source: SOURCE.into(),
        account_id: account,
        kind: kind.into(),
        changes,
        ..Command::default()
    }
}

fn change(asset: &str, available: i128, frozen: i128) -> Change {
    Change {
        asset: asset.into(),
        available_delta: delta(asset, available),
        frozen_delta: delta(asset, frozen),
        ..Change::default()
    }
}

/// Minor units as text; zero is left out.
fn delta(asset: &str, minor_units: i128) -> String {
    match Money::new(minor_units).expect("amounts of a workload are small") {
        Money::ZERO => String::new(),
        money => amount::format(money, scale(asset)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shipped_stream_is_the_generators() {
        let shipped = include_str!("../../testdata/demo.commands.jsonl");
        let made = lines(&DEMO);
        assert!(
            shipped.lines().eq(made.iter()),
            "run `cargo run --example workload > testdata/demo.commands.jsonl`, then \
             scripts/oracle.py, and look at what changed"
        );
    }

    #[test]
    fn a_seed_is_a_stream() {
        let options = |seed| Options { seed, ..DEMO };
        assert_eq!(lines(&options(1)), lines(&options(1)));
        assert_ne!(lines(&options(1)), lines(&options(2)));
        let other = Options {
            seed: 3,
            users: 2,
            trades: 10,
        };
        assert!(lines(&other).len() > 50);
    }

    /// Whose balances a command of another account touches are moved by that account alone.
    #[test]
    fn only_the_desk_names_other_accounts() {
        let mut foreign = BTreeSet::new();
        let commands: Vec<Command> = lines(&DEMO)
            .iter()
            .filter_map(|line| json::from_json(line).ok())
            .collect();
        for command in &commands {
            for change in &command.changes {
                if change.account_id != 0 && change.account_id != command.account_id {
                    assert_eq!(command.account_id, scenes::DESK);
                    foreign.insert(change.account_id);
                }
            }
        }
        assert_eq!(foreign.len(), 2);
        for command in &commands {
            if foreign.contains(&command.account_id) {
                assert_eq!(command.kind(), CommandKind::OpenAccount);
                assert_eq!(command.shard_id, Some(0));
            }
        }
        let of_desk = commands.iter().filter(|c| c.account_id == scenes::DESK);
        let alone = of_desk.take_while(|c| c.changes.iter().all(|change| change.account_id == 0));
        assert!(alone.count() >= DESK_LINES_BEFORE_TRANSFERS);
    }
}
