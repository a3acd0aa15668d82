//! The routes of accounts that this process has seen. A route never changes, so that it can be
//! kept; that an account has none is never kept.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::core::{
    generations::Generations,
    types::{AccountId, ShardId},
};

/// Most routes kept: about 30 MB.
pub const ROUTES_MAX: usize = 1_000_000;

/// Known routes, shared by the writer and the readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    known: Arc<Mutex<Generations<AccountId, ShardId>>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(ROUTES_MAX)
    }
}

impl Routes {
    /// Keeps at most `capacity` routes.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: Arc::new(Mutex::new(Generations::new(capacity))),
        }
    }

    /// The shard of an account, if it is known here.
    pub fn get(&self, account: AccountId) -> Option<ShardId> {
        self.lock().get(&account)
    }

    /// Keeps a route that stands in the store.
    pub fn learn(&self, account: AccountId, shard: ShardId) {
        self.lock().insert(account, shard);
    }

    fn lock(&self) -> MutexGuard<'_, Generations<AccountId, ShardId>> {
        self.known.lock().expect("nothing panics while it is held")
    }
}
