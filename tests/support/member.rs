//! One service of a cluster: started, watched, killed, ended on Drop; its log kept for failures.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::process::{axs, free_address, get};

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that cannot tell by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Starts when ports turn out to be taken.
const STARTS_MAX: usize = 5;
/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 25;

/// Settings of a process, as environment variables.
pub type Environment = Vec<(String, String)>;

/// A service: `serve-grpc`, `consume` or `cron-outbox`.
pub struct Process {
    pub name: String,
    /// Of the gRPC API, where it has one.
    pub grpc: String,
    /// Of the admin port.
    pub admin: String,
    command: &'static str,
    environment: Environment,
    folder: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts it and waits until it is ready.
    pub async fn start(
        name: String,
        command: &'static str,
        environment: Environment,
        folder: &Path,
    ) -> Self {
        let mut process = Self {
            name,
            grpc: free_address(),
            admin: free_address(),
            command,
            environment,
            folder: folder.to_owned(),
            child: None,
        };
        for _ in 1..STARTS_MAX {
            process.spawn();
            match process.ready().await {
                Ok(()) => return process,
                // Another process was quicker to take the port.
                Err(tail) if tail.contains("in use") => {
                    process.grpc = free_address();
                    process.admin = free_address();
                }
                Err(tail) => panic!("`{}` did not become ready:\n{tail}", process.name),
            }
        }
        panic!("`{}` finds no free port", process.name);
    }

    /// Starts it again where it was, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.spawn();
        if let Err(tail) = self.ready().await {
            panic!("`{}` did not become ready again:\n{tail}", self.name);
        }
    }

    /// Starts it again, although it should refuse; its exit status and the end of its log.
    pub async fn refuses(&mut self) -> (ExitStatus, String) {
        self.spawn();
        let mut child = self.child.take().expect("it was started");
        let status = tokio::task::spawn_blocking(move || child.wait());
        let status = tokio::time::timeout(PATIENCE, status).await;
        let status = status.unwrap_or_else(|_| panic!("`{}` does not refuse", self.name));
        (
            status
                .expect("nobody aborts it")
                .expect("it can be waited for"),
            self.tail(),
        )
    }

    /// Starts it again, and waits for nothing.
    pub fn respawn(&mut self) {
        self.spawn();
    }

    /// It is started with this setting from now on.
    pub fn set(&mut self, setting: (String, String)) {
        self.environment.push(setting);
    }

    /// Its page of readiness, with the status; 0: it does not answer.
    pub async fn ready_page(&self) -> (u16, String) {
        get(&self.admin, "/readyz").await.unwrap_or_default()
    }

    /// No time for last words.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it is dead");
    }

    /// Asks it to stop; its exit status, and how long it took.
    pub async fn sigterm(&mut self) -> (ExitStatus, Duration) {
        let asked_at = Instant::now();
        signal(self.pid(), "TERM");
        let mut child = self.child.take().expect("it runs");
        let status = tokio::task::spawn_blocking(move || child.wait());
        let status = tokio::time::timeout(PATIENCE, status).await;
        let status = status.unwrap_or_else(|_| panic!("`{}` does not end", self.name));
        let status = status
            .expect("nobody aborts it")
            .expect("it can be waited for");
        (status, asked_at.elapsed())
    }

    /// Its page of metrics.
    pub async fn metrics(&self) -> String {
        let (_, page) = get(&self.admin, "/metrics").await.expect("it answers");
        page
    }

    /// Of the running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The end of what it logged.
    pub fn tail(&self) -> String {
        tail(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "`{}` runs already", self.name);
        let log = append(&self.log());
        let mut command = command(&[self.command], &self.environment, &self.folder);
        command
            .env("AXS_ADMIN__LISTEN", &self.admin)
            .env("AXS_GRPC__LISTEN", &self.grpc)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    /// `Err`: it ended, or took too long; the end of its log.
    async fn ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some((200, _)) = get(&self.admin, "/readyz").await {
                return Ok(());
            }
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("it can be asked") {
                self.child = None;
                return Err(format!("{}\nit ended: {status}", self.tail()));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(self.tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- the end of the log of `{}`:\n{}",
                self.name,
                self.tail()
            );
        }
    }
}

/// The binary with these settings, in a folder without any.
pub fn command(arguments: &[&str], environment: &Environment, folder: &Path) -> Command {
    let settings: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut command = axs(arguments, &settings);
    command
        .current_dir(folder)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    command
}

/// Looks until it is so; fails with what it saw last.
pub async fn eventually<T>(
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let until = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < until, "still so after {within:?}: {seen}"),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Sends a signal by its short name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(sent.expect("`kill` starts").success(), "{pid} is there");
}

/// The last lines of a file.
pub fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A file that grows, over restarts too.
fn append(file: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.expect("a file in the test's folder")
}
