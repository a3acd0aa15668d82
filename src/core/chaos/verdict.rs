//! Whether a run kept the promises: each with what broke it. Pure, but for the laws in SQL that it
//! is given.

use std::collections::HashMap;

use super::{ground::ASSETS, history::History, laws::LAWS, plan::Net};
use crate::core::types::{CommandId, ShardId};

/// Findings shown of each check.
const SHOWN_MAX: usize = 10;

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub law: &'static str,
    /// How many things were compared; `None`: the database did it.
    pub compared: Option<u64>,
    /// How many break it.
    pub broken: u64,
    /// Some of them.
    pub by: Vec<String>,
}

impl Check {
    /// Holds so far.
    pub fn new(law: &'static str) -> Self {
        Self {
            law,
            compared: Some(0),
            broken: 0,
            by: Vec::new(),
        }
    }

    /// Compares once more; `what` says what is wrong.
    pub fn compare(&mut self, holds: bool, what: impl FnOnce() -> String) {
        *self.compared.get_or_insert_default() += 1;
        if !holds {
            self.broken += 1;
            if self.by.len() < SHOWN_MAX {
                self.by.push(what());
            }
        }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.broken == 0
    }
}

/// What the log and the journal of one shard say.
#[derive(Debug)]
pub struct Told {
    /// Hash of the result of each command, as the journal gives it.
    pub results: HashMap<u64, (i64, u128)>,
    /// Available and frozen of all balances, by the model.
    pub totals: Net,
}

/// Nothing acknowledged is lost or changed, and nothing but what was sent took effect.
pub fn acknowledged(history: &History, shards: &[Told]) -> [Check; 2] {
    let mut lost = Check::new("every acknowledged command has the outcome that was told");
    let mut more = Check::new("nothing took effect but what clients sent, and once");
    for (id, decided) in &history.decided {
        let shard = usize::from(CommandId(*id).shard().0);
        let stored = shards.get(shard).and_then(|shard| shard.results.get(id));
        let told = (decided.told.position, decided.told.hash);
        lost.compare(stored == Some(&told), || {
            format!("command {id}: told {told:?}, the journal has {stored:?}")
        });
    }
    for (id, _) in shards.iter().flat_map(|shard| &shard.results) {
        more.compare(history.decided.contains_key(id), || {
            format!("command {id} has an outcome that nobody was told")
        });
    }
    [lost, more]
}

/// Who saw a result of a shard before sending is behind it.
pub fn order(history: &History) -> Check {
    let mut check = Check::new("who saw a result before sending stands behind it in the log");
    for (id, decided) in &history.decided {
        let position = decided.told.position;
        check.compare(position > decided.seen_before, || {
            format!(
                "command {id} is at {position}, but {} was seen before it was sent",
                decided.seen_before
            )
        });
    }
    check
}

/// Answers never excluded each other.
pub fn answers(history: &History) -> Check {
    Check {
        compared: Some(history.decided.len() as u64 + history.repeats + history.conflicts),
        broken: history.contradiction_count,
        by: history.contradictions.clone(),
        ..Check::new("the same key got the same answer, and another body was refused")
    }
}

/// What applied commands did, by the clients' own reckoning, is what there is.
pub fn money(history: &History, shards: &[Told]) -> Check {
    let mut check = Check::new("the sum of balances is the sum of applied credits and debits");
    for (asset, (code, _)) in ASSETS.iter().enumerate() {
        let there: i128 = shards.iter().map(|shard| shard.totals[asset]).sum();
        check.compare(there == history.net[asset], || {
            format!(
                "{code}: {there} minor units are there, not {}",
                history.net[asset]
            )
        });
    }
    check
}

/// The laws in SQL, by what [`super::laws::broken`] found.
pub fn laws(mut broken: Vec<super::laws::Broken>) -> Vec<Check> {
    let of_law = |(law, _): (&'static str, &str)| {
        let found = broken.iter().position(|it| it.law == law);
        let found = found.map(|at| broken.swap_remove(at));
        Check {
            law,
            compared: None,
            broken: found.as_ref().map_or(0, |it| it.count as u64),
            by: found.map_or_else(Vec::new, |it| it.by),
        }
    };
    LAWS.into_iter().map(of_law).collect()
}

/// What the topic of results holds of a shard, compared with the journal.
pub fn results(
    check: &mut Check,
    shard: ShardId,
    told: &Told,
    published: &HashMap<u64, (u128, u64)>,
) {
    for (id, (_, hash)) in &told.results {
        let found = published.get(id).map(|(hash, _)| hash);
        check.compare(found == Some(hash), || match found {
            None => format!("command {id} has no result on the topic"),
            Some(_) => format!("the published result of command {id} is not the committed one"),
        });
    }
    for id in published.keys() {
        if !told.results.contains_key(id) {
            check.compare(false, || {
                format!("shard {shard}: a result of command {id}, which has no outcome")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chaos::history::{Decided, Told as Answer};

    const ID: u64 = 1;

    fn history(seen_before: i64) -> History {
        let told = Answer {
            position: 4,
            reject_code: 0,
            hash: 9,
        };
        let decided = Decided { told, seen_before };
        History {
            decided: HashMap::from([(ID, decided)]),
            net: [5, 0, 0],
            ..History::default()
        }
    }

    fn shard(results: &[(u64, (i64, u128))]) -> Told {
        Told {
            results: results.iter().copied().collect(),
            totals: [5, 0, 0],
        }
    }

    #[test]
    fn a_run_that_kept_the_promises_has_nothing_broken() {
        let (history, shards) = (history(3), [shard(&[(ID, (4, 9))])]);
        for check in acknowledged(&history, &shards) {
            assert!(check.holds() && check.compared == Some(1), "{check:?}");
        }
        assert!(order(&history).holds());
        assert!(money(&history, &shards).holds());
        assert!(laws(Vec::new()).iter().all(Check::holds));
    }

    #[test]
    fn each_breach_is_noticed_by_its_check() {
        let history = history(4);
        let [lost, more] = acknowledged(&history, &[shard(&[])]);
        assert!(!lost.holds() && more.holds());
        let [changed, _] = acknowledged(&history, &[shard(&[(ID, (4, 8))])]);
        assert!(!changed.holds());
        let [_, more] = acknowledged(&history, &[shard(&[(ID, (4, 9)), (2, (5, 1))])]);
        assert!(!more.holds());
        assert!(!order(&history).holds());
        let mut poorer = shard(&[]);
        poorer.totals[0] = 4;
        assert!(!money(&history, &[poorer]).holds());
        let told = shard(&[(ID, (4, 9))]);
        for published in [
            HashMap::new(),
            HashMap::from([(ID, (8, 1))]),
            HashMap::from([(ID, (9, 1)), (2, (9, 1))]),
        ] {
            let mut check = Check::new("results");
            results(&mut check, ShardId(0), &told, &published);
            assert_eq!(check.broken, 1, "{published:?}");
        }
    }
}
