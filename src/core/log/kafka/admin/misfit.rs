//! What of a topic does not fit, in sentences. Asks nobody.

use super::{Description, MESSAGE_BYTES_MAX, Topic, Topics};
use crate::core::{config, log::Error};

/// Something about a topic that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Records could be lost, or land in a wrong place: AXS does not start on it.
    pub fatal: bool,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything about a topic that does not fit this cluster.
pub fn misfits(name: &str, topic: &Topic, settings: &config::Kafka, shards: u16) -> Vec<Misfit> {
    let get = |setting: &str| topic.settings.get(setting).map_or("", String::as_str);
    let number = |setting: &str| get(setting).parse::<usize>().unwrap_or_default();
    let commands = name == Topics::new(&settings.topic_prefix).commands;
    let mut misfits = Vec::new();
    let mut add = |fatal: bool, wrong: bool, message: String| {
        if wrong {
            misfits.push(Misfit {
                fatal,
                message: format!("the topic `{name}` {message}"),
            });
        }
    };
    add(
        true,
        topic.partitions != usize::from(shards),
        format!(
            "has {} partitions, but the cluster has {shards} shards: use another \
             `kafka.topic_prefix`, or the number of shards it was made for",
            topic.partitions
        ),
    );
    add(
        true,
        get("cleanup.policy") != "delete",
        format!(
            "has cleanup.policy={}, which removes records of accounts that have newer ones: set it \
             to `delete`",
            get("cleanup.policy")
        ),
    );
    add(
        true,
        commands && get("message.timestamp.type") != "LogAppendTime",
        format!(
            "has message.timestamp.type={}, but the time of a command is the log's: set it to \
             `LogAppendTime`",
            get("message.timestamp.type")
        ),
    );
    add(
        true,
        number("max.message.bytes") < MESSAGE_BYTES_MAX,
        format!(
            "has max.message.bytes={}, but records may take more: set it to {MESSAGE_BYTES_MAX}",
            get("max.message.bytes")
        ),
    );
    add(
        false,
        get("unclean.leader.election.enable") != "false",
        "has unclean.leader.election.enable=true: acknowledged records can be lost; set it to \
         `false`"
            .into(),
    );
    let least = usize::from(settings.min_insync_replicas);
    add(
        false,
        number("min.insync.replicas") < least,
        format!(
            "has min.insync.replicas={}, below `kafka.min_insync_replicas` = {least}: set it to \
             {least}",
            get("min.insync.replicas")
        ),
    );
    let replicas = usize::from(settings.replication);
    add(
        false,
        topic.replicas < replicas,
        format!(
            "has {} replicas, below `kafka.replication` = {replicas}: add replicas",
            topic.replicas
        ),
    );
    add(
        false,
        topic.in_sync < number("min.insync.replicas"),
        format!(
            "has a partition with {} replicas in sync: it takes no records",
            topic.in_sync
        ),
    );
    misfits
}

/// The warnings, unless there is something fatal.
pub fn refuse(
    found: &Description,
    settings: &config::Kafka,
    shards: u16,
) -> Result<Vec<String>, Error> {
    let existing = found
        .topics
        .iter()
        .filter_map(|(name, topic)| Some((name, topic.as_ref()?)));
    let misfits = existing.flat_map(|(name, topic)| misfits(name, topic, settings, shards));
    let (fatal, warnings): (Vec<_>, Vec<_>) = misfits.partition(|misfit| misfit.fatal);
    let sentences = |misfits: Vec<Misfit>| misfits.into_iter().map(|misfit| misfit.message);
    match fatal.is_empty() {
        true => Ok(sentences(warnings).collect()),
        false => Err(Error::Refused(
            sentences(fatal).collect::<Vec<_>>().join("; "),
        )),
    }
}
