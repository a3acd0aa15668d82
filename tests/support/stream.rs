//! A stream of commands with the outcome of every line, every balance and every total, as a model
//! computed them that shares no code with AXS; and the comparison of what AXS did with it.
//!
//! Format of both files: `testdata/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use axs::core::{
    command::amount,
    proto::{BalanceKey, GetBalancesRequest, read_service_client::ReadServiceClient},
    types::Money,
};
use serde::Deserialize;

/// Names another stream: PATH for PATH.commands.jsonl and PATH.expected.json.
const STREAM_VARIABLE: &str = "AXS_TEST_STREAM";
/// Beside a checkout there may be a stream of real trades; the shipped one is always there.
const STREAMS: [&str; 2] = ["../shared/data/kraken", "testdata/demo"];
/// Lines that a failed comparison shows.
const DIFFERENCES_MAX: usize = 10;
/// Balance keys of one call.
const KEYS_MAX: usize = 500;

/// A stream and what must come of it.
pub struct Stream {
    /// One command a line.
    pub commands: PathBuf,
    /// For each line, each balance, each asset.
    pub expected: Expected,
}

#[derive(Deserialize)]
pub struct Expected {
    pub assets: BTreeMap<String, u8>,
    pub counts: BTreeMap<String, u64>,
    pub totals: BTreeMap<String, String>,
    pub balances: Vec<ExpectedBalance>,
    pub outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
pub struct ExpectedBalance {
    pub account_id: u64,
    pub asset: String,
    pub available: String,
    pub frozen: String,
    pub version: u64,
}

/// What became of a line. Absent: empty or false.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Outcome {
    pub status: String,
    pub reject_code: String,
    pub duplicate: bool,
    pub error: String,
}

/// A line of `axs submit --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub schema: String,
    pub line: u64,
    /// Empty: the line is not stored.
    #[serde(default)]
    pub command_id: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What is wrong, in words.
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub attempts: u32,
}

/// Which sending of the stream was it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// To accounts and keys that nobody used before.
    First,
    /// Again: what had a status is a duplicate now.
    Again,
}

impl Stream {
    /// The stream that the environment names, else the first one that is there.
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let named = std::env::var(STREAM_VARIABLE).ok().map(PathBuf::from);
        let there = STREAMS.iter().map(|stream| root.join(stream));
        let there = there
            .into_iter()
            .find(|stream| file(stream, ".expected.json").exists());
        Self::at(&named.or(there).expect("testdata/demo is shipped"))
    }

    /// PATH for PATH.commands.jsonl and PATH.expected.json.
    pub fn at(stream: &Path) -> Self {
        let text = std::fs::read_to_string(file(stream, ".expected.json")).expect("it is there");
        Self {
            commands: file(stream, ".commands.jsonl"),
            expected: serde_json::from_str(&text).expect("the format of testdata/README.md"),
        }
    }

    /// `CODE:SCALE` of each asset, with commas, as the setting `cluster.assets` takes them.
    pub fn assets(&self) -> String {
        let assets = self.expected.assets.iter();
        let assets: Vec<_> = assets
            .map(|(code, scale)| format!("{code}:{scale}"))
            .collect();
        assets.join(",")
    }

    /// Compares the outcome of every line after `--wait applied`. `duplicate` means nothing where a
    /// line was sent more than once: the first sending may have arrived.
    #[track_caller]
    pub fn assert_outcomes(&self, reports: &[Report], sending: Sending) {
        self.assert_lines(reports, |report, expected| {
            let mut expected = expected.clone();
            let mut got = report.outcome.clone();
            if sending == Sending::Again && expected.error.is_empty() {
                expected.duplicate = true;
            }
            if report.attempts > 1 {
                expected.duplicate = false;
                got.duplicate = false;
            }
            got == expected
        });
    }

    /// Compares errors and `duplicate` of every line after `--wait accepted`; statuses are not out
    /// yet, but what was answered is no error.
    #[track_caller]
    pub fn assert_accepted(&self, reports: &[Report]) {
        self.assert_lines(reports, |report, expected| {
            let got = &report.outcome;
            // A duplicate's outcome may be out, and is the right one then.
            let is_out = got.duplicate && got.status == expected.status;
            let status_fits = match expected.error.is_empty() {
                true => is_out || got.status == "ACCEPTED",
                false => got.status.is_empty(),
            };
            let duplicate_fits = report.attempts > 1 || got.duplicate == expected.duplicate;
            got.error == expected.error && status_fits && duplicate_fits
        });
    }

    /// Compares every balance, and the totals, with what the ReadService at `server` says.
    #[track_caller]
    pub fn assert_balances(&self, balances: &BTreeMap<(u64, String), Balance>) {
        let expected = self.expected.balances.iter().map(|it| {
            let key = (it.account_id, it.asset.clone());
            (key, (it.available.clone(), it.frozen.clone(), it.version))
        });
        assert_eq!(balances, &expected.collect::<BTreeMap<_, _>>());
        for (asset, total) in &self.expected.totals {
            let scale = self.expected.assets[asset];
            let parse = |text: &String| amount::parse(text, scale).expect("an amount");
            let of_asset = balances.iter().filter(|((_, code), _)| code == asset);
            let sum = of_asset
                .flat_map(|(_, (available, frozen, _))| [parse(available), parse(frozen)])
                .try_fold(Money::ZERO, Money::checked_add);
            assert_eq!(sum, Some(parse(total)), "total of {asset}");
        }
    }

    /// Every balance of the stream's accounts that was ever touched, from the ReadService.
    pub async fn balances(&self, server: &str) -> BTreeMap<(u64, String), Balance> {
        let mut client = ReadServiceClient::connect(server.to_owned())
            .await
            .expect("a server");
        let accounts: BTreeSet<_> = self
            .expected
            .balances
            .iter()
            .map(|it| it.account_id)
            .collect();
        let accounts: Vec<_> = accounts.into_iter().collect();
        let mut found = BTreeMap::new();
        for accounts in accounts.chunks(KEYS_MAX) {
            let key = |account_id: &u64| BalanceKey {
                account_id: *account_id,
                asset: String::new(),
            };
            let request = GetBalancesRequest {
                keys: accounts.iter().map(key).collect(),
                ..GetBalancesRequest::default()
            };
            let answer = client
                .get_balances(request)
                .await
                .expect("an answer")
                .into_inner();
            assert_eq!(
                answer.unknown_accounts, [0_u64; 0],
                "accounts that were opened"
            );
            let balances = answer
                .balances
                .into_iter()
                .filter_map(|snapshot| snapshot.balance);
            for it in balances.filter(|balance| balance.version > 0) {
                found.insert(
                    (it.account_id, it.asset),
                    (it.available, it.frozen, it.version),
                );
            }
        }
        found
    }

    /// One good report a line; lists those that do not fit what is expected.
    #[track_caller]
    fn assert_lines(&self, reports: &[Report], fits: impl Fn(&Report, &Outcome) -> bool) {
        let lines: Vec<_> = reports.iter().map(|report| report.line).collect();
        let expected: Vec<_> = (1..=self.expected.outcomes.len() as u64).collect();
        assert!(lines == expected, "one report a line, in the input's order");
        let mut differences = Vec::new();
        for (report, expected) in reports.iter().zip(&self.expected.outcomes) {
            assert_eq!(report.schema, "axs.submit/v1");
            let is_stored = report.outcome.error.is_empty();
            assert_eq!(report.command_id.is_empty(), !is_stored, "{report:?}");
            assert_eq!(report.message.is_empty(), is_stored, "{report:?}");
            if !fits(report, expected) {
                differences.push(format!("\n{report:?}\n    expected {expected:?}"));
            }
        }
        let shown = &differences[..differences.len().min(DIFFERENCES_MAX)];
        assert!(
            shown.is_empty(),
            "{} lines differ:{}",
            differences.len(),
            shown.concat()
        );
    }
}

/// Available, frozen, version.
pub type Balance = (String, String, u64);

fn file(stream: &Path, ending: &str) -> PathBuf {
    let mut name = stream.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
