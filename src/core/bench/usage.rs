//! Processor time and memory of processes, as Linux tells them under `/proc`. Where it does not
//! (another system, a server on another machine) there is no figure, and none is made up.

use std::{fs, net::SocketAddr, path::Path};

use super::Stage;

/// Ticks of a second in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux (see `proc(5)`).
const TICKS: f64 = 100.0;

/// A process with all its children, by the way of a command: `serve-grpc`, `kafka`, `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// For people.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

/// Of one process.
struct Stat {
    parent: u32,
    /// Of itself and of children that ended and were waited for.
    ticks: u64,
}

impl Process {
    /// This process.
    pub fn own(name: &str) -> Self {
        Self {
            name: name.into(),
            pid: std::process::id(),
        }
    }

    /// The one on this machine that listens there; `None`: it is elsewhere, or not ours to see.
    pub fn listening(name: &str, address: SocketAddr) -> Option<Self> {
        let inode = listening_inode(address.port())?;
        let socket = format!("socket:[{inode}]");
        let pid = pids().find(|pid| {
            let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
                return false;
            };
            files
                .flatten()
                .any(|file| fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&socket)))
        })?;
        let name = name.into();
        Some(Self { name, pid })
    }

    /// Seconds of processor time so far, children included.
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub fn cpu_seconds(&self) -> f64 {
        let all: Vec<(u32, Stat)> = pids().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let mut family = vec![self.pid];
        let mut ticks = 0;
        while let Some(member) = family.pop() {
            for (pid, stat) in &all {
                if *pid == member {
                    ticks += stat.ticks;
                } else if stat.parent == member && self.pid != std::process::id() {
                    family.push(*pid);
                }
            }
        }
        ticks as f64 / TICKS
    }

    /// The most memory that it had at a time, bytes; without children, which share pages.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory that it has, bytes; without children.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }
}

/// Processor time of several processes over a while.
#[derive(Clone, Debug)]
pub struct Usage(Vec<(Process, f64)>);

impl Usage {
    /// From now on.
    pub fn begin(processes: Vec<Process>) -> Self {
        let begun = processes.into_iter().map(|process| {
            let before = process.cpu_seconds();
            (process, before)
        });
        Self(begun.collect())
    }

    /// The most memory that the process of this name had at a time; 0: there is none.
    pub fn peak_rss_bytes(&self, name: &str) -> u64 {
        let of_name = self.0.iter().find(|(process, _)| process.name == name);
        of_name.map_or(0, |(process, _)| process.peak_rss_bytes())
    }

    /// Until now: one stage a process.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |(process, before): &(Process, f64)| Stage {
            name: process.name.clone(),
            cpu_seconds: (process.cpu_seconds() - before).max(0.0),
        };
        self.0.iter().map(stage).collect()
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows has fixed places (`proc(5)`).
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

/// Of the socket that listens on a port, from `/proc/net/tcp` and `tcp6`.
fn listening_inode(port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let at = fields.get(1)?.rsplit_once(':')?.1;
                let is_it =
                    u16::from_str_radix(at, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
                is_it.then(|| fields.get(9)?.parse().ok()).flatten()
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_and_its_work_seen() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let found = Process::listening("us", address).expect("we listen");
        assert_eq!(found, Process::own("us"));
        let usage = Usage::begin(vec![found.clone()]);
        let mut sum = 0_u64;
        while usage.stages()[0].cpu_seconds < 0.02 {
            sum = (0..1_000_000).fold(sum, |sum, next| sum ^ next);
        }
        std::hint::black_box(sum);
        assert!(found.peak_rss_bytes() >= found.rss_bytes());
        assert!(found.rss_bytes() > 1 << 20);
        drop(listener);
        assert_eq!(Process::listening("us", address), None);
    }
}
