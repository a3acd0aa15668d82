//! The last result that each shard has published: what the database must know of too.

use std::time::{Duration, Instant};

use prost::Message as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::client::{Clients, Context, QUERY_TIMEOUT, blocking, failed};
use crate::core::{log::Error, proto::CommandResult};

/// All last records must have come within this.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// One wait for a record.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// By shard; `None` where nothing is published, or retention removed all of it.
pub async fn last_results(
    clients: &Clients,
    topic: &str,
    shards: u16,
) -> Result<Vec<Option<CommandResult>>, Error> {
    let (clients, topic) = (clients.clone(), topic.to_owned());
    blocking(move || read(&clients, &topic, shards)).await
}

fn read(clients: &Clients, topic: &str, shards: u16) -> Result<Vec<Option<CommandResult>>, Error> {
    let client: BaseConsumer<Context> = clients
        .tail()
        .create_with_context(Context)
        .map_err(|error| failed("the consumer of results does not start", &error))?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::from(shards) {
        let (low, end) = client
            .fetch_watermarks(topic, partition, QUERY_TIMEOUT)
            .map_err(|error| failed(topic, &error))?;
        if end > low {
            list.add_partition_offset(topic, partition, Offset::Offset(end - 1))
                .map_err(|error| failed(topic, &error))?;
        }
    }
    let mut missing = list.count();
    let mut results = vec![None; usize::from(shards)];
    client
        .assign(&list)
        .map_err(|error| failed(topic, &error))?;
    let deadline = Instant::now() + READ_TIMEOUT;
    while missing > 0 {
        if Instant::now() >= deadline {
            return Err(Error::Unavailable(format!(
                "{topic}: {missing} last results did not come"
            )));
        }
        let Some(message) = client.poll(POLL_TIMEOUT) else {
            continue;
        };
        let message = message.map_err(|error| failed(topic, &error))?;
        let shard = usize::try_from(message.partition()).expect("partitions count from 0");
        let decoded = CommandResult::decode(message.payload().unwrap_or_default());
        let result = decoded.map_err(|error| {
            Error::Refused(format!(
                "{topic}: the last record of partition {shard} is none: {error}"
            ))
        })?;
        // What was published since is newer still.
        missing -= usize::from(results[shard].is_none());
        results[shard] = Some(result);
    }
    Ok(results)
}
