//! What every log does: the same functions run on the log file, on the log without a file, and on
//! Kafka. What the file alone does (torn ends, damage, locks) is in `file`.

mod file;
#[path = "../support/kafka.rs"]
#[expect(dead_code, reason = "what is Kafka's alone is tested in `kafka`")]
mod kafka;
mod logs;
mod random;
mod suite;
#[path = "../support/mod.rs"]
mod support;

/// Each function with an empty log of its own, of [`logs::SHARDS`] shards.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod in_memory {$(
            #[tokio::test]
            async fn $name() {
                crate::suite::$name(&crate::logs::memory()).await;
            }
        )*}
        mod in_a_file {$(
            #[tokio::test]
            async fn $name() {
                let directory = tempfile::tempdir().expect("a directory");
                crate::suite::$name(&crate::logs::in_file(directory.path())).await;
            }
        )*}
        mod in_kafka {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let topics = crate::kafka::Topics::create(crate::logs::SHARDS).await;
                let log = axs::core::log::Log::Kafka(topics.log().await);
                crate::suite::$name(&log).await;
            }
        )*}
    };
}

suite! {
    records_of_a_shard_stand_in_the_order_of_their_append,
    a_reader_begins_where_it_is_told,
    a_reader_refuses_a_log_that_is_not_the_one_applied,
    a_fetch_keeps_to_its_limits,
    a_fetch_waits_for_a_first_record,
    a_fetch_that_is_dropped_loses_nothing,
    many_appends_at_once_are_all_answered,
    what_can_never_be_written_is_refused_alone,
    results_reach_who_follows,
    dead_letters_are_answered_one_by_one,
}
