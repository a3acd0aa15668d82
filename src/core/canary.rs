//! Guards that the simulation can switch off, to show that their absence is noticed.
//!
//! Only a build with the feature `simulation` can switch anything off: elsewhere [`is_off`] is a
//! constant and the switches do not exist.

/// The guards, and the list of them all: none can be left out of it.
macro_rules! guards {
    ($($(#[$doc:meta])* $guard:ident,)*) => {
        /// A guard of the write path. Each stands where it is asked about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[$doc])* $guard,)*
        }

        #[cfg(feature = "simulation")]
        impl Guard {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$guard,)*];
        }
    };
}

guards! {
    /// The store refuses a flush of another epoch or nonce.
    Fence,
    /// The store refuses a flush that does not start where the last one ended.
    PreviousPosition,
    /// The engine skips a number that was applied.
    AppliedSet,
    /// The store refuses a number that was applied.
    AppliedOverlap,
    /// The store refuses a balance computed on another version.
    AccountVersion,
    /// What is not flushed stays in memory.
    DirtyPin,
    /// A REVERSE sees outcomes that are not flushed.
    ReverseOverlay,
    /// Acceptance is refused numbers of a closed block.
    BlockLock,
    /// Numbers of open blocks are not sealed.
    SealFence,
    /// Results are published after their commit.
    PublishAfterCommit,
    /// Snapshots are written after their commit.
    SnapshotAfterCommit,
    /// A new leader publishes again what may not be published.
    Republish,
    /// Nothing counts as published behind a failure.
    ContiguousPublished,
    /// What is pending is sent again.
    OutboxResend,
    /// Only what the engine has passed is sent again.
    LagAware,
    /// What was sent again waits before the next time.
    BackOff,
    /// The cache refuses an older epoch.
    CacheEpoch,
    /// The cache refuses an older position.
    CacheVersion,
    /// A new leader writes all its accounts to the cache.
    CachePass,
    /// A leader notices that the cache lost what it had acknowledged.
    CachePulse,
    /// A refused flush drops the memory.
    DropOnRefusal,
    /// Taking over and reading the state is one statement.
    BumpFirst,
    /// The last consumed record is compared when the log is opened.
    Anchor,
    /// An unexplained answer of a flush is settled by sending it again.
    FlushAgain,
    /// Whoever fills the cache reads epoch and balances in one statement.
    FillOneRead,
    /// A command that makes the engine panic is parked, its state unchanged.
    PanicParked,
    /// A record that the store refuses each time is found and parked.
    RefusalParked,
    /// Position and balances are committed together.
    AtomicPosition,
    /// A leader stops by its own clock when its lease runs out. Not needed to be safe.
    LeaseLocal,
}

#[cfg(feature = "simulation")]
mod switches {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static OFF: Cell<u64> = const { Cell::new(0) };
    }

    /// Switches these guards off in this thread, and all others on.
    pub fn switch_off(guards: &[Guard]) {
        let off = guards.iter().fold(0, |off, guard| off | 1 << *guard as u64);
        OFF.set(off);
    }

    /// A command with this reference makes the engine panic.
    pub const PANICS: &str = "panics";

    /// Panics, without a word on standard error, where the simulation asks for it.
    pub fn panic_if_asked(reference: &str) {
        if reference == PANICS {
            std::panic::resume_unwind(Box::new(PANICS));
        }
    }

    /// Whether the simulation has switched a guard off.
    pub fn is_off(guard: Guard) -> bool {
        OFF.get() & 1 << guard as u64 != 0
    }
}

#[cfg(feature = "simulation")]
pub use switches::{PANICS, is_off, panic_if_asked, switch_off};

/// Whether the simulation has switched a guard off: never, in this build.
#[cfg(not(feature = "simulation"))]
pub const fn is_off(_: Guard) -> bool {
    false
}
