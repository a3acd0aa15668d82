//! A Prometheus of a test's own: it scrapes the processes of a cluster with the rules that AXS ships,
//! in which only durations and thresholds are shortened, so that no test waits for minutes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    cluster::Cluster,
    member::{PATIENCE, eventually, tail},
    process::free_address,
};

/// The rules as shipped.
const RULES: &str = include_str!("../../../deploy/alerts.yaml");
/// Scrapes and evaluations are so far apart; shipped are 15 s.
const INTERVAL: &str = "500ms";
/// A minute of the rules takes a second here, within these bounds.
const SHORTER: u64 = 60;
const FOR_SECONDS: [u64; 2] = [1, 3];
/// Of `increase` and its like: a few scrapes at least.
const WINDOW_SECONDS: [u64; 2] = [4, 12];
/// Thresholds that a test does not wait for: alert, as shipped, here.
const THRESHOLDS: [(&str, &str, &str); 5] = [
    ("AxsFlushStalled", "seconds > 30 ", "seconds > 3 "),
    ("AxsPendingOld", "> 30", "> 3"),
    ("AxsGapsStay", "> 300", "> 3"),
    // Changes in a window that is shorter too.
    ("AxsLeaderChanges", "> 10", "> 2"),
    ("AxsShardLagging", "> 10000", "> 1000"),
];

/// Labels of an alert or a series.
pub type Labels = BTreeMap<String, String>;

/// Killed with the test, its data deleted.
pub struct Prometheus {
    address: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes every process that the cluster has now, wherever it is killed and started again.
    pub async fn start(cluster: &Cluster, alertmanager: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file in a fresh folder");
        };
        write("alerts.yaml", &shortened(RULES));
        write("prometheus.yaml", &settings(cluster, alertmanager));
        let address = free_address();
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"])
            .arg("--log.level=warn")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.expect("`prometheus` starts: `scripts/install test` installs it");
        let prometheus = Self {
            address,
            child,
            folder,
        };
        eventually(PATIENCE, async || {
            let answer = get(&prometheus.address, "/-/ready").await;
            match answer.is_some_and(|(status, _)| status == 200) {
                true => Ok(()),
                false => Err(format!("not ready: {}", prometheus.log())),
            }
        })
        .await;
        prometheus
    }

    /// Waits until an alert fires with these labels; all of its labels and annotations.
    pub async fn fires(&self, alert: &str, labels: &[(&str, &str)]) -> Value {
        eventually(PATIENCE, async || {
            let alerts = self.alerts().await;
            let found = alerts.iter().find(|found| {
                let has = |name: &str, value: &str| found["labels"][name] == value;
                has("alertname", alert)
                    && found["state"] == "firing"
                    && labels.iter().all(|(name, value)| has(name, value))
            });
            found
                .cloned()
                .ok_or_else(|| format!("{alert} {labels:?} does not fire, but: {}", names(&alerts)))
        })
        .await
    }

    /// Waits until none of these is active, firing or about to.
    pub async fn clears(&self, cleared: &[&str]) {
        eventually(PATIENCE, async || {
            let alerts = self.alerts().await;
            let is_active = |alert: &Value| {
                cleared.contains(&alert["labels"]["alertname"].as_str().unwrap_or(""))
            };
            match alerts.iter().any(is_active) {
                true => Err(format!("active: {}", names(&alerts))),
                false => Ok(()),
            }
        })
        .await;
    }

    /// Waits until nothing has fired for some seconds, in which everything was scraped.
    pub async fn is_quiet(&self) {
        eventually(PATIENCE, async || {
            let scrapes = self.query("min(count_over_time(axs_ready[3s]))").await;
            let fired = self
                .query(r#"count_over_time(ALERTS{alertstate="firing"}[3s])"#)
                .await;
            match scrapes.first() {
                Some((_, scrapes)) if *scrapes >= 5.0 && fired.is_empty() => Ok(()),
                _ => Err(format!("{scrapes:?} scrapes, fired: {fired:?}")),
            }
        })
        .await;
    }

    /// What an expression gives now.
    pub async fn query(&self, expression: &str) -> Vec<(Labels, f64)> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = self.ask(&path).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector");
        let sample = |sample: &Value| {
            let labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
            let value = sample["value"][1].as_str().expect("a number as text");
            (labels, value.parse().expect("a number"))
        };
        result.iter().map(sample).collect()
    }

    /// Pending and firing.
    async fn alerts(&self) -> Vec<Value> {
        let answer = self.ask("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array();
        alerts
            .unwrap_or_else(|| panic!("no alerts in {answer}"))
            .clone()
    }

    async fn ask(&self, path: &str) -> Value {
        let (_, body) = get(&self.address, path)
            .await
            .unwrap_or_else(|| panic!("Prometheus does not answer: {}", self.log()));
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    fn log(&self) -> String {
        tail(&self.folder.path().join("log"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names and states, for a test that fails.
fn names(alerts: &[Value]) -> String {
    let mut text = String::new();
    for alert in alerts {
        let (state, labels) = (&alert["state"], &alert["labels"]);
        write!(text, "{state} {labels}; ").expect("a String takes everything");
    }
    text
}

/// Every process, under the name of its job; as `deploy/prometheus.yaml` says it.
fn settings(cluster: &Cluster, alertmanager: Option<&str>) -> String {
    let mut text = format!(
        "global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, \
         evaluation_interval: {INTERVAL}}}\nrule_files: [alerts.yaml]\nscrape_configs:\n"
    );
    for (job, processes) in [
        ("axs-serve-grpc", &cluster.servers),
        ("axs-consume", &cluster.consumers),
        ("axs-cron-outbox", &cluster.outboxes),
    ] {
        let targets: Vec<_> = processes
            .iter()
            .map(|process| process.admin.as_str())
            .collect();
        let line = format!("- {{job_name: {job}, static_configs: [{{targets: {targets:?}}}]}}\n");
        text.push_str(&line);
    }
    if let Some(address) = alertmanager {
        let line = format!(
            "alerting: {{alertmanagers: [{{static_configs: [{{targets: [{address:?}]}}]}}]}}\n"
        );
        text.push_str(&line);
    }
    text
}

/// The rules with shorter durations and lower thresholds, and nothing else changed.
fn shortened(rules: &str) -> String {
    let (mut text, mut alert, mut used) = (String::new(), "", 0);
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alert = name;
        }
        let mut line = match line.split_once("for: ") {
            Some((before, duration)) if before.trim().is_empty() => {
                format!("{before}for: {}s", shorter(duration, FOR_SECONDS))
            }
            _ => windows_shortened(line),
        };
        let thresholds = THRESHOLDS.iter().filter(|(name, ..)| *name == alert);
        for (_, shipped, here) in thresholds {
            if line.trim().starts_with("expr:") {
                assert!(line.contains(shipped), "{alert} has no `{shipped}`: {line}");
                line = line.replace(shipped, here);
                used += 1;
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    assert_eq!(used, THRESHOLDS.len(), "every threshold is of an alert");
    text
}

fn windows_shortened(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, window)) = rest.split_once('[') {
        let (window, behind) = window.split_once(']').expect("a window ends");
        write!(text, "{before}[{}s]", shorter(window, WINDOW_SECONDS)).expect("a String");
        rest = behind;
    }
    text + rest
}

fn shorter(duration: &str, [least, most]: [u64; 2]) -> u64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => panic!("`{duration}` is a duration of one unit"),
    };
    let seconds: u64 = number.parse().expect("a whole number");
    (seconds * unit / SHORTER).clamp(least, most)
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").expect("a String takes everything");
    }
    encoded
}

/// Status and body; `None`: nobody answers. HTTP/1.0, because its answers come in one piece.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
    answer.ok().flatten()
}
