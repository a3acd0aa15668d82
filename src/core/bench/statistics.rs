//! What PostgreSQL itself counts of a run: WAL, balance rows written, checkpoints. Of the whole
//! server where it has no other number, so nothing else should run on it.

use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use super::figures::rounded;
use crate::core::testbed::Error;

/// Counters at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    wal_bytes: f64,
    balances_written: f64,
    balances_in_place: f64,
    checkpoints: f64,
}

impl Statistics {
    /// Of the session's database. Sessions that are open still may not have told everything.
    pub async fn take(session: &Client) -> Result<Self, Error> {
        let row = session
            .query_one(
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8,
                    coalesce(sum(n_tup_upd), 0)::float8, coalesce(sum(n_tup_hot_upd), 0)::float8,
                    (SELECT (checkpoints_timed + checkpoints_req)::float8 FROM pg_stat_bgwriter)
                FROM pg_stat_user_tables
                WHERE relid IN (SELECT relid FROM pg_partition_tree('balance') WHERE isleaf)",
                &[],
            )
            .await?;
        Ok(Self {
            wal_bytes: row.get(0),
            balances_written: row.get(1),
            balances_in_place: row.get(2),
            checkpoints: row.get(3),
        })
    }

    /// What so many commands cost since then.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub async fn since(self, session: &Client, commands: u64) -> Result<Map<String, Value>, Error> {
        let now = Self::take(session).await?;
        let commands = (commands as f64).max(1.0);
        let written = now.balances_written - self.balances_written;
        let in_place = now.balances_in_place - self.balances_in_place;
        let fields = [
            (
                "wal_bytes_per_command",
                (now.wal_bytes - self.wal_bytes) / commands,
            ),
            ("balance_rows_per_command", written / commands),
            ("hot_update_percent", 100.0 * in_place / written.max(1.0)),
            ("checkpoints", now.checkpoints - self.checkpoints),
        ];
        Ok(fields
            .map(|(name, value)| (name.to_owned(), json!(rounded(value))))
            .into_iter()
            .collect())
    }
}
