//! Reads a stretch of a partition in bulk, on a thread of its own and without copies of its records:
//! for whoever goes through a whole log. Gaps are looked at twice, as `reader` does.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Timestamp as KafkaTime},
};

use super::client::{Clients, Context, QUERY_TIMEOUT, failed};
use crate::core::{
    log::{Error, Raw},
    types::{Position, ShardId, Timestamp},
};

/// Without a record for so long the partition counts as unreachable.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// One wait for a record.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Gives each record of a shard from a position up to another one to `each`, until that says false.
/// Blocks.
pub fn sweep(
    clients: &Clients,
    topic: &str,
    shard: ShardId,
    (from, end): (Position, Position),
    mut each: impl FnMut(&Raw<'_>) -> bool,
) -> Result<(), Error> {
    let client: BaseConsumer<Context> = clients
        .sweep()
        .create_with_context(Context)
        .map_err(|error| failed("the consumer does not start", &error))?;
    let partition = i32::from(shard.0);
    let (low, high) = client
        .fetch_watermarks(topic, partition, QUERY_TIMEOUT)
        .map_err(|error| failed(topic, &error))?;
    if from.offset() < low || end.offset() > high {
        return Err(Error::Diverged(format!(
            "shard {shard}: offsets {} to {} are to be read, but {topic} has {low} to {high}",
            from.offset(),
            end.offset()
        )));
    }
    let assign = |offset| -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| client.assign(&list))
            .map_err(|error| failed(topic, &error))
    };
    let (mut next, mut read_again) = (from.offset(), None);
    assign(next)?;
    let mut heard_at = Instant::now();
    while next < end.offset() {
        let Some(message) = client.poll(POLL_TIMEOUT) else {
            if heard_at.elapsed() >= SILENCE_MAX {
                return Err(Error::Unavailable(format!(
                    "{topic}: records of partition {partition} did not come"
                )));
            }
            continue;
        };
        let message = message.map_err(|error| lost(topic, shard, next, &error))?;
        let offset = message.offset();
        if offset < next {
            continue;
        }
        if offset > next && read_again != Some(next) {
            read_again = Some(next);
            assign(next)?;
            continue;
        }
        if offset >= end.offset() {
            break;
        }
        heard_at = Instant::now();
        next = offset + 1;
        let position = Position::new(from.generation(), offset);
        if !each(&raw(&message, position)) {
            break;
        }
    }
    Ok(())
}

fn lost(topic: &str, shard: ShardId, next: i64, error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
            Error::Diverged(format!(
                "shard {shard}: {topic} lost offset {next} while it was read: its retention, or \
                 somebody, deleted it; run it again"
            ))
        }
        _ => failed(topic, error),
    }
}

fn raw<'a>(message: &'a BorrowedMessage<'_>, position: Position) -> Raw<'a> {
    Raw {
        position,
        log_time: log_time(message.timestamp()),
        key: message.key().unwrap_or_default(),
        value: message.payload().unwrap_or_default(),
    }
}

/// The time that a record has by its log.
pub fn log_time(time: KafkaTime) -> Timestamp {
    let millis = match time {
        KafkaTime::LogAppendTime(millis) | KafkaTime::CreateTime(millis) => millis,
        KafkaTime::NotAvailable => 0,
    };
    Timestamp(millis.saturating_mul(1_000))
}
