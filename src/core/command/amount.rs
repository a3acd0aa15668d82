//! Amounts as decimal strings, to and from minor units. The grammar is that of `types.proto`:
//! `-?[0-9]{1,20}(\.[0-9]{1,scale})?`, trailing zeros counted, no exponent, plus sign or blank.
//!
//! Pure and without floating point; what lies outside the grammar is an error, never rounded.

use crate::core::{assets::SCALE_MAX, types::Money};

/// Most digits before the point.
pub const INTEGER_DIGITS_MAX: usize = 20;

// Whatever the grammar lets through is within Money's bounds, ±(10^38 - 1).
const _: () = assert!(INTEGER_DIGITS_MAX + SCALE_MAX as usize == 38);

/// What is wrong with an amount: a sentence that follows the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Other characters than the grammar's, or none.
    #[error("must be a decimal number such as `-12.5`: digits, with a point only between digits")]
    NotDecimal,
    /// Too many digits before the point.
    #[error("must have at most {INTEGER_DIGITS_MAX} digits before the point")]
    IntegerTooLong,
    /// More digits behind the point than the asset has.
    #[error("must have at most {scale} digits behind the point, the scale of its asset")]
    FractionTooLong {
        /// Of the asset.
        scale: u8,
    },
    /// A point, and the asset has no digits behind it.
    #[error("must be a whole number without a point: its asset has scale 0")]
    NotWhole,
}

/// The minor units of a decimal string of an asset with this scale. `-0` is 0.
pub fn parse(text: &str, scale: u8) -> Result<Money, AmountError> {
    assert!(scale <= SCALE_MAX, "the registry holds scales up to 18");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (integer, fraction) = match digits.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (digits, None),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(integer) || !fraction.is_none_or(is_number) {
        return Err(AmountError::NotDecimal);
    }
    if integer.len() > INTEGER_DIGITS_MAX {
        return Err(AmountError::IntegerTooLong);
    }
    let fraction = fraction.unwrap_or_default();
    let Some(padding) = usize::from(scale).checked_sub(fraction.len()) else {
        return Err(match scale {
            0 => AmountError::NotWhole,
            _ => AmountError::FractionTooLong { scale },
        });
    };
    let mut minor_units = 0_i128;
    for byte in integer.bytes().chain(fraction.bytes()) {
        minor_units = minor_units * 10 + i128::from(byte - b'0');
    }
    for _ in 0..padding {
        minor_units *= 10;
    }
    let signed = if negative { -minor_units } else { minor_units };
    Ok(Money::new(signed).expect("38 digits are within the bounds"))
}

/// The shortest decimal string: no trailing zeros, `0` for zero.
pub fn format(amount: Money, scale: u8) -> String {
    let mut text = Vec::new();
    append(amount, scale, &mut text);
    String::from_utf8(text).expect("digits, a sign and a point")
}

/// Appends the shortest decimal string.
pub fn append(amount: Money, scale: u8, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    let mut digits = [b'0'; DIGITS_MAX];
    let first = write_digits(amount.minor_units().unsigned_abs(), &mut digits);
    let point = DIGITS_MAX - scale;
    let integer = &digits[first.min(point - 1)..point];
    let fraction = &digits[point..];
    let behind = fraction.iter().rposition(|digit| *digit != b'0');
    if amount.is_negative() {
        out.push(b'-');
    }
    out.extend_from_slice(integer);
    if let Some(last) = behind {
        out.push(b'.');
        out.extend_from_slice(&fraction[..=last]);
    }
}

/// Digits of a `u128`.
const DIGITS_MAX: usize = 39;
/// A `u64` holds any number of so many digits.
const CHUNK_DIGITS: usize = 19;

const _: () = assert!(SCALE_MAX as usize <= CHUNK_DIGITS && CHUNK_DIGITS < DIGITS_MAX);

/// Writes a number to the end of zeros; where its first digit stands. Divides 64 bits at a time:
/// 128 take ten times as long.
fn write_digits(number: u128, digits: &mut [u8; DIGITS_MAX]) -> usize {
    let mut at = DIGITS_MAX;
    let mut rest = number;
    loop {
        let (mut chunk, upper) = match u64::try_from(rest) {
            Ok(small) => (small, 0),
            Err(_) => {
                let base = 10_u128.pow(CHUNK_DIGITS as u32);
                let chunk = u64::try_from(rest % base).expect("19 digits fit 64 bits");
                (chunk, rest / base)
            }
        };
        let end = at - CHUNK_DIGITS.min(at);
        while chunk > 0 {
            at -= 1;
            digits[at] = b'0' + (chunk % 10) as u8;
            chunk /= 10;
        }
        if upper == 0 {
            return at;
        }
        at = end;
        rest = upper;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_as_the_contract_says() {
        for (text, scale, minor_units) in [
            ("0", 0, 0),
            ("-0", 2, 0),
            ("-0.00", 2, 0),
            ("1", 2, 100),
            ("1.0", 2, 100),
            ("1.00", 2, 100),
            ("0001.50", 2, 150),
            ("-12.5", 8, -1_250_000_000),
            ("0.000000000000000001", 18, 1),
            (
                "99999999999999999999.999999999999999999",
                18,
                10_i128.pow(38) - 1,
            ),
            (
                "-99999999999999999999.999999999999999999",
                18,
                1 - 10_i128.pow(38),
            ),
        ] {
            let parsed = parse(text, scale).map(Money::minor_units);
            assert_eq!(parsed, Ok(minor_units), "{text} at scale {scale}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_reason() {
        let not_decimal = [
            "", "-", ".", "1.", ".5", "-.5", "+1", " 1", "1 ", "1e3", "1E3", "0x1", "1_000", "1,5",
            "--1", "1.2.3", "1.-2", "٣", "∞", "NaN", "1\u{0}",
        ];
        for text in not_decimal {
            assert_eq!(parse(text, 8), Err(AmountError::NotDecimal), "`{text}`");
        }
        assert_eq!(
            parse("100000000000000000000", 0),
            Err(AmountError::IntegerTooLong)
        );
        assert_eq!(
            parse("000000000000000000001", 0),
            Err(AmountError::IntegerTooLong)
        );
        assert_eq!(
            parse("1.000", 2),
            Err(AmountError::FractionTooLong { scale: 2 })
        );
        assert_eq!(parse("1.0", 0), Err(AmountError::NotWhole));
    }

    #[test]
    fn answers_are_in_shortest_form() {
        for (minor_units, scale, text) in [
            (0, 0, "0"),
            (0, 18, "0"),
            (100, 2, "1"),
            (-150, 2, "-1.5"),
            (5, 2, "0.05"),
            (-1, 18, "-0.000000000000000001"),
            (1200, 0, "1200"),
            (
                10_i128.pow(38) - 1,
                18,
                "99999999999999999999.999999999999999999",
            ),
        ] {
            let amount = Money::new(minor_units).expect("within bounds");
            assert_eq!(format(amount, scale), text);
        }
    }

    /// The grammar once more, as a regular expression's author would read it aloud.
    fn matches_grammar(text: &str, scale: u8) -> bool {
        let text = text.strip_prefix('-').unwrap_or(text);
        let mut parts = text.split('.');
        let all_digits = |part: &str| part.chars().all(|c| "0123456789".contains(c));
        let integer = parts.next().expect("split yields one part at least");
        let fits = |part: &str, max: usize| (1..=max).contains(&part.len()) && all_digits(part);
        match (parts.next(), parts.next()) {
            (None, _) => fits(integer, INTEGER_DIGITS_MAX),
            (Some(fraction), None) => {
                fits(integer, INTEGER_DIGITS_MAX) && fits(fraction, usize::from(scale))
            }
            (Some(_), Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_exactly_when_it_matches_the_grammar(
            text in prop_oneof![
                any::<String>(),
                "-?[0-9]{0,22}\\.?[0-9]{0,20}",
                "[-+.0-9e ]{0,12}",
            ],
            scale in 0..=SCALE_MAX,
        ) {
            prop_assert_eq!(parse(&text, scale).is_ok(), matches_grammar(&text, scale));
        }

        #[test]
        fn amounts_have_the_digits_of_their_minor_units(
            minor_units in Money::MIN.minor_units()..=Money::MAX.minor_units(),
            shift in 0..127_u32,
        ) {
            let amount = Money::new(minor_units >> shift).expect("within bounds");
            prop_assert_eq!(format(amount, 0), amount.minor_units().to_string());
        }

        #[test]
        fn every_amount_survives_format_and_parse(
            minor_units in Money::MIN.minor_units()..=Money::MAX.minor_units(),
            shift in 0..127_u32,
            scale in 0..=SCALE_MAX,
        ) {
            let bound = 10_i128.pow(20 + u32::from(scale));
            let amount = Money::new((minor_units >> shift) % bound).expect("within bounds");
            prop_assert_eq!(parse(&format(amount, scale), scale), Ok(amount));
        }
    }
}
