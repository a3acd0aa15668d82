//! What every store does: the same functions run on the store in memory and on PostgreSQL, and
//! random sequences of statements must get the same answers from both.

mod accept;
mod flush;
mod lead;
mod operate;
mod outbox;
mod random;
mod read;
mod stores;

#[path = "../support/database.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod database;
#[path = "../support/ledger.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

/// Each function with a store of its own, of [`stores::SHARDS`] shards and no assets.
macro_rules! suite {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod memory {$(
            #[tokio::test]
            async fn $name() {
                crate::$module::$name(&crate::stores::memory()).await;
            }
        )*}
        mod postgres {$(
            #[tokio::test]
            async fn $name() {
                let database = crate::database::Database::migrated(crate::stores::SHARDS).await;
                crate::$module::$name(&database.store().await).await;
            }
        )*}
    };
}

suite! {
    accept::accepted_commands_are_read_back_as_sent,
    accept::a_repeated_key_is_a_duplicate_or_a_conflict,
    accept::the_first_route_of_an_account_stands,
    accept::a_closed_block_stores_nothing,
    accept::a_number_is_used_once,
    accept::text_that_postgresql_cannot_store_is_refused,
    accept::blocks_are_leased_once_for_each_nonce,
    accept::assets_are_added_once,
    lead::a_lease_is_taken_over_when_it_ended,
    lead::an_own_lease_is_taken_over_at_once,
    lead::a_take_over_brings_what_was_flushed,
    lead::published_never_moves_back,
    lead::members_are_those_seen_lately,
    lead::a_shard_that_is_not_there_is_a_mismatch,
    operate::a_paused_shard_is_led_by_nobody,
    operate::a_shard_goes_on_in_another_generation,
    operate::commands_without_a_row_are_adopted_once,
    operate::a_recovery_uses_nothing_again,
    flush::every_kind_of_row_is_written,
    flush::a_flush_sent_again_was_done_already,
    flush::a_flush_that_is_not_ours_is_fenced,
    flush::a_stale_version_is_a_conflict,
    flush::what_the_columns_refuse_is_refused,
    flush::a_command_is_reversed_once,
    flush::dead_letters_keep_their_bytes_and_park,
    read::a_load_is_of_one_shard,
    read::results_follow_each_other,
    read::a_history_is_read_by_pages_in_both_directions,
    read::a_history_goes_on_over_many_flushes,
    read::the_entry_at_a_time_is_the_last_before_it,
    read::what_is_not_there_is_absent,
    outbox::pending_commands_are_those_passed_over,
    outbox::numbers_of_closed_blocks_can_be_sealed,
    outbox::old_blocks_are_closed,
}

/// No answer of the store in memory depends on anything but the statements before it.
#[tokio::test]
async fn the_store_in_memory_is_deterministic() {
    for seed in random::seeds() {
        random::compare(seed, stores::memory(), stores::memory()).await;
    }
}

/// The store in memory is no kinder than PostgreSQL, and no stricter.
#[tokio::test]
async fn memory_and_postgresql_give_the_same_answers() {
    let database = database::Database::migrated(stores::SHARDS).await;
    let (store, session) = (database.store().await, database.session().await);
    let mut answers = random::Answers::new();
    for seed in random::seeds() {
        session.batch_execute(EMPTY).await.expect("as it was made");
        let told = random::compare(seed, stores::memory(), store.clone()).await;
        for (answer, count) in told {
            *answers.entry(answer).or_default() += count;
        }
    }
    println!("{answers:?}");
    for answer in random::ANSWERS {
        assert!(
            answers.contains_key(answer),
            "never `{answer}` in {answers:?}"
        );
    }
}

/// What the sequence before left goes, its leases too. Only a superuser can do that.
const EMPTY: &str = "
    SET session_replication_role = replica;
    DELETE FROM account; DELETE FROM account_route; DELETE FROM balance; DELETE FROM balance_mark;
    DELETE FROM command; DELETE FROM dead_letter; DELETE FROM idempotency; DELETE FROM journal;
    DELETE FROM reversal; DELETE FROM sequence_block;
    CREATE TEMPORARY TABLE IF NOT EXISTS new_position (LIKE shard_position INCLUDING DEFAULTS);
    CREATE TEMPORARY TABLE IF NOT EXISTS new_sequence (LIKE sequence INCLUDING DEFAULTS);
    DELETE FROM new_position; INSERT INTO new_position (shard) SELECT shard FROM shard_position;
    DELETE FROM new_sequence; INSERT INTO new_sequence (shard) SELECT shard FROM sequence;
    DELETE FROM shard_position; INSERT INTO shard_position SELECT * FROM new_position;
    DELETE FROM sequence; INSERT INTO sequence SELECT * FROM new_sequence;
    SET session_replication_role = DEFAULT;";
