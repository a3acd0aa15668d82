//! Servers of a test's own, which it may kill: `scripts/stack` in a folder of its own.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    member::{signal, tail},
    support::{required, unique},
};

/// Stopped and deleted with it.
pub struct Stack {
    folder: PathBuf,
    services: &'static [&'static str],
    variables: BTreeMap<String, String>,
}

impl Stack {
    /// Starts these services: `postgres`, `kafka`, `redis`.
    pub fn start(services: &'static [&'static str]) -> Self {
        let folder = PathBuf::from(required("AXS_TEST_STACKS")).join(unique("own"));
        let mut stack = Self {
            folder,
            services,
            variables: BTreeMap::new(),
        };
        stack.run("up", services);
        let text = stack.run("env", &[]);
        stack.variables = text
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        stack
    }

    /// The address of a service: ours if it is our own, else the shared one.
    pub fn address(stack: Option<&Self>, variable: &str) -> String {
        let own = stack.and_then(|stack| stack.variables.get(variable));
        own.cloned().unwrap_or_else(|| required(variable))
    }

    /// Where it lives.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// No time for last words.
    pub fn kill9(&self, service: &str) {
        let file = self.folder.join(format!("{service}.pid"));
        let pid = std::fs::read_to_string(file).expect("a service that was started");
        signal(pid.trim().parse().expect("a process id"), "KILL");
    }

    /// Brings it back with the same address and data.
    pub fn up(&self, service: &'static str) {
        self.run("up", &[service]);
    }

    /// Stops it in order.
    pub fn down(&self, service: &'static str) {
        self.run("down", &[service]);
    }

    /// Keeps the data of a service that was stopped.
    pub fn copy_aside(&self, service: &str) {
        let folder = self.folder.join(service);
        copy(&folder, &self.folder.join(format!("{service}-copy")));
    }

    /// Takes a base backup of a running PostgreSQL, in the place of a copy.
    pub fn back_up_postgres(&self, url: &str) {
        let (data, copy) = (
            self.folder.join("postgres"),
            self.folder.join("postgres-copy"),
        );
        std::fs::create_dir(&copy).expect("a folder for the backup");
        let script = r#"pg_basebackup --dbname "$0" --pgdata "$1" --wal-method stream --checkpoint fast &&
            chown --recursive --reference "$2" "$3""#;
        let backed_up = Command::new("sh")
            .args(["-c", script, url])
            .args([copy.join("data"), data, copy])
            .status();
        assert!(backed_up.expect("`sh` starts").success(), "a base backup");
    }

    /// Loses all that a service has, which was killed.
    pub fn lose(&self, service: &str) {
        std::fs::remove_dir_all(self.folder.join(service)).expect("its data goes");
    }

    /// Puts the copy in the place of the data of a service that was stopped.
    pub fn bring_copy_back(&self, service: &str) {
        let folder = self.folder.join(service);
        std::fs::remove_dir_all(&folder).expect("the later data goes");
        copy(&self.folder.join(format!("{service}-copy")), &folder);
    }

    fn run(&self, what: &str, services: &[&str]) -> String {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack"))
            .arg(what)
            .arg("--dir")
            .arg(&self.folder)
            .args(services)
            .stdin(Stdio::null())
            .output()
            .expect("scripts/stack starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/stack {what}: {error}");
        String::from_utf8(output.stdout).expect("addresses are text")
    }
}

/// With owners, as a backup keeps them.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("`cp` starts").success(), "{}", from.display());
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in self.services {
                let log = self.folder.join(format!("{service}.log"));
                eprintln!("--- the end of the log of `{service}`:\n{}", tail(&log));
            }
        }
        // A test that failed must say why itself: nothing is asserted here.
        let _ = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack"))
            .args(["down", "--purge", "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
