//! Damage by hand: where, how, and what must be said of it.

use serde_json::Value;
use tokio_postgres::Client;

/// An entry in the middle of a balance's history, and where it stands.
pub struct Target {
    pub shard: i16,
    pub flush_from: i64,
    pub part: i16,
    /// Of the entry in its part, from 1.
    pub entry: i64,
    pub account: i64,
    pub asset_id: i32,
    pub asset: String,
    pub version: i64,
    pub position: i64,
    /// Of its command.
    pub command: i64,
}

impl Target {
    pub async fn find(sql: &Client) -> Self {
        let row = sql
            .query_one(
                "SELECT j.shard, j.flush_from, j.part, e.n, e.account, e.asset, a.code, e.version,
                    j.position[e.command], axs_command_id(j.shard, j.seq[e.command])
                FROM journal j, unnest(j.entry_account_id, j.entry_asset_id, j.entry_version,
                        j.entry_command) WITH ORDINALITY AS e (account, asset, version, command, n)
                    JOIN asset a ON a.id = e.asset
                    JOIN balance b ON (b.account_id, b.asset_id) = (e.account, e.asset)
                WHERE e.version = 3 AND b.version > 5
                    AND j.last_position < (SELECT max(last_position) FROM journal l
                        WHERE l.shard = j.shard)
                    AND j.first_position > (SELECT min(first_position) FROM journal l
                        WHERE l.shard = j.shard)
                ORDER BY 1, 2, 3, 4 LIMIT 1",
                &[],
            )
            .await
            .expect("a balance with a history");
        Self {
            shard: row.get(0),
            flush_from: row.get(1),
            part: row.get(2),
            entry: row.get(3),
            account: row.get(4),
            asset_id: row.get(5),
            asset: row.get(6),
            version: row.get(7),
            position: row.get(8),
            command: row.get(9),
        }
    }

    /// Its part of the journal, as a condition.
    fn part(&self) -> String {
        let Self {
            shard,
            flush_from,
            part,
            ..
        } = self;
        format!("shard = {shard} AND flush_from = {flush_from} AND part = {part}")
    }

    /// Its balance row, as a condition.
    pub fn balance(&self) -> String {
        let Self {
            account, asset_id, ..
        } = self;
        format!("account_id = {account} AND asset_id = {asset_id}")
    }
}

/// What is done by hand, and what must be said of it.
pub struct Damage {
    pub sql: String,
    /// Keys and values of one finding.
    pub expected: Value,
}

fn damage(sql: String, expected: Value) -> Damage {
    Damage { sql, expected }
}

/// Of the balance rows and of the accounts.
pub fn of_rows(at: &Target) -> Vec<Damage> {
    let (shard, account, balance) = (at.shard, at.account, at.balance());
    let place = serde_json::json!({"kind": "BALANCE", "shard": shard,
        "account_id": account.to_string(), "asset": at.asset});
    let of_account = |kind: &str| serde_json::json!({"kind": kind, "shard": shard, "account_id": account.to_string()});
    vec![
        damage(
            format!("UPDATE balance SET available = available + 1 WHERE {balance}"),
            place.clone(),
        ),
        damage(
            format!("UPDATE balance SET version = version + 1 WHERE {balance}"),
            place.clone(),
        ),
        damage(
            format!("UPDATE balance SET last_position = 0 WHERE {balance}"),
            place.clone(),
        ),
        damage(format!("DELETE FROM balance WHERE {balance}"), place),
        damage(
            format!(
                "INSERT INTO balance SELECT account_id, version, last_position, 999, shard,
                    available, frozen FROM balance WHERE {balance}"
            ),
            serde_json::json!({"kind": "BALANCE", "account_id": account.to_string(),
                "asset": "999", "expected": "no row"}),
        ),
        damage(
            format!("UPDATE account SET status = 2 WHERE account_id = {account}"),
            of_account("ACCOUNT"),
        ),
        damage(
            format!("DELETE FROM account WHERE account_id = {account}"),
            of_account("ACCOUNT"),
        ),
        damage(
            format!("UPDATE account SET user_id = 99 WHERE account_id = {account}"),
            serde_json::json!({"kind": "STATE_HASH", "shard": shard}),
        ),
        damage(
            format!("DELETE FROM account_route WHERE account_id = {account}"),
            of_account("ROUTE"),
        ),
    ]
}

/// Of the journal.
pub fn of_journal(at: &Target) -> Vec<Damage> {
    let (shard, entry, part) = (at.shard, at.entry, at.part());
    let place = |kind: &str| {
        serde_json::json!({"kind": kind, "shard": shard, "account_id": at.account.to_string(),
            "asset": at.asset, "version": at.version.to_string(),
            "position": at.position.to_string(), "command_id": at.command.to_string()})
    };
    let of_shard = |kind: &str| serde_json::json!({"kind": kind, "shard": shard});
    let set = |column: &str, to: &str| {
        format!("UPDATE journal SET {column}[{entry}] = {to} WHERE {part}")
    };
    let last = format!(
        "DELETE FROM journal WHERE shard = {shard} AND flush_from = (SELECT max(flush_from)
            FROM journal WHERE shard = {shard})"
    );
    vec![
        damage(
            set(
                "entry_available_delta",
                &format!("entry_available_delta[{entry}] + 1"),
            ),
            place("ENTRY"),
        ),
        damage(
            set(
                "entry_frozen_after",
                &format!("entry_frozen_after[{entry}] + 1"),
            ),
            place("ENTRY"),
        ),
        damage(
            set("entry_version", "9"),
            place_of_version(at, place("VERSION")),
        ),
        damage(set("entry_previous", "0"), place("PREVIOUS")),
        damage(
            format!("DELETE FROM journal WHERE {part}"),
            of_shard("RESULTS"),
        ),
        damage(last, of_shard("RESULTS")),
        damage(
            format!("UPDATE journal SET previous_result[1] = 0 WHERE {part}"),
            of_shard("RESULTS"),
        ),
        damage(
            format!("UPDATE journal SET min_seq = min_seq - 1 WHERE {part}"),
            of_shard("PART"),
        ),
        damage(
            format!("UPDATE journal SET seq = seq[2:] WHERE {part}"),
            of_shard("PART"),
        ),
        damage(
            format!(
                "UPDATE journal SET content_hash = set_byte(content_hash, 0,
                    get_byte(content_hash, 0) # 1) WHERE {part}"
            ),
            of_shard("COMMAND"),
        ),
    ]
}

/// The version that stands there now.
fn place_of_version(at: &Target, mut place: Value) -> Value {
    assert_ne!(at.version, 9);
    place["version"] = "9".into();
    place["expected"] = format!("version {}", at.version).into();
    place
}

/// Of the shard's row, of commands and of marks.
pub fn of_numbers(at: &Target) -> Vec<Damage> {
    let (shard, command) = (at.shard, at.command);
    let seq = command & ((1 << 48) - 1);
    let row = "UPDATE shard_position SET applied = applied".to_owned();
    let of = |kind: &str| serde_json::json!({"kind": kind, "shard": shard, "command_id": command.to_string()});
    vec![
        damage(
            format!("{row} - int8multirange(int8range({seq}, {seq} + 1)) WHERE shard = {shard}"),
            of("APPLIED"),
        ),
        damage(
            format!("{row} + int8multirange(int8range(7000000, 7000001)) WHERE shard = {shard}"),
            serde_json::json!({"kind": "APPLIED", "shard": shard,
                "command_id": ((i64::from(shard) << 48) | 7_000_000).to_string()}),
        ),
        damage(
            format!(
                "UPDATE shard_position SET state_hash = set_byte(state_hash, 15,
                    get_byte(state_hash, 15) # 1) WHERE shard = {shard}"
            ),
            serde_json::json!({"kind": "STATE_HASH", "shard": shard}),
        ),
        damage(
            format!("DELETE FROM command WHERE shard = {shard} AND seq = {seq}"),
            {
                let mut place = of("COMMAND");
                place["position"] = at.position.to_string().into();
                place
            },
        ),
        damage(
            format!(
                "INSERT INTO dead_letter (shard, position, reason, message, parks, log_time, key,
                    value) VALUES ({shard}, 1, 5, 'by hand',
                    axs_command_id({shard}::smallint, 7000000), now(), '', '')"
            ),
            serde_json::json!({"kind": "PARKED", "shard": shard, "position": "1"}),
        ),
        damage(
            format!(
                "INSERT INTO balance_mark SELECT account_id, 256, 5, now(), asset_id, shard
                    FROM balance WHERE {}",
                at.balance()
            ),
            serde_json::json!({"kind": "MARK", "shard": shard, "version": "256",
                "account_id": at.account.to_string(), "asset": at.asset}),
        ),
    ]
}

/// The last entry of the balance and its row together, so that neither says anything of the other.
pub fn all_through(at: &Target) -> String {
    let (shard, balance) = (at.shard, at.balance());
    let (account, asset) = (at.account, at.asset_id);
    format!(
        "UPDATE journal j SET entry_available_delta[e.n] = entry_available_delta[e.n] + 1,
                entry_available_after[e.n] = entry_available_after[e.n] + 1
            FROM (SELECT j.flush_from, j.part, e.n::int AS n
                FROM journal j, unnest(j.entry_account_id, j.entry_asset_id, j.entry_version)
                    WITH ORDINALITY AS e (account, asset, version, n)
                WHERE j.shard = {shard} AND e.account = {account} AND e.asset = {asset}
                    AND e.version = (SELECT version FROM balance WHERE {balance})) AS e
            WHERE j.shard = {shard} AND (j.flush_from, j.part) = (e.flush_from, e.part);
         UPDATE balance SET available = available + 1 WHERE {balance}"
    )
}
