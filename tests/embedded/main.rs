//! `axs dev` as a process: a stream of commands gives exactly the expected outcomes and balances,
//! whatever the shards, and however often it is killed.

#[path = "../support/process.rs"]
mod process;
#[path = "../support/stream.rs"]
mod stream;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use process::{Service, Submit, axs, free_address, get, ready};
use stream::{Sending, Stream};

/// A running `axs dev`.
struct Dev {
    service: Service,
    server: String,
    admin: String,
}

/// How to start it: the addresses stay over restarts.
struct Setup<'a> {
    stream: &'a Stream,
    grpc: String,
    admin: String,
    arguments: Vec<String>,
}

impl<'a> Setup<'a> {
    fn new(stream: &'a Stream) -> Self {
        Self {
            stream,
            grpc: free_address(),
            admin: free_address(),
            arguments: Vec::new(),
        }
    }

    fn with(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    async fn start(&self) -> Dev {
        let mut arguments = vec!["dev", "--json", "-q"];
        arguments.extend(["--grpc-listen", &self.grpc, "--admin-listen", &self.admin]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        let assets = self.stream.assets();
        let mut command = axs(&arguments, &[("AXS_CLUSTER__ASSETS", &assets)]);
        let (service, mut lines) = Service::start(&mut command);
        let banner = lines.next().expect("a banner").expect("UTF-8");
        let banner: serde_json::Value = serde_json::from_str(&banner).expect("JSON");
        assert_eq!(banner["schema"], "axs.dev/v1");
        assert_eq!(banner["grpc"], format!("http://{}", self.grpc));
        ready(&self.admin).await;
        Dev {
            service,
            server: format!("http://{}", self.grpc),
            admin: self.admin.clone(),
        }
    }
}

fn send(server: &str, file: &Path, wait: &str) -> Vec<stream::Report> {
    Submit::start(server, file, wait).finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_gives_the_expected_outcomes_and_balances() {
    let stream = Stream::load();
    for shards in ["1", "4", "16"] {
        let dev = Setup::new(&stream).with("--shards", shards).start().await;
        let reports = send(&dev.server, &stream.commands, "applied");
        stream.assert_outcomes(&reports, Sending::First);
        stream.assert_balances(&stream.balances(&dev.server).await);
        let reports = send(&dev.server, &stream.commands, "applied");
        stream.assert_outcomes(&reports, Sending::Again);
        stream.assert_balances(&stream.balances(&dev.server).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_first_and_applied_later_is_the_same() {
    let stream = Stream::load();
    let dev = Setup::new(&stream).start().await;
    stream.assert_accepted(&send(&dev.server, &stream.commands, "accepted"));
    let reports = send(&dev.server, &stream.commands, "applied");
    stream.assert_outcomes(&reports, Sending::Again);
    stream.assert_balances(&stream.balances(&dev.server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_changes_nothing() {
    let stream = Stream::load();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("data");
    let setup = Setup::new(&stream).with("--data-dir", directory.to_str().expect("UTF-8"));
    let mut dev = setup.start().await;
    let mut submit = Submit::start(&dev.server, &stream.commands, "applied");
    let lines = stream.expected.outcomes.len();
    for quarter in 1..4 {
        submit.answered(lines * quarter / 4);
        dev.service.kill();
        dev = setup.start().await;
    }
    stream.assert_outcomes(&submit.finish(), Sending::First);
    stream.assert_balances(&stream.balances(&dev.server).await);

    dev.service.kill();
    let dev = setup.start().await;
    let reports = send(&dev.server, &stream.commands, "applied");
    stream.assert_outcomes(&reports, Sending::Again);
    stream.assert_balances(&stream.balances(&dev.server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_drains_and_keeps_what_it_has() {
    let stream = Stream::load();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().to_str().expect("UTF-8").to_owned();
    let setup = Setup::new(&stream).with("--data-dir", &directory);
    let dev = setup.start().await;
    let (status, body) = get(&dev.admin, "/healthz").await.expect("an answer");
    assert_eq!(status, 200, "{body}");
    let (_, metrics) = get(&dev.admin, "/metrics").await.expect("an answer");
    assert!(metrics.contains("axs_shard_leading"), "{metrics}");
    let file = stream.commands.to_str().expect("UTF-8");
    let arguments = ["submit", "--file", file, "--server", &dev.server];
    let output = axs(&arguments, &[]).output().expect("it runs");
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    let rows = table
        .lines()
        .skip(1)
        .map(|row| row.rsplit_once(' ').expect("two columns"));
    let counts: BTreeMap<_, _> = rows
        .map(|(label, lines)| (label.trim().to_owned(), lines.parse().expect("a number")))
        .collect();
    assert_eq!(counts, stream.expected.counts);
    assert_eq!(dev.service.terminate().code(), Some(0));

    let dev = setup.start().await;
    stream.assert_balances(&stream.balances(&dev.server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_owner_and_one_number_of_shards() {
    let stream = Stream::load();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().to_str().expect("UTF-8").to_owned();
    let setup = Setup::new(&stream).with("--data-dir", &directory);
    let dev = setup.start().await;
    let refused = |flags: &[&str]| {
        let (grpc, admin) = (free_address(), free_address());
        let mut arguments = vec!["dev", "--data-dir", &directory, "--grpc-listen", &grpc];
        arguments.extend(["--admin-listen", &admin, "-q"]);
        arguments.extend(flags);
        let output = axs(&arguments, &[]).output().expect("it runs");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        (output.status.code(), error)
    };
    let (code, error) = refused(&[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.starts_with("error: ") && error.contains(&directory),
        "{error}"
    );
    assert_eq!(dev.service.terminate().code(), Some(0));
    let (code, error) = refused(&["--shards", "5"]);
    assert_eq!(code, Some(6), "{error}");
    assert!(error.contains("4 shards, not 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_had_enough_does_not_stop_the_sending() {
    let stream = Stream::load();
    let dev = Setup::new(&stream).start().await;
    let file = stream.commands.to_str().expect("UTF-8");
    let arguments = ["submit", "--json", "--file", file, "--server", &dev.server];
    let mut submit = axs(&arguments, &[])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(submit.stdout.take().expect("a pipe")).lines();
    assert!(lines.next().is_some());
    drop(lines);
    assert_eq!(submit.wait().expect("it ends").code(), Some(0));
    stream.assert_balances(&stream.balances(&dev.server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_from_a_pipe_and_an_interrupt_is_exit_130() {
    let stream = Stream::load();
    let dev = Setup::new(&stream).start().await;
    let arguments = ["submit", "--json", "--file", "-", "--server", &dev.server];
    let mut submit = axs(&arguments, &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = submit.stdin.take().expect("a pipe");
    let open = r#"{"source":"t","idempotency_key":"a","account_id":5,"kind":"OPEN_ACCOUNT"}"#;
    // Answered although the pipe stays open.
    write!(input, "\n{open}\n{{\n").expect("it reads");
    let mut lines = BufReader::new(submit.stdout.take().expect("a pipe")).lines();
    let mut report = || -> serde_json::Value {
        let line = lines.next().expect("a report").expect("UTF-8");
        serde_json::from_str(&line).expect("JSON")
    };
    let (first, second) = (report(), report());
    assert_eq!(
        (&first["line"], &first["status"]),
        (&2.into(), &"APPLIED".into())
    );
    assert!(
        first["command_id"].is_string() && first.get("duplicate").is_none(),
        "{first}"
    );
    assert_eq!(
        (&second["line"], &second["error"]),
        (&3.into(), &"INVALID".into())
    );
    assert!(
        second.get("attempts").is_none(),
        "it was not sent: {second}"
    );
    let pid = submit.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill runs")
            .success()
    );
    assert_eq!(submit.wait().expect("it ends").code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_is_given_by_flags_and_inspected() {
    let stream = Stream::load();
    let dev = Setup::new(&stream).start().await;
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--server", &dev.server]].concat();
        let output = axs(&arguments, &[]).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let open = [
        "submit",
        "--account",
        "7",
        "--kind",
        "open-account",
        "--change",
        "USDT:100",
    ];
    let (code, out, err) = run(&open);
    assert!(code == Some(0) && out.contains("APPLIED"), "{out}{err}");
    let freeze = [
        "submit",
        "--account",
        "7",
        "--change",
        "USDT:-30.5:30.5",
        "--key",
        "k",
    ];
    assert!(run(&freeze).1.contains(" APPLIED "));
    assert!(run(&freeze).1.contains("DUPLICATE APPLIED"));
    let (code, out, _) = run(&["submit", "--account", "7", "--change", "USDT:-500"]);
    assert_eq!(code, Some(0));
    let sentence = "account 7 has 69.5 USDT available, 500 are needed";
    assert!(
        out.contains("REJECTED:INSUFFICIENT_AVAILABLE") && out.contains(sentence),
        "{out}"
    );
    let (code, out, _) = run(&["submit", "--account", "7", "--change", "NOPE:1"]);
    assert!(
        code == Some(0) && out.contains("INVALID") && out.contains("changes[0].asset"),
        "{out}"
    );

    let (code, out, err) = run(&["inspect-balance", "--account", "7", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["schema"], "axs.inspect-balance/v1");
    assert_eq!(found["account"]["status"], "OPEN");
    let balance = &found["balances"][0];
    assert_eq!(
        (&balance["available"], &balance["frozen"]),
        (&"69.5".into(), &"30.5".into())
    );
    assert_eq!(balance["version"], "2");
    assert_eq!(found["entries"][0]["available_delta"], "-30.5");
    assert_eq!(found["entries"][1]["version"], "1");
    assert_eq!(run(&["inspect-balance", "--account", "8"]).0, Some(4));
    let (code, _, err) = run(&["inspect-balance", "--account", "7", "--asset", "NOPE"]);
    assert_eq!(code, Some(4), "{err}");
}
