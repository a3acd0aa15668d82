//! `axs reconcile --execute`: what is derived is made right again, once; what is not stays as it is.

use axs::core::{
    command::record::{LogItem, decode, encode_command},
    log::NewRecord,
    types::{CommandId, Sequence, ShardId},
};
use rdkafka::Message as _;
use serde_json::Value;

use super::{ALONE, assert_clean, damage::Target, has, reconcile};
use crate::{
    cluster::{Cluster, Options},
    member::{PATIENCE, command, eventually},
    stream::{Sending, Stream},
};

const BALANCES: [&str; 4] = ["--execute", "--yes", "--reason", "changed by hand"];
const REDIS: [&str; 2] = ["--against", "redis"];

async fn cluster(stream: &Stream) -> Cluster {
    let cluster = Cluster::start(Options {
        settings: ALONE,
        ..Options::of(stream, 2)
    })
    .await;
    cluster.send(&stream.commands, "applied");
    cluster
}

/// The exit code of a call that answers with an error.
fn refused(cluster: &Cluster, arguments: &[&str]) -> Option<i32> {
    let arguments = [&["reconcile"], arguments].concat();
    let mut command = command(&arguments, cluster.environment(), cluster.folder());
    command.output().expect("the binary starts").status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_are_made_as_the_journal_says_once_and_with_a_reason() {
    let stream = Stream::load();
    let cluster = cluster(&stream).await;
    let sql = cluster.database.session().await;
    let by_hand = "SET session_replication_role = replica";
    sql.batch_execute(by_hand).await.expect("a superuser");
    let at = Target::find(&sql).await;
    let (balance, shard) = (at.balance(), at.shard);
    let damage = format!(
        "UPDATE balance SET available = available + 1 WHERE {balance};
         DELETE FROM balance b WHERE b.shard = {shard} AND NOT ({balance}) AND b.account_id =
            (SELECT max(account_id) FROM balance WHERE shard = {shard});"
    );
    sql.batch_execute(&damage).await.expect("damage is done");
    let (code, before) = reconcile(&cluster, &[]).await;
    assert_eq!(code, 3);
    let rows = before["kinds"]["BALANCE"].as_u64().expect("some");
    assert!(rows >= 2, "{before:#}");
    // Neither without a yes nor without a reason.
    assert_eq!(refused(&cluster, &["--execute", "--reason", "x"]), Some(7));
    assert_eq!(refused(&cluster, &BALANCES[..2]), Some(2));
    let audited = "SELECT count(*) FROM audit WHERE action = 'repair_balances'
        AND reason = 'changed by hand'";
    assert_eq!(cluster.count("SELECT count(*) FROM audit").await, 0);
    let (code, document) = reconcile(&cluster, &BALANCES).await;
    assert_eq!(
        (code, &document["differences_left"]),
        (0, &0.into()),
        "{document:#}"
    );
    assert_eq!(document["repaired"]["shards"][0]["balances"], rows);
    // What was there is kept, and the second time there is nothing to do.
    assert_eq!(cluster.count(audited).await, 1);
    let kept = format!(
        "SELECT count(*) FROM audit, jsonb_array_elements(details->'balances') AS b
            WHERE (b->>'account_id')::bigint = {} AND (b->>'asset_id')::int = {}
            AND (b->'before'->>'available')::numeric = (b->'after'->>'available')::numeric + 1",
        at.account, at.asset_id
    );
    assert_eq!(cluster.count(&kept).await, 1);
    assert_eq!(reconcile(&cluster, &BALANCES).await.0, 0);
    assert_eq!(cluster.count(audited).await, 1);
    // The shard works on, on the right balances.
    cluster.is_led().await;
    let reports = cluster.send(&stream.commands, "applied");
    stream.assert_outcomes(&reports, Sending::Again);
    assert_clean(&cluster, &["--against", "balance,redis"]).await;
    // A journal that is damaged itself says nothing of the balances.
    let damage = format!(
        "UPDATE balance SET available = available + 1 WHERE {balance};
         UPDATE journal SET previous_result[1] = 0 WHERE shard = {shard} AND flush_from = {};",
        at.flush_from
    );
    sql.batch_execute(&damage).await.expect("damage is done");
    assert_eq!(reconcile(&cluster, &BALANCES).await.0, 3);
    assert_eq!(cluster.count(audited).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_written_again_and_a_forged_record_is_found() {
    let stream = Stream::load();
    let cluster = cluster(&stream).await;
    assert_clean(&cluster, &REDIS).await;
    let values = cluster.redis.values(0, "balance");
    let mut values = values.iter().filter(|(_, value)| value.contains(" | "));
    let (other, ahead) = (values.next().expect("one"), values.next().expect("two"));
    let amount = other.1.split(" available ").nth(1).expect("an amount");
    let amount = amount.split(' ').next().expect("an amount");
    let wrong = other
        .1
        .replacen(&format!(" available {amount} "), " available 7 ", 1);
    cluster.redis.set(0, &other.0, &wrong);
    // One that says it is newer than all that will come.
    let (head, rest) = ahead.1.split_at(21);
    let later = format!("{head}{:020}{}", 1_i64 << 47, &rest[20..]);
    cluster.redis.set(0, &ahead.0, &later);
    let (code, document) = reconcile(&cluster, &REDIS).await;
    assert_eq!(
        (code, &document["differences"]),
        (3, &2.into()),
        "{document:#}"
    );
    for (account, stored) in [(&other.0, "available 0.0"), (&ahead.0, "epoch ")] {
        let expected = serde_json::json!({"kind": "REDIS", "shard": 0, "account_id": account});
        let findings = document["findings"].as_array().expect("a list");
        let finding = findings.iter().find(|it| has(it, &expected));
        let finding = finding.unwrap_or_else(|| panic!("{expected}: {document:#}"));
        let text = finding["stored"].as_str().expect("text");
        assert!(text.starts_with(stored), "{text}");
    }
    let of_account = ["--account", &other.0, "--against", "redis"];
    assert_eq!(reconcile(&cluster, &of_account).await.0, 3);
    let execute = [&REDIS[..], &["--execute", "--yes"]].concat();
    let (code, document) = reconcile(&cluster, &execute).await;
    assert_eq!(
        (code, &document["repaired"]["redis"]),
        (0, &2.into()),
        "{document:#}"
    );
    assert_eq!(reconcile(&cluster, &execute).await.0, 0);
    let now = cluster.redis.values(0, "balance");
    let balances = |value: &str| value.split_once(" | ").map(|(_, it)| it.to_owned());
    for (account, value) in [other, ahead] {
        let (_, now) = now
            .iter()
            .find(|(it, _)| it == account)
            .expect("it is there");
        assert_eq!(balances(now), balances(value));
    }
    forge(&cluster).await;
}

/// A record that nobody accepted is applied, and found.
async fn forge(cluster: &Cluster) {
    let next = cluster
        .count("SELECT next FROM sequence WHERE shard = 0")
        .await;
    let id = CommandId::new(ShardId(0), Sequence(next.unsigned_abs() + 10));
    let records = cluster.topics.dump(&cluster.topics.names.commands, 0);
    let command = records.iter().find_map(|record| {
        match decode(&bytes::Bytes::copy_from_slice(record.payload()?)) {
            Ok(LogItem::Command(command)) if command.changes.len() == 1 => Some(command),
            _ => None,
        }
    });
    let mut command = command.expect("a command with a change");
    command.id = Some(id);
    let record = NewRecord {
        shard: ShardId(0),
        account: Some(command.account),
        value: encode_command(&command),
        command: Some((id, command.content_hash)),
        source: command.source.to_string(),
        time: command.accepted_at,
    };
    let answers = cluster.topics.log().await.append(vec![record]).await;
    assert_eq!(answers, [Ok(())]);
    let position = format!(
        "SELECT coalesce(max(position), -1) FROM axs_outcome({})",
        id.0
    );
    let position = eventually(PATIENCE, async || match cluster.count(&position).await {
        -1 => Err("it is not applied".to_owned()),
        position => Ok(position),
    })
    .await;
    let (code, document) = reconcile(cluster, &[]).await;
    let expected = serde_json::json!({"kind": "COMMAND", "shard": 0,
        "command_id": id.0.to_string(), "position": position.to_string()});
    let findings: &[Value] = document["findings"].as_array().expect("a list");
    assert!(findings.iter().any(|it| has(it, &expected)), "{document:#}");
    assert_eq!(code, 3);
}
