//! Results and dead letters of what is committed go to the log, in their order.

use std::sync::Arc;

use super::Parts;
use crate::core::{
    assets::Assets,
    engine::Entry,
    log,
    result::{self, Encoded},
    store::Flush,
    types::{Position, ShardId},
};

/// Stored results published again at a time.
const REPUBLISH_PAGE: usize = 500;

/// Publishes outcomes, then dead letters; answers how many from the front were acknowledged.
pub(super) async fn publish(
    parts: &Parts,
    flush: &Flush,
    skip: usize,
) -> (usize, Option<log::Error>) {
    let assets = known_assets(parts, flush.entries.iter()).await;
    let outcomes = flush.outcomes.len();
    let results = encoded_results_of(flush, skip, &assets);
    let (count, error) = acknowledged(parts.log.publish(results).await);
    if error.is_some() || flush.dead_letters.is_empty() {
        return (count, error);
    }
    let letters = &flush.dead_letters[skip.saturating_sub(outcomes)..];
    let answers = parts.log.publish_dead_letters(flush.shard, letters).await;
    let (letters, error) = acknowledged(answers);
    (count + letters, error)
}

/// The results of a committed flush, in their order, but for the first `skip`.
pub(in crate::core) fn encoded_results_of(
    flush: &Flush,
    skip: usize,
    assets: &Assets,
) -> Vec<Encoded> {
    Encoded::all(
        flush.epoch,
        flush.outcomes.iter().zip(&flush.labels),
        &flush.entries,
        flush.previous_result,
        skip,
        assets,
    )
}

/// The registry, read again where an entry's asset is newer than it.
async fn known_assets(parts: &Parts, mut entries: impl Iterator<Item = &Entry>) -> Arc<Assets> {
    let assets = parts.registry.assets();
    if entries.all(|entry| assets.by_id(entry.asset).is_some()) {
        return assets;
    }
    parts.registry.refresh().await
}

/// The length of the acknowledged prefix, and the first failure.
fn acknowledged(answers: Vec<Result<(), log::Error>>) -> (usize, Option<log::Error>) {
    let mut count = 0;
    for answer in answers {
        match answer {
            Ok(()) => count += 1,
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}

/// Publishes what former leaders committed in `from..to`; answers how far that came.
pub(super) async fn republish(
    parts: &Parts,
    shard: ShardId,
    from: Position,
    to: Position,
) -> (Position, Option<String>) {
    match republish_pages(parts, shard, from, to).await {
        Ok(()) => (to, None),
        Err(error) => {
            tracing::warn!(%shard, error, "results could not be published again");
            (from, Some(error))
        }
    }
}

async fn republish_pages(
    parts: &Parts,
    shard: ShardId,
    from: Position,
    to: Position,
) -> Result<(), String> {
    let mut next = from;
    while next < to {
        let page = parts.store.results(shard, next, REPUBLISH_PAGE).await;
        let page = page.map_err(|error| error.to_string())?;
        let is_last = page.len() < REPUBLISH_PAGE;
        let assets = known_assets(parts, page.iter().flat_map(|stored| &stored.entries)).await;
        let results: Vec<Encoded> = page
            .iter()
            .take_while(|stored| stored.outcome.position < to)
            .map(|stored| Encoded::of(&result::render_stored(stored, &assets)))
            .collect();
        next = page
            .last()
            .map_or(to, |stored| stored.outcome.position.next());
        let (_, error) = acknowledged(parts.log.publish(results).await);
        error.map_or(Ok(()), |error| Err(error.to_string()))?;
        if is_last {
            break;
        }
    }
    let mut next = from;
    while next < to {
        let page = parts.store.dead_letters(shard, next, REPUBLISH_PAGE).await;
        let mut page = page.map_err(|error| error.to_string())?;
        let is_last = page.len() < REPUBLISH_PAGE;
        next = page.last().map_or(to, |letter| letter.position.next());
        page.retain(|letter| letter.position < to);
        let (_, error) = acknowledged(parts.log.publish_dead_letters(shard, &page).await);
        error.map_or(Ok(()), |error| Err(error.to_string()))?;
        if is_last {
            break;
        }
    }
    Ok(())
}
