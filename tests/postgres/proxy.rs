//! Stands between a store and PostgreSQL, and lets as many bytes through as it is told: then it
//! closes the connections, or stands still as a stopped process does.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axs::core::{
    config,
    store::{Store, postgres},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What happens behind the last byte that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Cut,
    Stop,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    way: Way,
    left: usize,
    then: Then,
}

#[derive(Default)]
struct State {
    limit: Option<Limit>,
    to_server: usize,
    to_client: usize,
}

/// Ends with it.
pub struct Proxy {
    settings: config::Postgres,
    state: Arc<Mutex<State>>,
    /// Raised when the limit changes or is reached.
    changes: watch::Sender<bool>,
    accepting: AbortHandle,
}

impl Proxy {
    /// In front of the server of these settings.
    pub async fn start(settings: &config::Postgres) -> Self {
        let url = settings.url.clone().expect("the settings name a server");
        let server = url
            .split('@')
            .next_back()
            .and_then(|rest| rest.split('/').next());
        let server = server.expect("a host and a port").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let state = Arc::<Mutex<State>>::default();
        let (changes, _) = watch::channel(false);
        let (shared, told, to) = (state.clone(), changes.clone(), server.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.expect("PostgreSQL answers");
                tokio::spawn(serve(client, server, shared.clone(), told.clone()));
            }
        });
        Self {
            settings: config::Postgres {
                url: Some(url.replacen(&server, &address, 1)),
                ..settings.clone()
            },
            state,
            changes,
            accepting: accepting.abort_handle(),
        }
    }

    /// A process's store behind it.
    pub async fn store(&self) -> Store {
        let store = postgres::Store::connect(&self.settings, "axs-test").await;
        Store::Postgres(store.expect("PostgreSQL answers"))
    }

    /// From now on so many bytes pass that way.
    pub fn limit(&self, way: Way, left: usize, then: Then) {
        self.lock().limit = Some(Limit { way, left, then });
        self.changes.send_replace(false);
    }

    /// Lets everything through again, what it held back too.
    pub fn free(&self) {
        self.lock().limit = None;
        self.changes.send_replace(false);
    }

    /// Waits until the limit is reached.
    pub async fn reached(&self) {
        let mut changes = self.changes.subscribe();
        changes
            .wait_for(|reached| *reached)
            .await
            .expect("it is kept");
    }

    /// Bytes to the server and back, since the last time.
    pub fn counted(&self) -> (usize, usize) {
        let mut state = self.lock();
        let counted = (state.to_server, state.to_client);
        (state.to_server, state.to_client) = (0, 0);
        counted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Both ways, until one of them ends.
async fn serve(
    client: TcpStream,
    server: TcpStream,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<bool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Whoever ended it: both are told by the closing of the sockets.
    let _ = tokio::select! {
        ended = pump(&mut from_client, &mut to_server, Way::ToServer, &state, &changes) => ended,
        ended = pump(&mut from_server, &mut to_client, Way::ToClient, &state, &changes) => ended,
    };
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    way: Way,
    state: &Mutex<State>,
    changes: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let mut told = changes.subscribe();
            let (allowed, then) = take(state, way, rest.len());
            to.write_all(&rest[..allowed]).await?;
            rest = &rest[allowed..];
            if let Some(then) = then {
                changes.send_replace(true);
                if then == Then::Cut {
                    return Ok(());
                }
                // Until it is freed, even if nothing is left: a stopped process reads nothing more.
                told.mark_unchanged();
                let freed = told.wait_for(|reached| !*reached).await;
                freed.expect("it is kept by us");
            }
        }
    }
}

/// How many of the bytes may pass, and what happens behind them if the limit is reached.
fn take(state: &Mutex<State>, way: Way, bytes: usize) -> (usize, Option<Then>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (allowed, then) = match &mut state.limit {
        Some(limit) if limit.way == way => {
            let allowed = bytes.min(limit.left);
            limit.left -= allowed;
            (allowed, (limit.left == 0).then_some(limit.then))
        }
        _ => (bytes, None),
    };
    match way {
        Way::ToServer => state.to_server += allowed,
        Way::ToClient => state.to_client += allowed,
    }
    (allowed, then)
}
