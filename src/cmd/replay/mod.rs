//! `axs replay`: the log of a shard once more, shown, and compared with what is stored.

use std::path::PathBuf;

use anyhow::Result;
use axs::core::{
    assets::Assets,
    cache::Cache,
    config,
    log::{self, Log, file},
    replay::{self, Replay, Source, Sources, Until, diff::Diff},
    types::{AccountId, Position, ShardId, Timestamp},
};
use clap::ValueEnum;

use self::show::Show;
use super::{Ctx, Exit, Failure, flags, service};

mod show;

const AFTER: &str = "\
Reads the shard's log into a fresh engine, from its first record, or from the journal's state where
the log does not reach back that far, up to where the shard's row stands. Writes nothing, and may
run beside live traffic; with --data-dir also beside a running `axs dev`.

--diff compares command by command with the journal and, where the shard's row stands at the end of
the replay, balances, accounts, applied set and state hash; `redis`: what Redis has of the same
version.

For example:
  axs replay --shard 3
  axs replay --shard 3 --diff postgres,redis
  axs replay --shard 3 --to 120000 --account 1001 --balances
  axs replay --shard 3 --to-time 2026-11-23T09:00:00Z --balances
  axs replay --shard 0 --data-dir ./axs-data --outcomes --json | jq .

Exit codes: 0 replayed, nothing differs · 1 neither log nor journal reach back · 2 usage, no such
shard, or beyond the log's end · 3 something differs · 4 no such account then, or no log file · 5 a
server is not available · 6 settings";

/// Read the log of a shard once more, see what comes of it, and compare
#[derive(clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Which shard, from 0
    #[arg(long, value_name = "SHARD")]
    shard: u16,
    /// Show and compare from this position on; what is before is applied all the same
    #[arg(long, value_name = "POSITION", value_parser = position)]
    from: Option<Position>,
    /// Stop before this position, as `axs shards show` names the next one to apply
    #[arg(long, value_name = "POSITION", value_parser = position, conflicts_with = "to_time")]
    to: Option<Position>,
    /// Stop behind the last outcome of this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_time: Option<Timestamp>,
    /// Compare with these
    #[arg(
        long,
        value_enum,
        value_name = "WITH",
        value_delimiter = ',',
        conflicts_with = "data_dir"
    )]
    diff: Vec<With>,
    /// Print every outcome as it comes
    #[arg(long)]
    outcomes: bool,
    /// Print the balances at the end
    #[arg(long)]
    balances: bool,
    /// Outcomes and balances of this account only
    #[arg(long, value_name = "ID")]
    account: Option<u64>,
    /// Read the log file of `axs dev` in this directory, or this file
    #[arg(long, value_name = "PATH", visible_alias = "file", value_hint = clap::ValueHint::AnyPath)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    servers: flags::Servers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    /// Journal, accepted commands, balances, accounts, applied set, state hash
    Postgres,
    /// Balances in Redis
    Redis,
}

/// Everything that a replay is made with.
struct Parts {
    shard: ShardId,
    sources: Sources,
    assets: Assets,
    until: Until,
    /// Where the row stood; `None`: there is none.
    row: Option<Position>,
    postgres: config::Postgres,
    cache: Option<Cache>,
}

pub async fn run(args: Args, ctx: Ctx) -> Result<()> {
    let parts = match &args.data_dir {
        Some(path) => of_file(&args, &ctx, path)?,
        None => of_servers(&args, &ctx).await?,
    };
    let (shard, account) = (parts.shard, args.account.map(AccountId));
    let replay = Replay::open(&parts.sources, shard, parts.until).await;
    let mut replay = replay.map_err(failure)?;
    let from = args.from.unwrap_or(Position::ZERO).max(replay.began().at);
    let mut diff = match (args.diff.is_empty(), &parts.sources.store) {
        (false, Some(store)) => {
            let known = (store.clone(), parts.assets.clone());
            let below = parts.row.unwrap_or(Position::ZERO);
            Some(Diff::new(known, shard, (from, below)))
        }
        _ => None,
    };
    let mut show = Show::new(&ctx, &parts.assets, shard, from);
    show.outcomes(args.outcomes, account);
    let work = Work {
        ctx: &ctx,
        args: &args,
        parts: &parts,
    };
    work.replay(&mut replay, &mut diff, &mut show).await?;
    if let Some(account) = account
        && replay.account(account).is_none()
    {
        let message = format!("shard {shard} has no account {account} at that point");
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    show.end(&replay, diff.as_ref(), args.balances.then_some(account));
    match diff.map_or(0, |diff| diff.total) {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Difference, "1 difference was found").into()),
        total => {
            let message = format!("{total} differences were found");
            let failure = Failure::new(Exit::Difference, message);
            let hint = format!("`axs reconcile --shard {shard}` tells what of it is damage");
            Err(failure.hint(hint).into())
        }
    }
}

/// One replay, with what was asked for.
struct Work<'a> {
    ctx: &'a Ctx,
    args: &'a Args,
    parts: &'a Parts,
}

impl Work<'_> {
    /// Replays, and compares as it goes; then, where a row is to be compared with, on to where the
    /// row stands by then, which a snapshot holds still.
    async fn replay(
        &self,
        replay: &mut Replay,
        diff: &mut Option<Diff>,
        show: &mut Show<'_>,
    ) -> Result<()> {
        let compares = self.args.diff.contains(&With::Postgres);
        let (mut until, mut stand) = (self.parts.until, None);
        loop {
            let total = total(replay, until).await;
            let mut bar = self.ctx.ui.progress("replay", total);
            while let Some(batch) = replay.step(until).await.map_err(failure)? {
                if let Some(diff) = diff.as_mut().filter(|_| compares) {
                    diff.batch(batch).await.map_err(failure)?;
                }
                show.batch(batch);
                bar.add(batch.items.len() as u64);
            }
            show.elapsed += bar.elapsed();
            let (Some(diff), true) = (diff.as_mut(), compares) else {
                break;
            };
            let next = replay.next_position();
            if stand.is_none() && self.ends_at_row(next) {
                stand = Some(
                    diff.stand(&self.parts.postgres)
                        .await
                        .map_err(of_snapshot)?,
                );
            }
            match &stand {
                Some(stand) if stand.next_position > next => {
                    until = Until::Position(stand.next_position);
                    diff.below = stand.next_position;
                }
                _ => break,
            }
        }
        let Some(diff) = diff else { return Ok(()) };
        let next = replay.next_position();
        if compares {
            diff.end(next).await.map_err(failure)?;
        }
        if let Some(stand) = stand.filter(|stand| stand.next_position == next) {
            diff.state(replay, &stand).await.map_err(of_snapshot)?;
        }
        match &self.parts.cache {
            Some(cache) => diff.cache(replay, cache).await.map_err(of_snapshot),
            None => Ok(()),
        }
    }

    /// It stands where the row stood, and nobody wants it to stop before.
    fn ends_at_row(&self, next: Position) -> bool {
        let row = self.parts.row;
        let (to, to_time) = (self.args.to, self.args.to_time);
        row.is_some_and(|row| next >= row)
            && to_time.is_none()
            && to.is_none_or(|to| row == Some(to))
    }
}

/// How many records there are to read, if that can be known.
async fn total(replay: &Replay, until: Until) -> Option<u64> {
    let end = match until {
        Until::Position(end) => end,
        Until::Time(_) => replay.end().await.ok()?,
    };
    let next = replay.next_position();
    (end.generation() == next.generation())
        .then(|| u64::try_from(end.offset() - next.offset()).unwrap_or_default())
}

fn of_file(args: &Args, ctx: &Ctx, path: &std::path::Path) -> Result<Parts> {
    let shard = ShardId(args.shard);
    let peek = file::peek(path).map_err(of_file_error)?;
    let Some(registry) = peek.registry().cloned() else {
        let message = format!("`{}` has no records yet", peek.path().display());
        return Err(Failure::new(Exit::NotFound, message).into());
    };
    known(shard, registry.shards)?;
    if let Some(torn) = peek.torn() {
        ctx.ui.note(format!(
            "the last {} bytes of the file are a write that is under way, or never ended: left out",
            torn.bytes
        ));
    }
    let until = match (args.to, args.to_time) {
        (Some(to), _) => Until::Position(to),
        (_, Some(time)) => Until::Time(time),
        _ => Until::Position(peek.end(shard)),
    };
    Ok(Parts {
        shard,
        sources: Sources {
            source: Source::File(peek),
            store: None,
        },
        assets: registry.assets,
        until,
        row: None,
        postgres: config::Postgres::default(),
        cache: None,
    })
}

async fn of_servers(args: &Args, ctx: &Ctx) -> Result<Parts> {
    let settings = ctx.settings(args.servers.settings())?.settings;
    let store = service::store(&settings, "axs-replay").await?;
    let count = service::shards(&settings, &store).await?;
    let shard = ShardId(args.shard);
    known(shard, count)?;
    if settings.kafka.brokers.is_none() {
        return Err(service::missing("kafka.brokers", "--kafka-brokers").into());
    }
    // First: topics of another name that do not exist are not to be made.
    service::topics(&store, &settings.kafka.topic_prefix).await?;
    let log = log::kafka::Log::connect(&settings.kafka, count, "axs-replay").await?;
    let cache = match args.diff.contains(&With::Redis) {
        false => None,
        true => Some(
            service::cache(&settings)?
                .ok_or_else(|| service::missing("redis.url", "--redis-url"))?,
        ),
    };
    let row = replay::row(&store, shard).await.map_err(failure)?;
    let until = match (args.to, args.to_time) {
        (Some(to), _) => Until::Position(to),
        (_, Some(time)) => Until::Time(time),
        _ => Until::Position(row.next_position),
    };
    Ok(Parts {
        shard,
        assets: store.assets().await?,
        sources: Sources {
            source: Source::Log(Log::Kafka(log)),
            store: Some(store),
        },
        until,
        row: Some(row.next_position),
        postgres: settings.postgres,
        cache,
    })
}

fn known(shard: ShardId, count: u16) -> Result<()> {
    if shard.0 < count {
        return Ok(());
    }
    let message = format!("there is no shard {shard}: the cluster has {count}, from 0");
    Err(Failure::new(Exit::Usage, message).into())
}

/// `offset`, or `generation:offset`, as positions are shown.
fn position(text: &str) -> Result<Position, String> {
    let (generation, offset) = text.split_once(':').unwrap_or(("0", text));
    let offset: Option<i64> = offset.parse().ok();
    let offset = offset.filter(|offset| (0..=axs::core::types::OFFSET_MAX).contains(offset));
    let generation: Option<u16> = generation.parse().ok();
    let generation = generation.filter(|generation| *generation < 1 << 15);
    match (generation, offset) {
        (Some(generation), Some(offset)) => Ok(Position::new(generation, offset)),
        _ => Err("a position is `offset`, or `generation:offset`".into()),
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let at = humantime::parse_rfc3339(text).map_err(|error| error.to_string())?;
    let micros = match at.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    micros.map(Timestamp).map_err(|error| error.to_string())
}

fn failure(error: replay::Error) -> anyhow::Error {
    let exit = match &error {
        replay::Error::Log(log::Error::Diverged(_)) | replay::Error::Differs(_) => Exit::Difference,
        replay::Error::Beyond(_) => Exit::Usage,
        replay::Error::OutOfReach(_) => Exit::Failure,
        replay::Error::Log(_) | replay::Error::Store(_) | replay::Error::File(_) => {
            return match error {
                replay::Error::Log(error) => error.into(),
                replay::Error::Store(error) => error.into(),
                replay::Error::File(error) => of_file_error(error),
                error => error.into(),
            };
        }
    };
    Failure::new(exit, error.to_string()).into()
}

fn of_file_error(error: file::OpenError) -> anyhow::Error {
    let exit = match &error {
        file::OpenError::Io(_, _, io) if io.kind() == std::io::ErrorKind::NotFound => {
            Exit::NotFound
        }
        file::OpenError::Corrupt { .. } => Exit::Difference,
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string()).into()
}

fn of_snapshot(error: axs::core::reconcile::Error) -> anyhow::Error {
    use axs::core::reconcile::Error;
    match error {
        Error::Unavailable(why) => Failure::new(Exit::Unavailable, why).into(),
        Error::Store(error) => error.into(),
        Error::Failed(why) => anyhow::anyhow!(why).context("failed to compare"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_shown() {
        for at in [Position::ZERO, Position::new(0, 77), Position::new(3, 5)] {
            assert_eq!(position(&at.to_string()), Ok(at));
        }
        for bad in ["", "-1", "x", "1:", ":1", "32768:0", "0:281474976710656"] {
            assert!(position(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_microseconds_since_1970() {
        assert_eq!(
            time("1970-01-01T00:00:01.000002Z"),
            Ok(Timestamp(1_000_002))
        );
        assert!(time("yesterday").is_err());
    }
}
