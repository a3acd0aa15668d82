//! One run of `axs chaos --json`, and what it reports.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::{process::axs, stack::Stack, support::required};

/// One at a time: each is a dozen busy processes.
static TURN: Mutex<()> = Mutex::new(());

/// Servers that the run may restart.
pub fn own_servers() -> Stack {
    Stack::start(&["postgres", "kafka", "redis"])
}

/// As roughly as a machine that loses its power, but for the operating system's caches.
pub fn hooks(stack: &Stack) -> Vec<String> {
    let folder = stack.folder().display();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
    let servers = [("postgres", "QUIT"), ("kafka", "KILL"), ("redis", "KILL")];
    let hooks = servers.iter().flat_map(|(server, signal)| {
        let kill = format!("kill -s {signal} $(cat '{folder}/{server}.pid')");
        let up = format!("'{script}' up --dir '{folder}' {server}");
        [format!("{server}-down={kill}"), format!("{server}-up={up}")]
    });
    hooks.collect()
}

/// A run under way. Killed when dropped, and its services with it.
pub struct Run {
    child: Child,
    _turn: MutexGuard<'static, ()>,
}

/// What it printed.
#[derive(Debug)]
pub struct Report {
    /// The document.
    pub document: Value,
    /// Its exit code.
    pub code: Option<i32>,
}

impl Run {
    /// Starts it on servers of its own, or on the shared ones.
    pub fn start(arguments: &[&str], stack: Option<&Stack>) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = std::env::var("AXS_TEST_SEED").unwrap_or_else(|_| {
            let random = getrandom::u32().expect("the system has random numbers");
            random.to_string()
        });
        println!("axs chaos {arguments:?} --seed {seed}");
        let address = |name| Stack::address(stack, name);
        let settings = [
            ("AXS_POSTGRES__URL", address("AXS_TEST_POSTGRES_URL")),
            ("AXS_KAFKA__BROKERS", address("AXS_TEST_KAFKA_BROKERS")),
            ("AXS_REDIS__URL", address("AXS_TEST_REDIS_URL")),
            // Hooks need their programs, logs a place.
            ("PATH", required("PATH")),
            ("HOME", std::env::var("HOME").unwrap_or_default()),
        ];
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut command = axs(&["chaos"], &settings);
        let child = command
            .args(arguments)
            .args(["--seed", &seed, "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self { child, _turn: turn }
    }

    /// Its first line of data, once it has ended.
    pub fn finish(mut self) -> Report {
        let mut out = BufReader::new(self.child.stdout.take().expect("a pipe"));
        let (mut line, mut rest) = (String::new(), String::new());
        out.read_line(&mut line).expect("UTF-8");
        out.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(rest, "", "one document");
        let status = self.child.wait().expect("it is ours");
        Report {
            document: serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("{status}, {line:?}: {error}")),
            code: status.code(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// Every check, and the exit code.
    #[track_caller]
    pub fn holds(&self) {
        let checks = self.document["checks"].as_array().expect("checks");
        let broken: Vec<_> = checks.iter().filter(|it| it["holds"] != true).collect();
        assert!(broken.is_empty(), "{broken:#?}\n{self:?}");
        assert!(checks.len() > 15, "{self:?}");
        assert_eq!(self.document["schema"], "axs.chaos/v1");
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    /// Whether a law holds.
    pub fn law_holds(&self, law: &str) -> bool {
        let checks = self.document["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["law"] == law);
        check.unwrap_or_else(|| panic!("no check {law}"))["holds"] == true
    }

    /// How often something was done.
    pub fn faults(&self, what: &str) -> u64 {
        let faults = self.document["faults"].as_array().expect("faults");
        let fault = faults.iter().find(|fault| fault["fault"] == what);
        fault.map_or(0, |fault| number(&fault["count"]))
    }

    /// A figure that is a number.
    pub fn number(&self, name: &str) -> u64 {
        number(&self.document[name])
    }

    /// A figure.
    pub fn text(&self, name: &str) -> &str {
        self.document[name].as_str().expect("figures are text")
    }
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().expect("numbers are text");
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}
