//! Parts of the journal as they are read back: outcomes and entries.

use diesel::{
    data_types::PgTimestamp,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Numeric, SmallInt, Timestamptz},
};

use super::numeric::{
    Number, asset_from_sql, hash16, kind_from_sql, leg_from_sql, shard_from_sql, time_from_sql,
    unsigned,
};
use crate::core::{
    command::Label,
    engine::{Entry, Outcome, Reject, RejectCode},
    store::{Error, StoredResult},
    types::{AccountId, CommandId, ContentHash, Epoch, Position, Sequence},
};

/// The columns of [`PartRow`], of the journal's row `j`.
macro_rules! part_columns {
    () => {
        "j.shard, j.epoch, j.seq, j.position, j.previous_result, j.applied_at, j.account_id,
            j.kind, j.outcome, j.content_hash, j.reject_command, j.reject_leg,
            j.reject_account_id, j.reject_asset_id, j.reject_had, j.reject_needed, j.entry_command,
            j.entry_leg, j.entry_fallback, j.entry_account_id, j.entry_asset_id,
            j.entry_available_delta, j.entry_frozen_delta, j.entry_available_after,
            j.entry_frozen_after, j.entry_version, j.entry_previous"
    };
}
pub(super) use part_columns;

/// SQL types of [`PartRow`].
pub(super) type PartTypes = (
    SmallInt,
    BigInt,
    Array<BigInt>,
    Array<BigInt>,
    Array<BigInt>,
    Array<Timestamptz>,
    Array<BigInt>,
    Array<SmallInt>,
    Array<SmallInt>,
    Binary,
    RejectTypes,
    EntryTypes,
);
type RejectTypes = (
    Array<SmallInt>,
    Array<SmallInt>,
    Array<BigInt>,
    Array<Integer>,
    Array<Numeric>,
    Array<Numeric>,
);
/// SQL types of [`EntryColumns`].
pub(super) type EntryTypes = (
    Array<SmallInt>,
    Array<SmallInt>,
    Array<Bool>,
    Array<BigInt>,
    Array<Integer>,
    Array<Numeric>,
    Array<Numeric>,
    Array<Numeric>,
    Array<Numeric>,
    Array<BigInt>,
    Array<BigInt>,
);

/// A part as it is stored.
pub(super) type PartRow = (
    i16,
    i64,
    Vec<i64>,
    Vec<i64>,
    Vec<i64>,
    Vec<PgTimestamp>,
    Vec<i64>,
    Vec<i16>,
    Vec<i16>,
    Vec<u8>,
    RejectColumns,
    EntryColumns,
);
/// Rejections: command, leg, account, asset, had, needed.
type RejectColumns = (
    Vec<i16>,
    Vec<i16>,
    Vec<i64>,
    Vec<i32>,
    Vec<Number>,
    Vec<Number>,
);
/// Entries: command (or what else they belong to), leg, fallback, account, asset, the deltas, the
/// amounts after, version, previous position.
pub(super) type EntryColumns<Owner = i16> = (
    Vec<Owner>,
    Vec<i16>,
    Vec<bool>,
    Vec<i64>,
    Vec<i32>,
    Vec<Number>,
    Vec<Number>,
    Vec<Number>,
    Vec<Number>,
    Vec<i64>,
    Vec<i64>,
);

/// The results of a part, in its order, their labels still empty.
pub(super) fn results_of(row: PartRow) -> Result<Vec<StoredResult>, Error> {
    let (
        shard,
        epoch,
        seq,
        position,
        previous,
        applied_at,
        account,
        kind,
        outcome,
        hash,
        rejects,
        entries,
    ) = row;
    let (shard, epoch) = (shard_from_sql(shard)?, Epoch(unsigned(epoch)?));
    let commands = seq.len();
    let lengths = [
        position.len(),
        previous.len(),
        applied_at.len(),
        account.len(),
        kind.len(),
    ];
    if lengths.iter().any(|&length| length != commands)
        || (outcome.len(), hash.len()) != (commands, 16 * commands)
    {
        return Err(Error::Mismatch(
            "a part of the journal has columns of unequal length".into(),
        ));
    }
    let mut results = Vec::with_capacity(commands);
    for index in 0..commands {
        let id = CommandId::new(shard, Sequence(unsigned(seq[index])?));
        results.push(StoredResult {
            epoch,
            outcome: Outcome {
                id,
                position: Position(position[index]),
                content_hash: ContentHash(hash16(&hash[16 * index..16 * index + 16])?),
                applied_at: time_from_sql(applied_at[index]),
                account: AccountId(unsigned(account[index])?),
                kind: kind_from_sql(kind[index])?,
                reject: None,
                entries: 0,
            },
            entries: Vec::new(),
            label: Label::default(),
            previous_position: Position(previous[index]),
        });
    }
    add_rejects(&mut results, &outcome, &rejects)?;
    for (owner, entry) in entries_of(entries)? {
        let result = owner_of(&mut results, owner)?;
        result.outcome.entries += 1;
        result.entries.push(entry);
    }
    Ok(results)
}

fn add_rejects(
    results: &mut [StoredResult],
    codes: &[i16],
    rejects: &RejectColumns,
) -> Result<(), Error> {
    let (command, leg, account, asset, had, needed) = rejects;
    for (index, &command) in command.iter().enumerate() {
        let result = owner_of(results, command)?;
        let code = codes[usize::try_from(command - 1).unwrap_or_default()];
        let code = RejectCode::try_from(i32::from(code)).map_err(|_| {
            Error::Mismatch(format!("reject code {code} is stored: run a newer `axs`"))
        })?;
        let asset = asset[index];
        result.outcome.reject = Some(Box::new(Reject {
            code,
            leg: leg_from_sql(leg[index])?,
            account: AccountId(unsigned(account[index])?),
            asset: if asset == 0 {
                None
            } else {
                Some(asset_from_sql(asset)?)
            },
            had: had[index].money()?,
            needed: needed[index].money()?,
        }));
    }
    Ok(())
}

/// The result that an index from 1 means.
fn owner_of(results: &mut [StoredResult], command: i16) -> Result<&mut StoredResult, Error> {
    usize::try_from(i32::from(command) - 1)
        .ok()
        .and_then(|index| results.get_mut(index))
        .ok_or_else(|| Error::Mismatch("a part of the journal names a command it has not".into()))
}

/// Entries, each with what it belongs to.
pub(super) fn entries_of<Owner: Copy>(
    columns: EntryColumns<Owner>,
) -> Result<Vec<(Owner, Entry)>, Error> {
    let (
        owner,
        leg,
        fallback,
        account,
        asset,
        available,
        frozen,
        available_after,
        frozen_after,
        version,
        previous,
    ) = columns;
    let mut entries = Vec::with_capacity(owner.len());
    for (index, &owner) in owner.iter().enumerate() {
        let entry = Entry {
            leg: leg_from_sql(leg[index])?,
            fallback: fallback[index],
            account: AccountId(unsigned(account[index])?),
            asset: asset_from_sql(asset[index])?,
            available_delta: available[index].money()?,
            frozen_delta: frozen[index].money()?,
            available_after: available_after[index].money()?,
            frozen_after: frozen_after[index].money()?,
            version: unsigned(version[index])?,
            previous_position: Position(previous[index]),
        };
        entries.push((owner, entry));
    }
    Ok(entries)
}
