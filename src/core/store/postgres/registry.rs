//! What a process asks about the cluster: shards, assets, the other processes, the server's health.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use diesel::{
    data_types::PgInterval,
    sql_types::{BigInt, Bool, Integer, Interval, Nullable, SmallInt, Text},
};

use super::{SCHEMA_VERSION, Store, error::Effect, numeric::duration_to_sql, statement::statement};
use crate::core::{
    assets::{Asset, Assets},
    store::{Error, Health, Member},
    types::AssetId,
};

statement! {
    /// Whether the schema's own tables are there.
    HasSchema {} -> (Bool) =
    "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL
        AND to_regclass('cluster') IS NOT NULL"
}

statement! {
    /// Schema version, shards, and whether the server is the one that the cluster was made on.
    /// And whether a commit is durable when it is answered.
    Cluster {} -> (Nullable<Text>, Nullable<SmallInt>, Nullable<Bool>, Bool) =
    "SELECT (SELECT max(version) FROM __diesel_schema_migrations)::text,
        (SELECT shards FROM cluster), (SELECT c.system_identifier = s.system_identifier
            FROM cluster c CROSS JOIN pg_control_system() s),
        current_setting('synchronous_commit') <> 'off'"
}

statement! {
    /// Says which log the positions are of, where nothing stands. No id: it is not known.
    NameLog { prefix: String => Text, id: Option<String> => Nullable<Text> } -> (Bool) =
    "UPDATE cluster SET kafka_topic_prefix = coalesce(kafka_topic_prefix, $1),
            kafka_cluster_id = coalesce(kafka_cluster_id, $2)
        WHERE kafka_topic_prefix IS NULL OR kafka_cluster_id IS NULL AND $2 IS NOT NULL
        RETURNING only_row"
}

statement! {
    /// Which log the positions are of.
    NamedLog {} -> (Nullable<Text>, Nullable<Text>) =
    "SELECT kafka_topic_prefix, kafka_cluster_id FROM cluster"
}

statement! {
    /// Every asset.
    AllAssets {} -> (Integer, Text, SmallInt) =
    "SELECT id, code, scale FROM asset ORDER BY id"
}

statement! {
    /// Adds an asset, or answers the one that stands.
    AddAsset { code: String => Text, scale: i16 => SmallInt } -> (Integer, SmallInt) =
    "SELECT id, scale FROM axs_add_asset($1, $2)"
}

statement! {
    /// What durability depends on.
    DurabilitySettings {} -> (Text, Text) =
    "SELECT name, setting FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes', 'server_version', 'synchronous_commit',
            'max_connections', 'wal_level')
        ORDER BY name COLLATE \"C\""
}

statement! {
    /// Says that a process is there, and lists those seen lately. Old rows go on the way.
    Beat { name: String => Text, draining: bool => Bool, seen_within: PgInterval => Interval }
    -> (Text, Bool) =
    "WITH forgotten AS (
            DELETE FROM member
            WHERE seen_at < clock_timestamp() - greatest($3, interval '1 day') AND name <> $1
        ), this AS (
            INSERT INTO member (name, draining, seen_at) VALUES ($1, $2, clock_timestamp())
            ON CONFLICT (name) DO UPDATE
                SET draining = excluded.draining, seen_at = excluded.seen_at
            RETURNING name, draining
        )
        SELECT name, draining FROM this
        UNION ALL
        SELECT name, draining FROM member
            WHERE name <> $1 AND seen_at >= clock_timestamp() - $3
        ORDER BY name"
}

statement! {
    /// Forgets a process.
    Leave { name: String => Text } -> (BigInt) =
    "WITH gone AS (DELETE FROM member WHERE name = $1 RETURNING name) SELECT count(*) FROM gone"
}

/// What is there of the schema.
#[derive(Default)]
struct Found {
    version: Option<String>,
    shards: Option<u16>,
    other_server: bool,
    loses_commits: bool,
}

/// The log that the positions are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogName {
    /// `kafka.topic_prefix`.
    pub prefix: Option<String>,
    /// Of the Kafka cluster.
    pub cluster_id: Option<String>,
}

impl Store {
    /// See [`super::super::Store::shards`].
    pub async fn shards(&self) -> Result<u16, Error> {
        let cluster = self.cluster().await?;
        let Some(version) = cluster.version else {
            return Err(Error::Mismatch(
                "the database has no AXS schema: run `axs migrate`".into(),
            ));
        };
        match version.as_str().cmp(SCHEMA_VERSION) {
            Ordering::Less => Err(Error::Mismatch(format!(
                "the database has schema {version}, this program needs {SCHEMA_VERSION}: run \
                 `axs migrate`"
            ))),
            Ordering::Greater => Err(later_schema(&version)),
            Ordering::Equal if cluster.other_server => Err(Error::Mismatch(
                "the database is on another server than the one that the cluster was made on, as \
                 a restored copy is: it may lack commands that were accepted; connect to the \
                 server itself or to a physical replica of it; if it is lost, stop every process \
                 and run `axs shards recover`"
                    .into(),
            )),
            Ordering::Equal if cluster.loses_commits => Err(Error::Mismatch(
                "`synchronous_commit` is off: a crash of PostgreSQL would lose commands that were \
                 answered ACCEPTED, and outcomes that were seen; set it to on, for the server, the \
                 database and the user"
                    .into(),
            )),
            Ordering::Equal => cluster.shards.ok_or_else(|| {
                Error::Mismatch("`axs migrate` did not finish: run `axs migrate` again".into())
            }),
        }
    }

    /// `Mismatch` when a later program has migrated the database.
    pub async fn refuse_later_schema(&self) -> Result<(), Error> {
        match self.cluster().await?.version {
            Some(version) if version.as_str() > SCHEMA_VERSION => Err(later_schema(&version)),
            _ => Ok(()),
        }
    }

    /// The log that the positions are of: this one, where none stands.
    pub async fn name_log(&self, prefix: &str, id: Option<String>) -> Result<LogName, Error> {
        let name = NameLog {
            prefix: prefix.to_owned(),
            id,
        };
        let _: Vec<(bool,)> = self.control.run(Effect::Writes, name).await?;
        self.named_log().await
    }

    /// The log that the positions are of, as far as a process has said so.
    pub async fn named_log(&self) -> Result<LogName, Error> {
        let rows: Vec<(Option<String>, Option<String>)> = self.readers.run(NamedLog {}).await?;
        let (prefix, cluster_id) = first(rows)?;
        Ok(LogName { prefix, cluster_id })
    }

    async fn cluster(&self) -> Result<Found, Error> {
        let rows: Vec<(bool,)> = self.readers.run(HasSchema {}).await?;
        if rows != [(true,)] {
            return Ok(Found::default());
        }
        type Row = (Option<String>, Option<i16>, Option<bool>, bool);
        let rows: Vec<Row> = self.readers.run(Cluster {}).await?;
        let (version, shards, same_server, is_durable) = first(rows)?;
        Ok(Found {
            version,
            shards: shards.and_then(|shards| shards.try_into().ok()),
            other_server: same_server == Some(false),
            loses_commits: !is_durable,
        })
    }

    /// See [`super::super::Store::assets`].
    pub async fn assets(&self) -> Result<Assets, Error> {
        let rows: Vec<(i32, String, i16)> = self.readers.run(AllAssets {}).await?;
        rows.into_iter()
            .map(|(id, code, scale)| asset(id, code, scale))
            .collect()
    }

    /// See [`super::super::Store::add_asset`].
    pub async fn add_asset(&self, code: &str, scale: u8) -> Result<Asset, Error> {
        let add = AddAsset {
            code: code.to_owned(),
            scale: scale.into(),
        };
        let rows: Vec<(i32, i16)> = self.control.run(Effect::Writes, add).await?;
        let (id, stands) = first(rows)?;
        if stands != i16::from(scale) {
            return Err(Error::Mismatch(format!(
                "asset `{code}` has scale {stands}, which never changes: not {scale}"
            )));
        }
        asset(id, code.to_owned(), stands)
    }

    /// See [`super::super::Store::health`].
    pub async fn health(&self) -> Result<Health, Error> {
        let started = Instant::now();
        let settings = self.readers.run(DurabilitySettings {}).await?;
        let latency = started.elapsed();
        let cluster = self.cluster().await?;
        self.readers.witness().await?;
        Ok(Health {
            settings,
            schema_version: cluster.version,
            shards: cluster.shards,
            latency,
        })
    }

    /// See [`super::super::Store::beat`].
    pub async fn beat(&self, member: &Member, seen_within: Duration) -> Result<Vec<Member>, Error> {
        let beat = Beat {
            name: member.name.clone(),
            draining: member.draining,
            seen_within: duration_to_sql(seen_within),
        };
        let rows: Vec<(String, bool)> = self.control.run(Effect::Writes, beat).await?;
        let member = |(name, draining)| Member { name, draining };
        Ok(rows.into_iter().map(member).collect())
    }

    /// See [`super::super::Store::leave`].
    pub async fn leave(&self, name: &str) -> Result<(), Error> {
        let leave = Leave {
            name: name.to_owned(),
        };
        let _: Vec<(i64,)> = self.control.run(Effect::Writes, leave).await?;
        Ok(())
    }
}

fn later_schema(version: &str) -> Error {
    Error::Mismatch(format!(
        "the database has schema {version}, this program knows {SCHEMA_VERSION}: run a newer \
         `axs`, the one whose `axs migrate` was run last"
    ))
}

/// The only row of an answer that always has one.
pub(super) fn first<Row>(rows: Vec<Row>) -> Result<Row, Error> {
    let row = rows.into_iter().next();
    row.ok_or_else(|| Error::Mismatch("an answer of the database has no row".into()))
}

fn asset(id: i32, code: String, scale: i16) -> Result<Asset, Error> {
    match (u32::try_from(id), u8::try_from(scale)) {
        (Ok(id), Ok(scale)) => Ok(Asset {
            id: AssetId(id),
            code,
            scale,
        }),
        _ => Err(Error::Mismatch(format!(
            "asset `{code}` is stored with an impossible scale"
        ))),
    }
}
