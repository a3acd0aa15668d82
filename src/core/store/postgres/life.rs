//! What PostgreSQL knows of one command beside its row and its outcome.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{BigInt, Nullable, SmallInt, Text, Timestamptz},
};

use super::{
    Store,
    numeric::{command_id, shard_to_sql, time_from_sql},
    registry::first,
    statement::statement,
};
use crate::core::{
    store::{DeadLetterReason, Error},
    types::{CommandId, Position, Timestamp},
};

/// Most dead letters of one command.
const LETTERS_MAX: i64 = 100;

/// What is known beside the command's row and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The store's clock.
    pub now: Timestamp,
    /// The REVERSE that took it back.
    pub reversed_by: Option<CommandId>,
    /// Records that parked it, by position.
    pub letters: Vec<Letter>,
}

/// A dead letter that names the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record stands.
    pub position: Position,
    /// Why; `None`: of a later program.
    pub reason: Option<DeadLetterReason>,
    /// One sentence.
    pub message: String,
    /// `parked`, `redriven` or `discarded`.
    pub state: String,
    /// By the log's clock.
    pub log_time: Timestamp,
}

statement! {
    /// The store's clock, and who reversed the command.
    Reversed { id: i64 => BigInt } -> (Timestamptz, Nullable<BigInt>) =
    "SELECT statement_timestamp(), (SELECT reversed_by FROM reversal WHERE target = $1)"
}

statement! {
    /// Dead letters of the command's shard that name it.
    Letters { shard: i16 => SmallInt, id: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Text, Text, Timestamptz) =
    "SELECT position, reason, message, state, log_time FROM dead_letter
        WHERE shard = $1 AND parks = $2 ORDER BY position LIMIT $3"
}

impl Store {
    /// See [`Beside`].
    pub async fn beside(&self, id: CommandId) -> Result<Beside, Error> {
        let raw = id.0.cast_signed();
        let reversed: Vec<(PgTimestamp, Option<i64>)> =
            self.readers.run(Reversed { id: raw }).await?;
        let (now, by) = first(reversed)?;
        let letters = Letters {
            shard: shard_to_sql(id.shard())?,
            id: raw,
            limit: LETTERS_MAX,
        };
        let rows: Vec<(i64, i16, String, String, PgTimestamp)> = self.readers.run(letters).await?;
        let letter = |(position, reason, message, state, log_time): (i64, i16, _, _, _)| Letter {
            position: Position(position),
            reason: u32::try_from(reason)
                .ok()
                .and_then(DeadLetterReason::from_number),
            message,
            state,
            log_time: time_from_sql(log_time),
        };
        Ok(Beside {
            now: time_from_sql(now),
            reversed_by: by.map(command_id).transpose()?,
            letters: rows.into_iter().map(letter).collect(),
        })
    }
}
