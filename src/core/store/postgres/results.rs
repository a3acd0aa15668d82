//! Committed outcomes: to publish again, and to answer who asks; dead letters.

use std::collections::BTreeMap;

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    journal::{PartRow, PartTypes, part_columns, results_of},
    numeric::{command_id, shard_to_sql, time_from_sql},
    statement::statement,
};
use crate::core::{
    command::Label,
    store::{DeadLetter, DeadLetterReason, Error, StoredResult},
    types::{CommandId, Position, ShardId},
};

statement! {
    /// The parts of the flushes from a position on, whole flushes.
    PartsFrom { shard: i16 => SmallInt, from: i64 => BigInt, limit: i32 => Integer }
    -> (BigInt, PartTypes) =
    concat!(
        "SELECT j.flush_from, ", part_columns!(), "
        FROM (
            SELECT p.flush_from, p.part, sum(p.commands) OVER (ORDER BY p.flush_from)
                - sum(p.commands) OVER (PARTITION BY p.flush_from) AS before
            FROM journal p
            WHERE p.shard = $1 AND p.last_position >= $2 AND p.flush_from >= coalesce((
                SELECT max(f.flush_from) FROM journal f WHERE f.shard = $1 AND f.flush_from <= $2
            ), 0)
            ORDER BY p.flush_from FETCH FIRST $3 ROWS WITH TIES
        ) AS page
        JOIN journal j ON j.shard = $1 AND j.flush_from = page.flush_from AND j.part = page.part
        WHERE page.before < $3 ORDER BY j.flush_from, j.part"
    )
}

statement! {
    /// The parts that hold numbers of a shard, each once.
    PartsOf { shard: Vec<i16> => Array<SmallInt>, seq: Vec<i64> => Array<BigInt> }
    -> (PartTypes) =
    concat!(
        "SELECT ", part_columns!(), "
        FROM (
            SELECT DISTINCT p.shard, p.flush_from, p.part
            FROM unnest($1, $2) AS u (shard, seq)
            CROSS JOIN LATERAL axs_part_of_command(u.shard, u.seq) AS p
        ) AS page
        JOIN journal j ON j.shard = page.shard AND j.flush_from = page.flush_from
            AND j.part = page.part"
    )
}

statement! {
    /// What of commands is shown beside their outcomes.
    Labels { id: Vec<i64> => Array<BigInt> }
    -> (BigInt, Text, Text, Text, Nullable<Timestamptz>) =
    "SELECT u.id, c.source, c.idempotency_key, c.reference, c.created_at
        FROM unnest($1) AS u (id)
        JOIN command c ON c.shard = axs_shard_of_command(u.id)
            AND c.seq = axs_seq_of_command(u.id)"
}

statement! {
    /// Dead letters from a position on.
    DeadLetters { shard: i16 => SmallInt, from: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Text, Nullable<BigInt>, Timestamptz, Binary, Binary) =
    "SELECT position, reason, message, parks, log_time, key, value FROM dead_letter
        WHERE shard = $1 AND position >= $2 ORDER BY position LIMIT $3"
}

type LabelRow = (i64, String, String, String, Option<PgTimestamp>);
type DeadRow = (i64, i16, String, Option<i64>, PgTimestamp, Vec<u8>, Vec<u8>);

impl Store {
    /// See [`super::super::Store::results`].
    pub async fn results(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredResult>, Error> {
        let mut results: Vec<StoredResult> = Vec::new();
        let mut next = from;
        // Every round but the last finds a result, so there are at most `limit` of them.
        while results.len() < limit {
            let page = PartsFrom {
                shard: shard_to_sql(shard)?,
                from: next.0,
                limit: i32::try_from(limit - results.len()).unwrap_or(i32::MAX),
            };
            let parts: Vec<(i64, PartRow)> = self.readers.run(page).await?;
            let mut found = Vec::new();
            for (_, part) in parts {
                found.extend(results_of(part)?);
            }
            found.retain(|result| result.outcome.position >= next);
            found.sort_unstable_by_key(|result| result.outcome.position);
            let Some(last) = found.last() else { break };
            next = last.outcome.position.next();
            results.append(&mut found);
        }
        results.truncate(limit);
        self.label(&mut results).await?;
        Ok(results)
    }

    /// See [`super::super::Store::outcomes`].
    pub async fn outcomes(&self, ids: &[CommandId]) -> Result<Vec<Option<StoredResult>>, Error> {
        let shards = ids.iter().map(|id| shard_to_sql(id.shard()));
        let wanted = PartsOf {
            shard: shards.collect::<Result<_, _>>()?,
            seq: ids.iter().map(|id| id.sequence().0.cast_signed()).collect(),
        };
        let parts: Vec<(PartRow,)> = self.readers.run(wanted).await?;
        let mut found = BTreeMap::new();
        for (part,) in parts {
            for result in results_of(part)? {
                found.insert(result.outcome.id, result);
            }
        }
        found.retain(|id, _| ids.contains(id));
        let mut results: Vec<StoredResult> = found.into_values().collect();
        self.label(&mut results).await?;
        let found: BTreeMap<CommandId, StoredResult> = (results.into_iter())
            .map(|result| (result.outcome.id, result))
            .collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    /// Puts the labels of their commands on results.
    async fn label(&self, results: &mut [StoredResult]) -> Result<(), Error> {
        if results.is_empty() {
            return Ok(());
        }
        let labels = Labels {
            id: (results.iter())
                .map(|result| result.outcome.id.0.cast_signed())
                .collect(),
        };
        let rows: Vec<LabelRow> = self.readers.run(labels).await?;
        let mut labels = BTreeMap::new();
        for (id, source, idempotency_key, reference, created_at) in rows {
            let label = Label {
                source: source.into(),
                idempotency_key: idempotency_key.into(),
                reference: reference.into(),
                created_at: created_at.map(time_from_sql),
            };
            labels.insert(id, label);
        }
        for result in results {
            if let Some(label) = labels.remove(&result.outcome.id.0.cast_signed()) {
                result.label = label;
            }
        }
        Ok(())
    }

    /// See [`super::super::Store::dead_letters`].
    pub async fn dead_letters(
        &self,
        shard: ShardId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let page = DeadLetters {
            shard: shard_to_sql(shard)?,
            from: from.0,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let rows: Vec<DeadRow> = self.readers.run(page).await?;
        rows.into_iter().map(dead_letter).collect()
    }
}

fn dead_letter(row: DeadRow) -> Result<DeadLetter, Error> {
    let (position, reason, message, parks, log_time, key, value) = row;
    Ok(DeadLetter {
        position: Position(position),
        reason: reason_from_sql(reason)?,
        message,
        parks: parks.map(command_id).transpose()?,
        log_time: time_from_sql(log_time),
        key,
        value,
    })
}

fn reason_from_sql(reason: i16) -> Result<DeadLetterReason, Error> {
    let known = u32::try_from(reason).ok();
    known
        .and_then(DeadLetterReason::from_number)
        .ok_or_else(|| {
            Error::Mismatch(format!(
                "dead-letter reason {reason} is stored: run a newer `axs`"
            ))
        })
}
