//! `axs dev` without a server: the log file is the database, and the store in memory is rebuilt
//! from it at the start. Leaders then apply everything again, from position 0.
//!
//! What the file must bring back itself: number of shards, assets, keys, routes, commands, which
//! sequence numbers were used or sealed, and what is parked. The rest follows from applying it.

use std::{fmt, path::Path};

use crate::core::{
    assets::Assets,
    clock::Clock,
    command::{
        hash,
        record::{self, LogItem, Registry},
    },
    log::{
        self,
        file::{self, OpenError, Recovered, TornTail},
    },
    store::{
        self,
        memory::{self, Tables},
    },
};

/// Shards of a new directory when nothing says otherwise.
pub const SHARDS_DEFAULT: u16 = 4;

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The settings do not fit what the file holds.
    #[error(
        "the data directory has {stored} shards, not {asked}, and a cluster never changes their \
         number: start it with {stored}, or take another directory"
    )]
    Shards {
        /// In the file.
        stored: u16,
        /// In the settings.
        asked: u16,
    },
    /// An asset cannot be added.
    #[error(transparent)]
    Assets(store::Error),
    /// A record of the file cannot be put back.
    #[error("a record of the log file does not fit the rest: {0}")]
    Record(store::Error),
}

/// Store and log of one process, and what was found.
pub struct Embedded {
    /// In memory.
    pub store: store::Store,
    /// The file, or memory.
    pub log: log::Log,
    /// For the operator.
    pub report: Report,
}

/// What was found in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records of all shards.
    pub records: u64,
    /// Accepted commands among them.
    pub commands: u64,
    /// Positions that are not applied again.
    pub parked: u64,
    /// The end of the file was cut off.
    pub torn: Option<TornTail>,
}

/// Opens a data directory, making it if need be; `None`: all of it is in memory. `shards` unset:
/// as the file says. `assets` that are not in the registry are added to it.
pub fn open(
    data_dir: Option<&Path>,
    shards: Option<u16>,
    assets: &[(String, u8)],
    clock: Clock,
) -> Result<Embedded, Error> {
    let recovered = data_dir.map(file::recover).transpose()?;
    let registry = recovered.as_ref().and_then(|file| file.registry.clone());
    let (shards, stored) = match (registry, shards) {
        (Some(registry), Some(asked)) if registry.shards != asked => {
            return Err(Error::Shards {
                stored: registry.shards,
                asked,
            });
        }
        (Some(registry), _) => (registry.shards, registry.assets),
        (None, asked) => (asked.unwrap_or(SHARDS_DEFAULT), Assets::default()),
    };
    let mut tables = Tables::new(shards, stored);
    for (code, scale) in assets {
        tables.add_asset(code, *scale).map_err(Error::Assets)?;
    }
    let registry = Registry {
        shards,
        assets: tables.assets().clone(),
    };
    let mut report = Report::default();
    let log = match recovered {
        None => file::Log::memory(shards, clock.clone()),
        Some(recovered) => {
            report = restore(&mut tables, &recovered).map_err(Error::Record)?;
            recovered.start(&registry, clock.clone())
        }
    };
    Ok(Embedded {
        store: store::Store::Memory(memory::Store::with_tables(tables, clock)),
        log: log::Log::File(log),
        report,
    })
}

/// Puts back what applying the log again does not.
fn restore(tables: &mut Tables, recovered: &Recovered) -> Result<Report, store::Error> {
    let mut report = Report {
        parked: recovered.parked.len() as u64,
        torn: recovered.torn.clone(),
        ..Report::default()
    };
    for (shard, record) in recovered.records() {
        report.records += 1;
        // What cannot be decoded becomes a dead letter when it is applied.
        match record::decode(&record.value) {
            Ok(LogItem::Command(command)) => {
                let key = hash::key_hash(&command.source, &command.idempotency_key);
                report.commands += u64::from(tables.restore_command(key, command)?);
            }
            Ok(LogItem::Seal(seal)) => tables.restore_number(shard, seal.last)?,
            Ok(LogItem::Discard(discard)) => {
                tables.restore_number(shard, discard.id.sequence())?;
            }
            _ => {}
        }
    }
    for (&(shard, position), &reason) in &recovered.parked {
        tables.restore_parked(shard, position, reason)?;
    }
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands in {} records", self.commands, self.records)?;
        if self.parked > 0 {
            write!(f, ", {} parked", self.parked)?;
        }
        if let Some(torn) = &self.torn {
            write!(
                f,
                "; a write that was under way at the end ({} bytes at {}) was cut off",
                torn.bytes, torn.offset
            )?;
        }
        Ok(())
    }
}
