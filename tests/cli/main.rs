//! The command line as a user meets it: the built binary, its output, its exit codes.

use std::process::{Command, Stdio};

mod run;
mod servers;
mod settings;

use run::{Axs, Ran};

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
    // Wrapped descriptions are indented further.
    let entries = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names: Vec<_> = entries
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 12, "{names:?}");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("it is there");
    let rows: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for name in names.into_iter().filter(|name| *name != "help") {
        let in_row = |row: &&str| {
            row.split('`')
                .any(|code| code.split(' ').any(|it| it == name))
        };
        assert!(rows.iter().any(in_row), "README.md has a row of {name}");
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

/// What a command prints on a terminal.
fn on_terminal(axs: &Axs, command: &str) -> String {
    let output = Command::new("script")
        .args(["-qec", command, "/dev/null"])
        .current_dir(axs.folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("script, of Debian's bsdutils, gives a terminal");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let axs = Axs::new().variable("TERM", "xterm-256color");
    axs.run(&["config", "show"]).is_plain();
    axs.run(&["config", "show", "--color", "never"]).is_plain();
    let ran = axs.run(&["config", "show", "--color", "always"]);
    assert!(ran.out.contains("\x1b[1m"), "{:?}", ran.out.lines().next());
    let show = concat!(env!("CARGO_BIN_EXE_axs"), " config show");
    assert!(
        on_terminal(&axs, &format!("TERM=xterm {show}")).contains("\x1b[1m"),
        "bold on a terminal"
    );
    assert!(
        !on_terminal(&axs, &format!("TERM=xterm NO_COLOR=1 {show}")).contains("\x1b["),
        "NO_COLOR"
    );
}

/// Containers and serial lines often have a terminal that says it has no columns.
#[test]
fn a_terminal_that_does_not_know_its_width_gets_whole_rows() {
    let axs = Axs::new();
    let show = concat!(env!("CARGO_BIN_EXE_axs"), " config show --color always");
    let piped = axs.run(&["config", "show", "--color", "always"]).out;
    let unknown = on_terminal(&axs, &format!("stty cols 0 && {show}"));
    assert_eq!(unknown.replace('\r', ""), piped);
    let narrow = on_terminal(&axs, &format!("stty cols 30 && {show}"));
    let rows = |text: &str| text.lines().count();
    assert!(rows(&narrow) > rows(&piped), "cells are wrapped: {narrow}");
}
