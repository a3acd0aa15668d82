//! Servers of the tests' own: dead, standing still, or a cluster of one.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axs::core::{
    config,
    types::{AccountId, Epoch, ShardId},
};

use crate::fixture::{Fixture, PATIENCE, SHARD, plain, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_costs_a_timeout_at_most_and_heals_by_itself() {
    const TIMEOUT: Duration = Duration::from_millis(250);
    // What a busy machine may add.
    const GRACE: Duration = Duration::from_millis(500);
    let mut server = Server::start(&[]);
    server.kill();
    let on = Fixture::with(config::Redis {
        url: Some(server.url()),
        timeout: TIMEOUT,
        ..config::Redis::default()
    });
    let fails = async |what: &str| {
        for _ in 0..20 {
            let started = Instant::now();
            let many: Vec<_> = (1..2_000).map(|account| snapshot(account, 1, 1)).collect();
            on.cache
                .write(SHARD, Epoch(1), None, &many)
                .await
                .expect_err(what);
            assert!(
                started.elapsed() < TIMEOUT + GRACE,
                "{what}: {:?}",
                started.elapsed()
            );
        }
        on.cache
            .read(&[(SHARD, AccountId(1))])
            .await
            .expect_err(what);
        on.cache
            .gate_enter(SHARD, "a", PATIENCE)
            .await
            .expect_err(what);
        on.cache.ping().await.expect_err(what);
    };
    let heals = async |what: &str| {
        let started = Instant::now();
        while on
            .cache
            .write(SHARD, Epoch(1), None, &[snapshot(1, 1, 1)])
            .await
            .is_err()
        {
            assert!(started.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(on.read(1).await, Some(snapshot(1, 1, 1)), "{what}");
    };
    fails("it was never there").await;
    server.restart();
    heals("it comes").await;
    server.kill();
    fails("it died").await;
    server.restart();
    heals("it is there again, and empty").await;
    server.signal("STOP");
    fails("it stands still").await;
    server.signal("CONT");
    heals("it goes on").await;
}

#[tokio::test]
async fn a_cluster_is_served_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("text");
    let bus = free_port().to_string();
    let server = Server::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--dir",
        folder,
    ]);
    let mut node = plain(&server.url()).expect("it answers");
    ::redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16_383)
        .exec(&mut node)
        .expect("slots");
    let started = Instant::now();
    loop {
        let info: String = ::redis::cmd("CLUSTER")
            .arg("INFO")
            .query(&mut node)
            .expect("info");
        if info.contains("cluster_state:ok") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{info}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let on = Fixture::with(config::Redis {
        url: Some(server.url()),
        cluster: true,
        timeout: Duration::from_secs(5),
        ..config::Redis::default()
    });
    // Shards lie in different slots; the accounts of one lie together.
    let mut keys = Vec::new();
    for shard in (0..20).map(ShardId) {
        let snapshots: Vec<_> = (1..600).map(|account| snapshot(account, 1, 9)).collect();
        for newer in [snapshots.len(), 0] {
            let written = on.cache.write(shard, Epoch(1), None, &snapshots).await;
            assert_eq!(written.map(|written| written.newer), Ok(newer));
        }
        assert_eq!(on.cache.gate_enter(shard, "a", PATIENCE).await, Ok(true));
        assert_eq!(on.cache.gate_enter(shard, "b", PATIENCE).await, Ok(false));
        keys.extend([(shard, AccountId(5)), (shard, AccountId(600))]);
    }
    let found = on.cache.read(&keys).await.expect("read");
    for pair in found.chunks(2) {
        assert_eq!(pair, [Some(snapshot(5, 1, 9)), None]);
    }
    ::redis::cmd("SCRIPT")
        .arg("FLUSH")
        .exec(&mut node)
        .expect("flushed");
    assert_eq!(on.write(1, &[snapshot(1, 1, 10)]).await, 1);
    on.cache.ping().await.expect("it answers");
}

/// A Redis of a test's own, that may be killed.
pub struct Server {
    port: u16,
    arguments: Vec<String>,
    process: Child,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let process = Self::launch(port, &arguments);
        Self {
            port,
            arguments,
            process,
        }
    }

    fn launch(port: u16, arguments: &[String]) -> Child {
        let port_text = port.to_string();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port_text,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`redis-server` starts: run `scripts/install test` if it is missing");
        let started = Instant::now();
        while plain(&format!("redis://127.0.0.1:{port}")).is_err() {
            assert!(started.elapsed() < PATIENCE, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    fn restart(&mut self) {
        self.process = Self::launch(self.port, &self.arguments);
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("`kill` runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("bound").port()
}
