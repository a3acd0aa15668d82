//! Every bench of the built binary, with tiny workloads against real servers: that it works, counts
//! right, writes its page and leaves nothing behind. How fast anything is, is no matter here.

#[expect(dead_code, reason = "only the command is needed")]
#[path = "../support/process.rs"]
mod process;
#[expect(dead_code, reason = "processes name its reports")]
#[path = "../support/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;

mod ground;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use ground::Ground;
use serde_json::Value;

/// A bench with a small workload.
struct Small {
    name: &'static str,
    arguments: &'static [&'static str],
    /// How many commands it does; `None`: as many as there is time for.
    commands: Option<u64>,
}

const SMALL: [Small; 9] = [
    Small {
        name: "engine",
        arguments: &[
            "--accounts",
            "1000",
            "--commands",
            "20000",
            "--duplicates",
            "5",
        ],
        commands: Some(20_000),
    },
    Small {
        name: "codec",
        arguments: &["--accounts", "1000", "--commands", "20000"],
        commands: Some(20_000),
    },
    Small {
        name: "flush",
        arguments: &["--accounts", "500", "--commands", "4000", "--batch", "500"],
        commands: Some(4_000),
    },
    Small {
        name: "submit",
        arguments: &[
            "--accounts",
            "50",
            "--callers",
            "8",
            "--seconds",
            "1",
            "--shards",
            "2",
            "--against",
            "row-lock-batched",
        ],
        commands: None,
    },
    Small {
        name: "baseline",
        arguments: &["--accounts", "50", "--callers", "8", "--seconds", "1"],
        commands: None,
    },
    Small {
        name: "consume",
        arguments: &["--accounts", "500", "--commands", "4000", "--shards", "2"],
        commands: Some(4_000),
    },
    Small {
        name: "e2e",
        arguments: &[
            "--accounts",
            "50",
            "--callers",
            "4",
            "--rate",
            "100",
            "--seconds",
            "1",
            "--shards",
            "2",
            "--steps",
        ],
        commands: Some(100),
    },
    Small {
        name: "floor",
        arguments: &["--callers", "4", "--rate", "100", "--seconds", "1"],
        commands: Some(100),
    },
    Small {
        name: "read",
        arguments: &[
            "--accounts",
            "500",
            "--callers",
            "4",
            "--connections",
            "2",
            "--rate",
            "200",
            "--seconds",
            "1",
            "--shards",
            "2",
        ],
        commands: Some(200),
    },
];

/// The subcommands of `axs bench`.
fn benches(ground: &Ground) -> Vec<String> {
    let help = ground.command(&["--help"]).output().expect("it starts");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let list = help.split("Commands:").nth(1).expect("a list of benches");
    let list = list.split("Options:").next().expect("its end");
    let entries = list.lines().filter_map(|line| line.strip_prefix("  "));
    entries
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn number(document: &Value, field: &str) -> f64 {
    let value = document[field].as_f64();
    value.unwrap_or_else(|| panic!("`{field}` is no number in {document}"))
}

#[test]
fn every_bench_counts_right_writes_its_page_and_leaves_nothing() {
    let ground = Ground::take();
    let benches = benches(&ground);
    assert!(benches.len() >= 5, "{benches:?}");
    for bench in benches {
        let small = SMALL.iter().find(|small| small.name == bench);
        let small = small.unwrap_or_else(|| panic!("give `{bench}` a small workload here"));
        let page = ground.folder().join(format!("{bench}.html"));
        let mut command = ground.command(&[&bench, "--json", "--report"]);
        let output = command.arg(&page).args(small.arguments).output();
        let output = output.expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{bench}: {error}");
        let document = String::from_utf8(output.stdout).expect("UTF-8");
        check(
            small,
            &serde_json::from_str(&document).expect("one document"),
        );
        let page = std::fs::read_to_string(page).expect("the page is written");
        assert!(
            page.contains(&format!("<h1>axs bench {bench}</h1>")),
            "{bench}"
        );
        assert!(page.ends_with("</html>\n"), "{bench}: the page is whole");
        ground.is_clean();
    }
}

fn check(small: &Small, document: &Value) {
    let Small { name, commands, .. } = small;
    assert_eq!(document["schema"], format!("axs.bench.{name}/v1"));
    let count = document["commands"].as_u64().expect("a count");
    match commands {
        Some(asked) => assert_eq!(count, *asked, "{name}"),
        None => assert!(count > 0, "{name}"),
    }
    for field in [
        "seconds",
        "commands_per_second",
        "cpu_seconds",
        "peak_rss_bytes",
    ] {
        assert!(
            number(document, field) > 0.0,
            "{name}: {field} in {document}"
        );
    }
    let latencies = ["p50_us", "p99_us", "p999_us"].map(|field| number(document, field));
    assert!(
        0.0 < latencies[0] && latencies.is_sorted(),
        "{name}: {latencies:?}"
    );
    let workload = document["workload"].as_object().expect("an object");
    assert_eq!(workload["seed"], 1, "{name}");
    assert!(workload.contains_key("accounts"), "{name}: {workload:?}");
    if *name == "e2e" {
        let steps = document["steps"].as_object().expect("steps");
        for (step, took) in steps {
            assert!(
                number(took, "p50_us") <= number(took, "p99_us"),
                "{step}: {took}"
            );
        }
        assert!(number(&steps["sent_to_answered"], "p50_us") > 0.0);
    }
}

#[test]
fn an_interrupted_bench_cleans_up() {
    let ground = Ground::take();
    let mut child = ground
        .command(&[
            "e2e",
            "--accounts",
            "50",
            "--rate",
            "50",
            "--seconds",
            "600",
            "--shards",
            "2",
        ])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let errors = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = errors.lines().map(|line| line.expect("UTF-8"));
    assert!(
        lines.any(|line| line == "measuring"),
        "it says when it measures"
    );
    assert!(
        !ground.databases().is_empty(),
        "it has a database of its own"
    );
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.expect("kill starts").success());
    let rest: Vec<String> = lines.collect();
    let status = child.wait().expect("it is ours");
    assert_eq!(status.code(), Some(130), "{rest:?}");
    assert_eq!(rest.last().map(String::as_str), Some("error: interrupted"));
    ground.is_clean();
}

#[test]
fn a_server_that_is_away_is_exit_5_and_a_page_that_cannot_be_written_comes_first() {
    let ground = Ground::take();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let (postgres, redis) = (format!("postgres://{dead}/axs"), format!("redis://{dead}"));
    for (flag, address, says) in [
        (
            "--postgres-url",
            &postgres,
            format!("PostgreSQL at {dead}/axs: "),
        ),
        (
            "--kafka-brokers",
            &dead,
            "the log is not reachable: ".to_owned(),
        ),
        (
            "--redis-url",
            &redis,
            "the cache is not reachable: ".to_owned(),
        ),
    ] {
        let output = ground.command(&["e2e", flag, address]).output();
        let output = output.expect("it starts");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(5), "{flag}: {error}");
        let last = error.lines().rfind(|line| line.starts_with("error: "));
        let last = last.unwrap_or_else(|| panic!("{flag}: {error}"));
        assert!(
            last.to_lowercase().contains(&says.to_lowercase()),
            "{flag}: {error}"
        );
    }
    let page = ground.folder().join("none/page.html");
    let mut command = ground.command(&["e2e", "--postgres-url", &postgres, "--report"]);
    let output = command.arg(&page).output().expect("it starts");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: cannot write `"), "{error}");
    ground.is_clean();
}
