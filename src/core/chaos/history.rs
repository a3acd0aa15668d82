//! What the clients of a run were told, and whether it ever contradicted itself. Pure.

use std::collections::HashMap;

use prost::Message as _;

use super::plan::{Net, Planned};
use crate::core::proto::{CommandResult, CommandStatus};

/// Contradictions kept to show; more are counted.
pub const SHOWN_MAX: usize = 20;

/// What a client was told of a command for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// In its shard's log.
    pub position: i64,
    /// 0: applied.
    pub reject_code: i32,
    /// Of the whole result.
    pub hash: u128,
}

impl Told {
    /// Of a final result; `None`: it is none.
    pub fn of(result: &CommandResult) -> Option<Self> {
        let is_final = matches!(
            result.status(),
            CommandStatus::Applied | CommandStatus::Rejected
        );
        is_final.then(|| Self {
            position: result.position,
            reject_code: result.reject_code,
            hash: hash(&result.encode_to_vec()),
        })
    }
}

/// Of the bytes of a result.
pub fn hash(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

/// A decided command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What was told first.
    pub told: Told,
    /// The greatest position of its shard that any client had seen when it was sent first.
    pub seen_before: i64,
}

/// Everything that one client, or all of them, were told.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By command id.
    pub decided: HashMap<u64, Decided>,
    /// What applied commands did to the totals.
    pub net: Net,
    /// Sentences about answers that exclude each other.
    pub contradictions: Vec<String>,
    /// How many there were.
    pub contradiction_count: u64,
    /// Keys sent again after they were decided, and answered the same.
    pub repeats: u64,
    /// Keys sent with another body, and refused.
    pub conflicts: u64,
    /// Rejections told.
    pub rejected: u64,
}

impl History {
    /// The first final answer for a key.
    pub fn decide(&mut self, planned: &Planned, result: &CommandResult, seen_before: i64) {
        let Some(told) = Told::of(result) else {
            let key = &planned.command.idempotency_key;
            return self.contradict(format!("`{key}` ended as {:?}", result.status()));
        };
        let decided = Decided { told, seen_before };
        if self.decided.insert(result.command_id, decided).is_some() {
            let key = &planned.command.idempotency_key;
            self.contradict(format!(
                "`{key}` was told id {}, which is another key's",
                result.command_id
            ));
        }
        if told.reject_code != 0 {
            self.rejected += 1;
            return;
        }
        add(&mut self.net, &planned.net_of(result));
    }

    /// A later final answer for a key: it must be the first one.
    pub fn repeat(&mut self, key: &str, id: u64, result: &CommandResult) {
        let told = Told::of(result);
        let first = self.decided.get(&id).map(|decided| decided.told);
        if told.is_some() && told == first && result.command_id == id {
            self.repeats += 1;
            return;
        }
        self.contradict(format!(
            "`{key}` was told {first:?} under id {id}, later {told:?} under id {}",
            result.command_id
        ));
    }

    /// Something that must not be.
    pub fn contradict(&mut self, what: String) {
        self.contradiction_count += 1;
        if self.contradictions.len() < SHOWN_MAX {
            self.contradictions.push(what);
        }
    }

    /// Takes in what another client was told.
    pub fn merge(&mut self, other: Self) {
        for (id, decided) in other.decided {
            if self.decided.insert(id, decided).is_some() {
                self.contradict(format!("two keys were told id {id}"));
            }
        }
        add(&mut self.net, &other.net);
        self.contradiction_count += other.contradiction_count;
        self.contradictions.extend(other.contradictions);
        self.contradictions.truncate(SHOWN_MAX);
        self.repeats += other.repeats;
        self.conflicts += other.conflicts;
        self.rejected += other.rejected;
    }
}

fn add(to: &mut Net, net: &Net) {
    for (sum, one) in to.iter_mut().zip(net) {
        *sum += one;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chaos::plan::{Plan, accounts};

    fn result(id: u64, position: i64) -> CommandResult {
        CommandResult {
            command_id: id,
            position,
            status: CommandStatus::Applied.into(),
            ..CommandResult::default()
        }
    }

    #[test]
    fn another_answer_for_a_key_is_a_contradiction() {
        let mut history = History::default();
        let planned = Plan::new(1, 1, accounts(8, 1)).open(1);
        history.decide(&planned, &result(5, 7), -1);
        history.repeat("k", 5, &result(5, 7));
        assert_eq!((history.repeats, history.contradiction_count), (1, 0));
        for other in [
            result(5, 8),
            result(6, 7),
            CommandResult {
                epoch: 2,
                ..result(5, 7)
            },
        ] {
            let before = history.contradiction_count;
            history.repeat("k", 5, &other);
            assert_eq!(history.contradiction_count, before + 1, "{other:?}");
        }
        history.decide(&planned, &result(5, 9), -1);
        assert!(
            history
                .contradictions
                .iter()
                .any(|it| it.contains("another key"))
        );
    }
}
