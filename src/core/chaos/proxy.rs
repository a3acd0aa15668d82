//! A TCP proxy in front of one server, which breaks what goes through it: connections cut behind
//! any byte, answers held back and then lost, delays, and the server "away". Knows no protocol.
//!
//! Kafka is not behind one: its clients follow the addresses that the brokers advertise.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::core::workload::random::Random;

/// Bytes taken at a time: small, so that a message comes in several pieces.
const PIECE_BYTES: usize = 4 * 1024;
/// Faults that wait for bytes to hit.
const ARMED_MAX: usize = 64;
/// The server must take a connection within this.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What happens to the next bytes that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Some of them pass, up to any byte, then the connection is cut.
    Cut,
    /// Nothing passes in their direction for so long, then the connection is cut: what went the
    /// other way arrived, and nobody is told.
    HalfOpen(Duration),
    /// They pass later.
    Delay(Duration),
}

/// A running proxy. Dropping it ends every connection through it.
pub struct Proxy {
    /// Where it listens, on this machine only.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    armed: Mutex<Armed>,
    /// False: the server is away.
    up: watch::Sender<bool>,
    hits: AtomicU64,
    end: CancellationToken,
}

struct Armed {
    breaks: Vec<Break>,
    random: Random,
}

impl Proxy {
    /// Listens on a free port of this machine.
    pub async fn start(upstream: String, seed: u64) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Failed(format!("no proxy: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            upstream,
            armed: Mutex::new(Armed {
                breaks: Vec::new(),
                random: Random::new(seed),
            }),
            up: watch::Sender::new(true),
            hits: AtomicU64::new(0),
            end: CancellationToken::new(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// The next bytes on any connection are hit by this; more than a bound are not kept.
    pub fn arm(&self, what: Break) {
        let mut armed = self.shared.armed.lock().expect("no holder panics");
        if armed.breaks.len() < ARMED_MAX {
            armed.breaks.push(what);
        }
    }

    /// Cuts everything, and takes no connections until it is told otherwise.
    pub fn set_up(&self, up: bool) {
        self.shared.up.send_replace(up);
    }

    /// Nothing is broken from here on.
    pub fn heal(&self) {
        let mut armed = self.shared.armed.lock().expect("no holder panics");
        armed.breaks.clear();
        drop(armed);
        self.set_up(true);
    }

    /// Faults that hit something.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.end.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file handles, for example: some will be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if *shared.up.borrow() {
            tokio::spawn(carry(client, Arc::clone(&shared)));
        }
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let connecting = TcpStream::connect(&shared.upstream);
    let Ok(Ok(server)) = tokio::time::timeout(CONNECT_MAX, connecting).await else {
        return;
    };
    // Without an error there is nothing to do about one.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let mut up = shared.up.subscribe();
    tokio::select! {
        () = pump(client_reads, server_writes, &shared) => {}
        () = pump(server_reads, client_writes, &shared) => {}
        _ = up.wait_for(|up| !up) => {}
        () = shared.end.cancelled() => {}
    }
}

/// Carries one direction until it ends, which ends the other one too.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        match shared.next_break(length) {
            None => {}
            Some((Break::Delay(delay), _)) => tokio::time::sleep(delay).await,
            Some((Break::HalfOpen(silence), _)) => {
                tokio::time::sleep(silence).await;
                return;
            }
            Some((Break::Cut, passes)) => {
                // Cut or not, the connection ends here.
                let _ = to.write_all(&piece[..passes]).await;
                let _ = to.flush().await;
                return;
            }
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// What hits a piece of this length, and how much of it passes a cut.
    fn next_break(&self, length: usize) -> Option<(Break, usize)> {
        let mut armed = self.armed.lock().expect("no holder panics");
        let what = armed.breaks.pop()?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        let passes = armed.random.between(0, length as u64) as usize;
        Some((what, passes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    let _ = tokio::io::copy(&mut reads, &mut writes).await;
                });
            }
        });
        address
    }

    async fn sent_back(proxy: &Proxy, bytes: usize) -> usize {
        let mut stream = TcpStream::connect(proxy.address).await.expect("a proxy");
        let _ = stream.write_all(&vec![7; bytes]).await;
        let mut back = Vec::new();
        let read = async {
            let mut piece = [0; 1024];
            while back.len() < bytes {
                match stream.read(&mut piece).await {
                    Ok(length @ 1..) => back.extend_from_slice(&piece[..length]),
                    _ => break,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
        back.len()
    }

    #[tokio::test]
    async fn bytes_pass_until_a_cut_and_connections_until_it_is_away() {
        let proxy = Proxy::start(echo().await, 3).await.expect("it starts");
        assert_eq!(sent_back(&proxy, 100_000).await, 100_000);
        proxy.arm(Break::Cut);
        let back = sent_back(&proxy, 100_000).await;
        assert!(back < 100_000, "{back} bytes passed a cut");
        assert_eq!(proxy.hits(), 1);
        assert_eq!(sent_back(&proxy, 10).await, 10, "the next one is whole");
        proxy.arm(Break::HalfOpen(Duration::from_millis(20)));
        assert_eq!(sent_back(&proxy, 10).await, 0, "no answer ever comes");
        proxy.set_up(false);
        assert_eq!(sent_back(&proxy, 10).await, 0);
        proxy.heal();
        assert_eq!(sent_back(&proxy, 10).await, 10);
    }
}
