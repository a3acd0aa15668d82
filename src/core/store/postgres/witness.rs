//! What this process has seen of the server. A server that is less far than that lost commits: a
//! copy of an earlier time was put in its place, and nothing may be built on it.
//!
//! Positions seen are flushed ones: after a crash of the server the log goes on at or behind them,
//! with `synchronous_commit` off too, so that its restart never looks like going back. What was only
//! inserted may be gone.

use std::sync::{Mutex, OnceLock, PoisonError};

use diesel::sql_types::{BigInt, Integer, Nullable};

use super::statement::statement;

statement! {
    /// Who the server is and how far; no position where it takes no writes.
    AskStanding {}
    -> (BigInt, Nullable<Integer>, Nullable<BigInt>, Nullable<BigInt>) =
    "SELECT system_identifier,
            CASE WHEN writes THEN
                ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
            END,
            CASE WHEN writes THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END,
            CASE WHEN writes THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END
        FROM pg_control_system() CROSS JOIN (
            SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
                AS writes
        ) AS server"
}

/// A row of [`AskStanding`].
pub(super) type Row = (i64, Option<i32>, Option<i64>, Option<i64>);

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    system: i64,
    timeline: i32,
    /// Durable.
    flushed: i64,
    /// At or behind `flushed`, asked for after it.
    inserted: i64,
}

impl Standing {
    /// `Err`: it takes no writes.
    pub fn of(row: Option<Row>) -> Result<Self, String> {
        match row {
            Some((system, Some(timeline), Some(flushed), Some(inserted))) => Ok(Self {
                system,
                timeline,
                flushed,
                inserted,
            }),
            _ => Err(
                "it takes no writes, as a standby does: what it shows may be behind what was \
                 committed; connect to the primary"
                    .into(),
            ),
        }
    }
}

/// The furthest standing that this process has seen.
#[derive(Default)]
pub(super) struct Witness {
    seen: Mutex<Option<Standing>>,
    refusal: OnceLock<String>,
}

impl Witness {
    /// To be taken before a server is asked where it stands: what others see meanwhile is further.
    pub fn seen(&self) -> Option<Standing> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a server that is less far than was `seen` before it was asked; for ever then, because
    /// it will be further one day.
    pub fn check(&self, seen: Option<Standing>, now: Standing) -> Result<(), String> {
        if let Some(why) = seen.and_then(|seen| went_back(seen, now))
            && self.refusal.set(why.clone()).is_ok()
        {
            tracing::error!("{why}");
        }
        if let Some(why) = self.refusal() {
            return Err(why);
        }
        if seen.is_some_and(|seen| seen.timeline < now.timeline) {
            tracing::warn!(
                timeline = now.timeline,
                "PostgreSQL was failed over, and is as far as it was seen"
            );
        }
        let mut furthest = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let far = |standing: &Standing| (standing.timeline, standing.flushed);
        if furthest.is_none_or(|furthest| far(&furthest) < far(&now)) {
            *furthest = Some(now);
        }
        Ok(())
    }

    /// Why the server is refused, if it is.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.get().cloned()
    }
}

fn went_back(seen: Standing, now: Standing) -> Option<String> {
    if now.system != seen.system {
        return Some(
            "the database is on another server now than the one that this process has worked \
             with: connect to that one, or restart the process if the move was meant"
                .into(),
        );
    }
    if now.timeline >= seen.timeline && now.inserted >= seen.flushed {
        return None;
    }
    Some(format!(
        "the database went back in time: PostgreSQL is at WAL position {} on timeline {}, and this \
         process has seen {} on timeline {}: bring the newer database back; if it is lost, stop \
         every process, run `axs shards recover`, and start them again",
        shown(now.inserted),
        now.timeline,
        shown(seen.flushed),
        seen.timeline
    ))
}

/// As PostgreSQL writes positions.
fn shown(position: i64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(timeline: i32, flushed: i64) -> Standing {
        Standing {
            system: 1,
            timeline,
            flushed,
            inserted: flushed + 100,
        }
    }

    /// Seen one after the other; whether the last one is refused.
    fn refused(standings: &[Standing]) -> bool {
        let witness = Witness::default();
        let (last, before) = standings.split_last().expect("there is one");
        for standing in before {
            let told = witness.check(witness.seen(), *standing);
            assert_eq!(told, Ok(()), "{standing:?}");
        }
        witness.check(witness.seen(), *last).is_err()
    }

    #[test]
    fn a_server_that_is_less_far_is_refused() {
        let seen = standing(2, 1_000);
        assert!(!refused(&[seen]));
        assert!(!refused(&[seen, seen]));
        assert!(!refused(&[seen, standing(2, 5_000)]));
        assert!(!refused(&[seen, standing(3, 1_000)]), "failed over");
        assert!(refused(&[seen, standing(2, 899)]));
        assert!(refused(&[seen, standing(3, 899)]), "failed over too early");
        assert!(refused(&[seen, standing(1, 9_000)]), "an earlier timeline");
        assert!(refused(&[seen, standing(2, 5_000), standing(2, 1_000)]));
        let other = Standing { system: 2, ..seen };
        assert!(refused(&[seen, other]));
    }

    /// After a crash the log goes on behind what was flushed; what was only inserted is gone.
    #[test]
    fn a_crash_is_no_going_back() {
        let before = Standing {
            inserted: 9_000,
            ..standing(2, 1_000)
        };
        let after = Standing {
            flushed: 1_000,
            inserted: 1_000,
            ..before
        };
        assert!(!refused(&[before, after]));
    }

    /// Of two connections made at once the one that asked first may be heard last.
    #[test]
    fn what_others_saw_meanwhile_does_not_count() {
        let witness = Witness::default();
        let before = witness.seen();
        assert_eq!(witness.check(before, standing(1, 5_000)), Ok(()));
        assert_eq!(witness.check(before, standing(1, 1_000)), Ok(()));
        assert_eq!(witness.seen(), Some(standing(1, 5_000)));
    }

    #[test]
    fn a_refusal_stays() {
        let witness = Witness::default();
        assert_eq!(witness.check(None, standing(1, 5_000)), Ok(()));
        let why = witness.check(witness.seen(), standing(1, 1_000));
        let why = why.expect_err("it is less far");
        assert!(why.contains("is at WAL position 0/44C"), "{why}");
        let later = witness.check(witness.seen(), standing(1, 50_000));
        assert_eq!(later, Err(why));
    }
}
