//! Servers that are not named, not there, or in the way.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use super::run::{Axs, dead_server};

#[test]
fn no_server_is_exit_5_and_says_what_to_do() {
    let server = dead_server();
    let axs = Axs::new().file("one.jsonl", "{\"idempotency_key\":\"a\"}\n");
    let ran = axs.run(&["submit", "--file", "one.jsonl", "--server", &server]);
    assert_eq!((ran.code, ran.out.as_str()), (5, ""), "{}", ran.err);
    assert!(
        ran.err.contains(&format!("error: no server at {server}: ")),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("hint: start one with `axs dev`"),
        "{}",
        ran.err
    );
    ran.is_plain();
    let ran = axs.run(&[
        "submit",
        "--file",
        "one.jsonl",
        "--server",
        &server,
        "--json",
    ]);
    let error = ran.json_error();
    assert_eq!(ran.code, 5);
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&"UNAVAILABLE".into(), &true.into())
    );
}

#[test]
fn a_server_that_is_not_a_url_is_a_wrong_setting() {
    let ran = Axs::new().run(&["submit", "--file", "-", "--server", "localhost"]);
    assert_eq!(ran.code, 6);
    let sentence =
        "setting `client.server` from flag `--server`: `localhost` is no address such as";
    assert!(ran.err.contains(sentence), "{}", ran.err);
}

#[test]
fn a_command_without_its_servers_says_which_setting_is_missing() {
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let table: [(&[&str], &str); 7] = [
        (&["serve-grpc", admin[0], admin[1]], "postgres.url"),
        (&["consume", admin[0], admin[1]], "postgres.url"),
        (&["cron-outbox", "--once"], "postgres.url"),
        (&["migrate"], "postgres.url"),
        (
            &["migrate", "--postgres-url", "postgres://127.0.0.1:1/axs"],
            "kafka.brokers",
        ),
        (&["assets", "list"], "postgres.url"),
        (&["chaos"], "postgres.url"),
    ];
    for (arguments, setting) in table {
        let ran = Axs::new().run(arguments);
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (6, ""),
            "{arguments:?}: {}",
            ran.err
        );
        let lines: Vec<_> = ran.err.lines().collect();
        assert_eq!(
            lines[0],
            format!("error: {setting} is not set"),
            "{arguments:?}"
        );
        assert!(
            lines[1].starts_with("hint: set it with --"),
            "{arguments:?}: {}",
            lines[1]
        );
    }
    let ran = Axs::new().run(&["doctor"]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert_eq!(ran.out.matches("missing").count(), 2, "{}", ran.out);
    assert!(
        ran.err.starts_with("error: not set: postgres, kafka"),
        "{}",
        ran.err
    );
}

#[test]
fn a_server_that_is_away_is_exit_5() {
    let dead = dead_server().replace("http://", "");
    let postgres = format!("postgres://axs:s3cret@{dead}/axs");
    let redis = format!("redis://{dead}");
    let table: [&[&str]; 5] = [
        &[
            "consume",
            "--admin-listen",
            "127.0.0.1:0",
            "--kafka-brokers",
            &dead,
        ],
        &["cron-outbox", "--once", "--kafka-brokers", &dead],
        &["assets", "list"],
        &["inspect-balance", "--account", "7"],
        &["doctor", "--kafka-brokers", &dead, "--redis-url", &redis],
    ];
    for arguments in table {
        let ran = Axs::new()
            .variable("AXS_POSTGRES__URL", &postgres)
            .run(arguments);
        assert_eq!(ran.code, 5, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains("error: "), "{arguments:?}: {}", ran.err);
        assert!(
            !(ran.out + &ran.err).contains("s3cret"),
            "{arguments:?} shows the password"
        );
    }
    // Before it has made anything: what it would have to take away from servers that are away.
    let ran = Axs::new().variable("AXS_POSTGRES__URL", &postgres).run(&[
        "chaos",
        "--kafka-brokers",
        &dead,
    ]);
    let sentence = format!("error: PostgreSQL at {dead}/axs: ");
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(ran.err.contains(&sentence), "{}", ran.err);
    let ran = Axs::new().run(&[
        "inspect-balance",
        "--account",
        "7",
        "--server",
        &dead_server(),
    ]);
    assert_eq!(ran.code, 5, "{}", ran.err);
}

#[test]
fn an_address_in_use_is_told_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").to_string();
    for (flag, other, setting) in [
        ("--grpc-listen", "--admin-listen", "grpc.listen"),
        ("--admin-listen", "--grpc-listen", "admin.listen"),
    ] {
        let ran = Axs::new().run(&["dev", flag, &taken, other, "127.0.0.1:0"]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
        assert!(
            ran.err.starts_with("error: cannot listen on "),
            "{}",
            ran.err
        );
        assert!(
            ran.err.contains(&taken) && ran.err.contains(setting),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("\nhint: set "), "{}", ran.err);
    }
}

#[test]
fn a_service_that_is_still_starting_is_not_ready() {
    // It takes connections into its queue and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let postgres = format!(
        "postgres://{}/axs",
        silent.local_addr().expect("an address")
    );
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = free.local_addr().expect("an address").to_string();
    drop(free);
    let axs = Axs::new()
        .variable("AXS_POSTGRES__URL", &postgres)
        .variable("AXS_POSTGRES__CONNECT_TIMEOUT", "20s")
        .variable("AXS_KAFKA__BROKERS", "127.0.0.1:1");
    // `cron-outbox` opens its admin port only once it has connected.
    for service in ["serve-grpc", "consume"] {
        let mut child = axs
            .command(&[service, "--admin-listen", &admin])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let until = Instant::now() + Duration::from_secs(15);
        let answer = loop {
            if let Some(answer) = first_line(&admin, "/readyz") {
                break answer;
            }
            assert!(
                Instant::now() < until,
                "{service}: the admin port is closed"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        child.kill().expect("it runs");
        child.wait().expect("it is ours");
        assert!(answer.contains("503"), "{service}: {answer}");
    }
}

/// Of the answer to a GET; `None`: nobody answers.
fn first_line(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: axs\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}
