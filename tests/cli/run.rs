//! Runs the built binary with nothing of the machine's settings around it.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The binary in an empty folder with an environment of its own, so that nothing of the machine's
/// settings reaches it.
pub struct Axs {
    pub folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

/// How it ended and what it said.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Axs {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            variables: Vec::new(),
        }
    }

    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), content).expect("a file");
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_axs"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without reading all of it.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran::of(child.wait_with_output().expect("it ends"))
    }
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub fn json_error(&self) -> Value {
        let line = self.err.lines().last().expect("a line on stderr");
        serde_json::from_str::<Value>(line).expect("JSON on stderr")["error"].clone()
    }

    #[track_caller]
    pub fn is_plain(&self) {
        assert!(
            !self.out.contains('\x1b'),
            "escapes on stdout: {:?}",
            self.out
        );
        assert!(
            !self.err.contains('\x1b'),
            "escapes on stderr: {:?}",
            self.err
        );
    }
}

/// A port that nobody listens on: it was given to us and closed again.
pub fn dead_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
