//! The topics: made where they are missing, looked at where they exist, never changed. What does
//! not fit is said in a sentence; whether it stops a start is said with it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Topics,
    client::{Clients, Context, MESSAGE_BYTES_MAX, QUERY_TIMEOUT, blocking, failed},
    consume::ends,
};
use crate::core::{config, log::Error};

mod misfit;

use misfit::refuse;
pub use misfit::{Misfit, misfits};

/// Making topics may take so long, until every broker asked knows them.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether new topics are known.
const CREATED_POLL: Duration = Duration::from_millis(100);
/// The name under which the cluster sees these questions.
const APPLICATION_NAME: &str = "axs-admin";

/// The settings of a topic that decide about losing, keeping and ordering records.
const SETTINGS: [&str; 8] = [
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
];

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The cluster's own id.
    pub cluster_id: Option<String>,
    /// Brokers that are up.
    pub brokers: usize,
    /// Ours, in the order of [`Topics::all`]; `None` where a topic is missing.
    pub topics: Vec<(String, Option<Topic>)>,
}

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// How many partitions.
    pub partitions: usize,
    /// The fewest replicas that a partition has.
    pub replicas: usize,
    /// The fewest replicas in sync that a partition has now.
    pub in_sync: usize,
    /// The settings that matter, by name.
    pub settings: BTreeMap<String, String>,
}

/// What `ensure_topics` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Topics that it made.
    pub created: Vec<String>,
    /// Topics that were there, and fit.
    pub existing: Vec<String>,
    /// What should be mended, but does not stop a start.
    pub warnings: Vec<String>,
}

/// Makes the topics that are missing and refuses those that do not fit. Running it twice, or twice
/// at once, changes nothing.
pub async fn ensure_topics(settings: &config::Kafka, shards: u16) -> Result<Report, Error> {
    if settings.min_insync_replicas > settings.replication {
        return Err(Error::Refused(format!(
            "`kafka.min_insync_replicas` = {} is above `kafka.replication` = {}: nothing could \
             ever be written",
            settings.min_insync_replicas, settings.replication
        )));
    }
    let admin = Admin::new(settings)?;
    let before = admin.describe().await?;
    let mut report = Report::default();
    for (name, topic) in &before.topics {
        match topic {
            Some(_) => report.existing.push(name.clone()),
            None => report.created.push(name.clone()),
        }
    }
    if !report.created.is_empty() {
        // Before anything is made: all or nothing.
        refuse(&before, settings, shards)?;
        admin.create(&report.created, settings, shards).await?;
    }
    let after = admin.described(&report.created, shards).await?;
    report.warnings = refuse(&after, settings, shards)?;
    Ok(report)
}

/// Looks at the cluster and our topics.
pub async fn describe(settings: &config::Kafka) -> Result<Description, Error> {
    Admin::new(settings)?.describe().await
}

/// Takes topics away, with everything in them.
pub async fn delete_topics(settings: &config::Kafka, topics: &Topics) -> Result<(), Error> {
    let client = Admin::new(settings)?.client()?;
    let deleted = client.delete_topics(&topics.all(), &options()).await;
    let answers = deleted.map_err(|error| failed("the topics were not deleted", &error))?;
    for answer in answers {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => {
                let what = format!("the topic `{name}` was not deleted");
                return Err(failed(&what, &KafkaError::AdminOp(code)));
            }
        }
    }
    Ok(())
}

struct Admin {
    clients: Clients,
    topics: Topics,
}

impl Admin {
    fn new(settings: &config::Kafka) -> Result<Self, Error> {
        Ok(Self {
            clients: Clients::new(settings, APPLICATION_NAME)?,
            topics: Topics::new(&settings.topic_prefix),
        })
    }

    fn client(&self) -> Result<AdminClient<Context>, Error> {
        let client = self.clients.admin().create_with_context(Context);
        client.map_err(|error| failed("the admin client does not start", &error))
    }

    async fn describe(&self) -> Result<Description, Error> {
        let (client, names) = (self.client()?, self.topics.clone());
        let (client, mut found) = blocking(move || {
            let found = metadata(&client, &names)?;
            Ok((client, found))
        })
        .await?;
        let existing: Vec<ResourceSpecifier<'_>> = found
            .topics
            .iter()
            .filter(|(_, topic)| topic.is_some())
            .map(|(name, _)| ResourceSpecifier::Topic(name))
            .collect();
        if existing.is_empty() {
            return Ok(found);
        }
        let described = client
            .describe_configs(&existing, &options())
            .await
            .map_err(|error| failed("the settings of the topics", &error))?;
        let topics = found
            .topics
            .iter_mut()
            .filter_map(|(name, topic)| Some((name, topic.as_mut()?)));
        for ((name, topic), described) in topics.zip(described) {
            let described = described.map_err(|code| failed(name, &KafkaError::AdminOp(code)))?;
            topic.settings = described
                .entries
                .into_iter()
                .filter(|entry| SETTINGS.contains(&entry.name.as_str()))
                .map(|entry| (entry.name, entry.value.unwrap_or_default()))
                .collect();
        }
        Ok(found)
    }

    async fn create(
        &self,
        names: &[String],
        settings: &config::Kafka,
        shards: u16,
    ) -> Result<(), Error> {
        let retention = match settings.retention {
            Duration::ZERO => "-1".into(),
            retention => retention.as_millis().to_string(),
        };
        let insync = settings.min_insync_replicas.to_string();
        let bytes = MESSAGE_BYTES_MAX.to_string();
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                let replication = TopicReplication::Fixed(i32::from(settings.replication));
                NewTopic::new(name, i32::from(shards), replication)
                    .set("cleanup.policy", "delete")
                    .set("compression.type", "producer")
                    .set("max.message.bytes", &bytes)
                    .set("message.timestamp.type", "LogAppendTime")
                    .set("min.insync.replicas", &insync)
                    .set("retention.ms", &retention)
                    .set("unclean.leader.election.enable", "false")
            })
            .collect();
        let options = options().operation_timeout(Some(CREATE_TIMEOUT));
        let created = self
            .client()?
            .create_topics(&topics, &options)
            .await
            .map_err(|error| failed("the topics were not made", &error))?;
        for answer in created {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let what = format!("the topic `{name}` was not made");
                    return Err(match code {
                        RDKafkaErrorCode::InvalidReplicationFactor => Error::Refused(format!(
                            "{what}: `kafka.replication` = {} needs as many brokers",
                            settings.replication
                        )),
                        code => failed(&what, &KafkaError::AdminOp(code)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Waits until new topics can be used: a broker learns of its partitions a moment after the
    /// controller has made them.
    async fn described(&self, created: &[String], shards: u16) -> Result<Description, Error> {
        let deadline = Instant::now() + CREATE_TIMEOUT;
        loop {
            let known = match self.describe().await {
                Ok(found) if created.iter().all(|name| is_whole(&found, name, shards)) => {
                    self.answer(created, shards).await.map(|()| found)
                }
                Ok(_) => Err(Error::Unavailable(
                    "the new topics are not known yet".into(),
                )),
                Err(error) => Err(error),
            };
            if known.is_ok() || created.is_empty() || Instant::now() >= deadline {
                return known;
            }
            tokio::time::sleep(CREATED_POLL).await;
        }
    }

    /// Whether each partition of the topics answers.
    async fn answer(&self, topics: &[String], shards: u16) -> Result<(), Error> {
        let (clients, topics) = (self.clients.clone(), topics.to_vec());
        blocking(move || {
            let client = clients.consumer(shards).create_with_context(Context);
            let client = client.map_err(|error| failed("the consumer does not start", &error))?;
            let partitions: Vec<i32> = (0..i32::from(shards)).collect();
            for topic in &topics {
                for end in ends(&client, topic, &partitions)? {
                    end?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn is_whole(found: &Description, name: &str, shards: u16) -> bool {
    let mut topics = found.topics.iter().filter(|(found, _)| found == name);
    let whole = |topic: &Topic| topic.partitions == usize::from(shards) && topic.in_sync > 0;
    topics.any(|(_, topic)| topic.as_ref().is_some_and(whole))
}

/// Of all topics: a question for one would make it, where the brokers allow that.
fn metadata(client: &AdminClient<Context>, names: &Topics) -> Result<Description, Error> {
    let metadata = client
        .inner()
        .fetch_metadata(None, QUERY_TIMEOUT)
        .map_err(|error| failed("the cluster's topics", &error))?;
    let topic = |name: &str| {
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == name)?;
        let partitions = found.partitions();
        Some(Topic {
            partitions: partitions.len(),
            replicas: partitions
                .iter()
                .map(|found| found.replicas().len())
                .min()?,
            in_sync: partitions.iter().map(|found| found.isr().len()).min()?,
            settings: BTreeMap::new(),
        })
    };
    Ok(Description {
        cluster_id: client.inner().fetch_cluster_id(QUERY_TIMEOUT),
        brokers: metadata.brokers().len(),
        topics: names
            .all()
            .map(|name| (name.to_owned(), topic(name)))
            .into(),
    })
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT))
}
