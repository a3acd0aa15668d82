//! One command, given by flags.

use anyhow::{Context as _, Result};
use axs::core::proto::{Change, Command, CommandKind};
use clap::ValueEnum;

/// A single command
#[derive(clap::Args)]
#[command(next_help_heading = "One command, instead of a file")]
pub struct One {
    /// Its account
    #[arg(long, value_name = "ID")]
    pub account: Option<u64>,
    /// What it does
    #[arg(long, value_enum, ignore_case = true, default_value_t = Kind::Change, requires = "account")]
    kind: Kind,
    /// A change, with signed decimal amounts; may be repeated
    #[arg(long = "change", value_name = "ASSET:AVAILABLE[:FROZEN]", value_parser = parse_change)]
    #[arg(allow_hyphen_values = true, requires = "account")]
    changes: Vec<Change>,
    /// Idempotency key [default: a random one]
    #[arg(long, requires = "account")]
    key: Option<String>,
    /// The calling service
    #[arg(long, default_value = "cli", requires = "account")]
    source: String,
    /// Your own id for it, stored and shown
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        requires = "account"
    )]
    reference: String,
    /// OPEN_ACCOUNT: the owner
    #[arg(
        long,
        value_name = "ID",
        default_value_t = 0,
        hide_default_value = true
    )]
    #[arg(requires = "account")]
    user: u64,
    /// OPEN_ACCOUNT: the shard to pin it to
    #[arg(long, value_name = "SHARD", requires = "account")]
    pin: Option<u32>,
    /// REVERSE: the command to invert
    #[arg(
        long,
        value_name = "COMMAND_ID",
        default_value_t = 0,
        hide_default_value = true
    )]
    #[arg(requires = "account")]
    reverses: u64,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    Change,
    Transfer,
    #[value(alias = "open-account")]
    OpenAccount,
    #[value(alias = "block-account")]
    BlockAccount,
    #[value(alias = "unblock-account")]
    UnblockAccount,
    #[value(alias = "close-account")]
    CloseAccount,
    Reverse,
}

impl One {
    /// As a line of a file would say it.
    pub fn command(self) -> Result<Command> {
        let key = match self.key {
            Some(key) => key,
            None => random_key()?,
        };
        Ok(Command {
            idempotency_key: key,
            source: self.source,
            account_id: self.account.unwrap_or_default(),
            kind: self.kind.proto().into(),
            changes: self.changes,
            reference: self.reference,
            user_id: self.user,
            reverses: self.reverses,
            shard_id: self.pin,
            ..Command::default()
        })
    }
}

impl Kind {
    fn proto(self) -> CommandKind {
        match self {
            Self::Change => CommandKind::Change,
            Self::Transfer => CommandKind::Transfer,
            Self::OpenAccount => CommandKind::OpenAccount,
            Self::BlockAccount => CommandKind::BlockAccount,
            Self::UnblockAccount => CommandKind::UnblockAccount,
            Self::CloseAccount => CommandKind::CloseAccount,
            Self::Reverse => CommandKind::Reverse,
        }
    }
}

fn random_key() -> Result<String> {
    let number = getrandom::u64().context("no random number for a key: give one with --key")?;
    Ok(format!("cli-{number:016x}"))
}

/// `ASSET:AVAILABLE[:FROZEN]`; whether the amounts are right is for the server to say.
fn parse_change(text: &str) -> Result<Change, String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(asset), Some(available), frozen) if !asset.is_empty() => Ok(Change {
            asset: asset.to_owned(),
            available_delta: available.to_owned(),
            frozen_delta: frozen.unwrap_or_default().to_owned(),
            ..Change::default()
        }),
        _ => Err("a change looks like USDT:-5 or USDT:-5:5".into()),
    }
}
