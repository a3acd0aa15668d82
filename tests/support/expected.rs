//! Further streams with what must come out of them, from seeds; and balances read after what was
//! written. The expectations are made by models that share nothing with AXS.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use axs::core::{
    proto::{BalanceKey, GetBalancesRequest, read_service_client::ReadServiceClient},
    workload,
};
use tonic::transport::Channel;

use crate::stream::{Balance, Report, Stream};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

impl Stream {
    /// Other users and mistakes from a seed, in a folder of the test's.
    pub fn of_seed(folder: &Path, seed: u64, trades: usize) -> Self {
        let shared = Path::new(CHECKOUT).join("../shared");
        let maker = shared.join("tools/trades_oracle.py");
        let file = folder.join(format!("seed-{seed}"));
        if !maker.exists() {
            return Self::of_workload(&file, seed, trades);
        }
        let all = std::fs::read_to_string(shared.join("data/kraken-xbtusdt-trades.csv"));
        let all = all.expect("the trades are beside their oracle");
        let some: Vec<&str> = all.lines().take(1 + trades).collect();
        let csv = folder.join(format!("seed-{seed}.csv"));
        std::fs::write(&csv, some.join("\n")).expect("a file");
        let users = (20 + seed % 60).to_string();
        run(Command::new("python3")
            .arg(maker)
            .arg(csv)
            .arg(folder.join(format!("seed-{seed}")))
            .args(["--seed", &seed.to_string(), "--users", &users]));
        Self::at(&file)
    }

    fn of_workload(file: &Path, seed: u64, trades: usize) -> Self {
        let options = workload::Options {
            seed,
            trades: u32::try_from(trades).expect("a few"),
            ..workload::DEMO
        };
        let mut text = workload::lines(&options).join("\n");
        text.push('\n');
        std::fs::write(beside(file, "commands.jsonl"), text).expect("a file");
        let oracle = Path::new(CHECKOUT).join("scripts/oracle.py");
        let expected = run(Command::new("python3")
            .arg(oracle)
            .arg(beside(file, "commands.jsonl")));
        std::fs::write(beside(file, "expected.json"), expected).expect("a file");
        Self::at(file)
    }

    pub fn lines(&self) -> usize {
        self.expected.outcomes.len()
    }

    /// Every balance that was ever touched of every account that the lines name, each read after
    /// its last command: no sooner may it be seen.
    pub async fn balances_after(
        &self,
        server: &str,
        reports: &[Report],
    ) -> BTreeMap<(u64, String), Balance> {
        let text = std::fs::read_to_string(&self.commands).expect("commands");
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let lines = text.lines().zip(reports).zip(&self.expected.outcomes);
        for ((line, report), expected) in lines {
            for account in accounts(line) {
                let id = last.entry(account).or_default();
                if expected.error.is_empty() && !expected.duplicate {
                    *id = report
                        .command_id
                        .parse()
                        .expect("what has a status has an id");
                }
            }
        }
        let mut client = connect(server).await;
        let mut found = BTreeMap::new();
        for (account_id, after_command_id) in last {
            let asset = String::new();
            let request = GetBalancesRequest {
                keys: vec![BalanceKey { account_id, asset }],
                after_command_id,
                ..GetBalancesRequest::default()
            };
            let response = client.get_balances(request).await.expect("balances");
            let balances = response.into_inner().balances.into_iter();
            for it in balances
                .filter_map(|it| it.balance)
                .filter(|it| it.version > 0)
            {
                let balance = (it.available, it.frozen, it.version);
                found.insert((it.account_id, it.asset), balance);
            }
        }
        found
    }
}

/// A client of the API for reading.
pub async fn connect(server: &str) -> ReadServiceClient<Channel> {
    let client = ReadServiceClient::connect(server.to_owned()).await;
    client.expect("the API takes connections")
}

/// The accounts that a line names and that may exist.
fn accounts(line: &str) -> Vec<u64> {
    let Ok(command) = serde_json::from_str::<serde_json::Value>(line) else {
        return Vec::new();
    };
    let changes = command["changes"].as_array().into_iter().flatten();
    let named = std::iter::once(&command["account_id"])
        .chain(changes.map(|change| &change["account_id"]))
        .filter_map(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()));
    named.filter(|id| (1..1 << 62).contains(id)).collect()
}

fn beside(stream: &Path, ending: &str) -> PathBuf {
    let mut name = stream.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("python3 starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output.stdout
}
