//! Keeps the documents true: names, codes, ranges and sentences in them are compared with the code.
//! Needs no server. What a document says in prose it cannot check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use axs::core::telemetry::metrics::{Kind, METRICS};

mod alerts;
mod codes;
mod hazards;
mod settings;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below `folder` whose name ends so, by path from the root.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {end} below {folder}");
    found.sort();
    found
}

fn text_of(folder: &str, end: &str) -> String {
    let texts = files(folder, end).into_iter().map(|path| {
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    texts.collect()
}

/// The documents, by path from the root.
fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).expect("the root");
    let top = top.map(|entry| entry.expect("a readable folder").path());
    let mut documents: Vec<_> = top
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    documents.extend(files("docs", ".md"));
    documents.extend(files("testdata", ".md"));
    documents
}

/// The text below a heading, up to the next one of its rank or above.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let body = &text[start + heading.len() + 2..];
    let rank = heading.split(' ').next().expect("a heading").len();
    let ends = (1..=rank).filter_map(|rank| body.find(&format!("\n{} ", "#".repeat(rank))));
    &body[..ends.min().unwrap_or(body.len())]
}

/// The cells of every row of every table.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// What stands in backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// (number, name) of the rows of a section.
fn numbered(text: &str) -> BTreeMap<i32, String> {
    let rows = rows(text).into_iter();
    rows.filter_map(|row| Some((row[0].parse().ok()?, row[1].trim_matches('`').to_owned())))
        .collect()
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let mut used = BTreeSet::new();
    for piece in text_of("src", ".rs").split("\"axs_").skip(1) {
        let end = piece
            .find(|c: char| !c.is_ascii_lowercase() && c != '_')
            .expect("a literal ends");
        // A name alone in its literal: SQL is longer.
        if piece[end..].starts_with('"') {
            used.insert(format!("axs_{}", &piece[..end]));
        }
    }
    let operations = read("docs/operations.md");
    let documented: BTreeMap<_, _> = rows(section(&operations, "## Metrics"))
        .into_iter()
        .filter(|row| row[0].starts_with("`axs_"))
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].to_owned()))
        .collect();
    let names: BTreeSet<_> = documented.keys().cloned().collect();
    assert_eq!(
        used, names,
        "metrics in src/, metrics in docs/operations.md"
    );
    let described: BTreeSet<_> = METRICS.iter().map(|metric| metric.1.to_owned()).collect();
    assert_eq!(described, names, "METRICS, metrics in docs/operations.md");
    for (kind, name, _) in METRICS {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(documented[name], kind, "{name}");
    }
}

#[test]
fn every_invariant_is_described_and_shown_by_a_test() {
    let architecture = read("ARCHITECTURE.md");
    let asserted: BTreeMap<_, _> = read("src/core/engine/invariants.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | E")?.split_once(" | "))
        .map(|(number, says)| {
            (
                format!("E{number}"),
                says.trim_matches([' ', '|']).to_owned(),
            )
        })
        .collect();
    assert!(!asserted.is_empty(), "invariants.rs has its table");
    let is_id = |id: &str| {
        let number = id.strip_prefix(|c: char| c.is_ascii_uppercase());
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let table = section(&architecture, "## Invariants");
    let rows: BTreeMap<_, _> = rows(table)
        .into_iter()
        .filter(|row| is_id(row[0]))
        .map(|row| (row[0].to_owned(), row))
        .collect();
    for (id, says) in &asserted {
        let row = rows
            .get(id)
            .unwrap_or_else(|| panic!("{id} is not described"));
        assert!(says.starts_with(row[1]), "{id}: {says}");
    }
    let tests = text_of("tests", ".rs") + &text_of("src", ".rs");
    for (id, row) in &rows {
        if id.starts_with('E') {
            assert!(asserted.contains_key(id), "{id} is not in invariants.rs");
        }
        let mut shown = code(row.last().expect("a cell")).peekable();
        assert!(shown.peek().is_some(), "{id} is shown by no test");
        for name in shown {
            assert!(
                tests.contains(&format!("fn {name}(")),
                "{id}: there is no test {name}"
            );
        }
    }
}

#[test]
fn the_database_is_described() {
    let sql = text_of("migrations/postgres", "up.sql");
    let document = read("docs/sql.md");
    for create in ["CREATE TABLE ", "CREATE VIEW ", "CREATE FUNCTION "] {
        let names = sql.lines().filter_map(|line| line.strip_prefix(create));
        let names: Vec<_> = names
            .map(|rest| rest.split([' ', '(']).next().expect("a name"))
            .collect();
        assert!(!names.is_empty(), "{create}");
        for name in names {
            let is_named = code(&document).any(|code| code.split(['(', ' ']).next() == Some(name));
            assert!(is_named, "docs/sql.md does not name {name}");
        }
    }
    for state in sql.split("ERRCODE = '").skip(1) {
        let state = &state[..state.find('\'').expect("a quote")];
        let is_ours = state.starts_with("AX");
        assert!(
            !is_ours || document.contains(&format!("| `{state}` |")),
            "{state}"
        );
    }
}

/// As GitHub makes them of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut links = 0;
    for path in documents() {
        let shown = path
            .strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string();
        let text = read(&shown);
        let folder = path.parent().expect("a folder");
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().expect("a link");
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            assert!(target.exists(), "{shown}: {link} leads nowhere");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("a document");
                assert!(
                    anchors(&text).contains(anchor),
                    "{shown}: {link} has no such heading"
                );
            }
            links += 1;
        }
        for name in code(&text) {
            const TOPS: [&str; 8] = [
                "deploy/",
                "src/",
                "tests/",
                "docs/",
                "proto/",
                "scripts/",
                "testdata/",
                "migrations/",
            ];
            let is_path = !name.contains(['*', ' ', '<', ',']);
            if is_path && TOPS.iter().any(|top| name.starts_with(top)) {
                let exists = [name.to_owned(), format!("{name}.rs")]
                    .iter()
                    .any(|name| root().join(name).exists());
                assert!(exists, "{shown}: there is no {name}");
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
}
