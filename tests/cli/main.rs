//! The command line as a user meets it: the built binary, its output, its exit codes.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The binary in an empty folder with an environment of its own, so that nothing of the machine's
/// settings reaches it.
struct Axs {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Axs {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            variables: Vec::new(),
        }
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), content).expect("a file");
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_axs"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without reading all of it.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran::of(child.wait_with_output().expect("it ends"))
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    fn json_error(&self) -> Value {
        let line = self.err.lines().last().expect("a line on stderr");
        serde_json::from_str::<Value>(line).expect("JSON on stderr")["error"].clone()
    }

    #[track_caller]
    fn is_plain(&self) {
        assert!(
            !self.out.contains('\x1b'),
            "escapes on stdout: {:?}",
            self.out
        );
        assert!(
            !self.err.contains('\x1b'),
            "escapes on stderr: {:?}",
            self.err
        );
    }
}

/// A port that nobody listens on: it was given to us and closed again.
fn dead_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn help_and_version_are_data() {
    let axs = Axs::new();
    let help = axs.run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in [
        "submit",
        "Exit codes:",
        "130  interrupted",
        "--json",
        "axs dev",
    ] {
        assert!(
            help.out.contains(word),
            "`{word}` is missing in\n{}",
            help.out
        );
    }
    assert_eq!(help.err, "");
    let version = axs.run(&["--version"]);
    assert_eq!(version.code, 0);
    assert!(version.out.starts_with("axs 0."), "{}", version.out);
    for word in ["commit ", "schema "] {
        assert!(
            version.out.contains(word),
            "`{word}` is missing in {}",
            version.out
        );
    }
}

#[test]
fn every_subcommand_has_help_of_its_own() {
    let axs = Axs::new();
    let help = axs.run(&["--help"]).out;
    let commands = help.split("Commands:").nth(1).expect("a list of commands");
    let commands = commands.split("Options:").next().expect("its end");
    let names: Vec<_> = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let ran = axs.run(&[name, "--help"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
        assert!(
            ran.out.contains(&format!("Usage: axs {name}")),
            "{}",
            ran.out
        );
        assert!(
            ran.out.lines().all(|line| line.chars().count() <= 100),
            "{}",
            ran.out
        );
        ran.is_plain();
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let axs = Axs::new();
    let table: [&[&str]; 6] = [
        &["no-such-command"],
        &["submit"],
        &["submit", "--file", "x", "--account", "1"],
        &["submit", "--file", "x", "--timeout", "soon"],
        &["submit", "--account", "1", "--change", "USDT"],
        &["config", "show", "--color", "blue"],
    ];
    for arguments in table {
        let ran = axs.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
        let mut json = arguments.to_vec();
        json.push("--json");
        let ran = axs.run(&json);
        assert_eq!(ran.code, 2);
        assert_eq!(ran.json_error()["code"], "USAGE", "{}", ran.err);
    }
}

#[test]
fn settings_say_where_they_come_from() {
    let axs = Axs::new()
        .file(
            "axs.toml",
            "[cluster]\nshards = 2\n[grpc]\nstreams_max = 7\n",
        )
        .file("other.toml", "[cluster]\nshards = 3\n")
        .variable("AXS_GRPC__STREAMS_MAX", "8")
        .variable("AXS_POSTGRES__URL", "postgres://ann:s3cret@db/axs");
    let shown = |arguments: &[&str]| {
        let ran = axs.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.is_plain();
        ran.out
    };
    let table = shown(&["config", "show", "--origin"]);
    let row = |table: &str, key: &str| -> Vec<String> {
        let line = table
            .lines()
            .find(|line| line.starts_with(key))
            .expect("a row");
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        row(&table, "cluster.shards ")[1..],
        ["2", "file", "`./axs.toml`"]
    );
    let variable = ["8", "environment", "variable", "`AXS_GRPC__STREAMS_MAX`"];
    assert_eq!(row(&table, "grpc.streams_max ")[1..], variable);
    assert_eq!(row(&table, "writer.block_size ")[1..], ["10000", "default"]);
    assert_eq!(row(&table, "postgres.url ")[1], "postgres://ann:***@db/axs");
    let named = shown(&["config", "show", "--config", "other.toml"]);
    assert_eq!(row(&named, "cluster.shards ")[1..], ["3"]);

    let text = shown(&["config", "show", "--origin", "--json"]);
    let document: Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["schema"], "axs.config/v1");
    let settings = document["settings"].as_array().expect("a list");
    let shards = settings
        .iter()
        .find(|one| one["key"] == "cluster.shards")
        .expect("it is there");
    assert_eq!(shards["value"], "2");
    assert_eq!(shards["origin"], "file `./axs.toml`");
    assert!(!text.contains("s3cret"));
}

#[test]
fn wrong_settings_are_one_sentence_and_exit_6() {
    let table = [
        (
            "[postgres]\nuri = \"x\"\n",
            "unknown setting `postgres.uri` in file `./axs.toml`; did \
          you mean `postgres.url`?",
        ),
        (
            "[cluster]\nshards = 0\n",
            "setting `cluster.shards` from file `./axs.toml`: 0 is out of \
          range, it must be 1 to 1024",
        ),
        (
            "[cluster]\nshards = \"many\"\n",
            "setting `cluster.shards` from file `./axs.toml`: \
          invalid type: string \"many\", expected u16",
        ),
        (
            "[redis]\nurl = \"redis://:pw@\"\ntimeout = \"fast\"\n",
            "setting `redis.timeout` from \
          file `./axs.toml`: `fast` is no duration such as `500ms` or `2s`",
        ),
        (
            "[cluster\n",
            "the settings file `./axs.toml` is not valid TOML: ",
        ),
    ];
    for (file, sentence) in table {
        let axs = Axs::new().file("axs.toml", file);
        let ran = axs.run(&["config", "check"]);
        assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{file}");
        let first = ran.err.lines().next().expect("a line");
        assert!(first.starts_with(&format!("error: {sentence}")), "{first}");
        let error = axs.run(&["config", "check", "--json"]).json_error();
        assert_eq!(error["code"], "CONFIGURATION");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(sentence))
        );
    }
    let ran = Axs::new().run(&["config", "check", "--config", "none.toml"]);
    assert_eq!(ran.code, 6);
    assert!(
        ran.err
            .contains("cannot read the settings file `none.toml`"),
        "{}",
        ran.err
    );
    let ran = Axs::new()
        .variable("AXS_NO__SUCH", "1")
        .run(&["submit", "--file", "-"]);
    assert_eq!(ran.code, 6, "any command refuses wrong settings");
}

#[test]
fn the_template_is_a_settings_file() {
    let template = Axs::new().run(&["config", "template"]);
    assert_eq!(template.code, 0);
    let ran = Axs::new()
        .file("axs.toml", template.out)
        .run(&["config", "check"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "the settings are fine\n"));
}

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
fn a_file_that_cannot_be_read_is_a_failure() {
    let axs = Axs::new();
    let ran = axs.run(&["submit", "--file", "none.jsonl"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .starts_with("error: cannot read `none.jsonl`: No such file"),
        "{}",
        ran.err
    );
    let ran = axs.run(&["submit", "--file", "."]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("cannot read `.`"), "{}", ran.err);
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
fn completions_name_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = Axs::new().run(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("submit"), "{shell}");
    }
}

#[test]
fn a_reader_that_had_enough_is_no_error() {
    let axs = Axs::new();
    for arguments in [
        &["config", "show"][..],
        &["completions", "bash"],
        &["config", "template"],
    ] {
        let mut child = axs
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().expect("it ends"));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let axs = Axs::new().variable("TERM", "xterm-256color");
    axs.run(&["config", "show"]).is_plain();
    axs.run(&["config", "show", "--color", "never"]).is_plain();
    let ran = axs.run(&["config", "show", "--color", "always"]);
    assert!(ran.out.contains("\x1b[1m"), "{:?}", ran.out.lines().next());
    let on_terminal = |variables: &str| {
        let command = format!("{variables} {} config show", env!("CARGO_BIN_EXE_axs"));
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .current_dir(axs.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("script, of Debian's bsdutils, gives a terminal");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(
        on_terminal("TERM=xterm").contains("\x1b[1m"),
        "bold on a terminal"
    );
    assert!(
        !on_terminal("TERM=xterm NO_COLOR=1").contains("\x1b["),
        "NO_COLOR"
    );
}
