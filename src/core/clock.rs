//! The clock of the in-memory parts, injected so that a simulation can own the time. The engine and
//! the leader see no clock at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::core::types::Timestamp;

/// Where the time comes from. Clones of a manual clock share its time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// Stands still until it is moved: microseconds since 1970.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.0)))
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or(Duration::ZERO);
                Timestamp(micros(since))
            }
            Self::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock on. The machine's cannot be moved: that is a bug of the caller.
    pub fn advance(&self, by: Duration) {
        let Self::Manual(now) = self else {
            panic!("only a manual clock can be moved");
        };
        now.fetch_add(micros(by), Ordering::SeqCst);
    }
}

/// A duration in the unit of [`Timestamp`], saturating.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
