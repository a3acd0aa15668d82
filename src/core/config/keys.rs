//! The names of all settings, and how a value that was written becomes one. Knows no files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Settings;

/// The one setting with keys of its own; they are passed through.
const PASSED_THROUGH: &str = "kafka.properties";
/// Written as a list in a file, with commas in the environment and in flags.
const LISTS: [&str; 1] = ["cluster.assets"];

/// Every setting there is.
pub(super) struct Known(BTreeSet<String>);

impl Known {
    pub(super) fn new() -> Self {
        let settings = flat(&Settings::default());
        Self(settings.into_iter().map(|(key, _)| key).collect())
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains(key) || passed_through(key).is_some()
    }

    /// The known key with the fewest edits, if they are few.
    pub(super) fn similar(&self, key: &str) -> Option<String> {
        const EDITS_MAX: usize = 3;
        self.0
            .iter()
            .map(|candidate| (edits(key, candidate), candidate))
            .filter(|(edits, _)| *edits <= EDITS_MAX)
            .min()
            .map(|(_, candidate)| candidate.clone())
    }
}

/// The value of a text from the environment or a flag; else what is wrong with it.
pub(super) fn parse_text(key: &str, text: &str) -> Result<Value, String> {
    if LISTS.contains(&key) {
        let items = text.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty()).map(Value::from);
        return parse_value(key, items.collect());
    }
    let as_text = parse_value(key, text.into());
    match (&as_text, serde_json::from_str::<Value>(text)) {
        (Err(_), Ok(value @ (Value::Number(_) | Value::Bool(_)))) => parse_value(key, value),
        _ => as_text,
    }
}

/// The value as its setting takes it; else what is wrong with it.
pub(super) fn parse_value(key: &str, value: Value) -> Result<Value, String> {
    let value = match (passed_through(key), value) {
        (Some(_), Value::Number(number)) => Value::String(number.to_string()),
        (Some(_), Value::Bool(flag)) => Value::String(flag.to_string()),
        (_, value) => value,
    };
    // Alone, so that an error can only be about this one.
    let alone = BTreeMap::from([(key.to_owned(), value.clone())]);
    match settings_of(&alone) {
        Ok(_) => Ok(value),
        Err(error) => Err(error.to_string()),
    }
}

/// The settings with these values set.
pub(super) fn settings_of(values: &BTreeMap<String, Value>) -> serde_json::Result<Settings> {
    let mut root = Map::new();
    for (key, value) in values {
        let (path, leaf) = match passed_through(key) {
            Some(property) => (PASSED_THROUGH, property),
            None => key.rsplit_once('.').unwrap_or(("", key)),
        };
        let mut section = &mut root;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            let inner = section.entry(name).or_insert_with(|| Map::new().into());
            section = inner.as_object_mut().expect("sections hold tables only");
        }
        section.insert(leaf.to_owned(), value.clone());
    }
    serde_json::from_value(root.into())
}

/// `section.key` and text of every setting, in the order of keys.
pub(super) fn flat(settings: &Settings) -> Vec<(String, Option<String>)> {
    fn walk(key: &str, value: &Value, flat: &mut Vec<(String, Option<String>)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let inner = if key.is_empty() {
                        name.clone()
                    } else {
                        format!("{key}.{name}")
                    };
                    walk(&inner, value, flat);
                }
            }
            Value::Array(items) => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                flat.push((key.to_owned(), Some(items.join(","))));
            }
            Value::Null => flat.push((key.to_owned(), None)),
            Value::String(text) => flat.push((key.to_owned(), Some(text.clone()))),
            other => flat.push((key.to_owned(), Some(other.to_string()))),
        }
    }
    let json = serde_json::to_value(settings).expect("settings are plain data");
    let mut flat = Vec::new();
    walk("", &json, &mut flat);
    flat
}

fn passed_through(key: &str) -> Option<&str> {
    let property = key.strip_prefix(PASSED_THROUGH)?.strip_prefix('.')?;
    (!property.is_empty()).then_some(property)
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
