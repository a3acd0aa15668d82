//! What a replay found, as tables or JSON.

use std::{collections::BTreeMap, time::Duration};

use axs::core::{
    assets::Assets,
    engine::{Balance, Entry, Outcome},
    reconcile::amount_of,
    replay::{
        Batch, Replay,
        diff::{Diff, describe},
    },
    types::{AccountId, AssetId, Position, ShardId},
};

use crate::cmd::{
    Ctx,
    ui::{Table, count, duration},
};

mod document;

/// Prints what comes.
pub struct Show<'a> {
    ctx: &'a Ctx,
    assets: &'a Assets,
    shard: ShardId,
    /// Outcomes before are not printed.
    from: Position,
    outcomes: bool,
    account: Option<AccountId>,
    /// Time spent reading and applying.
    pub elapsed: Duration,
}

impl<'a> Show<'a> {
    pub fn new(ctx: &'a Ctx, assets: &'a Assets, shard: ShardId, from: Position) -> Self {
        Self {
            ctx,
            assets,
            shard,
            from,
            outcomes: false,
            account: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Prints outcomes too, of one account or of all.
    pub fn outcomes(&mut self, outcomes: bool, account: Option<AccountId>) {
        (self.outcomes, self.account) = (outcomes, account);
    }

    pub fn batch(&self, batch: &Batch) {
        if !self.outcomes {
            return;
        }
        for (decision, entries) in batch.decided() {
            let outcome = &decision.outcome;
            let touches = |account: &AccountId| {
                outcome.account == *account || entries.iter().any(|it| it.account == *account)
            };
            if outcome.position < self.from || !self.account.as_ref().is_none_or(touches) {
                continue;
            }
            match self.ctx.ui.is_json() {
                true => self.ctx.ui.document(&self.outcome(outcome, entries)),
                false => self.ctx.ui.line(self.text(outcome, entries)),
            }
        }
    }

    fn text(&self, outcome: &Outcome, entries: &[Entry]) -> String {
        let (at, when, account) = (outcome.position, outcome.applied_at, outcome.account);
        let mut line = format!(
            "{at}  {when}  {}  account {account}  {}",
            describe(outcome),
            kind(outcome)
        );
        for entry in entries {
            let amount = |units| amount_of(self.assets, entry.asset.0, units);
            line += &format!(
                "  [{} {} {} / {} -> {} / {} v{}]",
                entry.account,
                self.asset(entry.asset),
                amount(entry.available_delta.minor_units()),
                amount(entry.frozen_delta.minor_units()),
                amount(entry.available_after.minor_units()),
                amount(entry.frozen_after.minor_units()),
                entry.version
            );
        }
        line
    }

    fn asset(&self, id: AssetId) -> String {
        let asset = self.assets.by_id(id);
        asset.map_or_else(|| id.to_string(), |asset| asset.code.clone())
    }

    /// Where it ended, and what differs. `balances`: those of one account or of all, too.
    pub fn end(&self, replay: &Replay, diff: Option<&Diff>, balances: Option<Option<AccountId>>) {
        let balances = balances.map(|account| balances_of(replay, account));
        if self.ctx.ui.is_json() {
            return self.ctx.ui.document(&self.document(replay, diff, balances));
        }
        if let Some(balances) = balances {
            let mut table = Table::new([
                "account>",
                "asset",
                "available>",
                "frozen>",
                "version>",
                "position>",
            ]);
            for balance in balances {
                let amount = |units| amount_of(self.assets, balance.asset.0, units);
                table.row([
                    balance.account.to_string(),
                    self.asset(balance.asset),
                    amount(balance.available.minor_units()),
                    amount(balance.frozen.minor_units()),
                    balance.version.to_string(),
                    balance.last_position.to_string(),
                ]);
            }
            self.ctx.ui.table(table);
            self.ctx.ui.line("");
        }
        self.summary(replay, diff);
        if let Some(diff) = diff.filter(|diff| diff.total > 0) {
            self.ctx.ui.line("");
            let mut table = Table::new([
                "what", "position", "command", "account", "asset", "stored", "replayed",
            ]);
            for finding in &diff.listed {
                let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
                table.row([
                    finding.kind.name().to_owned(),
                    text(finding.position.map(|it| it.to_string())),
                    text(finding.command.map(|it| it.to_string())),
                    text(finding.account.map(|it| it.to_string())),
                    text(finding.asset.map(|it| self.asset(it))),
                    finding.stored.clone(),
                    finding.expected.clone(),
                ]);
            }
            self.ctx.ui.table(table);
        }
        self.advise(replay, diff);
    }

    fn summary(&self, replay: &Replay, diff: Option<&Diff>) {
        let (counts, began) = (replay.counts(), replay.began());
        let mut rows = vec![
            ("shard", self.shard.to_string()),
            ("from position", began.at.to_string()),
            (
                "built from the journal",
                began.from_journal.map_or("no".into(), |commands| {
                    format!("{} commands before it", count(commands))
                }),
            ),
            ("next position to apply", replay.next_position().to_string()),
            ("records read", count(counts.records)),
            ("commands applied", count(counts.applied)),
        ];
        let rejected: u64 = counts.rejected.values().sum();
        let by_code = counts.rejected.iter();
        let by_code: Vec<String> = by_code
            .map(|(reject, number)| format!("{} {}", code(*reject), count(*number)))
            .collect();
        rows.push((
            "commands rejected",
            match rejected {
                0 => "0".into(),
                _ => format!("{} ({})", count(rejected), by_code.join(", ")),
            },
        ));
        rows.extend([
            ("repeats", count(counts.duplicates)),
            ("ticks", count(counts.ticks)),
            (
                "seals",
                format!(
                    "{}, of {} numbers",
                    count(counts.seals),
                    count(counts.numbers_sealed)
                ),
            ),
            ("dead letters", count(counts.dead_letters)),
            (
                "last outcome",
                match replay.applied_at().0 {
                    0 => "-".into(),
                    _ => replay.applied_at().to_string(),
                },
            ),
            (
                "numbers decided",
                match replay.applied().is_empty() {
                    true => "-".into(),
                    false => replay.applied().to_string(),
                },
            ),
            ("state hash", format!("{:032x}", replay.state_hash())),
            (
                "read and applied in",
                format!(
                    "{}, {} records/s",
                    duration(self.elapsed),
                    count(self.rate(replay))
                ),
            ),
        ]);
        if let Some(diff) = diff {
            rows.push((
                "compared with the journal",
                format!("{} commands", count(diff.commands)),
            ));
            rows.push((
                "compared with the rows",
                match diff.state {
                    Some(state) => format!(
                        "{} balances, {} accounts",
                        count(state.balances),
                        count(state.accounts)
                    ),
                    None => "not: the shard's row stands elsewhere".into(),
                },
            ));
            if let Some(cache) = diff.cache {
                rows.push((
                    "compared with Redis",
                    format!(
                        "{} balances; {} of another version, {} accounts not there",
                        count(cache.same),
                        count(cache.other),
                        count(cache.missing)
                    ),
                ));
            }
            rows.push(("differences", count(diff.total)));
        }
        let mut table = Table::new(["figure", "value"]);
        for (figure, value) in rows {
            table.row([figure.into(), value]);
        }
        self.ctx.ui.table(table);
        self.ctx.ui.line("");
        let mut table = Table::new(["asset", "available>", "frozen>"]);
        for (asset, (available, frozen)) in totals(replay) {
            table.row([
                self.asset(asset),
                amount_of(self.assets, asset.0, available),
                amount_of(self.assets, asset.0, frozen),
            ]);
        }
        self.ctx.ui.table(table);
    }

    /// Records a second.
    fn rate(&self, replay: &Replay) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        let rate = u128::from(replay.counts().records) * 1_000_000 / micros;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn advise(&self, replay: &Replay, diff: Option<&Diff>) {
        let ui = &self.ctx.ui;
        if replay.began().from_journal.is_some() {
            ui.note(
                "the log does not begin with the shard's first record: the state before it is the \
                 journal's, which does not know the numbers that were sealed",
            );
        }
        if let Some(diff) = diff.filter(|diff| diff.total > diff.listed.len() as u64) {
            ui.note(format!(
                "the first {} differences are listed",
                diff.listed.len()
            ));
        }
    }
}

fn balances_of(replay: &Replay, only: Option<AccountId>) -> Vec<Balance> {
    match only {
        Some(account) => replay.balances_of(account).collect(),
        None => {
            let accounts = replay.accounts().into_iter();
            accounts
                .flat_map(|account| replay.balances_of(account.id))
                .collect()
        }
    }
}

fn totals(replay: &Replay) -> BTreeMap<AssetId, (i128, i128)> {
    let mut totals: BTreeMap<AssetId, (i128, i128)> = BTreeMap::new();
    for balance in balances_of(replay, None) {
        let (available, frozen) = totals.entry(balance.asset).or_default();
        *available = available.saturating_add(balance.available.minor_units());
        *frozen = frozen.saturating_add(balance.frozen.minor_units());
    }
    totals
}

fn kind(outcome: &Outcome) -> String {
    let name = outcome.kind.as_str_name();
    name.trim_start_matches("COMMAND_KIND_").to_owned()
}

fn code(code: axs::core::engine::RejectCode) -> String {
    code.as_str_name()
        .trim_start_matches("REJECT_CODE_")
        .to_owned()
}
