//! The same as JSON.

use axs::core::{
    engine::{Balance, Entry, Outcome},
    reconcile::{Finding, amount_of},
    replay::{Replay, diff::Diff},
};
use serde_json::{Value, json};

use super::{Show, code, kind, totals};

const SCHEMA: &str = "axs.replay/v1";

impl Show<'_> {
    pub(super) fn outcome(&self, outcome: &Outcome, entries: &[Entry]) -> Value {
        let reject = outcome.reject.as_ref();
        let entries: Vec<Value> = entries.iter().map(|entry| self.entry(entry)).collect();
        json!({
            "schema": SCHEMA,
            "type": "outcome",
            "position": outcome.position.to_string(),
            "command_id": outcome.id.to_string(),
            "applied_at": outcome.applied_at.to_string(),
            "account_id": outcome.account.to_string(),
            "kind": kind(outcome),
            "status": if reject.is_some() { "REJECTED" } else { "APPLIED" },
            "reject_code": reject.map(|reject| code(reject.code)),
            "entries": entries,
        })
    }

    fn entry(&self, entry: &Entry) -> Value {
        let amount = |units| amount_of(self.assets, entry.asset.0, units);
        json!({
            "account_id": entry.account.to_string(),
            "asset": self.asset(entry.asset),
            "available_delta": amount(entry.available_delta.minor_units()),
            "frozen_delta": amount(entry.frozen_delta.minor_units()),
            "available": amount(entry.available_after.minor_units()),
            "frozen": amount(entry.frozen_after.minor_units()),
            "version": entry.version.to_string(),
            "fallback": entry.fallback,
        })
    }

    pub(super) fn document(
        &self,
        replay: &Replay,
        diff: Option<&Diff>,
        balances: Option<Vec<Balance>>,
    ) -> Value {
        let (counts, began) = (replay.counts(), replay.began());
        let rejected = counts.rejected.iter();
        let rejected: serde_json::Map<String, Value> = rejected
            .map(|(reject, number)| (code(*reject), json!(number)))
            .collect();
        let totals: Vec<Value> = totals(replay)
            .into_iter()
            .map(|(asset, (available, frozen))| {
                json!({
                    "asset": self.asset(asset),
                    "available": amount_of(self.assets, asset.0, available),
                    "frozen": amount_of(self.assets, asset.0, frozen),
                })
            })
            .collect();
        let mut document = json!({
            "schema": SCHEMA,
            "type": "summary",
            "shard": self.shard.0,
            "from_position": began.at.to_string(),
            "commands_from_journal": began.from_journal,
            "next_position": replay.next_position().to_string(),
            "records": counts.records,
            "applied": counts.applied,
            "rejected": rejected,
            "duplicates": counts.duplicates,
            "ticks": counts.ticks,
            "seals": counts.seals,
            "numbers_sealed": counts.numbers_sealed,
            "dead_letters": counts.dead_letters,
            "last_outcome_at": (replay.applied_at().0 != 0).then(|| replay.applied_at().to_string()),
            "decided": replay.applied().to_string(),
            "state_hash": format!("{:032x}", replay.state_hash()),
            "records_per_second": self.rate(replay),
            "totals": totals,
        });
        if let Some(balances) = balances {
            let balances: Vec<Value> = balances.iter().map(|it| self.balance(it)).collect();
            document["balances"] = json!(balances);
        }
        if let Some(diff) = diff {
            document["diff"] = self.differences(diff);
        }
        document
    }

    fn balance(&self, balance: &Balance) -> Value {
        let amount = |units| amount_of(self.assets, balance.asset.0, units);
        json!({
            "account_id": balance.account.to_string(),
            "asset": self.asset(balance.asset),
            "available": amount(balance.available.minor_units()),
            "frozen": amount(balance.frozen.minor_units()),
            "version": balance.version.to_string(),
            "last_position": balance.last_position.to_string(),
        })
    }

    fn differences(&self, diff: &Diff) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "kind": finding.kind.name(),
                "position": finding.position.map(|it| it.to_string()),
                "command_id": finding.command.map(|it| it.to_string()),
                "account_id": finding.account.map(|it| it.to_string()),
                "asset": finding.asset.map(|it| self.asset(it)),
                "version": finding.version.map(|it| it.to_string()),
                "stored": finding.stored,
                "replayed": finding.expected,
            })
        };
        let listed: Vec<Value> = diff.listed.iter().map(finding).collect();
        json!({
            "commands": diff.commands,
            "balances": diff.state.map(|state| state.balances),
            "accounts": diff.state.map(|state| state.accounts),
            "cached_balances": diff.cache.map(|cache| cache.same),
            "differences": diff.total,
            "findings": listed,
        })
    }
}
