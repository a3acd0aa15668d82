//! Alerts, their unit tests, their runbooks and the dashboards: what they name, the binary has.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use axs::core::telemetry::metrics::{Kind, METRICS};
use serde_json::Value;

use super::{code, files, read, rows, section, text_of};

const RULES: &str = "deploy/alerts.yaml";
/// Labels that Prometheus adds, and that of a bucket.
const ADDED: [&str; 3] = ["job", "instance", "le"];
const HEADINGS: [&str; 4] = [
    "## What users feel",
    "## What to look at",
    "## What to run",
    "## How it clears",
];

/// One alert, as its lines say it.
#[derive(Default)]
struct Alert {
    name: String,
    fields: BTreeMap<String, String>,
}

fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in read(RULES).lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alerts.push(Alert {
                name: name.into(),
                ..Alert::default()
            });
        } else if let (Some(alert), Some((name, value))) =
            (alerts.last_mut(), line.trim().split_once(": "))
        {
            alert.fields.insert(name.into(), value.into());
        }
    }
    assert!(alerts.len() > 10, "{RULES} has its alerts");
    alerts
}

/// By the name of a series: its row in docs/operations.md.
fn series() -> BTreeMap<String, Vec<String>> {
    let operations = read("docs/operations.md");
    let rows = rows(section(&operations, "## Metrics")).into_iter();
    let rows: BTreeMap<_, Vec<_>> = rows
        .map(|row| {
            (
                row[0].trim_matches('`').to_owned(),
                row.iter().map(|cell| (*cell).to_owned()).collect(),
            )
        })
        .collect();
    let mut series = BTreeMap::new();
    for (kind, name, _) in METRICS {
        let row = rows
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not documented"));
        let ends: &[&str] = match kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        for end in ends {
            series.insert(format!("{name}{end}"), row.clone());
        }
    }
    series
}

/// Every series of ours that a text names exists, with the labels and values that it asks for.
fn assert_exists(place: &str, text: &str) {
    let series = series();
    let text = text.replace("\\\"", "\"");
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    for (at, _) in text.match_indices("axs_") {
        if text[..at].ends_with(|c: char| is_name(c) || c == '-') {
            continue;
        }
        let name = &text[at..];
        let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
        let row = (series.get(name)).unwrap_or_else(|| panic!("{place}: the binary has no {name}"));
        let behind = &text[at + name.len()..];
        let Some(selector) = behind.strip_prefix('{') else {
            continue;
        };
        let selector = selector.split('}').next().expect("a selector ends");
        for matcher in selector.split(", ").filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once('=').expect("a matcher");
            let label = label.trim_end_matches('!');
            let is_known = ADDED.contains(&label) || code(&row[2]).any(|known| known == label);
            assert!(is_known, "{place}: {name} has no label {label}");
            if ADDED.contains(&label) || label == "shard" {
                continue;
            }
            for value in value.trim_start_matches('~').trim_matches('"').split('|') {
                let mut documented = code(&row[2]).chain(code(&row[3]));
                assert!(
                    documented.any(|known| known == value),
                    "{place}: {name} with {value}"
                );
            }
        }
    }
    // What is grouped by is a label of something.
    let labels: BTreeSet<&str> = series
        .values()
        .flat_map(|row| code(&row[2]))
        .chain(ADDED)
        .collect();
    for word in ["by (", "on (", "ignoring ("] {
        for behind in text.split(word).skip(1) {
            for label in behind.split(')').next().expect("it ends").split(", ") {
                assert!(
                    labels.contains(label),
                    "{place}: nothing has a label {label}"
                );
            }
        }
    }
}

#[test]
fn every_metric_and_label_of_an_alert_exists() {
    assert_exists(RULES, &read(RULES));
    for path in files("deploy/tests", ".yaml") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        assert_exists(&path.display().to_string(), &text);
    }
}

#[test]
fn every_alert_has_a_runbook_a_unit_test_and_a_real_one() {
    let operations = read("docs/operations.md");
    let (units, real) = (
        text_of("deploy/tests", ".yaml"),
        text_of("tests/oncall", ".rs"),
    );
    let mut names = BTreeSet::new();
    for Alert { name, fields } in alerts() {
        let field = |field: &str| {
            fields
                .get(field)
                .unwrap_or_else(|| panic!("{name}: no {field}"))
        };
        assert!(
            ["page", "ticket"].contains(&field("severity").as_str()),
            "{name}"
        );
        assert!(
            !field("expr").is_empty() && !field("description").is_empty(),
            "{name}"
        );
        assert!(field("summary").starts_with('"'), "{name}");
        let page = format!("docs/runbooks/{name}.md");
        assert_eq!(*field("runbook_url"), page, "{name}");
        let text = read(&page);
        assert!(text.starts_with(&format!("# {name}\n")), "{page}");
        let mut behind = 0;
        for heading in HEADINGS {
            let at = text.find(&format!("\n{heading}\n"));
            let at = at.unwrap_or_else(|| panic!("{page} has no `{heading}`"));
            assert!(at > behind, "{page}: `{heading}` comes earlier");
            behind = at;
        }
        let link = format!("[{name}](runbooks/{name}.md)");
        assert!(
            section(&operations, "## Alerts").contains(&link),
            "{name} is not in operations.md"
        );
        let fires = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"");
        assert!(units.contains(&fires), "{name} has no unit test");
        assert!(
            real.contains(&format!(".fires(\"{name}\"")),
            "{name} is not caused by a test"
        );
        assert!(names.insert(name), "it is there once");
    }
    for path in files("docs/runbooks", ".md") {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(names.contains(&name), "{} is of no alert", path.display());
    }
}

#[test]
fn every_command_of_a_runbook_exists() {
    let mut named = 0;
    for path in files("docs/runbooks", ".md") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        for line in text.lines().flat_map(code).chain(text.lines()) {
            let line = line.trim_start_matches("$ ");
            let Some(command) = line.strip_prefix("axs ") else {
                continue;
            };
            let command = command.split(' ').next().expect("a word");
            let file = format!("src/cmd/{}", command.replace('-', "_"));
            let exists = Path::new(&file).exists() || Path::new(&format!("{file}.rs")).exists();
            assert!(exists, "{}: there is no axs {command}", path.display());
            named += 1;
        }
    }
    assert!(named > 20, "only {named} commands were found");
}

/// Panels of a dashboard, those in rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let inside = |panel: &Value| panel["type"] != "row";
    panels.iter().filter(|panel| inside(panel)).collect()
}

#[test]
fn every_panel_says_what_it_shows_and_shows_what_exists() {
    for path in files("deploy/grafana", ".json") {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let dashboard: Value = serde_json::from_str(&text).expect(&place);
        assert!(dashboard["schemaVersion"].as_u64() >= Some(36), "{place}");
        assert!(!dashboard["title"].as_str().expect(&place).is_empty());
        assert!(!dashboard["uid"].as_str().expect(&place).is_empty());
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!(
            (&variable["name"], &variable["type"]),
            (&"datasource".into(), &"datasource".into())
        );
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            assert!(
                ids.insert(panel["id"].as_u64().expect("an id")),
                "{place}: {panel}"
            );
            let at = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{place}: {}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        cells.insert((x, y)),
                        "{place}: {} covers another",
                        panel["title"]
                    );
                }
            }
        }
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().expect("a title");
            assert!(
                !title.is_empty() && panel["description"].is_string(),
                "{place}: {title}"
            );
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{place}: {title}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{place}: {title}"
            );
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty(), "{place}: {title}");
            for target in targets {
                let expression = target["expr"].as_str().expect("an expression");
                assert_exists(&format!("{place}: {title}"), expression);
            }
        }
    }
}
