//! The services of a run: processes of the same binary, started, killed, stopped and asked how they
//! are. Only ever signals what it started, by its process id, while it is known to be ours.

use std::{
    fs::{File, OpenOptions},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Error;

/// A process that is not ready by then is not coming.
const READY_MAX: Duration = Duration::from_secs(60);
/// Between two looks at something that cannot tell by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A server that it needs may be away: it is started again after so long.
const START_PAUSE: Duration = Duration::from_millis(250);
/// A page of an admin port must come within this.
const PAGE_MAX: Duration = Duration::from_secs(1);
/// Ports are below those that outgoing connections take, so that a process can come back to its.
const PORTS: std::ops::Range<u16> = 16_000..32_000;
/// Lines of a log that are shown when a process ended.
const TAIL_LINES: usize = 8;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The API.
    ServeGrpc,
    /// Leads shards.
    Consume,
    /// Sends again.
    CronOutbox,
}

impl Role {
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServeGrpc => "serve-grpc",
            Self::Consume => "consume",
            Self::CronOutbox => "cron-outbox",
        }
    }
}

/// What every service of a run is started from.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Settings.
    pub environment: Vec<(String, String)>,
    /// Where it runs, and its log is.
    pub folder: PathBuf,
}

/// One service. Killed when dropped.
pub struct Service {
    /// Such as `consume-1`.
    pub name: String,
    /// Which.
    pub role: Role,
    /// Of the gRPC API, where it has one.
    pub grpc: SocketAddr,
    admin: SocketAddr,
    program: Program,
    child: Option<Child>,
    /// It was ready once since it was started: an exit would be its own.
    was_ready: bool,
}

impl Service {
    /// Not started yet; its ports are free.
    pub fn new(role: Role, number: usize, program: Program) -> Result<Self, Error> {
        Ok(Self {
            name: format!("{}-{number}", role.name()),
            role,
            grpc: free_address()?,
            admin: free_address()?,
            program,
            child: None,
            was_ready: false,
        })
    }

    /// Starts it and waits until it is ready; again, while a server that it needs is away.
    pub async fn bring_up(&mut self) -> Result<(), Error> {
        let until = Instant::now() + READY_MAX;
        while Instant::now() < until {
            if self.child.is_none() {
                self.spawn()?;
            }
            if let Some((200, _)) = get(self.admin, "/readyz").await {
                self.was_ready = true;
                return Ok(());
            }
            if self.exited()?.is_some() {
                tokio::time::sleep(START_PAUSE).await;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(Error::Failed(format!(
            "`{}` is not ready after {READY_MAX:?}; the end of its log:\n{}",
            self.name,
            self.tail()
        )))
    }

    /// How it ended, if it did by itself after it had been ready.
    pub fn ended_by_itself(&mut self) -> Result<Option<String>, Error> {
        let was_ready = self.was_ready;
        let Some(status) = self.exited()? else {
            return Ok(None);
        };
        Ok(was_ready.then(|| format!("{} ended: {status}; its log: {}", self.name, self.tail())))
    }

    /// No time for last words.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that ended before is as dead.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.was_ready = false;
    }

    /// Sends a signal, by its short name; false: it does not run.
    pub fn signal(&mut self, name: &str) -> Result<bool, Error> {
        // Not waited for yet, even if it ended: the id cannot be another process's.
        let Some(child) = &self.child else {
            return Ok(false);
        };
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", child.id())])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let sent = sent.map_err(|error| Error::Failed(format!("`sh` does not start: {error}")))?;
        Ok(sent.success())
    }

    /// Asks it to stop; how long that took, `None`: it did not end within the limit and is killed.
    pub async fn terminate(&mut self, limit: Duration) -> Result<Option<(Duration, bool)>, Error> {
        let asked_at = Instant::now();
        if !self.signal("TERM")? {
            return Ok(None);
        }
        // What ends from here on was told to.
        self.was_ready = false;
        while asked_at.elapsed() < limit {
            if let Some(status) = self.exited()? {
                return Ok(Some((asked_at.elapsed(), status.success())));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.kill();
        Ok(None)
    }

    /// A page of its admin port, such as `/metrics`; `None`: it does not answer.
    pub async fn page(&self, path: &str) -> Option<String> {
        let (status, body) = get(self.admin, path).await?;
        (status == 200).then_some(body)
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its memory in KiB, where the system tells.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Where its log is, over all its starts.
    pub fn log(&self) -> PathBuf {
        self.program.folder.join(format!("{}.log", self.name))
    }

    fn tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Its status, once it has ended; then it is no longer there.
    fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child
            .try_wait()
            .map_err(|error| Error::Failed(format!("`{}`: {error}", self.name)))?;
        if status.is_some() {
            self.child = None;
            self.was_ready = false;
        }
        Ok(status)
    }

    fn spawn(&mut self) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Failed(format!("`{}`: {error}", self.name));
        let log = append(&self.log()).map_err(failed)?;
        let mut command = Command::new(&self.program.path);
        command
            .args([self.role.name(), "--log-format", "json"])
            .current_dir(&self.program.folder)
            .envs(self.program.environment.iter().cloned())
            .env("AXS_ADMIN__LISTEN", self.admin.to_string())
            .env("AXS_GRPC__LISTEN", self.grpc.to_string())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        // A process group of its own: what interrupts us at a terminal is ours to pass on.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn append(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(file)
}

/// A free port of this machine; another one each time, although nobody holds it until its process
/// is there.
fn free_address() -> Result<SocketAddr, Error> {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let count = u64::from(PORTS.end - PORTS.start);
    let random = getrandom::u64().map_err(|error| Error::Failed(error.to_string()))?;
    let next = NEXT.get_or_init(|| AtomicU64::new(random % count));
    for _ in 0..count {
        let step = next.fetch_add(1, Ordering::Relaxed) % count;
        let port = PORTS.start + u16::try_from(step).expect("below the count of ports");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener
                .local_addr()
                .map_err(|error| Error::Failed(error.to_string()));
        }
    }
    Err(Error::Failed("there is no free port".into()))
}

/// Status and body of a page of an admin port; `None`: nobody answers.
async fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let page = async {
        let mut stream = tokio::net::TcpStream::connect(admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: axs\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    };
    tokio::time::timeout(PAGE_MAX, page).await.ok()?
}
