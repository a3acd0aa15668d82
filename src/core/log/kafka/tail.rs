//! Follows the results of all shards from now on. A hint only: after an outage it may skip or
//! repeat, and what cannot be decoded is left out.

use std::time::Duration;

use bytes::BytesMut;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::BorrowedMessage,
};
use tokio::sync::mpsc;

use super::{
    client::{Clients, Context, blocking, failed},
    consume::ends,
    reader::copy,
};
use crate::core::{log::Error, result::Published};

/// Most results of one answer.
const TAKEN_MAX: usize = 4 * 1024;
/// Most answers that wait to be taken; then the topic waits.
const WAITING_MAX: usize = 4;
/// How soon the thread notices that nobody listens any more.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Results as they are published.
pub struct ResultTail {
    results: mpsc::Receiver<Vec<Published>>,
}

impl ResultTail {
    /// Starts behind what each partition holds now: what is published after this is seen.
    pub async fn start(clients: &Clients, topic: &str, shards: u16) -> Result<Self, Error> {
        let (clients, topic) = (clients.clone(), topic.to_owned());
        let (sender, results) = mpsc::channel(WAITING_MAX);
        blocking(move || {
            let client: BaseConsumer<Context> = clients
                .tail()
                .create_with_context(Context)
                .map_err(|error| failed("the consumer of results does not start", &error))?;
            let partitions: Vec<i32> = (0..i32::from(shards)).collect();
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (partition, end) in (0..).zip(ends(&client, &topic, &partitions)?) {
                list.add_partition_offset(&topic, partition, Offset::Offset(end?))
                    .map_err(|error| failed(&topic, &error))?;
            }
            client
                .assign(&list)
                .map_err(|error| failed(&topic, &error))?;
            std::thread::Builder::new()
                .name("axs-results-tail".into())
                .spawn(move || follow(&client, &sender))
                .map_err(|error| Error::Unavailable(format!("no thread for results: {error}")))?;
            Ok(())
        })
        .await?;
        Ok(Self { results })
    }

    /// See [`crate::core::log::ResultTail::next`].
    pub async fn next(&mut self) -> Result<Vec<Published>, Error> {
        let ended = || Error::Unavailable("the tail of results has ended".into());
        self.results.recv().await.ok_or_else(ended)
    }
}

/// Runs until nobody listens.
fn follow(client: &BaseConsumer<Context>, listener: &mpsc::Sender<Vec<Published>>) {
    let mut buffer = BytesMut::new();
    while !listener.is_closed() {
        let mut results = Vec::new();
        // What is there already goes together with the first: one wake-up for all of them.
        let mut wait = POLL_INTERVAL;
        while results.len() < TAKEN_MAX
            && let Some(polled) = client.poll(wait)
        {
            wait = Duration::ZERO;
            match polled {
                // It reconnects by itself.
                Err(error) => tracing::debug!("tail of results: {error}"),
                Ok(message) => results.extend(parsed(&message, &mut buffer)),
            }
        }
        if !results.is_empty() {
            // An error here ends the loop at its next turn.
            let _ = listener.blocking_send(results);
        }
    }
}

fn parsed(message: &BorrowedMessage<'_>, buffer: &mut BytesMut) -> Option<Published> {
    match Published::parse(copy(message.payload().unwrap_or_default(), buffer)) {
        Ok(result) => Some(result),
        Err(error) => {
            tracing::warn!(
                kafka.partition = message.partition(),
                kafka.offset = message.offset(),
                "this is no result, and is left out: {error}"
            );
            None
        }
    }
}
