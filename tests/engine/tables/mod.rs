//! The rules as tables: a row is a command and what must become of it.

use axs::core::{
    command::{Change, Command, CommandKind, Move},
    engine::{Applied, Engine, Entry, Outcome, model::Model},
    types::{AccountId, AssetId, CommandId, Money, Position, Sequence, ShardId, Timestamp},
};

use super::{SHARD, command, empty};

mod checks;
mod kinds;

/// Runs rows in order through the engine and the model. A row's command number is its place, from
/// 1.
///
/// A command is `kind account part…`, a part one of
/// - `[account.]asset:available[:frozen]`, then `|asset:available[:frozen]` for the fallback,
///   `?v=version`, `?min=amount`, `*times`;
/// - `#number` or `#shard/number` (what is reversed), `user=id`, `pin=shard`;
///
/// or it is `again #number`, a duplicate. Accounts are numbers or `c3`, the clearing account of
/// shard 3; assets letters, `_` is asset 0; amounts integers, `max` or `min`.
///
/// The outcome is `skipped`; `ok` with an `account.asset=available/frozen v<version>` for each
/// entry, `~` behind fallbacks; or a code, `leg n account[.asset had x needed y]`.
fn check(rows: &[(&str, &str)]) {
    let (mut engine, mut model) = (Engine::new(empty()), Model::new(SHARD));
    let mut commands: Vec<Command> = Vec::new();
    for (row, (text, expected)) in (1..).zip(rows) {
        let command = parse(row, text, &commands);
        commands.push(command.clone());
        for account in command.accounts() {
            engine.note_absent(account);
        }
        let (at, time) = (Position(100 + row as i64), Timestamp(row as i64));
        let target = command.reverses.and_then(|id| model.target(id));
        let mut entries = Vec::new();
        let applied = engine.apply(at, time, &command, target.as_ref(), &mut entries);
        let naive = model.apply(at, time, &command);
        match applied {
            Applied::Skipped => assert!(naive.is_none(), "row {row} `{text}`: model applied it"),
            Applied::Done(ref outcome) => {
                let naive = naive.unwrap_or_else(|| panic!("row {row} `{text}`: model skipped it"));
                assert_eq!(
                    (outcome, &entries),
                    (&naive.0, &naive.1),
                    "row {row} `{text}`: model"
                );
            }
        }
        assert_eq!(show(&applied, &entries), *expected, "row {row} `{text}`");
        assert_eq!(
            engine.state_hash(),
            model.state_hash(),
            "row {row} `{text}`: state hash"
        );
    }
}

fn parse(row: u64, text: &str, earlier: &[Command]) -> Command {
    let mut parts = text.split_whitespace();
    let kind = match parts.next().expect("a kind") {
        "again" => {
            let number = parts.next().expect("a number").trim_start_matches('#');
            return earlier[number.parse::<usize>().expect("a number") - 1].clone();
        }
        "unspecified" => CommandKind::Unspecified,
        "change" => CommandKind::Change,
        "transfer" => CommandKind::Transfer,
        "open" => CommandKind::OpenAccount,
        "block" => CommandKind::BlockAccount,
        "unblock" => CommandKind::UnblockAccount,
        "close" => CommandKind::CloseAccount,
        "reverse" => CommandKind::Reverse,
        other => panic!("unknown kind {other}"),
    };
    let own = account(parts.next().expect("an account"));
    let mut command = command(row, kind, own);
    for part in parts {
        if let Some(number) = part.strip_prefix('#') {
            let (shard, number) = number.split_once('/').unwrap_or(("3", number));
            let shard = ShardId(shard.parse().expect("a shard"));
            let number = Sequence(number.parse().expect("a number"));
            command.reverses = Some(CommandId::new(shard, number));
        } else if let Some(user) = part.strip_prefix("user=") {
            command.user = user.parse().expect("a user");
        } else if let Some(pin) = part.strip_prefix("pin=") {
            command.pin = Some(ShardId(pin.parse().expect("a shard")));
        } else {
            let (part, times) = part.split_once('*').unwrap_or((part, "1"));
            for _ in 0..times.parse().expect("times") {
                command.changes.push(change(own, part));
            }
        }
    }
    command
}

fn change(own: AccountId, text: &str) -> Change {
    let mut parts = text.split('?');
    let moves = parts.next().expect("a move");
    let (primary, fallback) = match moves.split_once('|') {
        Some((primary, fallback)) => (primary, Some(fallback)),
        None => (moves, None),
    };
    let (whose, primary) = match primary.split_once('.') {
        Some((whose, primary)) => (account(whose), primary),
        None => (own, primary),
    };
    let (mut if_version, mut if_min_available) = (None, None);
    for part in parts {
        match part.split_once('=').expect("a condition") {
            ("v", version) => if_version = Some(version.parse().expect("a version")),
            ("min", minimum) => if_min_available = Some(amount(minimum)),
            (other, _) => panic!("unknown condition {other}"),
        }
    }
    let fallback = fallback.map(mv);
    Change {
        account: whose,
        primary: mv(primary),
        fallback,
        if_version,
        if_min_available,
    }
}

fn mv(text: &str) -> Move {
    let mut parts = text.split(':');
    let asset = parts
        .next()
        .and_then(|asset| asset.chars().next())
        .expect("an asset");
    Move {
        asset: AssetId(if asset == '_' {
            0
        } else {
            asset as u32 - 'A' as u32 + 1
        }),
        available_delta: amount(parts.next().expect("available")),
        frozen_delta: parts.next().map_or(Money::ZERO, amount),
    }
}

fn account(text: &str) -> AccountId {
    match text.strip_prefix('c') {
        Some(shard) => AccountId::clearing(ShardId(shard.parse().expect("a shard"))),
        None => AccountId(text.parse().expect("an account")),
    }
}

fn amount(text: &str) -> Money {
    match text {
        "max" => Money::MAX,
        "min" => Money::MIN,
        _ => Money::new(text.parse().expect("an amount")).expect("within bounds"),
    }
}

fn show(applied: &Applied, entries: &[Entry]) -> String {
    let Applied::Done(Outcome { reject, .. }) = applied else {
        return "skipped".into();
    };
    if let Some(reject) = reject {
        assert_eq!(entries, [], "a rejected command has no entries");
        let mut text = format!("{} leg {} ", reject.code as i32, reject.leg);
        text += &show_account(reject.account);
        match reject.asset {
            Some(asset) => {
                let (had, needed) = (show_amount(reject.had), show_amount(reject.needed));
                text += &format!(".{} had {had} needed {needed}", show_asset(asset));
            }
            None => assert_eq!((reject.had, reject.needed), (Money::ZERO, Money::ZERO)),
        }
        return text;
    }
    let mut text = String::from("ok");
    for entry in entries {
        text += &format!(
            " {}.{}={}/{} v{}{}",
            show_account(entry.account),
            show_asset(entry.asset),
            show_amount(entry.available_after),
            show_amount(entry.frozen_after),
            entry.version,
            if entry.fallback { "~" } else { "" },
        );
    }
    text
}

fn show_account(account: AccountId) -> String {
    account
        .clearing_shard()
        .map_or(account.to_string(), |shard| format!("c{shard}"))
}

fn show_asset(asset: AssetId) -> char {
    char::from(b'A' - 1 + asset.0 as u8)
}

fn show_amount(money: Money) -> String {
    match money {
        Money::MAX => "max".into(),
        Money::MIN => "min".into(),
        _ => money.minor_units().to_string(),
    }
}
