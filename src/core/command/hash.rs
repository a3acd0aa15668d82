//! What identifies a command: its content hash and its key hash. Pure; the bytes are API, because
//! they are stored for ever.
//!
//! Both are the first 16 bytes of SHA-256 over *parts*, each part its length as 4 bytes
//! little-endian and then its bytes:
//!
//! - **key hash**: source · idempotency key, both UTF-8.
//! - **content hash**: source · idempotency key · canonical body.
//!
//! The **canonical body** is one version byte, [`BODY_VERSION`], and then the protobuf encoding of
//! `CommandRecord` (log.proto) with its fields in the order of their numbers, without `command_id`
//! (1), `content_hash` (2), `created_at` (9) and `accepted_at` (10):
//!
//! | bytes | field |
//! |---|---|
//! | `1a` length text | 3 `source` |
//! | `22` length text | 4 `idempotency_key` |
//! | `28` varint | 5 `account_id` |
//! | `30` varint | 6 `kind` |
//! | `3a` length message, one each | 7 `changes` |
//! | `42` length text | 8 `reference` |
//! | `58` varint | 11 `user_id` |
//! | `60` varint | 12 `reverses` |
//! | `6a` length message | 13 `ack` |
//! | `70` varint | 14 `shard_id`, if the command was sent with one (0 included) |
//!
//! A change is `08` account (always written out, so that 0 and the command's own account are one
//! body), `12` primary move, `1a` fallback, `20` `if_version` (if set, 0 included), `2a`
//! `if_min_available` (if set). A move is `08` asset id, `12` available delta, `1a` frozen delta.
//! An amount is in minor units, so that "1" and "1.0" are one body: `08` and a zigzag varint where
//! it fits 64 bits, else `12 10` and 16 bytes, two's complement, little-endian. Empty texts, zero
//! numbers and zero deltas are left out (an `if_min_available` of zero is `2a 02 08 00`), so that
//! a later field that is unset changes nothing.
//!
//! `testdata/content_hash.json` holds vectors, made by `scripts/content_hash.py` from this text.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::core::{
    command::{Command, record},
    types::{ContentHash, KeyHash},
};

/// First byte of a canonical body.
pub const BODY_VERSION: u8 = 1;

/// Over everything that a repeated key is compared by.
pub fn content_hash(command: &Command) -> ContentHash {
    let body = record::canonical_body(command);
    let mut bytes = Vec::with_capacity(1 + body.encoded_len());
    bytes.push(BODY_VERSION);
    body.encode(&mut bytes).expect("a vector grows");
    ContentHash(digest(&[
        command.source.as_bytes(),
        command.idempotency_key.as_bytes(),
        &bytes,
    ]))
}

/// Over what is unique for ever.
pub fn key_hash(source: &str, idempotency_key: &str) -> KeyHash {
    KeyHash(digest(&[source.as_bytes(), idempotency_key.as_bytes()]))
}

/// Whether the command says what its content hash was made of. False: forged, or written by a
/// later program with fields that this one does not know.
pub fn verify_hash(command: &Command) -> bool {
    content_hash(command) == command.content_hash
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        let length = u32::try_from(part.len()).expect("parts are bounded by the size of a command");
        hasher.update(length.to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    first
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::*;
    use crate::core::{
        assets::{Asset, Assets},
        command::{json, parse},
        types::AssetId,
    };

    #[derive(Deserialize)]
    struct File {
        assets: Vec<AssetRow>,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct AssetRow {
        code: String,
        id: u32,
        scale: u8,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        command: serde_json::Value,
        key_hash: String,
        content_hash: String,
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hashes_are_those_of_the_vectors() {
        let file: File =
            serde_json::from_str(include_str!("../../../testdata/content_hash.json")).unwrap();
        let asset = |row: AssetRow| Asset {
            id: AssetId(row.id),
            code: row.code,
            scale: row.scale,
        };
        let assets: Assets = file.assets.into_iter().map(asset).collect();
        let mut distinct = BTreeSet::new();
        for Vector {
            name,
            command,
            key_hash: key,
            content_hash: content,
        } in file.vectors
        {
            let message = json::from_json(&command.to_string()).expect(&name);
            let parsed = parse::parse(&message, &assets, 4).expect(&name);
            let hash = key_hash(&parsed.source, &parsed.idempotency_key);
            assert_eq!(hex(&hash.0), key, "key hash of `{name}`");
            assert_eq!(
                hex(&parsed.content_hash.0),
                content,
                "content hash of `{name}`"
            );
            distinct.insert(content);
        }
        assert_eq!(
            distinct.len(),
            17,
            "two of the 18 are one body in other words"
        );
    }
}
