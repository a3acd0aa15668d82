//! Keys, variables, defaults and ranges in `docs/settings.md`.

use std::collections::{BTreeMap, BTreeSet};

use axs::core::config::{Settings, check};
use serde_json::Value;

use super::{code, read, rows};

/// `section.key` and value of every setting.
fn settings() -> BTreeMap<String, Value> {
    let Ok(Value::Object(sections)) = serde_json::to_value(Settings::default()) else {
        panic!("settings are sections");
    };
    let mut flat = BTreeMap::new();
    for (section, keys) in sections {
        for (key, value) in keys.as_object().expect("a section") {
            flat.insert(format!("{section}.{key}"), value.clone());
        }
    }
    flat
}

#[test]
fn every_setting_is_documented_with_variable_and_default() {
    let text = read("docs/settings.md");
    let documented: BTreeMap<_, _> = rows(&text)
        .into_iter()
        .filter(|row| row[0].starts_with('`'))
        .map(|row| (row[0].trim_matches('`').to_owned(), row))
        .collect();
    let settings = settings();
    let names: BTreeSet<_> = documented.keys().collect();
    assert_eq!(names, settings.keys().collect());
    for (key, default) in &settings {
        let row = &documented[key];
        let variable = format!("AXS_{}", key.replace('.', "__").to_uppercase());
        let shown = row[1].trim_matches('`');
        let shown = shown.strip_suffix("__NAME").unwrap_or(shown);
        assert_eq!(shown, variable, "{key}");
        let default = match default {
            Value::Null => "unset".into(),
            Value::Array(items) if items.is_empty() => "none".into(),
            Value::Object(items) if items.is_empty() => "none".into(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(row[2], default, "default of {key}");
    }
}

#[test]
fn every_range_is_the_one_that_is_checked() {
    let text = read("docs/settings.md");
    let settings = settings();
    let mut checked = 0;
    for row in rows(&text).iter().filter(|row| row[0].starts_with('`')) {
        let key = row[0].trim_matches('`');
        let (section, name) = key.split_once('.').expect("section.key");
        let zero = match &settings[key] {
            Value::Number(_) => Value::from(0),
            Value::String(text) if text.parse::<humantime::Duration>().is_ok() => "0s".into(),
            _ if key == "cluster.shards" => Value::from(0),
            _ => continue,
        };
        let changed = serde_json::json!({ section: { name: zero } });
        let changed: Settings = serde_json::from_value(changed).expect("of the right type");
        let range = match check::check(&changed) {
            Ok(()) => "any".to_owned(),
            Err(problem) => {
                assert_eq!(problem.key, key);
                let range = problem
                    .problem
                    .split_once("it must be ")
                    .expect("a range")
                    .1;
                range.to_owned()
            }
        };
        // A bound may be another setting.
        let mut shown = row[3].to_owned();
        for other in code(row[3]) {
            shown = shown.replace(&format!("`{other}`"), &settings[other].to_string());
        }
        let fits = shown == range || shown.starts_with(&format!("{range};"));
        assert!(fits, "{key}: {shown} is documented, {range} is checked");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} ranges were compared");
}
