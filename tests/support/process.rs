//! The built binary as a process of its own: services that are killed and started again, and
//! `axs submit` against them.

use std::{
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use super::stream::Report;

/// A process that does not say it is there by then is not coming.
const START_MAX: Duration = Duration::from_secs(60);
/// A line is undecided after so long, whatever was killed or away meanwhile.
const LINE_MAX: &str = "120s";
/// A process that was told to end has this long.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The binary with these settings and no others.
pub fn axs(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axs"));
    command
        .args(arguments)
        .env_clear()
        .envs(settings.iter().copied());
    command
}

/// An address whose port is free and below those that outgoing connections take, so that a process
/// can be started on it again.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 97).expect("below 97");
    for _ in 0..10_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (spread * 101 + step * 7) % 11_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    }
    panic!("no free port");
}

/// A running service. Killed when dropped.
pub struct Service {
    child: Child,
}

impl Service {
    /// Starts it; its standard output may be read.
    pub fn start(command: &mut Command) -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let out = child.stdout.take().expect("a pipe");
        (Self { child }, BufReader::new(out).lines())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// SIGTERM, and its exit.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(started.elapsed() < STOP_MAX, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until an admin port says that its process is ready.
pub async fn ready(admin: &str) {
    let started = Instant::now();
    while get(admin, "/readyz")
        .await
        .is_none_or(|(status, _)| status != 200)
    {
        assert!(started.elapsed() < START_MAX, "{admin} is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status and body of a page of an admin port; `None`: nobody answers.
pub async fn get(admin: &str, path: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(admin).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: axs\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n")?.1.to_owned();
    Some((status, body))
}

/// A running `axs submit --json`.
pub struct Submit {
    service: Service,
    lines: Lines<BufReader<ChildStdout>>,
    /// What was answered so far.
    pub reports: Vec<Report>,
}

impl Submit {
    /// Starts to send a file.
    pub fn start(server: &str, file: &Path, wait: &str) -> Self {
        let file = file.to_str().expect("UTF-8");
        let arguments = [
            "submit",
            "--json",
            "-q",
            "--file",
            file,
            "--wait",
            wait,
            "--server",
            server,
            "--timeout",
            LINE_MAX,
        ];
        let (service, lines) = Service::start(&mut axs(&arguments, &[]));
        Self {
            service,
            lines,
            reports: Vec::new(),
        }
    }

    /// Waits until so many lines are answered.
    pub fn answered(&mut self, count: usize) {
        while self.reports.len() < count {
            assert!(
                self.next(),
                "submit ended after {} lines",
                self.reports.len()
            );
        }
    }

    /// Waits for its end: every line must be answered for good.
    pub fn finish(mut self) -> Vec<Report> {
        while self.next() {}
        let status = self.service.child.wait().expect("it is ours");
        assert!(status.success(), "submit ended with {status}");
        self.reports
    }

    fn next(&mut self) -> bool {
        let Some(line) = self.lines.next() else {
            return false;
        };
        let line = line.expect("UTF-8");
        let report = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        self.reports.push(report);
        true
    }
}
