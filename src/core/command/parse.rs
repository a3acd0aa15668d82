//! From the API's message to a [`Command`], with the field named in every error. All rules of shape
//! stand here; what depends on accounts, keys or balances does not. Pure.

use prost::Message;

use super::{
    CHANGES_MAX, COMMAND_BYTES_MAX, Change, Command, CommandKind, Move, amount, hash, text,
};
use crate::core::{
    assets::{self, Asset, Assets},
    proto::{self, submit_error::Code},
    types::{AccountId, AssetId, CommandId, ContentHash, Money, ShardId, Timestamp},
};

/// Longest deadline of an acknowledgement.
const ACK_SECONDS_MAX: u32 = 86_400;

/// Why a command is refused. Nothing of it may be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// `Invalid` or `Unsupported`.
    pub code: Code,
    /// Such as `changes[1].available_delta`; `command` for the whole of it.
    pub field: String,
    /// One sentence that names the field and says what it must be.
    pub message: String,
    /// Set when all that is wrong so far is an asset that the registry, as it was read, lacks.
    pub unknown_asset: Option<String>,
}

/// Checks and resolves one command. `shards` is the number of shards of the cluster. The result has
/// its content hash, but neither id nor `accepted_at`.
pub fn parse(
    message: &proto::Command,
    assets: &Assets,
    shards: u16,
) -> Result<Command, ParseError> {
    let bytes = message.encoded_len();
    if bytes > COMMAND_BYTES_MAX {
        let text = format!("must be at most {COMMAND_BYTES_MAX} bytes encoded, not {bytes}");
        return Err(invalid("command", text));
    }
    check_text("idempotency_key", &message.idempotency_key, text::KEY_BYTES)?;
    check_text("source", &message.source, text::SOURCE_BYTES)?;
    check_text("reference", &message.reference, text::REFERENCE_BYTES)?;
    let account = account("account_id", message.account_id)?;
    let kind = kind(message.kind)?;
    let created_at = created_at(message.created_at.as_ref())?;
    let reverses = reverses(kind, message.reverses)?;
    let pin = pin(kind, message.shard_id, shards)?;
    if message.user_id != 0 && kind != CommandKind::OpenAccount {
        return Err(invalid("user_id", "must be set for OPEN_ACCOUNT only"));
    }
    let changes = changes(message, kind, account, assets)?;
    if let Some(ack) = &message.ack {
        check_ack(ack)?;
        return Err(ParseError {
            code: Code::Unsupported,
            ..invalid(
                "ack",
                "must not be set: acknowledgements come with a later version",
            )
        });
    }
    let mut command = Command {
        id: None,
        content_hash: ContentHash([0; 16]),
        source: message.source.clone().into(),
        idempotency_key: message.idempotency_key.clone().into(),
        account,
        kind,
        changes: changes.into(),
        reference: message.reference.clone().into(),
        created_at,
        accepted_at: Timestamp::default(),
        user: message.user_id,
        reverses,
        ack: None,
        pin,
    };
    command.content_hash = hash::content_hash(&command);
    Ok(command)
}

/// Whether per asset the available and frozen deltas of all primary moves sum to zero together.
fn is_balanced(changes: &[Change]) -> bool {
    let mut totals: Vec<(AssetId, Total)> = Vec::new();
    for change in changes {
        let one = &change.primary;
        let at = match totals.iter().position(|(asset, _)| *asset == one.asset) {
            Some(at) => at,
            None => {
                totals.push((one.asset, Total::default()));
                totals.len() - 1
            }
        };
        totals[at].1.add(one.available_delta);
        totals[at].1.add(one.frozen_delta);
    }
    totals.iter().all(|(_, total)| total.is_zero())
}

/// An exact sum of many amounts, in two halves: a hundred amounts of 38 digits overflow an i128.
#[derive(Default)]
struct Total {
    high: i128,
    low: i128,
}

impl Total {
    fn add(&mut self, amount: Money) {
        self.high += amount.minor_units() >> 64;
        self.low += amount.minor_units() & i128::from(u64::MAX);
    }

    fn is_zero(&self) -> bool {
        self.low & i128::from(u64::MAX) == 0 && self.high + (self.low >> 64) == 0
    }
}

fn changes(
    message: &proto::Command,
    kind: CommandKind,
    own: AccountId,
    assets: &Assets,
) -> Result<Vec<Change>, ParseError> {
    let count = message.changes.len();
    let allowed = match kind {
        CommandKind::Change => 1..=CHANGES_MAX,
        CommandKind::Transfer => 2..=CHANGES_MAX,
        CommandKind::OpenAccount => 0..=CHANGES_MAX,
        _ => 0..=0,
    };
    if !allowed.contains(&count) {
        let (least, most) = (allowed.start(), allowed.end());
        let text = match most {
            0 => format!("must be empty for {}", short_name(kind)),
            _ => format!(
                "must be {least} to {most} for {}, not {count}",
                short_name(kind)
            ),
        };
        return Err(invalid("changes", text));
    }
    let mut changes = Vec::with_capacity(count);
    for (index, one) in message.changes.iter().enumerate() {
        changes.push(change(one, index, own, assets)?);
        let field = |name| format!("changes[{index}].{name}");
        if kind == CommandKind::OpenAccount && changes[index].account != own {
            let text = "must be 0 or the account that OPEN_ACCOUNT opens";
            return Err(invalid(field("account_id"), text));
        }
        if kind == CommandKind::Transfer && one.fallback.is_some() {
            return Err(invalid(field("fallback"), "must not be set for TRANSFER"));
        }
    }
    if kind == CommandKind::Transfer && !is_balanced(&changes) {
        let text = "must sum to zero per asset for TRANSFER, available and frozen together";
        return Err(invalid("changes", text));
    }
    Ok(changes)
}

fn change(
    change: &proto::Change,
    index: usize,
    own: AccountId,
    assets: &Assets,
) -> Result<Change, ParseError> {
    let prefix = format!("changes[{index}]");
    let account = match change.account_id {
        0 => own,
        raw => account(&format!("{prefix}.account_id"), raw)?,
    };
    let asset = asset(&prefix, &change.asset, assets)?;
    let primary = Move {
        asset: asset.id,
        available_delta: delta(&prefix, "available_delta", &change.available_delta, asset)?,
        frozen_delta: delta(&prefix, "frozen_delta", &change.frozen_delta, asset)?,
    };
    let fallback = match &change.fallback {
        None => None,
        Some(fallback) => Some(fallback_move(&prefix, fallback, assets)?),
    };
    let condition = change.condition.as_ref();
    let if_min_available = match condition.and_then(|c| c.min_available.as_ref()) {
        None => None,
        Some(text) => Some(money(&prefix, "condition.min_available", text, asset)?),
    };
    Ok(Change {
        account,
        primary,
        fallback,
        if_version: condition.and_then(|condition| condition.version),
        if_min_available,
    })
}

fn fallback_move(
    prefix: &str,
    fallback: &proto::Fallback,
    assets: &Assets,
) -> Result<Move, ParseError> {
    let prefix = format!("{prefix}.fallback");
    let asset = asset(&prefix, &fallback.asset, assets)?;
    Ok(Move {
        asset: asset.id,
        available_delta: delta(&prefix, "available_delta", &fallback.available_delta, asset)?,
        frozen_delta: delta(&prefix, "frozen_delta", &fallback.frozen_delta, asset)?,
    })
}

fn asset<'a>(prefix: &str, code: &str, assets: &'a Assets) -> Result<&'a Asset, ParseError> {
    if let Some(asset) = assets.by_code(code) {
        return Ok(asset);
    }
    let field = format!("{prefix}.asset");
    if !assets::is_valid_code(code) {
        let text = "must be an asset code: 1 to 16 of A-Z, 0-9, point, underscore and hyphen";
        return Err(invalid(field, text));
    }
    let text = format!("must be an asset of the registry, which has no {code}");
    Err(ParseError {
        unknown_asset: Some(code.to_owned()),
        ..invalid(field, text)
    })
}

/// An empty delta means zero.
fn delta(prefix: &str, name: &str, text: &str, asset: &Asset) -> Result<Money, ParseError> {
    match text {
        "" => Ok(Money::ZERO),
        _ => money(prefix, name, text, asset),
    }
}

fn money(prefix: &str, name: &str, text: &str, asset: &Asset) -> Result<Money, ParseError> {
    amount::parse(text, asset.scale)
        .map_err(|error| invalid(format!("{prefix}.{name}"), error.to_string()))
}

fn account(field: &str, raw: u64) -> Result<AccountId, ParseError> {
    let account = AccountId(raw);
    if account.is_callers() {
        return Ok(account);
    }
    let text = match raw {
        0 => "must be set: an account id of 1 to 2^62 - 1",
        _ => "must be below 2^62: the accounts from there on are AXS's own",
    };
    Err(invalid(field, text))
}

fn kind(raw: i32) -> Result<CommandKind, ParseError> {
    let text = match CommandKind::try_from(raw) {
        Ok(CommandKind::Unspecified) => "must be set".to_owned(),
        Ok(kind) => return Ok(kind),
        Err(_) => format!("must be a kind of command from 1 to 7, not {raw}"),
    };
    Err(invalid("kind", text))
}

fn created_at(time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, ParseError> {
    let Some(time) = time else { return Ok(None) };
    match Timestamp::from_proto(time) {
        Some(time) => Ok(Some(time)),
        None => Err(invalid(
            "created_at",
            "must be a time of the years 1 to 9999",
        )),
    }
}

fn reverses(kind: CommandKind, raw: u64) -> Result<Option<CommandId>, ParseError> {
    let text = match (kind, raw) {
        (CommandKind::Reverse, 0) => "must be set for REVERSE: the command to invert",
        (CommandKind::Reverse, raw) => match CommandId::parse(raw) {
            Some(id) => return Ok(Some(id)),
            None => "must be the id of a command, as its acceptance answered it",
        },
        (_, 0) => return Ok(None),
        _ => "must be set for REVERSE only",
    };
    Err(invalid("reverses", text))
}

fn pin(kind: CommandKind, raw: Option<u32>, shards: u16) -> Result<Option<ShardId>, ParseError> {
    let Some(raw) = raw else { return Ok(None) };
    if kind != CommandKind::OpenAccount {
        return Err(invalid("shard_id", "must be set for OPEN_ACCOUNT only"));
    }
    match u16::try_from(raw).ok().filter(|shard| *shard < shards) {
        Some(shard) => Ok(Some(ShardId(shard))),
        None => Err(invalid(
            "shard_id",
            format!("must be below {shards}, the number of shards"),
        )),
    }
}

fn check_ack(ack: &proto::AckPolicy) -> Result<(), ParseError> {
    if !(1..=ACK_SECONDS_MAX).contains(&ack.deadline_seconds) {
        let text = format!("must be 1 to {ACK_SECONDS_MAX}");
        return Err(invalid("ack.deadline_seconds", text));
    }
    if proto::ack_policy::OnTimeout::try_from(ack.on_timeout).is_err() {
        return Err(invalid("ack.on_timeout", "must be PARK or REVERSE"));
    }
    check_text("ack.callback", &ack.callback, text::REFERENCE_BYTES)
}

fn check_text(
    field: &str,
    value: &str,
    bytes: std::ops::RangeInclusive<usize>,
) -> Result<(), ParseError> {
    text::check(value, bytes).map_err(|error| invalid(field, error.to_string()))
}

fn short_name(kind: CommandKind) -> &'static str {
    kind.as_str_name().trim_start_matches("COMMAND_KIND_")
}

/// `text` says what the field must be, and follows its name.
fn invalid(field: impl Into<String>, text: impl AsRef<str>) -> ParseError {
    let field = field.into();
    ParseError {
        code: Code::Invalid,
        message: format!("{field} {}", text.as_ref()),
        field,
        unknown_asset: None,
    }
}

#[cfg(test)]
mod tests;
