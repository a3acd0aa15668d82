//! Committed outcomes, entries and balances as the API and the results topic show them. Pure: the
//! same outcome renders to the same message, whoever renders it and however often.
//!
//! An asset that the registry at hand lacks (it was read before the asset was added) is shown by
//! its number and in minor units; it is never a reason to fail.

use crate::core::{
    assets::{Asset, Assets},
    command::{Label, amount},
    engine::{Balance, Entry, Outcome, Reject, RejectCode},
    proto::{self, CommandStatus},
    store::StoredResult,
    types::{AssetId, CommandId, Epoch, Money, Position, Timestamp},
};

mod encode;
mod published;

pub use encode::Encoded;
pub use published::Published;

/// The result of a committed outcome. `entries` are its own, in their order; `previous_position` is
/// that of the shard's previous result.
pub fn render(
    epoch: Epoch,
    outcome: &Outcome,
    entries: &[Entry],
    label: &Label,
    previous_position: Position,
    assets: &Assets,
) -> proto::CommandResult {
    let (status, code, reason) = match &outcome.reject {
        None => (
            CommandStatus::Applied,
            RejectCode::Unspecified,
            String::new(),
        ),
        Some(reject) => {
            let sentence = reject_sentence(reject, assets);
            (CommandStatus::Rejected, reject.code, sentence)
        }
    };
    proto::CommandResult {
        command_id: outcome.id.0,
        idempotency_key: label.idempotency_key.to_string(),
        source: label.source.to_string(),
        status: status.into(),
        reject_code: code.into(),
        reject_reason: reason,
        shard_id: u32::from(outcome.id.shard().0),
        position: outcome.position.0,
        epoch: epoch.0,
        entries: entries.iter().map(|entry| bare(entry, assets)).collect(),
        created_at: label.created_at.map(Timestamp::to_proto),
        applied_at: Some(outcome.applied_at.to_proto()),
        reference: label.reference.to_string(),
        account_id: outcome.account.0,
        previous_position: previous_position.0,
        kind: outcome.kind.into(),
    }
}

/// The same for an outcome as the store gives it back.
pub fn render_stored(stored: &StoredResult, assets: &Assets) -> proto::CommandResult {
    let StoredResult {
        epoch,
        outcome,
        entries,
        label,
        previous_position,
    } = stored;
    render(*epoch, outcome, entries, label, *previous_position, assets)
}

/// An entry of a history page, with what it says of its command.
pub fn entry(
    id: CommandId,
    applied_at: Timestamp,
    reference: &str,
    entry: &Entry,
    assets: &Assets,
) -> proto::Entry {
    proto::Entry {
        command_id: id.0,
        applied_at: Some(applied_at.to_proto()),
        reference: reference.to_owned(),
        ..bare(entry, assets)
    }
}

/// A balance.
pub fn balance(balance: &Balance, assets: &Assets) -> proto::Balance {
    let asset = Shown::new(balance.asset, assets);
    proto::Balance {
        account_id: balance.account.0,
        asset: asset.name(),
        available: asset.number(balance.available),
        frozen: asset.number(balance.frozen),
        version: balance.version,
    }
}

/// Why a command was rejected: one sentence, with the numbers that decided.
pub fn reject_sentence(reject: &Reject, assets: &Assets) -> String {
    let account = reject.account;
    let Some(asset) = reject.asset.map(|asset| Shown::new(asset, assets)) else {
        return sentence_without_asset(reject);
    };
    let (name, had) = (asset.name(), asset.amount(reject.had));
    let needed = asset.number(reject.needed);
    match reject.code {
        RejectCode::TransferNotBalanced => {
            format!("the deltas of the transfer sum to {had}, and must sum to zero")
        }
        RejectCode::AccountNotEmpty => {
            format!("account {account} still has {had}, and only an empty account is closed")
        }
        RejectCode::VersionMismatch => format!(
            "the balance of account {account} in {name} has version {}, {} was expected",
            reject.had.minor_units(),
            reject.needed.minor_units()
        ),
        RejectCode::BelowMinimum => {
            format!("account {account} has {had} available, {needed} were set as the minimum")
        }
        RejectCode::InsufficientAvailable => {
            format!("account {account} has {had} available, {needed} are needed")
        }
        RejectCode::InsufficientFrozen => {
            format!("account {account} has {had} frozen, {needed} are needed")
        }
        RejectCode::AmountOverflow => format!(
            "account {account} has {had}, which a change by {needed} would take beyond 38 digits"
        ),
        _ => sentence_without_asset(reject),
    }
}

fn sentence_without_asset(reject: &Reject) -> String {
    let account = reject.account;
    match reject.code {
        RejectCode::Unspecified => "the command was rejected without a reason".into(),
        RejectCode::Invalid => "the command is not of the shape that its kind asks for".into(),
        RejectCode::TransferNotBalanced => {
            "the deltas of the transfer do not sum to zero per asset".into()
        }
        RejectCode::AccountNotFound => format!("account {account} was never opened"),
        RejectCode::AccountExists => {
            format!("account {account} exists, and an id is opened only once")
        }
        RejectCode::AccountBlocked => format!("account {account} is blocked"),
        RejectCode::AccountClosed => format!("account {account} is closed"),
        RejectCode::AccountNotEmpty => {
            format!("account {account} is not empty, and only an empty account is closed")
        }
        RejectCode::VersionMismatch | RejectCode::BelowMinimum => {
            format!("a condition on a balance of account {account} does not hold")
        }
        RejectCode::InsufficientAvailable
        | RejectCode::InsufficientFrozen
        | RejectCode::AmountOverflow => {
            format!("a balance of account {account} does not allow the change")
        }
        RejectCode::NothingToReverse => {
            format!("there is no applied CHANGE or TRANSFER of account {account} to reverse")
        }
        RejectCode::AlreadyReversed => "the command was reversed already".into(),
        RejectCode::Discarded => "the command was given up by an operator".into(),
    }
}

fn bare(entry: &Entry, assets: &Assets) -> proto::Entry {
    let asset = Shown::new(entry.asset, assets);
    proto::Entry {
        leg: u32::from(entry.leg),
        account_id: entry.account.0,
        asset: asset.name(),
        available_delta: asset.number(entry.available_delta),
        frozen_delta: asset.number(entry.frozen_delta),
        available_after: asset.number(entry.available_after),
        frozen_after: asset.number(entry.frozen_after),
        version: entry.version,
        fallback: entry.fallback,
        ..Default::default()
    }
}

/// An asset as the registry at hand knows it, or does not.
struct Shown<'a> {
    id: AssetId,
    known: Option<&'a Asset>,
}

impl<'a> Shown<'a> {
    fn new(id: AssetId, assets: &'a Assets) -> Self {
        let known = assets.by_id(id);
        Self { id, known }
    }

    fn name(&self) -> String {
        match self.known {
            Some(asset) => asset.code.clone(),
            None => format!("asset {}", self.id),
        }
    }

    fn number(&self, money: Money) -> String {
        amount::format(money, self.known.map_or(0, |asset| asset.scale))
    }

    fn amount(&self, money: Money) -> String {
        match self.known {
            Some(asset) => format!("{} {}", self.number(money), asset.code),
            None => format!("{} minor units of {}", self.number(money), self.name()),
        }
    }
}

#[cfg(test)]
mod tests;
