//! Reads a whole partition once, for audits.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::client::{Clients, Context, QUERY_TIMEOUT, blocking, failed};
use crate::core::{log::Error, types::ShardId};

/// Without a record for so long the partition counts as unreachable.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// One wait for a record.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Gives the value of each record of a partition, up to its end at the start, to `each`.
pub async fn fold<T: Send + 'static>(
    clients: &Clients,
    topic: String,
    shard: ShardId,
    start: T,
    each: impl FnMut(&mut T, &[u8]) + Send + 'static,
) -> Result<T, Error> {
    let clients = clients.clone();
    blocking(move || read(&clients, &topic, i32::from(shard.0), start, each)).await
}

fn read<T>(
    clients: &Clients,
    topic: &str,
    partition: i32,
    mut value: T,
    mut each: impl FnMut(&mut T, &[u8]),
) -> Result<T, Error> {
    let client: BaseConsumer<Context> = clients
        .tail()
        .create_with_context(Context)
        .map_err(|error| failed("the consumer does not start", &error))?;
    let (low, end) = client
        .fetch_watermarks(topic, partition, QUERY_TIMEOUT)
        .map_err(|error| failed(topic, &error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(low))
        .map_err(|error| failed(topic, &error))?;
    client
        .assign(&list)
        .map_err(|error| failed(topic, &error))?;
    let mut next = low;
    let mut heard_at = Instant::now();
    while next < end {
        match client.poll(POLL_TIMEOUT) {
            Some(message) => {
                let message = message.map_err(|error| failed(topic, &error))?;
                each(&mut value, message.payload().unwrap_or_default());
                next = message.offset() + 1;
                heard_at = Instant::now();
            }
            None if heard_at.elapsed() < SILENCE_MAX => {}
            None => {
                return Err(Error::Unavailable(format!(
                    "{topic}: records of partition {partition} did not come"
                )));
            }
        }
    }
    Ok(value)
}
