//! 1,000,000 random commands: the model says what must come out; the engine runs with a tiny
//! memory over a mirror of the store, with loads that are stale when they arrive, flushes and their
//! answers that are late, and crashes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use axs::core::{
    engine::{Applied, Engine, RejectCode, Target},
    types::{AccountId, CommandId, Sequence},
};

use self::{
    generator::{Line, Log, Record, log},
    laws::check_log,
    mirror::{Flush, Load, Mirror},
    rng::Rng,
};
use crate::empty;

mod generator;
mod laws;
mod mirror;
mod rng;

/// Of each log; 100 logs, and a few lines of each are no commands.
const LINES: usize = 10_500;
const SEEDS_PER_TEST: u64 = 25;
const FLUSHES_MAX: usize = 3;

#[test]
fn agrees_with_the_model_1() {
    run(1);
}

#[test]
fn agrees_with_the_model_2() {
    run(2);
}

#[test]
fn agrees_with_the_model_3() {
    run(3);
}

#[test]
fn agrees_with_the_model_4() {
    run(4);
}

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed is {}", self.0);
        }
    }
}

fn run(group: u64) {
    let mut seen: BTreeMap<i32, u64> = BTreeMap::new();
    let (mut evicted, mut fallbacks) = (0, 0);
    for seed in 0..SEEDS_PER_TEST {
        let seed = Seed(group * 1_000 + seed);
        let log = log(seed.0, LINES);
        check_log(&log);
        for outcome in log.lines.iter().filter_map(|line| line.outcome.as_ref()) {
            *seen
                .entry(
                    outcome
                        .reject
                        .as_ref()
                        .map_or(0, |reject| reject.code as i32),
                )
                .or_default() += 1;
        }
        let entries = log.lines.iter().flat_map(|line| &line.entries);
        fallbacks += entries.filter(|entry| entry.fallback).count();
        evicted += Driver::new(&log, seed.0).run();
        replay(&log);
    }
    // The generator would prove little if it missed a code.
    let applied = seen.get(&0).copied().unwrap_or(0);
    assert!(
        applied > SEEDS_PER_TEST * LINES as u64 / 5,
        "too little is applied: {seen:?}"
    );
    for code in 1..=i32::from(u16::MAX) {
        if RejectCode::try_from(code).is_ok() {
            let times = seen.get(&code).copied().unwrap_or(0);
            assert!(
                times >= 100,
                "code {code} came {times} times only: {seen:?}"
            );
        }
    }
    assert!(fallbacks > 1_000, "too few fallbacks: {fallbacks}");
    assert!(evicted > 10_000, "too few evictions: {evicted}");
}

/// In one go, nothing evicted.
fn replay(log: &Log) {
    let mut driver = Driver::new(log, 0);
    for line in 0..log.lines.len() {
        let load = driver.send(line..line + 1);
        driver.install(load.1);
        driver.apply(line);
    }
    let last = log.lines.last().expect("a log");
    assert_eq!(driver.engine.state_hash(), last.state_hash, "replayed");
    assert_eq!(driver.engine.applied(), log.model.applied(), "replayed");
}

struct Driver<'a> {
    log: &'a Log,
    rng: Rng,
    engine: Engine,
    mirror: Mirror,
    /// Line of each command's outcome.
    lines: BTreeMap<CommandId, usize>,
    /// Sent and not committed yet.
    flushes: VecDeque<Flush>,
    /// Committed, and the answer is on its way.
    answers: VecDeque<u64>,
    /// What the last load knew.
    reversals: BTreeMap<CommandId, CommandId>,
}

impl<'a> Driver<'a> {
    fn new(log: &'a Log, seed: u64) -> Self {
        let lines = log.lines.iter().enumerate();
        let lines = lines.filter_map(|(at, line)| Some((line.outcome.as_ref()?.id, at)));
        Self {
            log,
            rng: Rng::new(!seed),
            engine: Engine::new(empty()),
            mirror: Mirror::new(),
            lines: lines.collect(),
            flushes: VecDeque::new(),
            answers: VecDeque::new(),
            reversals: BTreeMap::new(),
        }
    }

    /// How many accounts were evicted.
    fn run(mut self) -> usize {
        let (mut at, mut evicted) = (0, 0);
        let mut sent: Option<(Range<usize>, Load, BTreeMap<CommandId, CommandId>)> = None;
        while at < self.log.lines.len() {
            let (range, load, reversals) = match sent.take() {
                Some(sent) => sent,
                None => self.request(at),
            };
            at = range.end;
            if self.rng.percent(30) {
                sent = Some(self.request(at));
            }
            if self.rng.percent(30) {
                self.commit_and_answer();
            }
            self.install(load);
            self.reversals = reversals;
            for line in range {
                self.apply(line);
            }
            self.take_changes(at);
            if sent.is_none() && self.rng.percent(20) {
                sent = Some(self.request(at));
            }
            self.commit_and_answer();
            if sent.is_none() {
                let before = self.engine.accounts_resident();
                self.engine.trim(self.rng.below(8) as usize);
                evicted += before - self.engine.accounts_resident();
            }
            if self.rng.percent(1) {
                self.crash();
                at = self.mirror.next_line;
                sent = None;
            }
        }
        while !self.flushes.is_empty() || !self.answers.is_empty() {
            self.commit_and_answer();
        }
        self.check_end();
        evicted
    }

    fn request(&mut self, from: usize) -> (Range<usize>, Load, BTreeMap<CommandId, CommandId>) {
        let count = 1 + self.rng.pick(&[0, 1, 5, 20, 60]);
        let to = (from + count).min(self.log.lines.len());
        let (range, load) = self.send(from..to);
        (range, load, self.mirror.reversals.clone())
    }

    /// What the store answers for a batch now.
    fn send(&self, range: Range<usize>) -> (Range<usize>, Load) {
        let mut accounts: Vec<AccountId> = Vec::new();
        for line in &self.log.lines[range.clone()] {
            if let Record::Command(command) = &line.record {
                accounts.extend(command.accounts());
                let target = command.reverses.and_then(|target| self.lines.get(&target));
                if let Some(&target) = target {
                    let entries = &self.log.lines[target].entries;
                    accounts.extend(entries.iter().map(|entry| entry.account));
                }
            }
        }
        accounts.sort_unstable();
        accounts.dedup();
        accounts.retain(|&account| !self.engine.is_resident(account));
        (range, self.mirror.load(accounts))
    }

    fn install(&mut self, load: Load) {
        for (id, found) in load {
            match found {
                Some((account, balances)) => self.engine.install(account, &balances),
                None => self.engine.note_absent(id),
            }
        }
    }

    fn apply(&mut self, at: usize) {
        let line = &self.log.lines[at];
        let mut entries = Vec::new();
        let applied = match &line.record {
            Record::Command(command) => {
                let target = command.reverses.and_then(|id| self.target(id, at));
                let (position, log_time) = (line.position, line.log_time);
                self.engine
                    .apply(position, log_time, command, target.as_ref(), &mut entries)
            }
            Record::Discard(discard) => self.engine.discard(line.position, line.log_time, *discard),
            Record::Seal(first, last) => {
                let before = self.engine.applied().count();
                let fresh = self.engine.seal(Sequence(*first), Sequence(*last));
                assert_eq!(self.engine.applied().count(), before + fresh);
                Applied::Skipped
            }
        };
        self.compare(at, line, &applied);
        assert_eq!(entries, line.entries, "line {at}");
    }

    fn compare(&mut self, at: usize, line: &Line, applied: &Applied) {
        match (applied, &line.outcome) {
            (Applied::Done(outcome), Some(expected)) => assert_eq!(outcome, expected, "line {at}"),
            (Applied::Skipped, None) => {}
            (applied, expected) => panic!("line {at}: {applied:?} instead of {expected:?}"),
        }
        if self.rng.percent(20) {
            assert_eq!(
                self.engine.state_hash(),
                line.state_hash,
                "line {at}: state hash"
            );
        }
    }

    /// From the journal or what is not flushed, as of this line; reversals as of the last load.
    fn target(&self, id: CommandId, at: usize) -> Option<Target> {
        let line = &self.log.lines[*self.lines.get(&id).filter(|&&line| line < at)?];
        let outcome = line.outcome.as_ref()?;
        Some(Target {
            id,
            account: outcome.account,
            kind: outcome.kind,
            rejected: outcome.reject.is_some(),
            entries: line.entries.clone(),
            reversed_by: self.reversals.get(&id).copied(),
        })
    }

    fn take_changes(&mut self, next_line: usize) {
        let expected = self.log.lines[next_line - 1].state_hash;
        assert_eq!(
            self.engine.state_hash(),
            expected,
            "line {next_line}: state hash"
        );
        let changes = self.engine.take_changes();
        assert_eq!(
            self.engine.state_hash(),
            expected,
            "taking changes changes nothing"
        );
        self.flushes.push_back(Flush {
            changes,
            next_line,
            applied: self.engine.applied().clone(),
            applied_at: self.engine.applied_at(),
            state_hash: expected,
        });
    }

    /// Some of what is under way arrives.
    fn commit_and_answer(&mut self) {
        while self.flushes.len() > FLUSHES_MAX || self.rng.percent(60) {
            let Some(flush) = self.flushes.pop_front() else {
                break;
            };
            self.answers.push_back(flush.changes.batch);
            self.mirror.commit(flush);
        }
        while self.rng.percent(70) {
            let Some(batch) = self.answers.pop_front() else {
                break;
            };
            self.engine.flushed(batch);
        }
    }

    /// Whatever was not committed is lost, and applied again.
    fn crash(&mut self) {
        self.flushes.clear();
        self.answers.clear();
        self.engine = Engine::new(self.mirror.start.clone());
    }

    fn check_end(&self) {
        let model = &self.log.model;
        assert!(
            self.mirror.accounts.values().eq(model.accounts()),
            "accounts"
        );
        assert!(
            self.mirror.balances.values().eq(model.balances()),
            "balances"
        );
        assert_eq!(&self.mirror.start.applied, model.applied());
        assert_eq!(self.mirror.start.state_hash, model.state_hash());
        for account in model.accounts() {
            if let Some(resident) = self.engine.account(account.id) {
                assert_eq!(resident, *account);
                let balances = model
                    .balances()
                    .filter(|balance| balance.account == account.id);
                assert!(self.engine.balances_of(account.id).eq(balances.copied()));
            }
        }
    }
}
