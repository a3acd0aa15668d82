//! Reads one shard: proves on opening that the log is the one whose position we hold, then hands
//! out its records in order, without a step that was not looked at twice.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rdkafka::{
    Message as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::time::{Instant, timeout_at};

use super::{
    client::{blocking, failed},
    consume::{Claim, Consumer, Hold},
    headers,
    sweep::log_time,
};
use crate::core::{
    log::{Error, Record},
    types::{Anchor, OFFSET_MAX, Position, ShardId},
};

/// The record before the position must be there within this.
const ANCHOR_TIMEOUT: Duration = Duration::from_secs(10);
/// Records are copied into memory of so many bytes, until one does not fit any more.
const BUFFER_BYTES: usize = 256 * 1024;
/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Reads a partition from a position on. Dropping it gives the partition back.
pub struct Reader {
    claim: Claim,
    cursor: Cursor,
    /// Read, but over the limit of the call that read it.
    held: Option<Record>,
    /// Comes with the next call: there were records to hand out before it.
    stopped: Option<Stop>,
    /// The broker has no such offset; the next call finds out why.
    out_of_range: bool,
    /// Reading cannot go on; the shard has to be opened again.
    lost: Option<Error>,
    /// Since when nothing came.
    idle_since: Instant,
}

/// Where the reading stands.
struct Cursor {
    generation: u16,
    /// Offsets below are behind us.
    next: i64,
    /// From this offset we have read twice, so that a gap behind it is real.
    read_again: Option<i64>,
    /// What is left of the memory that the latest records are in.
    buffer: BytesMut,
}

/// Why no record came.
enum Stop {
    Library(KafkaError),
    Restart(Error),
}

impl Reader {
    /// See [`crate::core::log::Log::open`].
    pub async fn open(
        consumer: &Arc<Consumer>,
        shard: ShardId,
        from: Position,
        anchor: Option<Anchor>,
    ) -> Result<Self, Error> {
        assert!(
            from >= Position::ZERO,
            "a shard is read from a real position"
        );
        let offset = from.offset();
        let low = check_range(consumer, shard, offset).await?;
        // Where retention removed exactly the record before, nothing is left to compare with.
        let anchor = anchor.filter(|_| offset > low);
        let first = offset - i64::from(anchor.is_some());
        let mut reader = Self {
            claim: consumer.claim(shard, first).map_err(transient)?,
            cursor: Cursor {
                generation: from.generation(),
                next: first,
                read_again: None,
                buffer: BytesMut::new(),
            },
            held: None,
            stopped: None,
            out_of_range: false,
            lost: None,
            idle_since: Instant::now(),
        };
        if let Some(anchor) = anchor {
            reader.check_anchor(offset, anchor).await?;
        }
        Ok(reader)
    }

    /// See [`crate::core::log::Reader::fetch`].
    pub async fn fetch(
        &mut self,
        count_max: usize,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        loop {
            let records = self.take(count_max.max(1), bytes_max)?;
            if !records.is_empty() {
                self.idle_since = Instant::now();
                return Ok(records);
            }
            if self.out_of_range {
                let (shard, next) = (self.claim.shard(), self.cursor.next);
                check_range(self.claim.consumer(), shard, next).await?;
                // It is there after all, as after a change of the partition's leader.
                self.restart()?;
                self.out_of_range = false;
                if Instant::now() >= deadline {
                    return Ok(Vec::new());
                }
            }
            if timeout_at(deadline, self.claim.arrived()).await.is_err() {
                self.check_idle()?;
                return Ok(Vec::new());
            }
        }
    }

    /// What the queue holds now, to the limits; at least one record, if there is one.
    fn take(&mut self, count_max: usize, bytes_max: usize) -> Result<Vec<Record>, Error> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut hold = self.claim.hold()?;
        while records.len() < count_max && self.stopped.is_none() {
            let record = match self.held.take() {
                Some(record) => record,
                None => match self.cursor.poll(&mut hold) {
                    Ok(Some(record)) => record,
                    Ok(None) => break,
                    Err(stop) => {
                        self.stopped = Some(stop);
                        break;
                    }
                },
            };
            bytes += record.bytes();
            if bytes > bytes_max && !records.is_empty() {
                self.held = Some(record);
                break;
            }
            records.push(record);
        }
        drop(hold);
        if records.is_empty()
            && let Some(stop) = self.stopped.take()
        {
            self.explain(stop)?;
        }
        Ok(records)
    }

    fn explain(&mut self, stop: Stop) -> Result<(), Error> {
        use RDKafkaErrorCode as Code;
        let error = match stop {
            Stop::Library(error) => error,
            Stop::Restart(error) => {
                self.lost = Some(error.clone());
                return Err(error);
            }
        };
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                self.out_of_range = true;
                Ok(())
            }
            // After any other error the library goes on by itself, as soon as it can.
            _ => {
                let what = format!("shard {} of {}", self.claim.shard(), self.topic());
                Err(transient(failed(&what, &error)))
            }
        }
    }

    fn restart(&mut self) -> Result<(), Error> {
        let restarted = self
            .claim
            .hold()?
            .restart(self.cursor.next)
            .map_err(transient);
        self.lost = restarted.as_ref().err().cloned();
        restarted
    }

    /// An empty queue is no news only where the partition can be reached and does not end before
    /// our position.
    fn check_idle(&mut self) -> Result<(), Error> {
        let Some(probe) = self.claim.probe() else {
            return Ok(());
        };
        match probe.end {
            Err(error) => Err(transient(error)),
            Ok(end) if end < self.cursor.next && probe.asked > self.idle_since.into_std() => {
                self.out_of_range = true;
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    async fn check_anchor(&mut self, offset: i64, anchor: Anchor) -> Result<(), Error> {
        let deadline = Instant::now() + ANCHOR_TIMEOUT;
        let found = loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            if let Some(record) = self.fetch(1, usize::MAX, wait).await?.pop() {
                break record;
            }
            if Instant::now() >= deadline {
                return Err(Error::Unavailable(format!(
                    "shard {}: the record before offset {offset} of {} does not come",
                    self.claim.shard(),
                    self.topic()
                )));
            }
        };
        if found.position.offset() + 1 == offset && found.is_anchored_by(anchor) {
            return Ok(());
        }
        Err(Error::Diverged(format!(
            "shard {}: the record before offset {offset} of {} is not the one that was applied \
             there: the topic was made anew, or lost records that it had acknowledged; when it is \
             clear that this log is to be used, run `axs shards rebase {0}`",
            self.claim.shard(),
            self.topic()
        )))
    }

    fn topic(&self) -> &str {
        self.claim.consumer().topic()
    }
}

impl Cursor {
    /// The next record, if it is there: never below `next`, and above it only after a second look.
    fn poll(&mut self, hold: &mut Hold<'_>) -> Result<Option<Record>, Stop> {
        loop {
            let offset = match hold.poll() {
                None => return Ok(None),
                Some(Err(error)) => return Err(Stop::Library(error)),
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if offset == self.next || (offset > self.next && self.is_read_again()) {
                        assert!(offset <= OFFSET_MAX, "offsets have 48 bits");
                        self.next = offset + 1;
                        return Ok(Some(record(&message, self.generation, &mut self.buffer)));
                    }
                    offset
                }
            };
            if offset > self.next {
                self.read_again = Some(self.next);
                hold.restart(self.next).map_err(Stop::Restart)?;
            }
        }
    }

    fn is_read_again(&self) -> bool {
        self.read_again == Some(self.next)
    }
}

/// Whether `offset` lies within the partition, its end included; the partition's first offset.
async fn check_range(consumer: &Arc<Consumer>, shard: ShardId, offset: i64) -> Result<i64, Error> {
    let asked = Arc::clone(consumer);
    let (low, high) = blocking(move || asked.range(shard))
        .await
        .map_err(transient)?;
    let topic = consumer.topic();
    if offset > high {
        return Err(Error::Diverged(format!(
            "shard {shard}: offset {offset} is to be read next, but {topic} ends at {high}: the \
             topic was made anew, or lost records that it had acknowledged; when it is clear that \
             this log is to be used, run `axs shards rebase {shard}`"
        )));
    }
    if offset < low {
        return Err(Error::Diverged(format!(
            "shard {shard}: offset {offset} is to be read next, but {topic} begins at {low}: \
             records were deleted, or expired, before they were applied; give the topic a longer \
             retention, then run `axs shards rebase {shard}`: what is pending is produced again"
        )));
    }
    Ok(low)
}

/// A broker that starts does not know its topics yet: what is refused now may go in a moment. That
/// the topic is there and fits was seen when the log was connected.
fn transient(error: Error) -> Error {
    match error {
        Error::Refused(why) => Error::Unavailable(why),
        error => error,
    }
}

fn record(message: &BorrowedMessage<'_>, generation: u16, buffer: &mut BytesMut) -> Record {
    let (command_id, content_hash) = headers::read(message.headers());
    Record {
        position: Position::new(generation, message.offset()),
        log_time: log_time(message.timestamp()),
        key: copy(message.key().unwrap_or_default(), buffer),
        value: copy(message.payload().unwrap_or_default(), buffer),
        command_id,
        content_hash,
    }
}

/// Into memory that many records share: one allocation for all of them.
pub fn copy(bytes: &[u8], buffer: &mut BytesMut) -> Bytes {
    if buffer.capacity() < bytes.len() {
        buffer.reserve(bytes.len().max(BUFFER_BYTES));
    }
    buffer.extend_from_slice(bytes);
    buffer.split().freeze()
}
