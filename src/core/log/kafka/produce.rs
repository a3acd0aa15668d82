//! Appends records: explicit partition, in order, each answered once its fate is known. One
//! idempotent producer per process; one that died is replaced. Never waits for room.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::time::Instant;

use super::{
    client::{Clients, Context, MESSAGE_TIMEOUT, failed},
    delivery::{Answer, Call, Waiting},
};
use crate::core::log::{Error, RECORD_BYTES_MAX};

/// The library looks for records that timed out once a second; beyond this it must have answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(ANSWER_TIMEOUT.as_millis() > MESSAGE_TIMEOUT.as_millis() + 1_000);

/// How soon the thread that hands answers on notices that nobody sends any more. The library spins
/// through the last millisecond of each such wait.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

type Client = BaseProducer<Context>;

/// One record on its way out.
pub struct Outgoing {
    /// Which partition.
    pub partition: i32,
    /// Text; none for control records.
    pub key: Option<Bytes>,
    /// As it is.
    pub value: Bytes,
    /// All of them.
    pub headers: OwnedHeaders,
}

/// Sends to topics.
pub struct Producer {
    clients: Clients,
    current: Mutex<Arc<Client>>,
}

impl Producer {
    /// Nothing is connected until the first record.
    pub fn new(clients: Clients) -> Result<Self, Error> {
        let current = Mutex::new(Self::start(&clients)?);
        Ok(Self { clients, current })
    }

    /// A client with a thread that hands its answers on, and closes it once nobody else holds it:
    /// that may take half a second.
    fn start(clients: &Clients) -> Result<Arc<Client>, Error> {
        let client: Client = clients
            .producer()
            .create_with_context(Context)
            .map_err(|error| failed("the producer does not start", &error))?;
        let client = Arc::new(client);
        let served = Arc::clone(&client);
        std::thread::Builder::new()
            .name("axs-kafka-answers".into())
            .spawn(move || {
                while Arc::strong_count(&served) > 1 {
                    served.poll(POLL_INTERVAL);
                }
            })
            .map_err(|error| Error::Unavailable(format!("no thread for answers: {error}")))?;
        Ok(client)
    }

    /// Sends in order and answers for each. Once our queue was full, what follows in the same call
    /// is not tried either: a record must not overtake one that was turned away.
    pub async fn send(&self, topic: &str, records: Vec<Outgoing>) -> Vec<Result<(), Error>> {
        let client = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let call = Call::new(records.len());
        let mut known: Vec<(usize, Error)> = Vec::new();
        let mut full = false;
        for (index, record) in records.into_iter().enumerate() {
            let sent = match full {
                true => Err(Error::QueueFull),
                false => send_one(&client, topic, record, call.waiting(index)),
            };
            if let Err(error) = sent {
                full |= error == Error::QueueFull;
                known.push((index, error));
            }
        }
        let answered = call.answered(Instant::now() + ANSWER_TIMEOUT).await;
        let mut answers: Vec<Result<(), Error>> = answered
            .into_iter()
            .map(|answer| match answer {
                Answer::Delivered => Ok(()),
                Answer::Failed(error) => Err(failed(topic, &error)),
                Answer::None => Err(Error::Unavailable(format!(
                    "{topic}: no answer from the producer"
                ))),
            })
            .collect();
        for (index, error) in known {
            answers[index] = Err(error);
        }
        if answers.iter().any(Result::is_err) {
            self.replace_if_dead(&client);
        }
        answers
    }

    /// A producer whose session with the broker broke (a topic recreated, a sequence lost) never
    /// sends again by itself.
    fn replace_if_dead(&self, client: &Arc<Client>) {
        let Some((code, why)) = client.client().fatal_error() else {
            return;
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, client) {
            return;
        }
        tracing::warn!(%code, "the producer is replaced: {why}");
        match Self::start(&self.clients) {
            Ok(client) => *current = client,
            Err(error) => tracing::error!("{error}"),
        }
    }
}

fn send_one(client: &Client, topic: &str, record: Outgoing, waiting: Waiting) -> Result<(), Error> {
    if record.value.len() > RECORD_BYTES_MAX {
        return Err(Error::Refused(format!(
            "a record of {} bytes is too large: {RECORD_BYTES_MAX} at most",
            record.value.len()
        )));
    }
    let mut message = BaseRecord::with_opaque_to(topic, Box::new(waiting))
        .partition(record.partition)
        .payload(record.value.as_ref())
        .headers(record.headers);
    if let Some(key) = &record.key {
        message = message.key(key.as_ref());
    }
    client
        .send::<[u8], [u8]>(message)
        .map_err(|(error, _)| failed(topic, &error))
}
