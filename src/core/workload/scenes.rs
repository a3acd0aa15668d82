//! Short scripts, each on accounts of its own, that show one rule after the other: transfers,
//! conditions, fallbacks, the life of an account, all or nothing.

use std::collections::VecDeque;

use super::{DESK_LINES_BEFORE_TRANSFERS, change, command};
use crate::core::{
    command::{CommandKind, json},
    proto::{Change, Command, Condition, Fallback},
};

/// The desk, and the two accounts that only its commands move.
pub(super) const DESK: u64 = 500;
const RESERVE: u64 = 501;
const PAYOUTS: u64 = 502;

/// First lines of a stream: the accounts that commands of the desk name.
pub(super) fn openings() -> Vec<Command> {
    let open = |account, changes| Command {
        user_id: DESK,
        shard_id: Some(0),
        ..command(
            format!("open-{account}"),
            account,
            CommandKind::OpenAccount,
            changes,
        )
    };
    vec![
        open(RESERVE, Vec::new()),
        open(PAYOUTS, vec![change("EUR", 50_000, 0)]),
        open(
            DESK,
            vec![change("EUR", 1_000_000, 0), change("USD", 1_000_000, 0)],
        ),
    ]
}

/// The lines of all scenes, in their order.
pub(super) fn all() -> VecDeque<String> {
    let scenes = [
        desk(),
        conditions(),
        fallbacks(),
        life_of_an_account(),
        all_or_nothing(),
        refused_opening(),
    ];
    let mut lines = VecDeque::new();
    for scene in scenes {
        lines.extend(scene.iter().map(json::to_json));
    }
    lines
}

/// Commands on `account`, whose keys number them.
struct Scene {
    name: &'static str,
    account: u64,
    commands: Vec<Command>,
}

impl Scene {
    fn new(name: &'static str, account: u64) -> Self {
        let commands = Vec::new();
        Self {
            name,
            account,
            commands,
        }
    }

    fn send(&mut self, kind: CommandKind, changes: Vec<Change>) -> &mut Command {
        let key = format!("{}-{}", self.name, self.commands.len() + 1);
        self.commands
            .push(command(key, self.account, kind, changes));
        self.commands.last_mut().expect("just pushed")
    }

    fn open(&mut self, changes: Vec<Change>) {
        self.send(CommandKind::OpenAccount, changes).user_id = self.account;
    }

    fn change(&mut self, changes: Vec<Change>) {
        self.send(CommandKind::Change, changes);
    }
}

fn of(account: u64, change: Change) -> Change {
    Change {
        account_id: account,
        ..change
    }
}

fn desk() -> Vec<Command> {
    let mut scene = Scene::new("desk", DESK);
    for hour in 0..DESK_LINES_BEFORE_TRANSFERS {
        scene.change(vec![change("EUR", 100 + hour as i128, 0)]);
    }
    let transfer = CommandKind::Transfer;
    for payment in 1..=12_i128 {
        let cents = 1_000 * payment;
        let to_both = vec![
            change("EUR", -3 * cents, 0),
            of(RESERVE, change("EUR", cents, 0)),
            of(PAYOUTS, change("EUR", 2 * cents, 0)),
        ];
        scene.send(transfer, to_both).reference = format!("payment-{payment}");
        // Euro against dollars between two others, by the desk's command.
        let exchange = vec![
            of(PAYOUTS, change("EUR", -cents, 0)),
            of(RESERVE, change("EUR", cents, 0)),
            change("USD", -cents, 0),
            of(PAYOUTS, change("USD", cents, 0)),
        ];
        scene.send(transfer, exchange).reference = format!("exchange-{payment}");
    }
    // More than the reserve has: nothing of it happens.
    let too_much = vec![
        change("EUR", 10_000_000, 0),
        of(RESERVE, change("EUR", -10_000_000, 0)),
    ];
    scene.send(transfer, too_much);
    // Set aside from two accounts at once.
    scene.change(vec![
        of(RESERVE, change("EUR", -500, 500)),
        of(PAYOUTS, change("USD", -500, 500)),
    ]);
    let unbalanced = vec![change("EUR", -100, 0), of(RESERVE, change("EUR", 99, 0))];
    scene.send(transfer, unbalanced);
    scene.commands
}

fn conditions() -> Vec<Command> {
    let mut scene = Scene::new("condition", 601);
    let when = |version, min_available: Option<&str>, change| Change {
        condition: Some(Condition {
            version,
            min_available: min_available.map(str::to_owned),
        }),
        ..change
    };
    scene.open(vec![change("EUR", 10_000, 0)]);
    scene.change(vec![when(Some(1), None, change("EUR", 100, 0))]);
    scene.change(vec![when(Some(1), None, change("EUR", 100, 0))]);
    scene.change(vec![when(None, Some("80"), change("EUR", -5_000, 0))]);
    scene.change(vec![when(None, Some("80"), change("EUR", -5_000, 0))]);
    scene.change(vec![when(Some(0), Some("0"), change("USD", 100, 0))]);
    scene.commands
}

fn fallbacks() -> Vec<Command> {
    let mut scene = Scene::new("fallback", 602);
    scene.open(vec![change("EUR", 1_000, 0), change("USD", 1_000, 0)]);
    for _ in 0..3 {
        scene.change(vec![Change {
            fallback: Some(Fallback {
                asset: "USD".into(),
                available_delta: "-8".into(),
                frozen_delta: "8".into(),
            }),
            ..change("EUR", -800, 800)
        }]);
    }
    scene.commands
}

fn life_of_an_account() -> Vec<Command> {
    let mut scene = Scene::new("life", 603);
    let credit = || vec![change("USD", 2_000, 0)];
    scene.open(credit());
    scene.send(CommandKind::BlockAccount, Vec::new());
    scene.change(credit());
    scene.send(CommandKind::BlockAccount, Vec::new());
    scene.send(CommandKind::UnblockAccount, Vec::new());
    scene.send(CommandKind::UnblockAccount, Vec::new());
    scene.send(CommandKind::CloseAccount, Vec::new());
    scene.change(vec![change("USD", -2_000, 0)]);
    scene.send(CommandKind::CloseAccount, Vec::new());
    scene.change(credit());
    scene.open(credit());
    scene.commands
}

fn all_or_nothing() -> Vec<Command> {
    let mut scene = Scene::new("atomic", 604);
    let most = 10_i128.pow(38) - 1;
    scene.open(vec![change("EUR", 500, 0)]);
    // The first change fits, the second does not: neither happens.
    scene.change(vec![change("USD", 100, 0), change("EUR", -1_000, 0)]);
    scene.change(vec![change("EUR", 0, -1)]);
    scene.change(vec![change("USDC", most, 0), change("USDC", 1, 0)]);
    // A change of nothing is a change: the version rises.
    scene.change(vec![change("EUR", 0, 0)]);
    let aside = vec![change("EUR", -200, 0), change("EUR", 0, 200)];
    scene.send(CommandKind::Transfer, aside);
    // A number that shard 0 has not given to any command.
    scene.send(CommandKind::Reverse, Vec::new()).reverses = 1 << 47;
    scene.send(CommandKind::Reverse, Vec::new());
    scene.commands
}

fn refused_opening() -> Vec<Command> {
    let mut scene = Scene::new("opening", 605);
    scene.open(vec![change("EUR", -500, 0)]);
    scene.change(vec![change("EUR", 100, 0)]);
    scene.open(vec![change("EUR", 500, 0)]);
    scene.change(vec![change("EUR", 100, 0)]);
    scene.commands
}
