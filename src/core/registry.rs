//! The asset registry of one process: what was last read, and read again on an unknown code, at most
//! once a second. It never adds an asset.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use crate::core::{
    assets::Assets,
    store::{self, Store},
};

/// The store is asked again at most this often.
pub const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The registry of this process. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    assets: RwLock<Arc<Assets>>,
    /// When the store was asked last; held while it is asked, so that many callers ask once.
    read_at: Mutex<Instant>,
}

impl Registry {
    /// Reads the registry for the first time.
    pub async fn load(store: Store) -> Result<Self, store::Error> {
        let assets = store.assets().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                assets: RwLock::new(Arc::new(assets)),
                read_at: Mutex::new(Instant::now()),
            }),
        })
    }

    /// As it was last read.
    pub fn assets(&self) -> Arc<Assets> {
        self.inner
            .assets
            .read()
            .expect("nothing panics while it is held")
            .clone()
    }

    /// Reads it again, unless that was done less than [`REFRESH_INTERVAL_MIN`] ago. A store that
    /// cannot be read leaves what was there.
    pub async fn refresh(&self) -> Arc<Assets> {
        let mut read_at = self.inner.read_at.lock().await;
        if read_at.elapsed() >= REFRESH_INTERVAL_MIN {
            match self.inner.store.assets().await {
                Ok(assets) => {
                    *self
                        .inner
                        .assets
                        .write()
                        .expect("nothing panics while it is held") = Arc::new(assets);
                }
                Err(error) => tracing::warn!(%error, "the asset registry could not be read again"),
            }
            *read_at = Instant::now();
        }
        self.assets()
    }
}
