//! The log against the journal: the shard's records once more, into a fresh engine, up to where the
//! snapshot stood. No snapshot is held meanwhile.

use super::{
    Error, Event, Watch,
    compare::balance_of_cell,
    finding::{Finding, Kind, balance_of},
    fold::Fold,
};
use crate::core::{
    assets::Assets,
    engine::Balance,
    interval_set::IntervalSet,
    log,
    replay::{self, Sources, Until},
    types::{CommandId, Position, Sequence, ShardId},
};

/// Outcomes of the log that the journal has not are named up to so many.
const MISSING_MAX: usize = 1_000;

/// What was replayed of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Where the log begins, or what was taken from the journal ends.
    pub from: Position,
    /// It was begun with the journal's state: the log has forgotten what was before.
    pub is_from_journal: bool,
    /// Commands decided.
    pub commands: u64,
}

/// Compares; `end` and `state_hash` are those of the shard's row in the snapshot.
///
/// # Errors
///
/// Log or store went away, or the log reaches neither back to its beginning nor to the journal's.
pub async fn compare(
    sources: &Sources,
    shard: ShardId,
    (end, state_hash): (Position, u128),
    fold: &mut Fold<'_>,
    assets: &Assets,
    watch: &Watch,
) -> Result<Option<LogReport>, Error> {
    let mut decided = IntervalSet::new();
    let mut missing = Vec::new();
    let outcomes = std::mem::take(&mut fold.numbers.outcomes);
    let replayed = replay::shard(sources, shard, Until::Position(end), |batch| {
        for (decision, _) in batch.decided() {
            let number = decision.outcome.id.sequence().0;
            decided.insert(number);
            if !outcomes.contains(number) && missing.len() < MISSING_MAX {
                missing.push((decision.outcome.id, decision.outcome.position));
            }
        }
    })
    .await;
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(replay::Error::Differs(why)) => {
            fold.find(Finding::new(
                Kind::Log,
                shard,
                why,
                "a log that can be replayed",
            ));
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    for (id, position) in missing {
        let finding = Finding::new(Kind::Log, shard, "no outcome in the journal", "an outcome");
        fold.find(finding.position(position.0).command(id));
    }
    let began = replayed.began();
    let is_from_journal = began.from_journal.is_some();
    if !is_from_journal {
        let extra = outcomes
            .iter()
            .flat_map(|(first, last)| decided.gaps(first, last));
        for (first, last) in extra.take(MISSING_MAX) {
            let stored = format!("outcomes of numbers {first} to {last}");
            let finding = Finding::new(Kind::Log, shard, stored, "none in the log");
            fold.find(finding.command(CommandId::new(shard, Sequence(first))));
        }
    }
    fold.numbers.outcomes = outcomes;
    state(&replayed, shard, state_hash, fold, assets);
    let report = LogReport {
        from: began.at,
        is_from_journal,
        commands: replayed.counts().decided(),
    };
    watch.tell(Event::Replayed(report.commands)).await;
    Ok(Some(report))
}

/// Balances, accounts and the hash.
fn state(
    replayed: &replay::Replay,
    shard: ShardId,
    state_hash: u128,
    fold: &mut Fold<'_>,
    assets: &Assets,
) {
    let show = |balance: Option<&Balance>| {
        balance.map_or("no balance".into(), |balance| balance_of(assets, balance))
    };
    let mut findings = Vec::new();
    for cell in &fold.cells {
        let of_journal = balance_of_cell(cell);
        let of_log = of_journal.and_then(|it| replayed.balance(it.account, it.asset));
        if of_journal != of_log {
            let (stored, expected) = (show(of_journal.as_ref()), show(of_log.as_ref()));
            let finding = Finding::new(Kind::Log, shard, stored, expected);
            let finding = finding
                .balance(cell.account, cell.asset)
                .version(cell.version);
            findings.push(finding.position(cell.last_position));
        }
    }
    for account in replayed.accounts() {
        for balance in replayed.balances_of(account.id).filter(|it| it.version > 0) {
            let (id, asset) = (balance.account.0, balance.asset.0);
            if fold.balance(id, asset).is_none() {
                let finding = Finding::new(Kind::Log, shard, "no entries", show(Some(&balance)));
                findings.push(finding.balance(id, asset));
            }
        }
        let opened = fold.accounts.get(&account.id.0).map(|opened| opened.status);
        if account.id.clearing_shard().is_none() && opened != Some(account.status) {
            let text = |status: Option<crate::core::engine::AccountStatus>| {
                status.map_or("never opened", |status| status.as_str_name())
            };
            let (stored, expected) = (text(opened), text(Some(account.status)));
            let finding = Finding::new(Kind::Log, shard, stored, expected);
            findings.push(finding.account(account.id.0));
        }
    }
    let hash = replayed.state_hash();
    if findings.is_empty() && hash != state_hash {
        let (stored, expected) = (format!("{state_hash:032x}"), format!("{hash:032x}"));
        findings.push(Finding::new(Kind::Log, shard, stored, expected));
    }
    findings.into_iter().for_each(|finding| fold.find(finding));
}

fn failed(error: replay::Error) -> Error {
    match error {
        replay::Error::Log(log::Error::Unavailable(why)) => Error::Unavailable(why),
        replay::Error::Store(error) => Error::Store(error),
        error => Error::Failed(error.to_string()),
    }
}
