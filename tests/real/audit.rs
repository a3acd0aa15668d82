//! What must hold in the database, on the results topic and in Redis at the end of a run, whatever
//! happened before. Plain SQL and plain clients: nothing of AXS's own code looks at it.

use std::{collections::BTreeMap, time::Duration};

use axs::core::{
    chaos::laws,
    proto::{CommandResult, CommandStatus},
};
use prost::Message as _;
use rdkafka::Message as _;
use tokio_postgres::Client;

use crate::{
    cluster::Cluster,
    member::{PATIENCE, eventually},
};

/// Everything, once nothing is pending any more.
pub async fn audit(cluster: &Cluster) {
    let sql = cluster.database.session().await;
    obeys_the_laws(&sql).await;
    eventually(PATIENCE, async || {
        let sql = "SELECT count(*) FROM shard_position WHERE published_to < next_position";
        match cluster.count(sql).await {
            0 => Ok(()),
            behind => Err(format!("{behind} shards have results to publish")),
        }
    })
    .await;
    let results = results(cluster);
    results_are_complete(&sql, results).await;
}

async fn obeys_the_laws(sql: &Client) {
    let broken = broken_laws(sql).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Each broken law with some of what breaks it.
pub async fn broken_laws(sql: &Client) -> Vec<(&'static str, Vec<String>)> {
    let broken = laws::broken(sql).await.expect("the laws can be asked");
    broken.into_iter().map(|law| (law.law, law.by)).collect()
}

/// By command; what was published again says the same.
fn results(cluster: &Cluster) -> BTreeMap<u64, CommandResult> {
    let mut results: BTreeMap<u64, CommandResult> = BTreeMap::new();
    for shard in 0..i32::from(cluster.shards) {
        for message in cluster.topics.dump(&cluster.topics.names.results, shard) {
            let value = message.payload().expect("a result has a value");
            let result = CommandResult::decode(value).expect("a result is protobuf");
            assert_eq!(i64::from(result.shard_id), i64::from(shard), "{result:?}");
            let key = message.key().map(String::from_utf8_lossy);
            assert_eq!(
                key,
                Some(result.account_id.to_string().into()),
                "{result:?}"
            );
            let first = results
                .entry(result.command_id)
                .or_insert_with(|| result.clone());
            assert_eq!(*first, result, "published again with another content");
        }
    }
    results
}

/// Each command has its result, and each result names the one before.
async fn results_are_complete(sql: &Client, mut results: BTreeMap<u64, CommandResult>) {
    let rows = sql
        .query(
            "SELECT (c.shard::bigint << 48) | c.seq, o.position, o.epoch, o.outcome, c.source,
                c.idempotency_key, lag(o.position, 1, -1::bigint)
                    OVER (PARTITION BY c.shard ORDER BY o.position),
                (SELECT count(*) FROM unnest(j.entry_command) AS e
                    WHERE e = array_position(j.seq, c.seq))
            FROM command c
            JOIN LATERAL axs_outcome((c.shard::bigint << 48) | c.seq) o ON true
            JOIN LATERAL axs_part_of_command(c.shard, c.seq) j ON true",
            &[],
        )
        .await
        .expect("outcomes are read");
    for row in rows {
        let id = u64::try_from(row.get::<_, i64>(0)).expect("ids are positive");
        let result = results
            .remove(&id)
            .unwrap_or_else(|| panic!("no result of command {id}"));
        let outcome: i16 = row.get(3);
        let status = match outcome {
            0 => CommandStatus::Applied,
            _ => CommandStatus::Rejected,
        };
        assert_eq!(result.status(), status, "{result:?}");
        assert_eq!(result.reject_code, i32::from(outcome), "{result:?}");
        assert_eq!(result.position, row.get::<_, i64>(1), "{result:?}");
        assert_eq!(i64::try_from(result.epoch), Ok(row.get(2)), "{result:?}");
        assert_eq!(result.source, row.get::<_, &str>(4), "{result:?}");
        assert_eq!(result.idempotency_key, row.get::<_, &str>(5), "{result:?}");
        assert_eq!(result.previous_position, row.get::<_, i64>(6), "{result:?}");
        assert_eq!(
            i64::try_from(result.entries.len()),
            Ok(row.get(7)),
            "{result:?}"
        );
    }
    assert!(results.is_empty(), "results of no command: {results:?}");
}

/// Every value in Redis is that of PostgreSQL; with `complete` every account has one.
pub async fn redis_agrees(cluster: &Cluster, complete: bool) {
    let rows = cluster
        .database
        .session()
        .await
        .query(
            "SELECT shard, account_id, string_agg(format(
                ' | asset %s available %s frozen %s version %s position %s', asset_id, available,
                frozen, version, last_position), '' ORDER BY asset_id)
            FROM balance GROUP BY 1, 2",
            &[],
        )
        .await
        .expect("balances are read");
    let expected: BTreeMap<(i16, String), String> = rows
        .iter()
        .map(|row| ((row.get(0), row.get::<_, i64>(1).to_string()), row.get(2)))
        .collect();
    // Snapshots are written behind the answers.
    let within = Duration::from_secs(10);
    eventually(within, async || {
        let differences = differences(cluster, &expected, complete);
        match differences.is_empty() {
            true => Ok(()),
            false => Err(differences.join("\n")),
        }
    })
    .await;
}

fn differences(
    cluster: &Cluster,
    expected: &BTreeMap<(i16, String), String>,
    complete: bool,
) -> Vec<String> {
    let mut differences = Vec::new();
    let mut seen = 0;
    for shard in 0..i16::try_from(cluster.shards).expect("at most 1,024") {
        for (account, value) in cluster.redis.values(shard, "balance") {
            let head = value.find(" | ").unwrap_or(value.len());
            let (_, balances) = value.split_at(head);
            let expected = expected.get(&(shard, account.clone()));
            seen += usize::from(expected.is_some());
            if expected.map_or("", String::as_str) != balances {
                differences.push(format!("account {account}: {value} is not {expected:?}"));
            }
        }
    }
    if complete && seen != expected.len() {
        differences.push(format!(
            "{seen} of {} accounts are in Redis",
            expected.len()
        ));
    }
    differences
}
