//! Page tokens of a history: where the next page begins, bound to the request that made them. They
//! are opaque to callers and hold no secret. Pure.

use super::Failure;
use crate::core::types::{AccountId, AssetId};

/// First byte of a token.
const VERSION: u8 = 1;
/// Version, account, asset, direction, balance version.
const BODY_BYTES: usize = 1 + 8 + 4 + 1 + 8;
/// Of the checksum.
const CHECK_BYTES: usize = 4;

/// What a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub account: AccountId,
    pub asset: AssetId,
    pub oldest_first: bool,
}

impl Page {
    /// The token of the page that begins with this version of the balance.
    pub fn token(&self, version: u64) -> String {
        let body = self.body(version);
        let bytes = body
            .iter()
            .chain(&checksum(&body))
            .copied()
            .collect::<Vec<_>>();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Where a page begins; `None` for the first page.
    pub fn read_token(&self, token: &str) -> Result<Option<u64>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let version = unhex(token).and_then(|bytes| {
            let (head, check) = bytes.split_at_checked(BODY_BYTES)?;
            let version = u64::from_le_bytes(head.last_chunk::<8>().copied()?);
            (head == self.body(version) && check == checksum(head)).then_some(version)
        });
        let text = "must be the next_page_token of an answer to the same request";
        version
            .map(Some)
            .ok_or_else(|| Failure::invalid("page_token", text))
    }

    fn body(&self, version: u64) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        body[0] = VERSION;
        body[1..9].copy_from_slice(&self.account.0.to_le_bytes());
        body[9..13].copy_from_slice(&self.asset.0.to_le_bytes());
        body[13] = self.oldest_first.into();
        body[14..].copy_from_slice(&version.to_le_bytes());
        body
    }
}

fn checksum(body: &[u8]) -> [u8; CHECK_BYTES] {
    crc32fast::hash(body).to_le_bytes()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    const CHARACTERS: usize = 2 * (BODY_BYTES + CHECK_BYTES);
    if text.len() != CHARACTERS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..CHARACTERS).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page {
        account: AccountId(7),
        asset: AssetId(2),
        oldest_first: false,
    };

    #[test]
    fn a_token_leads_to_its_version() {
        for version in [1, 256, u64::MAX] {
            let token = PAGE.token(version);
            assert_eq!(PAGE.read_token(&token), Ok(Some(version)));
        }
        assert_eq!(PAGE.read_token(""), Ok(None));
    }

    #[test]
    fn a_token_of_another_request_or_an_altered_one_is_refused() {
        let token = PAGE.token(300);
        let others = [
            Page {
                account: AccountId(8),
                ..PAGE
            },
            Page {
                asset: AssetId(3),
                ..PAGE
            },
            Page {
                oldest_first: true,
                ..PAGE
            },
        ];
        for other in others {
            assert!(other.read_token(&token).is_err(), "{other:?}");
        }
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("it is ASCII");
            assert!(PAGE.read_token(&altered).is_err(), "{altered}");
        }
        for wrong in [
            "x",
            "é",
            &token[1..],
            &format!("{token}00"),
            &"zz".repeat(26),
        ] {
            assert!(PAGE.read_token(wrong).is_err(), "{wrong}");
        }
    }
}
