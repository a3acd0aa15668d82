//! A test that notices nothing proves nothing: damage of each kind breaks the law that forbids it.

use axs::core::chaos::laws::LAWS;

use crate::{
    audit::{broken_laws, redis_agrees},
    cluster::{Cluster, Options},
    stream::{Sending, Stream},
};

/// What breaks which law, in the order of the laws.
const DAMAGE: [&str; LAWS.len()] = [
    "UPDATE shard_position p SET applied = applied - (SELECT int8multirange(int8range(c.seq,
        c.seq + 1)) FROM command c WHERE c.shard = p.shard LIMIT 1) WHERE shard = 0",
    "DELETE FROM journal WHERE flush_from = (SELECT max(flush_from) FROM journal WHERE shard = 0)
        AND shard = 0",
    "UPDATE command SET content_hash = '\\x00' WHERE shard = 0 AND seq = (SELECT min(seq)
        FROM command WHERE shard = 0)",
    "DELETE FROM idempotency WHERE command_id = (SELECT min(command_id) FROM idempotency)",
    "UPDATE journal SET entry_version[1] = entry_version[1] + 1 WHERE ctid = (SELECT ctid
        FROM journal_p0 WHERE cardinality(entry_version) > 0 LIMIT 1)",
    "UPDATE balance SET available = available + 1 WHERE shard = 0 AND account_id = (SELECT
        min(account_id) FROM balance WHERE shard = 0)",
    "UPDATE journal SET epoch = epoch + 1 WHERE shard = 0 AND flush_from = (SELECT
        min(flush_from) FROM journal WHERE shard = 0)",
    "INSERT INTO dead_letter (shard, position, reason, message, log_time, key, value)
        VALUES (0, 0, 1, 'bad', now(), '', '')",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_notices_damage_of_each_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = Stream::of_seed(folder.path(), 1, 30);
    let cluster = Cluster::start(Options::of(&stream, 1)).await;
    stream.assert_outcomes(&cluster.send(&stream.commands, "applied"), Sending::First);
    redis_agrees(&cluster, true).await;
    let sql = cluster.database.session().await;
    for (damage, (law, _)) in DAMAGE.into_iter().zip(LAWS) {
        // Triggers keep hands off; this session goes past them.
        sql.batch_execute("BEGIN; SET LOCAL session_replication_role = replica")
            .await
            .expect("a transaction");
        let changed = sql.execute(damage, &[]).await;
        let changed = changed.unwrap_or_else(|error| panic!("{law}: {error:?}"));
        assert!(changed > 0, "nothing is damaged for: {law}");
        let broken = broken_laws(&sql).await;
        assert!(
            broken.iter().any(|(name, _)| *name == law),
            "not noticed: {law}; {broken:#?}"
        );
        sql.batch_execute("ROLLBACK").await.expect("it never was");
    }
    assert!(broken_laws(&sql).await.is_empty());
}
