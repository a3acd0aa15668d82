//! The rule for text fields, one for the API and the log. Pure.

use std::ops::RangeInclusive;

use super::{KEY_BYTES_MAX, REFERENCE_BYTES_MAX, SOURCE_BYTES_MAX};

/// Bytes of a source.
pub(super) const SOURCE_BYTES: RangeInclusive<usize> = 1..=SOURCE_BYTES_MAX;
/// Bytes of an idempotency key.
pub(super) const KEY_BYTES: RangeInclusive<usize> = 1..=KEY_BYTES_MAX;
/// Bytes of a reference.
pub(super) const REFERENCE_BYTES: RangeInclusive<usize> = 0..=REFERENCE_BYTES_MAX;

/// What is wrong with a text: a sentence that follows the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TextError {
    /// Empty, and must not be.
    #[error("must be set: {least} to {most} bytes")]
    Missing { least: usize, most: usize },
    /// Too long.
    #[error("must be at most {most} bytes, not {bytes}")]
    TooLong { most: usize, bytes: usize },
    /// PostgreSQL cannot store U+0000, and no log line or table survives the others.
    #[error("must not contain control characters, here U+{code:04X} at byte {at}")]
    Control { code: u32, at: usize },
}

/// Checks length and characters.
pub(super) fn check(text: &str, bytes: RangeInclusive<usize>) -> Result<(), TextError> {
    let (least, most) = (*bytes.start(), *bytes.end());
    if text.len() < least {
        return Err(TextError::Missing { least, most });
    }
    if text.len() > most {
        let bytes = text.len();
        return Err(TextError::TooLong { most, bytes });
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(TextError::Control { code: c.into(), at }),
        None => Ok(()),
    }
}
