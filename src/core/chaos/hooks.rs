//! Commands of the operator's that take a server down and bring it back: only the operator knows
//! how. Run by `sh -c`, one at a time per server, with a limit in time.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use super::Error;

/// A hook that runs longer is killed.
const HOOK_MAX: Duration = Duration::from_secs(120);
/// Between two looks whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A server that AXS depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// Kafka.
    Kafka,
}

impl Server {
    /// As in settings and hooks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

/// What a hook does to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Takes it down, as roughly as is wanted.
    Down,
    /// Brings it back.
    Up,
    /// Both.
    Restart,
}

/// `postgres-down=COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Of which server.
    pub server: Server,
    /// What it does.
    pub act: Act,
    /// For `sh -c`.
    pub command: String,
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a hook is SERVER-ACT=COMMAND, SERVER postgres, redis or kafka, ACT down, up or \
                    restart";
        let (name, command) = text.split_once('=').ok_or(form)?;
        let (server, act) = name.split_once('-').ok_or(form)?;
        let server = match server {
            "postgres" => Server::Postgres,
            "redis" => Server::Redis,
            "kafka" => Server::Kafka,
            _ => return Err(form.into()),
        };
        let act = match act {
            "down" => Act::Down,
            "up" => Act::Up,
            "restart" => Act::Restart,
            _ => return Err(form.into()),
        };
        if command.trim().is_empty() {
            return Err(form.into());
        }
        let command = command.to_owned();
        Ok(Self {
            server,
            act,
            command,
        })
    }
}

/// All hooks of a run.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    commands: BTreeMap<(Server, Act), String>,
    log: PathBuf,
}

impl Hooks {
    /// What they print goes to a file in the folder.
    pub fn new(hooks: &[Hook], folder: &Path) -> Self {
        let command = |hook: &Hook| ((hook.server, hook.act), hook.command.clone());
        Self {
            commands: hooks.iter().map(command).collect(),
            log: folder.join("hooks.log"),
        }
    }

    /// Whether the server can be taken down and brought back.
    pub fn can_restart(&self, server: Server) -> bool {
        self.commands.contains_key(&(server, Act::Restart)) || self.can_stay_down(server)
    }

    /// Whether the server can be left down for a while.
    pub fn can_stay_down(&self, server: Server) -> bool {
        let has = |act| self.commands.contains_key(&(server, act));
        has(Act::Down) && has(Act::Up)
    }

    /// Takes the server down for about so long, and brings it back.
    pub async fn restart(&self, server: Server, down_for: Duration) -> Result<(), Error> {
        if !self.can_stay_down(server) {
            return self.run(server, Act::Restart).await;
        }
        self.run(server, Act::Down).await?;
        tokio::time::sleep(down_for).await;
        self.run(server, Act::Up).await
    }

    /// Runs one, if there is one.
    pub async fn run(&self, server: Server, act: Act) -> Result<(), Error> {
        let Some(command) = self.commands.get(&(server, act)).cloned() else {
            return Ok(());
        };
        let (log, shown) = (self.log.clone(), command.clone());
        let ran = tokio::task::spawn_blocking(move || run(&command, &log)).await;
        let ended = ran.unwrap_or_else(|error| Err(error.to_string()));
        ended.map_err(|why| {
            Error::Failed(format!(
                "the hook `{shown}` failed: {why}\nhint: what it printed is in {}",
                self.log.display()
            ))
        })
    }
}

fn run(command: &str, log: &Path) -> Result<(), String> {
    let log = OpenOptions::new().create(true).append(true).open(log);
    let log = log.map_err(|error| error.to_string())?;
    let error = log.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(error)
        .spawn()
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if started.elapsed() < HOOK_MAX => std::thread::sleep(LOOK_INTERVAL),
            Ok(None) => {
                let _ = (child.kill(), child.wait());
                return Err(format!("it did not end within {HOOK_MAX:?}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_parsed_or_refused() {
        let hook: Hook = "kafka-down=kill -9 $(cat a=b)".parse().expect("a hook");
        assert_eq!((hook.server, hook.act), (Server::Kafka, Act::Down));
        assert_eq!(hook.command, "kill -9 $(cat a=b)");
        for bad in [
            "kafka",
            "kafka-down",
            "mysql-down=x",
            "redis-off=x",
            "redis-up= ",
        ] {
            assert!(bad.parse::<Hook>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_with_half_of_its_hooks_cannot_stay_down() {
        let folder = std::env::temp_dir();
        let hooks = |texts: &[&str]| {
            let hooks: Vec<Hook> = texts.iter().map(|it| it.parse().expect("a hook")).collect();
            Hooks::new(&hooks, &folder)
        };
        let half = hooks(&["redis-down=true", "postgres-restart=false"]);
        assert!(!half.can_restart(Server::Redis));
        assert!(half.can_restart(Server::Postgres) && !half.can_stay_down(Server::Postgres));
        let error = half.restart(Server::Postgres, Duration::ZERO).await;
        assert!(error.expect_err("it fails").to_string().contains("`false`"));
        let whole = hooks(&["redis-down=true", "redis-up=true"]);
        assert!(whole.restart(Server::Redis, Duration::ZERO).await.is_ok());
    }
}
