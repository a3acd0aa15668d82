//! The checks of a command's changes, each on the balances as the earlier ones left them: condition,
//! overflow, available, frozen. Works on drafts; no balance is written here.

use crate::core::{
    command::{Change, Move},
    engine::{Balance, Engine, Entry, Reject, RejectCode, rules::Draft, table::NIL},
    types::{AccountId, AssetId, Money},
};

/// One step of a command: a change, or an entry taken back.
struct Step {
    leg: u16,
    fallback: bool,
    account: AccountId,
    mv: Move,
}

impl Engine {
    pub(super) fn take_change(
        &mut self,
        leg: u16,
        change: &Change,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Reject> {
        let account = change.account;
        let draft = self.draft(account, change.primary.asset);
        check_condition(leg, change, &self.scratch.balances[draft].value)?;
        let primary = Step {
            leg,
            fallback: false,
            account,
            mv: change.primary,
        };
        match (self.take(&primary, draft, entries), change.fallback) {
            (Err(reject), Some(mv)) if reject.code != RejectCode::AmountOverflow => {
                let fallback = Step {
                    leg,
                    fallback: true,
                    account,
                    mv,
                };
                let draft = self.draft(account, mv.asset);
                self.take(&fallback, draft, entries).map_err(|_| reject)
            }
            (taken, _) => taken,
        }
    }

    pub(super) fn take_back(
        &mut self,
        entry: &Entry,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Reject> {
        let step = Step {
            leg: entry.leg,
            fallback: entry.fallback,
            account: entry.account,
            mv: Move {
                asset: entry.asset,
                available_delta: entry.available_delta.negated(),
                frozen_delta: entry.frozen_delta.negated(),
            },
        };
        let draft = self.draft(step.account, step.mv.asset);
        self.take(&step, draft, entries)
    }

    /// Moves the step's draft, or leaves it as it was.
    fn take(&mut self, step: &Step, draft: usize, entries: &mut Vec<Entry>) -> Result<(), Reject> {
        let value = &mut self.scratch.balances[draft].value;
        let (available, frozen) = sums(step, value)?;
        value.available = available;
        value.frozen = frozen;
        value.version = value
            .version
            .checked_add(1)
            .expect("fewer than 2^64 entries");
        entries.push(Entry {
            leg: step.leg,
            fallback: step.fallback,
            account: step.account,
            asset: step.mv.asset,
            available_delta: step.mv.available_delta,
            frozen_delta: step.mv.frozen_delta,
            available_after: available,
            frozen_after: frozen,
            version: value.version,
            previous_position: value.last_position,
        });
        Ok(())
    }

    /// Which draft is that of a balance.
    pub(super) fn draft(&mut self, account: AccountId, asset: AssetId) -> usize {
        let drafts = &mut self.scratch.balances;
        let known = drafts
            .iter()
            .position(|draft| draft.value.account == account && draft.value.asset == asset);
        known.unwrap_or_else(|| {
            let draft = match self.cells.find_balance(account, asset) {
                Some(cell) => {
                    let balance = self.cells.use_balance(cell);
                    Draft {
                        cell,
                        open: balance.is_open(),
                        value: balance.value(),
                        version: balance.version,
                    }
                }
                None => Draft {
                    cell: NIL,
                    open: false,
                    value: Balance::untouched(account, asset),
                    version: 0,
                },
            };
            drafts.push(draft);
            drafts.len().saturating_sub(1)
        })
    }
}

fn check_condition(leg: u16, change: &Change, balance: &Balance) -> Result<(), Reject> {
    let failed = |code, had, needed| {
        let asset = Some(change.primary.asset);
        Err(Reject {
            asset,
            had,
            needed,
            ..Reject::new(code, leg, change.account)
        })
    };
    if let Some(version) = change.if_version
        && version != balance.version
    {
        return failed(
            RejectCode::VersionMismatch,
            count(balance.version),
            count(version),
        );
    }
    if let Some(minimum) = change.if_min_available
        && minimum > balance.available
    {
        return failed(RejectCode::BelowMinimum, balance.available, minimum);
    }
    Ok(())
}

fn count(version: u64) -> Money {
    Money::new(i128::from(version)).expect("64 bits fit")
}

/// Available and frozen after a step: overflow first, then the floors.
fn sums(step: &Step, balance: &Balance) -> Result<(Money, Money), Reject> {
    let failed = |code, had, needed| Reject {
        asset: Some(step.mv.asset),
        had,
        needed,
        ..Reject::new(code, step.leg, step.account)
    };
    let Move {
        available_delta,
        frozen_delta,
        ..
    } = step.mv;
    let overflow = |had, delta| failed(RejectCode::AmountOverflow, had, delta);
    let available = (balance.available.checked_add(available_delta))
        .ok_or(overflow(balance.available, available_delta))?;
    let frozen =
        (balance.frozen.checked_add(frozen_delta)).ok_or(overflow(balance.frozen, frozen_delta))?;
    if step.account.clearing_shard().is_some() {
        return Ok((available, frozen));
    }
    if available.is_negative() {
        let needed = available_delta.negated();
        return Err(failed(
            RejectCode::InsufficientAvailable,
            balance.available,
            needed,
        ));
    }
    if frozen.is_negative() {
        return Err(failed(
            RejectCode::InsufficientFrozen,
            balance.frozen,
            frozen_delta.negated(),
        ));
    }
    Ok((available, frozen))
}
