//! How the outcomes of a flush are cut into parts of the journal and written as columns. The way
//! back is in `journal`.

use diesel::data_types::PgTimestamp;

use super::numeric::{Number, asset_to_sql, big, code_to_sql, leg_to_sql, time_to_sql};
use crate::core::{
    engine::{Entry, Outcome},
    store::{Error, Flush},
    types::Position,
};

/// Most commands of a part. A reader unpacks a whole part for one entry.
const PART_COMMANDS_MAX: usize = 256;
/// The sequence numbers of a part lie within so many, so that a number's part is found by index.
const PART_SPAN: u64 = 65_536;
/// Every so many versions of a balance a mark says where that version stands.
const MARK_EVERY: u64 = 256;

/// The outcomes of flushes as columns, part behind part.
#[derive(Default)]
pub(super) struct Columns {
    pub part_shard: Vec<i16>,
    pub part_from: Vec<i64>,
    pub part_epoch: Vec<i64>,
    pub part: Vec<i16>,
    pub part_command_first: Vec<i32>,
    pub part_command_last: Vec<i32>,
    pub part_reject_first: Vec<i32>,
    pub part_reject_last: Vec<i32>,
    pub part_entry_first: Vec<i32>,
    pub part_entry_last: Vec<i32>,
    pub part_min_seq: Vec<i64>,
    pub part_max_seq: Vec<i64>,
    pub part_first: Vec<i64>,
    pub part_last: Vec<i64>,
    pub seq: Vec<i64>,
    pub position: Vec<i64>,
    pub previous_result: Vec<i64>,
    pub applied_at: Vec<PgTimestamp>,
    pub account_id: Vec<i64>,
    pub kind: Vec<i16>,
    pub outcome: Vec<i16>,
    pub content_hash: Vec<u8>,
    pub reject_command: Vec<i16>,
    pub reject_leg: Vec<i16>,
    pub reject_account_id: Vec<i64>,
    pub reject_asset_id: Vec<i32>,
    pub reject_had: Vec<Number>,
    pub reject_needed: Vec<Number>,
    pub entry_command: Vec<i16>,
    pub entry_leg: Vec<i16>,
    pub entry_fallback: Vec<bool>,
    pub entry_account_id: Vec<i64>,
    pub entry_asset_id: Vec<i32>,
    pub entry_available_delta: Vec<Number>,
    pub entry_frozen_delta: Vec<Number>,
    pub entry_available_after: Vec<Number>,
    pub entry_frozen_after: Vec<Number>,
    pub entry_version: Vec<i64>,
    pub entry_previous: Vec<i64>,
    pub mark_shard: Vec<i16>,
    pub mark_account_id: Vec<i64>,
    pub mark_asset_id: Vec<i32>,
    pub mark_version: Vec<i64>,
    pub mark_position: Vec<i64>,
    pub mark_applied_at: Vec<PgTimestamp>,
}

/// One outcome of a flush with its surroundings.
struct Row<'a> {
    outcome: &'a Outcome,
    entries: &'a [Entry],
    previous_result: Position,
}

impl Columns {
    /// Cuts a flush into parts, behind those before it. Its counts agree (see [`super::flush`]).
    pub fn push_flush(&mut self, shard: i16, flush: &Flush) -> Result<(), Error> {
        let (mut rows, mut entries) =
            (Vec::with_capacity(flush.outcomes.len()), &flush.entries[..]);
        let mut previous_result = flush.previous_result;
        for outcome in &flush.outcomes {
            let (own, rest) = entries.split_at(outcome.entries as usize);
            rows.push(Row {
                outcome,
                entries: own,
                previous_result,
            });
            (previous_result, entries) = (outcome.position, rest);
        }
        for (number, part) in (1_usize..).zip(cut(&flush.outcomes)) {
            let number = i16::try_from(number);
            let number = number.map_err(|_| Error::Refused("a flush has too many parts".into()))?;
            for (index, &row) in part.iter().enumerate() {
                let command = i16::try_from(index + 1).expect("a part is small");
                self.push(shard, command, &rows[row])?;
            }
            self.end_part(part.len())?;
            self.part_shard.push(shard);
            self.part_from.push(flush.from.0);
            self.part_epoch.push(big(flush.epoch.0)?);
            self.part.push(number);
        }
        Ok(())
    }

    /// Adds a command; `command` is its index in the part, from 1.
    fn push(&mut self, shard: i16, command: i16, row: &Row<'_>) -> Result<(), Error> {
        let outcome = row.outcome;
        self.seq.push(big(outcome.id.sequence().0)?);
        self.position.push(outcome.position.0);
        self.previous_result.push(row.previous_result.0);
        self.applied_at.push(time_to_sql(outcome.applied_at));
        self.account_id.push(big(outcome.account.0)?);
        self.kind.push(code_to_sql(outcome.kind as i32));
        let code = (outcome.reject.as_ref()).map_or(0, |reject| reject.code as i32);
        self.outcome.push(code_to_sql(code));
        self.content_hash.extend_from_slice(&outcome.content_hash.0);
        if let Some(reject) = &outcome.reject {
            self.reject_command.push(command);
            self.reject_leg.push(leg_to_sql(reject.leg)?);
            self.reject_account_id.push(big(reject.account.0)?);
            let asset = reject.asset.map_or(Ok(0), asset_to_sql)?;
            self.reject_asset_id.push(asset);
            self.reject_had.push(reject.had.into());
            self.reject_needed.push(reject.needed.into());
        }
        for entry in row.entries {
            self.push_entry(command, entry)?;
            if entry.version % MARK_EVERY == 0 {
                self.mark_shard.push(shard);
                self.mark_account_id.push(big(entry.account.0)?);
                self.mark_asset_id.push(asset_to_sql(entry.asset)?);
                self.mark_version.push(big(entry.version)?);
                self.mark_position.push(outcome.position.0);
                self.mark_applied_at.push(time_to_sql(outcome.applied_at));
            }
        }
        Ok(())
    }

    fn push_entry(&mut self, command: i16, entry: &Entry) -> Result<(), Error> {
        self.entry_command.push(command);
        self.entry_leg.push(leg_to_sql(entry.leg)?);
        self.entry_fallback.push(entry.fallback);
        self.entry_account_id.push(big(entry.account.0)?);
        self.entry_asset_id.push(asset_to_sql(entry.asset)?);
        self.entry_available_delta
            .push(entry.available_delta.into());
        self.entry_frozen_delta.push(entry.frozen_delta.into());
        self.entry_available_after
            .push(entry.available_after.into());
        self.entry_frozen_after.push(entry.frozen_after.into());
        self.entry_version.push(big(entry.version)?);
        self.entry_previous.push(entry.previous_position.0);
        Ok(())
    }

    /// Ends a part of the last `commands` commands.
    fn end_part(&mut self, commands: usize) -> Result<(), Error> {
        let count = |length: usize| {
            i32::try_from(length).map_err(|_| Error::Refused("a flush is too large".into()))
        };
        let (seq, position) = (
            &self.seq[self.seq.len() - commands..],
            &self.position[self.position.len() - commands..],
        );
        let least = |values: &[i64]| *values.iter().min().expect("a part has a command");
        let greatest = |values: &[i64]| *values.iter().max().expect("a part has a command");
        self.part_min_seq.push(least(seq));
        self.part_max_seq.push(greatest(seq));
        self.part_first.push(least(position));
        self.part_last.push(greatest(position));
        let slices = [
            (
                &mut self.part_command_first,
                &mut self.part_command_last,
                self.seq.len(),
            ),
            (
                &mut self.part_reject_first,
                &mut self.part_reject_last,
                self.reject_leg.len(),
            ),
            (
                &mut self.part_entry_first,
                &mut self.part_entry_last,
                self.entry_leg.len(),
            ),
        ];
        for (first, last, length) in slices {
            first.push(last.last().map_or(1, |behind| behind + 1));
            last.push(count(length)?);
        }
        Ok(())
    }
}

/// The indexes of the outcomes of each part, in log order. Numbers that stray from the others get
/// a part of their own.
fn cut(outcomes: &[Outcome]) -> Vec<Vec<usize>> {
    struct Part {
        min: u64,
        max: u64,
        commands: Vec<usize>,
    }
    let (mut open, mut full) = (Vec::<Part>::new(), Vec::new());
    for (index, outcome) in outcomes.iter().enumerate() {
        let number = outcome.id.sequence().0;
        let fits = |part: &Part| part.max.max(number) - part.min.min(number) < PART_SPAN;
        let Some(place) = open.iter().position(fits) else {
            open.push(Part {
                min: number,
                max: number,
                commands: vec![index],
            });
            continue;
        };
        let part = &mut open[place];
        (part.min, part.max) = (part.min.min(number), part.max.max(number));
        part.commands.push(index);
        if part.commands.len() == PART_COMMANDS_MAX {
            full.push(open.swap_remove(place).commands);
        }
    }
    full.extend(open.into_iter().map(|part| part.commands));
    full
}
