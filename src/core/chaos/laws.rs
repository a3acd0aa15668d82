//! What must hold in the database once nothing is pending, in plain SQL: nothing of AXS's own code
//! looks at it. The tests ask the same.

use tokio_postgres::Client;

/// Rows that break a law and are shown.
const SHOWN_MAX: usize = 10;

/// Each query lists what is wrong.
pub const LAWS: [(&str, &str); 8] = [
    (
        "every command's number is in its shard's applied set",
        "SELECT format('shard %s number %s', c.shard, c.seq) FROM command c
            JOIN shard_position p ON p.shard = c.shard WHERE NOT p.applied @> c.seq",
    ),
    (
        "every command has one outcome in the journal",
        "SELECT format('shard %s number %s: %s outcomes', c.shard, c.seq, count(j.seq))
            FROM command c LEFT JOIN (SELECT shard, unnest(seq) AS seq FROM journal) j
                ON j.shard = c.shard AND j.seq = c.seq
            GROUP BY c.shard, c.seq HAVING count(j.seq) <> 1",
    ),
    (
        "every outcome is that of a command with the same content",
        "SELECT format('shard %s number %s', j.shard, j.seq) FROM (
            SELECT shard, u.seq, substring(content_hash FROM 16 * (n::int - 1) + 1 FOR 16) AS hash
                FROM journal, unnest(journal.seq) WITH ORDINALITY AS u (seq, n)) j
            LEFT JOIN command c ON c.shard = j.shard AND c.seq = j.seq
            WHERE c.content_hash IS DISTINCT FROM j.hash",
    ),
    (
        "every key belongs to a command, and every command has its key",
        "SELECT format('command %s', coalesce(i.command_id, c.id)) FROM idempotency i
            FULL JOIN (SELECT (shard::bigint << 48) | seq AS id, content_hash FROM command) c
                ON c.id = i.command_id AND c.content_hash = i.content_hash
            WHERE c.id IS NULL OR i.command_id IS NULL",
    ),
    (
        "versions of a balance have no holes, and each entry follows from the one before",
        "SELECT format('account %s asset %s version %s', account_id, asset_id, version) FROM (
            SELECT account_id, asset_id, version, available_after, frozen_after,
                row_number() OVER w AS n, sum(available_delta) OVER w AS available,
                sum(frozen_delta) OVER w AS frozen,
                position < lag(position) OVER w AS is_back
            FROM entry WINDOW w AS (PARTITION BY account_id, asset_id ORDER BY version)) e
            WHERE version <> n OR available_after <> available OR frozen_after <> frozen
                OR is_back",
    ),
    (
        "entries fold to the balances",
        "SELECT format('account %s asset %s', coalesce(b.account_id, e.account_id),
                coalesce(b.asset_id, e.asset_id))
            FROM balance b FULL JOIN (
                SELECT shard, account_id, asset_id, count(*) AS version, max(position) AS position,
                    sum(available_delta) AS available, sum(frozen_delta) AS frozen
                FROM entry GROUP BY 1, 2, 3) e USING (shard, account_id, asset_id)
            WHERE (b.available, b.frozen, b.version, b.last_position)
                IS DISTINCT FROM (e.available, e.frozen, e.version, e.position)",
    ),
    (
        "positions rise with the epochs, and each is used once",
        "SELECT format('shard %s position %s', shard, position) FROM (
            SELECT shard, epoch, position, lag(position) OVER w AS earlier,
                lag(epoch) OVER w AS earlier_epoch
            FROM (SELECT shard, epoch, unnest(position) AS position FROM journal) j
            WINDOW w AS (PARTITION BY shard ORDER BY position)) j
            WHERE earlier = position OR earlier_epoch > epoch",
    ),
    (
        "nothing became a dead letter",
        "SELECT format('shard %s position %s: %s', shard, position, message) FROM dead_letter",
    ),
];

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub law: &'static str,
    /// How many rows break it.
    pub count: usize,
    /// Some of them.
    pub by: Vec<String>,
}

/// The laws that do not hold.
pub async fn broken(sql: &Client) -> Result<Vec<Broken>, tokio_postgres::Error> {
    // A run's tables are too young for statistics, and without them the planner thinks that they
    // are small: joins that touch every row would go row by row.
    sql.batch_execute("SET enable_nestloop = off; SET work_mem = '64MB'")
        .await?;
    let mut broken = Vec::new();
    for (law, query) in LAWS {
        let rows = sql.query(query, &[]).await?;
        if !rows.is_empty() {
            let by = rows.iter().take(SHOWN_MAX).map(|row| row.get(0)).collect();
            let count = rows.len();
            broken.push(Broken { law, count, by });
        }
    }
    Ok(broken)
}
