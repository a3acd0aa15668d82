//! Puts the settings together: flags > environment > file > defaults. Knows where each value came
//! from; a wrong key or value is one sentence that names both. Prints nothing.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use config::{ConfigError, File, FileFormat, Source, ValueKind};
use serde_json::Value;

use super::{
    Settings, check,
    keys::{self, Known},
};

/// Variables with this prefix and at least one `__` are settings: `AXS_SECTION__KEY`.
const ENVIRONMENT_PREFIX: &str = "AXS_";
/// Read when no file is named, if it is there.
const FILE_DEFAULT: &str = "./axs.toml";

/// Why the settings are of no use. Exit code 6 at the command line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the settings file `{path}`: {cause}")]
    Unreadable {
        /// Which.
        path: String,
        /// As the system says it.
        cause: String,
    },
    /// The file is no TOML.
    #[error("the settings file `{path}` is not valid TOML: {cause}")]
    Syntax {
        /// Which.
        path: String,
        /// With line and column.
        cause: String,
    },
    /// There is no such setting.
    #[error("unknown setting `{key}` in {origin}{}", suggestion(.similar))]
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        origin: Origin,
        /// A known key like it.
        similar: Option<String>,
    },
    /// A value that does not fit its key.
    #[error("setting `{key}` from {origin}: {problem}")]
    BadValue {
        /// Which.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// What is wrong and what it must be.
        problem: String,
    },
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A settings file.
    File(String),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, by name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file `{path}`"),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::Flag(name) => write!(f, "flag `{name}`"),
        }
    }
}

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; without it `./axs.toml` is read if it is there.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub environment: Vec<(String, String)>,
    /// (setting, flag, value) of the flags that were given.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// The settings, and where each that was set came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Checked.
    pub settings: Settings,
    origins: BTreeMap<String, Origin>,
}

/// One setting as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `section.key`.
    pub key: String,
    /// Secrets are replaced; `None`: not set.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl Loaded {
    /// Every setting in the order of keys, secrets redacted.
    pub fn shown(&self) -> Vec<Shown> {
        keys::flat(&self.settings)
            .into_iter()
            .map(|(key, value)| Shown {
                value: value.map(|value| check::redacted(&key, &value)),
                origin: self.origin(&key),
                key,
            })
            .collect()
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// The settings as the environment of another process.
pub fn environment(settings: &Settings) -> Vec<(String, String)> {
    let set = keys::flat(settings)
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let name = |key: String| {
        let key = key.replace('.', "__").to_uppercase();
        format!("{ENVIRONMENT_PREFIX}{key}")
    };
    set.map(|(key, value)| (name(key), value)).collect()
}

/// Puts the settings together and checks them.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let known = Known::new();
    let mut layers = file_layer(sources.file.as_deref())?;
    layers.extend(environment_layer(&sources.environment));
    layers.extend(sources.flags.iter().map(|(key, flag, value)| {
        let value = Written::Text(value.clone());
        ((*key).to_owned(), value, Origin::Flag(flag))
    }));

    let mut values = BTreeMap::new();
    let mut origins = BTreeMap::new();
    for (key, value, origin) in layers {
        if !known.contains(&key) {
            return Err(Error::UnknownKey {
                similar: known.similar(&key),
                key,
                origin,
            });
        }
        let value = match value {
            Written::Text(text) => keys::parse_text(&key, &text),
            Written::Value(value) => keys::parse_value(&key, value),
        };
        match value {
            Ok(value) => values.insert(key.clone(), value),
            Err(problem) => {
                return Err(Error::BadValue {
                    key,
                    origin,
                    problem,
                });
            }
        };
        origins.insert(key, origin);
    }
    let settings = keys::settings_of(&values).unwrap_or_else(|error| {
        panic!("settings that fit one by one fit together: {error}");
    });
    checked(Loaded { settings, origins })
}

fn checked(loaded: Loaded) -> Result<Loaded, Error> {
    match check::check(&loaded.settings) {
        Ok(()) => Ok(loaded),
        Err(check::Problem { key, problem }) => Err(Error::BadValue {
            origin: loaded.origin(key),
            key: key.to_owned(),
            problem,
        }),
    }
}

/// A value as it was written: environment and flags know texts only.
enum Written {
    Text(String),
    Value(Value),
}

type Layer = Vec<(String, Written, Origin)>;

fn file_layer(named: Option<&Path>) -> Result<Layer, Error> {
    let path = match named {
        Some(path) => path,
        None if Path::new(FILE_DEFAULT).is_file() => Path::new(FILE_DEFAULT),
        None => return Ok(Vec::new()),
    };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::Unreadable {
        path: shown.clone(),
        cause: error.to_string(),
    })?;
    let tables = File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| Error::Syntax {
            path: shown.clone(),
            cause: syntax_sentence(&error),
        })?;
    let mut layer = Vec::new();
    for (key, value) in tables {
        flatten(key, value, &Origin::File(shown.clone()), &mut layer);
    }
    layer.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(layer)
}

fn environment_layer(environment: &[(String, String)]) -> Layer {
    let mut layer = Vec::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        if rest.contains("__") {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let value = Written::Text(value.clone());
            layer.push((key, value, Origin::Environment(name.clone())));
        }
    }
    layer.sort_by(|a, b| a.0.cmp(&b.0));
    layer
}

fn flatten(key: String, value: config::Value, origin: &Origin, layer: &mut Layer) {
    match value.kind {
        ValueKind::Table(table) => {
            for (inner, value) in table {
                flatten(format!("{key}.{inner}"), value, origin, layer);
            }
        }
        kind => layer.push((key, Written::Value(json(kind)), origin.clone())),
    }
}

fn json(kind: ValueKind) -> Value {
    match kind {
        ValueKind::Nil | ValueKind::Table(_) => Value::Null,
        ValueKind::Boolean(value) => value.into(),
        ValueKind::I64(value) => value.into(),
        ValueKind::U64(value) => value.into(),
        ValueKind::Float(value) => value.into(),
        ValueKind::String(text) => text.into(),
        ValueKind::Array(items) => items.into_iter().map(|item| json(item.kind)).collect(),
        // TOML has no wider integers.
        ValueKind::I128(value) => value.to_string().into(),
        ValueKind::U128(value) => value.to_string().into(),
    }
}

fn syntax_sentence(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    // The first line says where, the last one what; the excerpt between is drawn for terminals.
    match lines.as_slice() {
        [] => "no reason given".into(),
        [only] => (*only).into(),
        [first, .., last] => format!("{first}: {last}"),
    }
}

fn suggestion(similar: &Option<String>) -> String {
    match similar {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; `axs config template` lists every setting".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> Sources {
        Sources {
            environment: vec![(name.into(), value.into())],
            ..Sources::default()
        }
    }

    #[test]
    fn settings_pass_through_the_environment_of_a_process() {
        let mut settings = Settings::default();
        settings.cluster.assets = vec!["EUR:2".into(), "BTC:8".into()];
        settings.consume.lease_ttl = std::time::Duration::from_millis(1_500);
        settings.postgres.url = Some("postgres://a@b/c".into());
        let properties = &mut settings.kafka.properties;
        properties.insert("socket.timeout.ms".into(), "60000".into());
        let sources = Sources {
            environment: super::environment(&settings),
            ..Sources::default()
        };
        assert_eq!(load(&sources).expect("it loads").settings, settings);
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("axs.toml");
        let text = "[cluster]\nshards = 2\nassets = [\"USDT:18\"]\n[grpc]\nstreams_max = 7\n\
                    [kafka.properties]\nsocket.timeout.ms = 900\n\"client.id\" = \"x\"\n";
        std::fs::write(&path, text).expect("written");
        let loaded = load(&Sources {
            file: Some(path.clone()),
            environment: vec![
                ("AXS_CLUSTER__SHARDS".into(), "3".into()),
                ("AXS_CONSUME__LEASE_TTL".into(), "4s".into()),
                ("AXS_TEST_POSTGRES_URL".into(), "no setting".into()),
            ],
            flags: vec![("cluster.shards", "--shards", "5".into())],
        })
        .expect("loads");
        let settings = &loaded.settings;
        assert_eq!(settings.cluster.shards, Some(5));
        assert_eq!(settings.cluster.assets, ["USDT:18"]);
        assert_eq!(settings.grpc.streams_max, 7);
        assert_eq!(settings.consume.lease_ttl.as_secs(), 4);
        assert_eq!(settings.kafka.properties["socket.timeout.ms"], "900");
        assert_eq!(settings.kafka.properties["client.id"], "x");
        assert_eq!(loaded.origin("cluster.shards"), Origin::Flag("--shards"));
        assert_eq!(
            loaded.origin("grpc.streams_max"),
            Origin::File(path.display().to_string())
        );
        assert_eq!(
            loaded.origin("consume.lease_ttl"),
            Origin::Environment("AXS_CONSUME__LEASE_TTL".into())
        );
        assert_eq!(loaded.origin("redis.url"), Origin::Default);
    }

    #[test]
    fn what_is_wrong_is_said_with_key_and_origin() {
        let table = [
            (
                "AXS_POSTGRES__URI",
                "x",
                "unknown setting `postgres.uri` in environment variable \
              `AXS_POSTGRES__URI`; did you mean `postgres.url`?",
            ),
            (
                "AXS_NO__SUCH__THING",
                "x",
                "unknown setting `no.such.thing` in environment variable \
              `AXS_NO__SUCH__THING`; `axs config template` lists every setting",
            ),
            (
                "AXS_CLUSTER__SHARDS",
                "many",
                "setting `cluster.shards` from environment variable \
              `AXS_CLUSTER__SHARDS`: invalid type: string \"many\", \
              expected u16",
            ),
            (
                "AXS_CLUSTER__SHARDS",
                "0",
                "setting `cluster.shards` from environment variable \
              `AXS_CLUSTER__SHARDS`: 0 is out of range, it must be 1 to 1024",
            ),
            (
                "AXS_CONSUME__LEASE_TTL",
                "2 parsecs",
                "setting `consume.lease_ttl` from environment \
              variable `AXS_CONSUME__LEASE_TTL`: `2 parsecs` is no duration such as `500ms` or \
              `2s`: unknown time unit \"parsecs\", supported units: ns, us/µs, ms, sec, min, hours, \
              days, weeks, months, years (and few variations)",
            ),
        ];
        for (name, value, sentence) in table {
            let error = load(&environment(name, value)).expect_err(name);
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        let loaded = load(&environment("AXS_CLUSTER__ASSETS", "EUR:2, XBT:8")).expect("loads");
        assert_eq!(loaded.settings.cluster.assets, ["EUR:2", "XBT:8"]);
    }
}
