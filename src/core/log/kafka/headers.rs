//! Keys and headers of what we write: CloudEvents in binary mode, and what AXS adds. Reads back
//! the two that matter for records that cannot be decoded.

use rdkafka::message::{Header, Headers, OwnedHeaders};

use crate::core::{
    log::NewRecord,
    result::Encoded,
    store::DeadLetter,
    types::{CommandId, ContentHash, ShardId, Timestamp},
};

/// Header with the command id, in decimal.
const ID: &str = "ce_id";
/// Header with the content hash, in hex.
const CONTENT_HASH: &str = "axs-content-hash";
/// Longest text of a dead letter's message in its headers.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What a CloudEvent is about.
struct Event<'a> {
    id: &'a str,
    source: &'a str,
    kind: &'a str,
    time: Option<Timestamp>,
    subject: Option<&'a str>,
}

/// The headers of a record of the commands topic.
pub fn of_record(record: &NewRecord, key: Option<&str>) -> OwnedHeaders {
    let id = match record.command {
        Some((id, _)) => id.to_string(),
        // No number, so that nobody takes it for a command's.
        None => format!("control-{}-{}", record.shard, record.time.0),
    };
    let headers = cloud_event(&Event {
        id: &id,
        source: &record.source,
        kind: match record.command {
            Some(_) => "dev.axs.command.v1",
            None => "dev.axs.control.v1",
        },
        time: Some(record.time),
        subject: key,
    });
    match record.command {
        Some((_, hash)) => add(headers, CONTENT_HASH, &hex(&hash)),
        None => headers,
    }
}

/// The headers of a result.
pub fn of_result(result: &Encoded, key: &str) -> OwnedHeaders {
    cloud_event(&Event {
        id: &result.id.to_string(),
        source: &format!("/axs/shards/{}", result.id.shard()),
        kind: "dev.axs.result.v1",
        time: Some(result.applied_at),
        subject: Some(key),
    })
}

/// The headers of a dead letter: ours, and the names that Kafka Connect's tools know.
pub fn of_dead_letter(letter: &DeadLetter, topic: &str, shard: ShardId) -> OwnedHeaders {
    let reason = letter.reason.code();
    let message = bounded(&letter.message, MESSAGE_BYTES_MAX);
    let offset = letter.position.offset().to_string();
    let mut headers = OwnedHeaders::new_with_capacity(12);
    if let Some(id) = letter.parks {
        headers = add(headers, ID, &id.to_string());
    }
    let shard = shard.to_string();
    let position = letter.position.0.to_string();
    let time = letter.log_time.to_string();
    for (name, value) in [
        ("axs-dlq-reason", reason),
        ("axs-dlq-message", message),
        ("axs-dlq-position", &position),
        ("axs-dlq-log-time", &time),
        ("axs-dlq-app-version", env!("CARGO_PKG_VERSION")),
        ("__connect.errors.topic", topic),
        ("__connect.errors.partition", &shard),
        ("__connect.errors.offset", &offset),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", reason),
        ("__connect.errors.exception.message", message),
    ] {
        headers = add(headers, name, value);
    }
    headers
}

/// Command id and content hash, where the headers carry valid ones; of several the last counts.
pub fn read(headers: Option<&impl Headers>) -> (Option<CommandId>, Option<ContentHash>) {
    let (mut id, mut hash) = (None, None);
    for header in headers.into_iter().flat_map(Headers::iter) {
        match header.key {
            ID => id = header.value.and_then(parse_id),
            CONTENT_HASH => hash = header.value.and_then(parse_hash),
            _ => {}
        }
    }
    (id, hash)
}

fn cloud_event(event: &Event<'_>) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(8);
    headers = add(headers, "ce_specversion", "1.0");
    headers = add(headers, ID, event.id);
    headers = add(headers, "ce_source", event.source);
    headers = add(headers, "ce_type", event.kind);
    if let Some(time) = event.time {
        headers = add(headers, "ce_time", &time.to_string());
    }
    if let Some(subject) = event.subject {
        headers = add(headers, "ce_subject", subject);
    }
    add(headers, "content-type", "application/protobuf")
}

fn add(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header {
        key,
        value: Some(value),
    })
}

fn parse_id(value: &[u8]) -> Option<CommandId> {
    let text = std::str::from_utf8(value).ok()?;
    // `parse` would take a sign too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    CommandId::parse(text.parse().ok()?)
}

fn hex(hash: &ContentHash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let both = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    hash.0.iter().flat_map(both).collect()
}

fn parse_hash(value: &[u8]) -> Option<ContentHash> {
    let mut hash = [0; 16];
    if value.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(value.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(ContentHash(hash))
}

/// The longest beginning of a text that fits, cut between characters.
fn bounded(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::Sequence;

    fn read_back(pairs: &[(&str, &str)]) -> (Option<CommandId>, Option<ContentHash>) {
        let headers = pairs
            .iter()
            .fold(OwnedHeaders::new(), |headers, (name, value)| {
                add(headers, name, value)
            });
        read(Some(&headers))
    }

    #[test]
    fn what_is_no_number_and_no_hash_is_not_there() {
        let hash = ContentHash(std::array::from_fn(|index| 0xf1 - 7 * index as u8));
        let id = CommandId::new(ShardId(3), Sequence(7));
        assert_eq!(
            read_back(&[(ID, &id.to_string()), (CONTENT_HASH, &hex(&hash))]),
            (Some(id), Some(hash))
        );
        for bad in [
            "",
            "0",
            "-1",
            "+844424930131975",
            "7x",
            "99999999999999999999",
            "control-1-2",
        ] {
            assert_eq!(read_back(&[(ID, bad)]), (None, None), "{bad:?}");
        }
        let long = "0".repeat(33);
        for bad in [
            "",
            "00",
            &long[1..32],
            &long,
            &"g".repeat(32),
            &"+1".repeat(16),
        ] {
            assert_eq!(read_back(&[(CONTENT_HASH, bad)]), (None, None), "{bad:?}");
        }
        assert_eq!(read(None::<&OwnedHeaders>), (None, None));
    }

    #[test]
    fn of_two_headers_the_last_counts() {
        let id = CommandId::new(ShardId(0), Sequence(5));
        assert_eq!(
            read_back(&[(ID, "nonsense"), (ID, &id.to_string())]).0,
            Some(id)
        );
        assert_eq!(
            read_back(&[(ID, &id.to_string()), (ID, "nonsense")]).0,
            None
        );
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(bounded("aé", 2), "a");
        assert_eq!(bounded("aé", 3), "aé");
        assert_eq!(bounded("", 3), "");
    }
}
