//! Text fields: what holds them, and the rule for them, one for the API and the log. Pure.

use std::{
    fmt,
    ops::{Deref, RangeInclusive},
};

use bytes::Bytes;

use super::{KEY_BYTES_MAX, REFERENCE_BYTES_MAX, SOURCE_BYTES_MAX};

/// Bytes of a source.
pub(super) const SOURCE_BYTES: RangeInclusive<usize> = 1..=SOURCE_BYTES_MAX;
/// Bytes of an idempotency key.
pub(super) const KEY_BYTES: RangeInclusive<usize> = 1..=KEY_BYTES_MAX;
/// Bytes of a reference.
pub(super) const REFERENCE_BYTES: RangeInclusive<usize> = 0..=REFERENCE_BYTES_MAX;

/// A text that may be part of a larger buffer, such as the record it came with: taken from it and
/// cloned without a copy or an allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// A part of `whole`, if it is UTF-8.
    pub(super) fn part_of(whole: &Bytes, part: &[u8]) -> Option<Self> {
        if part.is_empty() {
            return Some(Self::default());
        }
        std::str::from_utf8(part).ok()?;
        Some(Self(whole.slice_ref(part)))
    }

    /// Its bytes, UTF-8. Cheaper than the text, whose characters are looked at again.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was UTF-8 when it was made")
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

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
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(TextError::Control { code: c.into(), at }),
        None => Ok(()),
    }
}
