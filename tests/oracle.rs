//! The shipped stream of commands against its expected outcomes, which come from a model that
//! shares no code with AXS (scripts/oracle.py): JSON, shape, hashes, codec and engine, without a
//! server or a runtime. One shard; acceptance is a map.

use std::collections::{BTreeMap, BTreeSet};

use axs::core::{
    assets::{Asset, Assets},
    command::{
        Command, CommandKind, amount, hash, json, parse,
        record::{self, LogItem},
    },
    engine::{Applied, Engine, Start},
    interval_set::IntervalSet,
    proto::submit_error::Code,
    types::{
        AccountId, AssetId, CommandId, ContentHash, KeyHash, Position, Sequence, ShardId, Timestamp,
    },
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    assets: BTreeMap<String, u8>,
    lines: usize,
    balances: Vec<ExpectedBalance>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedBalance {
    account_id: u64,
    asset: String,
    available: String,
    frozen: String,
    version: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Outcome {
    status: String,
    reject_code: String,
    duplicate: bool,
    error: String,
}

impl Outcome {
    fn error(code: Code) -> Self {
        Self {
            error: code.as_str_name().trim_start_matches("CODE_").into(),
            ..Self::default()
        }
    }
}

/// Acceptance and one shard, with nothing that could fail in between.
struct Pipeline {
    assets: Assets,
    engine: Engine,
    opened: BTreeSet<AccountId>,
    keys: BTreeMap<KeyHash, (ContentHash, Outcome)>,
    accepted: u32,
}

impl Pipeline {
    fn new(assets: Assets) -> Self {
        Self {
            assets,
            engine: Engine::new(Start {
                shard: ShardId(0),
                applied: IntervalSet::new(),
                applied_at: Timestamp(0),
                passed_at: Timestamp(0),
                state_hash: 0,
            }),
            opened: BTreeSet::new(),
            keys: BTreeMap::new(),
            accepted: 0,
        }
    }

    fn submit(&mut self, line: &str) -> Outcome {
        let Ok(message) = json::from_json(line) else {
            return Outcome::error(Code::Invalid);
        };
        let command = match parse::parse(&message, &self.assets, 1) {
            Ok(command) => command,
            Err(error) => return Outcome::error(error.code),
        };
        let key = hash::key_hash(&command.source, &command.idempotency_key);
        if let Some((content, outcome)) = self.keys.get(&key) {
            return match *content == command.content_hash {
                true => Outcome {
                    duplicate: true,
                    ..outcome.clone()
                },
                false => Outcome::error(Code::IdempotencyConflict),
            };
        }
        if command.kind == CommandKind::OpenAccount {
            self.opened.insert(command.account);
        }
        if !command
            .accounts()
            .iter()
            .all(|account| self.opened.contains(account))
        {
            return Outcome::error(Code::AccountNotFound);
        }
        let content = command.content_hash;
        let outcome = self.apply(command);
        self.keys.insert(key, (content, outcome.clone()));
        outcome
    }

    fn apply(&mut self, mut command: Command) -> Outcome {
        self.accepted += 1;
        command.id = Some(CommandId::new(ShardId(0), Sequence(self.accepted.into())));
        let bytes = record::encode_command(&command);
        let Ok(LogItem::Command(command)) = record::decode(&bytes) else {
            panic!("what was encoded decodes");
        };
        for account in command.accounts() {
            if !self.engine.is_resident(account) {
                self.engine.note_absent(account);
            }
        }
        let at = Position::new(0, self.accepted.into());
        let mut entries = Vec::new();
        let applied = self
            .engine
            .apply(at, Timestamp(1), &command, None, &mut entries);
        let Applied::Done(outcome) = applied else {
            panic!("a new number is never skipped");
        };
        let reject_code = outcome.reject.map(|reject| {
            let name = reject.code.as_str_name();
            name.trim_start_matches("REJECT_CODE_").to_owned()
        });
        Outcome {
            status: if reject_code.is_some() {
                "REJECTED"
            } else {
                "APPLIED"
            }
            .into(),
            reject_code: reject_code.unwrap_or_default(),
            ..Outcome::default()
        }
    }

    fn balances(&self) -> Vec<ExpectedBalance> {
        let mut balances = Vec::new();
        for account in &self.opened {
            for balance in self.engine.balances_of(*account) {
                let asset = self.assets.by_id(balance.asset).expect("it was parsed");
                balances.push(ExpectedBalance {
                    account_id: account.0,
                    asset: asset.code.clone(),
                    available: amount::format(balance.available, asset.scale),
                    frozen: amount::format(balance.frozen, asset.scale),
                    version: balance.version,
                });
            }
        }
        balances.sort_by(|a, b| (a.account_id, &a.asset).cmp(&(b.account_id, &b.asset)));
        balances
    }
}

#[test]
fn the_engine_agrees_with_the_oracle() {
    let commands = include_str!("../testdata/demo.commands.jsonl");
    let expected: Expected =
        serde_json::from_str(include_str!("../testdata/demo.expected.json")).expect("valid");
    let asset = |(at, (code, scale)): (u32, (&String, &u8))| Asset {
        id: AssetId(at),
        code: code.clone(),
        scale: *scale,
    };
    let mut pipeline = Pipeline::new((1..).zip(&expected.assets).map(asset).collect());
    assert_eq!(commands.lines().count(), expected.lines);
    for (index, (line, outcome)) in commands.lines().zip(&expected.outcomes).enumerate() {
        let number = index + 1;
        assert_eq!(&pipeline.submit(line), outcome, "line {number}: {line}");
    }
    assert_eq!(pipeline.balances(), expected.balances);

    // Sent again: the same answers, as duplicates, and nothing changes.
    let before = pipeline.engine.state_hash();
    for (line, outcome) in commands.lines().zip(&expected.outcomes) {
        let again = Outcome {
            duplicate: outcome.error.is_empty(),
            ..outcome.clone()
        };
        assert_eq!(pipeline.submit(line), again, "again: {line}");
    }
    assert_eq!(pipeline.engine.state_hash(), before);
}
