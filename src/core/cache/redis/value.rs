//! What stands in Redis under an account's key: one line of text, made for sorting by the script
//! and for reading in `redis-cli`. What does not parse is no snapshot.
//!
//! ```text
//! 00000000000000000007 00000000000000012345 v1 2026-03-01T02:03:04.567890Z
//!     | asset 1 available 250000 frozen 0 version 3 position 12345 | asset 2 …
//! ```
//!
//! Without the line break: epoch and position of the last command, each in 20 digits; the version
//! of this format; `as_of`; then each balance, amounts in minor units.

use crate::core::{
    cache::Snapshot,
    engine::Balance,
    types::{AccountId, AssetId, Epoch, Money, Position, Timestamp},
};

/// Of this format. Others are misses.
const VERSION: &str = "v1";
/// Between the parts.
const SEPARATOR: &str = " | ";

/// An epoch as it is compared in Redis: fixed width, so that text sorts as numbers do.
pub fn epoch(epoch: Epoch) -> String {
    format!("{:020}", epoch.0)
}

/// The pulse of a leader's write, as it is compared in Redis.
pub fn pulse(epoch: Epoch, number: u64) -> String {
    format!("{:020} {number:020}", epoch.0)
}

/// The value of a snapshot.
pub fn render(snapshot: &Snapshot) -> String {
    use std::fmt::Write as _;
    assert!(
        snapshot.position >= Position::ZERO,
        "a snapshot has a real position"
    );
    let mut value = format!(
        "{:020} {:020} {VERSION} {}",
        snapshot.epoch.0, snapshot.position.0, snapshot.as_of
    );
    for balance in &snapshot.balances {
        let written = write!(
            value,
            "{SEPARATOR}asset {} available {} frozen {} version {} position {}",
            balance.asset,
            balance.available.minor_units(),
            balance.frozen.minor_units(),
            balance.version,
            balance.last_position.0
        );
        written.expect("a String takes everything");
    }
    value
}

/// The snapshot that a value stands for.
pub fn parse(account: AccountId, value: &[u8]) -> Option<Snapshot> {
    let mut parts = std::str::from_utf8(value).ok()?.split(SEPARATOR);
    let head: Vec<&str> = parts.next()?.split(' ').collect();
    let [epoch, position, VERSION, as_of] = head[..] else {
        return None;
    };
    if epoch.len() != 20 || position.len() != 20 {
        return None;
    }
    Some(Snapshot {
        account,
        epoch: Epoch(number(epoch)?),
        position: parse_position(position)?,
        as_of: Timestamp::from_proto(&as_of.parse().ok()?)?,
        balances: parts
            .map(|part| parse_balance(account, part))
            .collect::<Option<_>>()?,
    })
}

fn parse_balance(account: AccountId, part: &str) -> Option<Balance> {
    let words: Vec<&str> = part.split(' ').collect();
    let [
        "asset",
        asset,
        "available",
        available,
        "frozen",
        frozen,
        "version",
        version,
        "position",
        position,
    ] = words[..]
    else {
        return None;
    };
    Some(Balance {
        account,
        asset: AssetId(number(asset)?),
        available: money(available)?,
        frozen: money(frozen)?,
        version: number(version)?,
        last_position: parse_position(position)?,
    })
}

/// Digits only: `parse` alone would take a sign too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn parse_position(text: &str) -> Option<Position> {
    number(text).map(Position)
}

fn money(text: &str) -> Option<Money> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    Money::new(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let money = prop_oneof![
            Just(Money::MAX),
            Just(Money::MIN),
            any::<i64>().prop_map(Money::from)
        ];
        let balance = (
            any::<u32>(),
            money.clone(),
            money,
            any::<u64>(),
            0..=i64::MAX,
        );
        let times = -62_135_596_800_000_000..=253_402_300_799_999_999_i64;
        (
            any::<u64>(),
            0..=i64::MAX,
            times,
            prop::collection::vec(balance, 0..4),
        )
            .prop_map(|(epoch, position, as_of, balances)| Snapshot {
                account: AccountId(5),
                epoch: Epoch(epoch),
                position: Position(position),
                as_of: Timestamp(as_of),
                balances: balances
                    .into_iter()
                    .map(|(asset, available, frozen, version, at)| Balance {
                        account: AccountId(5),
                        asset: AssetId(asset),
                        available,
                        frozen,
                        version,
                        last_position: Position(at),
                    })
                    .collect(),
            })
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_to_the_same(snapshot in snapshot()) {
            let value = render(&snapshot);
            prop_assert_eq!(parse(AccountId(5), value.as_bytes()), Some(snapshot));
        }

        #[test]
        fn text_sorts_as_epoch_and_position_do(one in snapshot(), other in snapshot()) {
            let prefix = |snapshot: &Snapshot| render(snapshot)[..41].to_owned();
            prop_assert_eq!(
                prefix(&one).cmp(&prefix(&other)),
                (one.epoch, one.position).cmp(&(other.epoch, other.position))
            );
        }

        #[test]
        fn a_damaged_value_is_no_snapshot_or_another(
            snapshot in snapshot(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            // It must not panic, whatever it makes of it.
            let mut value = render(&snapshot).into_bytes();
            let at = at.index(value.len());
            value[at] = byte;
            parse(AccountId(5), &value);
            parse(AccountId(5), &value[..at]);
        }
    }

    #[test]
    fn garbage_is_no_snapshot() {
        let good = "00000000000000000007 00000000000000012345 v1 2026-03-01T02:03:04.567890Z";
        let balance = "asset 1 available 25 frozen 0 version 3 position 12345";
        assert!(parse(AccountId(1), good.as_bytes()).is_some());
        assert!(parse(AccountId(1), format!("{good} | {balance}").as_bytes()).is_some());
        for bad in [
            String::new(),
            "7 12345 v1 2026-03-01T02:03:04Z".into(),
            good.replace("v1", "v2"),
            good.replace("2026", "20x6"),
            good.replace("0012345", "+012345"),
            good.replace("00000000000000012345", "99999999999999999999"),
            format!("{good} "),
            format!("{good} | "),
            format!("{good} | {balance} x"),
            format!("{good} | {}", balance.replace("25", "+25")),
            format!("{good} | {}", balance.replace("25", "1e2")),
            format!("{good} | {}", balance.replace("25", &"9".repeat(39))),
            format!("{good} | {}", balance.replace("frozen", "molten")),
        ] {
            assert_eq!(parse(AccountId(1), bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse(AccountId(1), &[0xff, 0xfe]), None);
    }
}
