//! Topics of a test's own, on the real Kafka, deleted when it ends.

use std::time::Duration;

use axs::core::{
    config,
    log::{NewRecord, Record, kafka},
    types::{AccountId, CommandId, ContentHash, Position, Sequence, ShardId, Timestamp},
};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::OwnedMessage,
};

use crate::support::{required, unique};

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Three topics under a prefix of their own.
pub struct Topics {
    pub settings: config::Kafka,
    pub names: kafka::Topics,
    pub shards: u16,
}

impl Topics {
    /// Names only.
    pub fn named(shards: u16) -> Self {
        let settings = config::Kafka {
            brokers: Some(required("AXS_TEST_KAFKA_BROKERS")),
            topic_prefix: format!("{}.", unique("axs-test")),
            ..config::Kafka::default()
        };
        Self {
            names: kafka::Topics::new(&settings.topic_prefix),
            settings,
            shards,
        }
    }

    /// As `axs migrate` makes them.
    pub async fn create(shards: u16) -> Self {
        let topics = Self::named(shards);
        topics.ensure().await;
        topics
    }

    pub async fn ensure(&self) {
        kafka::admin::ensure_topics(&self.settings, self.shards)
            .await
            .expect("topics are made");
    }

    pub async fn log(&self) -> kafka::Log {
        let log = kafka::Log::connect(&self.settings, self.shards, "axs-test");
        log.await.expect("the log is connected")
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    pub async fn make_by_hand(&self, name: &str, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, i32::from(self.shards), TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let made = self
            .admin()
            .create_topics([&topic], &AdminOptions::new())
            .await;
        assert!(matches!(made.as_deref(), Ok([Ok(_)])), "{made:?}");
    }

    /// Removes the records of a shard below an offset.
    pub async fn delete_records(&self, shard: ShardId, below: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(
            &self.names.commands,
            i32::from(shard.0),
            Offset::Offset(below),
        )
        .expect("an offset");
        let deleted = self
            .admin()
            .delete_records(&list, &AdminOptions::new())
            .await;
        let deleted = deleted.expect("records are deleted");
        deleted.elements()[0]
            .error()
            .expect("records of the partition are deleted");
    }

    pub async fn delete_topics(&self) {
        let admin = self.admin();
        let deleted = admin
            .delete_topics(&self.names.all(), &AdminOptions::new())
            .await;
        deleted.expect("topics are deleted");
    }

    /// Everything in a partition, by a client that knows nothing of AXS.
    pub fn dump(&self, topic: &str, partition: i32) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "axs-test-dump")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .expect("the topic is there");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low))
            .expect("an offset");
        consumer.assign(&list).expect("assigned");
        let mut messages = Vec::new();
        while messages.len() < usize::try_from(high - low).expect("low is not above high") {
            let message = consumer.poll(PATIENCE).expect("all records come");
            messages.push(message.expect("a record").detach());
        }
        messages
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        let brokers = self.settings.brokers.as_deref().expect("set by `named`");
        client
            .set("bootstrap.servers", brokers)
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Error);
        client
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let admin = self.admin();
        // A test that failed must say why itself: nothing is asserted here.
        let _ = futures::executor::block_on(
            admin.delete_topics(&self.names.all(), &AdminOptions::new()),
        );
    }
}

/// A record of a command, different for each number.
pub fn command(shard: u16, number: u64) -> NewRecord {
    NewRecord {
        shard: ShardId(shard),
        account: Some(AccountId(1000 + number)),
        value: Bytes::from(format!("value {number}")),
        command: Some((
            CommandId::new(ShardId(shard), Sequence(number + 1)),
            ContentHash([u8::try_from(number % 251).expect("below 251"); 16]),
        )),
        source: "/test/orders".into(),
        time: Timestamp(1_700_000_000_123_456),
    }
}

pub fn commands(shard: u16, numbers: std::ops::Range<u64>) -> Vec<NewRecord> {
    numbers.map(|number| command(shard, number)).collect()
}

/// Reads until so many records are there.
pub async fn read(reader: &mut kafka::Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = reader
            .fetch(count - records.len(), usize::MAX, PATIENCE)
            .await;
        let more = more.expect("the log can be read");
        assert!(
            !more.is_empty(),
            "{} of {count} records came",
            records.len()
        );
        records.extend(more);
    }
    records
}

pub fn offsets(records: &[Record]) -> Vec<i64> {
    records
        .iter()
        .map(|record| record.position.offset())
        .collect()
}

pub fn at(offset: i64) -> Position {
    Position::new(0, offset)
}
