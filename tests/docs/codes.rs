//! Codes, exit codes and the sentences in `docs/errors.md`.

use std::collections::{BTreeMap, BTreeSet};

use axs::core::{
    assets::{Asset, Assets},
    command::parse,
    engine::{Reject, RejectCode},
    proto::{self, CommandKind, submit_error::Code},
    result::reject_sentence,
    types::{AccountId, AssetId, Money},
};

use super::{numbered, read, rows, section, text_of};

fn reject_codes() -> impl Iterator<Item = RejectCode> {
    (1..=1_000).filter_map(|number| RejectCode::try_from(number).ok())
}

#[test]
fn every_code_is_documented_and_no_other() {
    let errors = read("docs/errors.md");
    let short = |name: &str, prefix: &str| name.strip_prefix(prefix).expect(prefix).to_owned();
    let rejects: BTreeMap<_, _> = reject_codes()
        .map(|code| (code as i32, short(code.as_str_name(), "REJECT_CODE_")))
        .collect();
    assert_eq!(numbered(section(&errors, "## Reject codes")), rejects);
    let submit: BTreeMap<_, _> = (1..=1_000)
        .filter_map(|number| Code::try_from(number).ok())
        .map(|code| (code as i32, short(code.as_str_name(), "CODE_")))
        .collect();
    assert_eq!(numbered(section(&errors, "## Submit errors")), submit);
    assert_eq!(
        numbered(section(&errors, "## Dead letters")),
        dead_letter_reasons()
    );

    let failure = read("src/cmd/failure.rs");
    let table = failure
        .split_once("Exit codes:")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .expect("the table of exit codes")
        .0;
    let numbers = table
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let exits: BTreeSet<i32> = numbers.filter_map(|number| number.parse().ok()).collect();
    let documented = numbered(section(&errors, "## Exit codes"));
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), exits);
}

/// The variants of the enum, in capitals.
fn dead_letter_reasons() -> BTreeMap<i32, String> {
    let store = text_of("src/core/store", ".rs");
    let body = store
        .split_once("pub enum DeadLetterReason {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .expect("the enum")
        .0;
    let variants = body
        .lines()
        .filter_map(|line| line.trim().split_once(" = "));
    let variants = variants.map(|(name, number)| {
        let mut capitals = String::new();
        for character in name.chars() {
            if character.is_uppercase() && !capitals.is_empty() {
                capitals.push('_');
            }
            capitals.extend(character.to_uppercase());
        }
        (
            number.trim_end_matches(',').parse().expect("a number"),
            capitals,
        )
    });
    variants.collect()
}

fn registry() -> Assets {
    let euro = Asset {
        id: AssetId(1),
        code: "EUR".into(),
        scale: 2,
    };
    [euro].into_iter().collect()
}

#[test]
fn examples_of_rejections_are_the_programs_sentences() {
    use RejectCode as R;
    let errors = read("docs/errors.md");
    let rows = rows(section(&errors, "## Reject codes"));
    for code in reject_codes() {
        let money = |minor_units| Money::new(minor_units).expect("a small number");
        let (had, needed) = match code {
            R::VersionMismatch => (3, 2),
            _ => (150, 200),
        };
        let on_balance = matches!(
            code,
            R::TransferNotBalanced
                | R::AccountNotEmpty
                | R::VersionMismatch
                | R::BelowMinimum
                | R::InsufficientAvailable
                | R::InsufficientFrozen
                | R::AmountOverflow
        );
        let reject = Reject {
            asset: on_balance.then_some(AssetId(1)),
            had: money(had),
            needed: money(needed),
            ..Reject::new(code, 0, AccountId(7))
        };
        let number = (code as i32).to_string();
        let row = rows.iter().find(|row| row[0] == number).expect(&number);
        assert_eq!(
            row.last(),
            Some(&reject_sentence(&reject, &registry()).as_str())
        );
    }
}

#[test]
fn examples_of_refusals_are_the_programs_sentences() {
    let errors = read("docs/errors.md");
    let rows = rows(section(&errors, "## Submit errors"));
    let change = |asset: &str, delta: &str| proto::Change {
        asset: asset.into(),
        available_delta: delta.into(),
        ..Default::default()
    };
    let command = |key: &str, account_id, change| proto::Command {
        idempotency_key: key.into(),
        source: "shop".into(),
        account_id,
        kind: CommandKind::Change.into(),
        changes: vec![change],
        ..Default::default()
    };
    let with_ack = proto::Command {
        ack: Some(proto::AckPolicy {
            deadline_seconds: 1,
            ..Default::default()
        }),
        ..command("k", 7, change("EUR", "1"))
    };
    for refused in [
        command("k", 7, change("EUR", "1.005")),
        command("k", 7, change("DOGE", "1")),
        command("", 7, change("EUR", "1")),
        command("k", 1 << 62, change("EUR", "1")),
        with_ack,
    ] {
        let error = parse::parse(&refused, &registry(), 4).expect_err("it is refused");
        let name = error
            .code
            .as_str_name()
            .trim_start_matches("CODE_")
            .to_owned();
        let row = [
            format!("`{name}`"),
            format!("`{}`", error.field),
            error.message,
        ];
        assert!(
            rows.iter().any(|found| found[..] == row),
            "{row:?} is not documented"
        );
    }
    // What stands in the code as it is.
    let code = text_of("src/core", ".rs").replace("\\\n", "");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = words(&code);
    for sentence in [
        "stored, but its outcome is not known yet; send the same key again",
        "the store is not reachable; send the same key again",
        "whether it was stored is not known yet; send the same key again",
        "transfers between shards come with a later version",
    ] {
        assert!(code.contains(sentence), "`{sentence}` is not in the code");
        assert!(errors.contains(sentence), "`{sentence}` is not documented");
    }
}
