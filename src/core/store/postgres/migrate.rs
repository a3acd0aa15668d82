//! The schema: migrations embedded in the program, shards, partitions and the settings' assets.
//! What is there and does not fit is refused, never changed.

use diesel::sql_types::{Array, BigInt, Bool, Integer, SmallInt};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    Store,
    connection::{Line, Target},
    error::Effect,
    registry::first,
    statement::statement,
};
use crate::core::{
    assets::{Asset, SCALE_MAX, is_valid_code},
    config,
    store::Error,
    types::SHARDS_MAX,
};

/// The schema that this program needs: the version of its last migration.
pub const SCHEMA_VERSION: &str = "20261201000015";
/// Shards of a new cluster whose settings do not say.
pub const SHARDS_DEFAULT: u16 = 16;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// Most partitions that are made without an operator's word.
const PARTITIONS_MAX: u16 = 16;
/// Fewest shards of a partition that is made without an operator's word.
const PARTITION_SHARDS_MIN: u16 = 4;

/// What `migrate` found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Versions of the migrations that ran now.
    pub applied: Vec<String>,
    /// Shards of the cluster.
    pub shards: u16,
    /// Partitions of each large table that were made now.
    pub partitions_created: u32,
    /// Every asset that the settings name.
    pub assets: Vec<Asset>,
}

statement! {
    /// One `migrate` at a time. The lock ends with the session.
    Lock {} -> (Bool) = "SELECT pg_advisory_lock(7250) IS NOT NULL"
}

statement! {
    /// The number of shards that stands, which is ours if there was none.
    SetShards { shards: i16 => SmallInt } -> (SmallInt) =
    "WITH new AS (
            INSERT INTO cluster (shards, system_identifier)
                SELECT $1, system_identifier FROM pg_control_system()
                ON CONFLICT DO NOTHING RETURNING shards
        )
        SELECT shards FROM new UNION ALL SELECT shards FROM cluster"
}

statement! {
    /// A row for each shard that has none.
    AddShards { shards: i32 => Integer } -> (BigInt) =
    "WITH positions AS (
            INSERT INTO shard_position (shard) SELECT generate_series(0, $1 - 1)
                ON CONFLICT DO NOTHING RETURNING shard
        ), sequences AS (
            INSERT INTO sequence (shard) SELECT generate_series(0, $1 - 1)
                ON CONFLICT DO NOTHING
        )
        SELECT count(*) FROM positions"
}

statement! {
    /// Partitions, if there are none.
    AddPartitions { bounds: Vec<i32> => Array<Integer> } -> (Integer) =
    "SELECT axs_create_partitions($1)"
}

statement! {
    /// New partitions have their own settings.
    SkipStatistics {} -> (Integer) =
    "SELECT axs_skip_statistics()"
}

/// Brings the schema up to this program, creates shards and partitions, adds assets. `Mismatch`
/// when another number of shards or another scale stands.
pub async fn run(settings: &config::Postgres, cluster: &config::Cluster) -> Result<Report, Error> {
    let assets = parse_assets(&cluster.assets)?;
    if let Some(shards) = cluster.shards
        && !(1..=SHARDS_MAX).contains(&shards)
    {
        return Err(Error::Mismatch(format!(
            "`cluster.shards` is {shards}: set 1 to {SHARDS_MAX}"
        )));
    }
    // Its session holds the lock to the end.
    let (_lock, applied) = with_harness(settings, |harness| {
        harness.run_pending_migrations(MIGRATIONS).map(versions)
    })
    .await?;
    let store = Store::connect(settings, "axs-migrate").await?;
    // An earlier program finds nothing to do on a later schema.
    store.refuse_later_schema().await?;
    let shards = set_shards(&store.control, cluster.shards).await?;
    let partitions = AddPartitions {
        bounds: partition_bounds(shards),
    };
    let made: Vec<(i32,)> = store.control.run(Effect::Writes, partitions).await?;
    let _: Vec<(i32,)> = (store.control.run(Effect::Writes, SkipStatistics {})).await?;
    let mut report = Report {
        applied,
        shards,
        partitions_created: first(made)?.0.unsigned_abs(),
        assets: Vec::new(),
    };
    for (code, scale) in assets {
        report.assets.push(store.add_asset(&code, scale).await?);
    }
    Ok(report)
}

/// Takes the whole schema away, with everything in it.
pub async fn revert(settings: &config::Postgres) -> Result<Vec<String>, Error> {
    let (_, reverted) = with_harness(settings, |harness| {
        harness.revert_all_migrations(MIGRATIONS).map(versions)
    })
    .await?;
    Ok(reverted)
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;
type Versions = Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>>;

/// Runs `work` under the lock, on a thread that may block.
async fn with_harness(
    settings: &config::Postgres,
    work: impl FnOnce(&mut Harness) -> Versions + Send + 'static,
) -> Result<(AsyncPgConnection, Vec<String>), Error> {
    let target = Target::new(settings, "axs-migrate")?;
    let mut connection = target.connect(None).await?;
    // No time-out of its own: the server's `statement_timeout` ends it.
    let locked: Result<Vec<(bool,)>, _> = Lock {}.load(&mut connection).await;
    locked.map_err(|error| {
        Error::Unavailable(format!("another `axs migrate` does not end: {error}"))
    })?;
    let blocking = tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(connection);
        let versions = work(&mut harness);
        (harness.into_inner(), versions)
    });
    let (connection, versions) = blocking
        .await
        .map_err(|error| Error::AnswerLost(format!("a migration was broken off: {error}")))?;
    let versions =
        versions.map_err(|error| Error::Mismatch(format!("a migration failed: {error}")))?;
    Ok((connection, versions))
}

fn versions(versions: Vec<diesel::migration::MigrationVersion<'_>>) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

async fn set_shards(control: &Line, wanted: Option<u16>) -> Result<u16, Error> {
    let shards = wanted.unwrap_or(SHARDS_DEFAULT);
    let set = SetShards {
        shards: shards.cast_signed(),
    };
    let rows: Vec<(i16,)> = control.run(Effect::Writes, set).await?;
    let stands = first(rows)?.0.unsigned_abs();
    if let Some(wanted) = wanted
        && wanted != stands
    {
        return Err(Error::Mismatch(format!(
            "the cluster has {stands} shards, `cluster.shards` is {wanted}: the number never \
             changes, set it to {stands}"
        )));
    }
    let add = AddShards {
        shards: i32::from(stands),
    };
    let _: Vec<(i64,)> = control.run(Effect::Writes, add).await?;
    Ok(stands)
}

/// The upper bounds of the groups of shards that get a partition each: of four shards at least,
/// because a partition costs every statement a little.
fn partition_bounds(shards: u16) -> Vec<i32> {
    let group = shards.div_ceil(PARTITIONS_MAX).max(PARTITION_SHARDS_MIN);
    let groups = shards.div_ceil(group);
    (1..=groups)
        .map(|index| i32::from((index * group).min(shards)))
        .collect()
}

/// `CODE:SCALE` of each.
fn parse_assets(assets: &[String]) -> Result<Vec<(String, u8)>, Error> {
    assets
        .iter()
        .map(|text| {
            text.split_once(':')
                .and_then(|(code, scale)| Some((code.to_owned(), scale.parse().ok()?)))
                .filter(|(code, scale)| is_valid_code(code) && *scale <= SCALE_MAX)
                .ok_or_else(|| {
                    Error::Mismatch(format!(
                        "`{text}` in `cluster.assets` is no asset: write CODE:SCALE, as USDT:18"
                    ))
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use diesel::{migration::MigrationSource, pg::Pg};

    use super::*;

    #[test]
    fn the_schema_version_is_that_of_the_last_migration() {
        let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS).expect("they are embedded");
        let last = migrations.iter().map(|one| one.name().version()).max();
        assert_eq!(last.expect("there is one").to_string(), SCHEMA_VERSION);
    }

    #[test]
    fn partitions_are_few_and_hold_every_shard() {
        assert_eq!(partition_bounds(1), [1]);
        assert_eq!(partition_bounds(4), [4]);
        assert_eq!(partition_bounds(16), [4, 8, 12, 16]);
        assert_eq!(partition_bounds(17), [4, 8, 12, 16, 17]);
        for shards in 1..=SHARDS_MAX {
            let bounds = partition_bounds(shards);
            assert!(
                bounds.len() <= usize::from(PARTITIONS_MAX),
                "{shards} shards"
            );
            assert!(bounds.is_sorted_by(|a, b| a < b), "{shards} shards");
            assert_eq!(bounds.last(), Some(&i32::from(shards)));
        }
    }
}
