//! An Alertmanager of a test's own, with the settings that AXS ships as an example.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::prometheus::get;
use crate::{
    member::{PATIENCE, eventually},
    process::free_address,
};

/// As Debian calls it, and as others do.
const PROGRAMS: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

/// Killed with the test, its data deleted.
pub struct Alertmanager {
    pub address: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let start = |program: &&str| {
            Command::new(program)
                .arg(concat!(
                    "--config.file=",
                    env!("CARGO_MANIFEST_DIR"),
                    "/deploy/alertmanager.yaml"
                ))
                .args(["--storage.path=data", "--cluster.listen-address="])
                .arg(format!("--web.listen-address={address}"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        let child = PROGRAMS.iter().find_map(start);
        let child = child.expect("Alertmanager starts: `scripts/install test` installs it");
        Self {
            address,
            child,
            _folder: folder,
        }
    }

    /// Waits until an alert has come, and goes to this receiver.
    pub async fn passes_on(&self, alert: &str, receiver: &str) {
        eventually(PATIENCE, async || {
            let answer = get(&self.address, "/api/v2/alerts").await;
            let (_, body) = answer.ok_or("it does not answer")?;
            let alerts: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let is_it = |one: &Value| {
                one["labels"]["alertname"] == alert && one["receivers"][0]["name"] == receiver
            };
            match alerts
                .as_array()
                .is_some_and(|alerts| alerts.iter().any(is_it))
            {
                true => Ok(()),
                false => Err(format!("no {alert} for {receiver} in {body}")),
            }
        })
        .await;
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
