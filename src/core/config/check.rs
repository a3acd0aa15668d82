//! Ranges of the settings, what must fit together, and which parts of them are secret.

use std::time::Duration;

use super::Settings;
use crate::core::{
    assets::{self, SCALE_MAX},
    types::SHARDS_MAX,
};

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one.
    pub key: &'static str,
    /// What is wrong and what it must be.
    pub problem: String,
}

type Result<T = ()> = std::result::Result<T, Problem>;

/// Refuses the first setting that cannot work, in the order of sections.
pub fn check(settings: &Settings) -> Result {
    cluster(settings)?;
    api(settings)?;
    servers(settings)?;
    acceptance(settings)?;
    leading(settings)
}

/// Parses an asset as settings and flags name it: `CODE:SCALE`.
pub fn parse_asset(text: &str) -> std::result::Result<(String, u8), String> {
    let parsed = text
        .split_once(':')
        .and_then(|(code, scale)| Some((code, scale.parse::<u8>().ok()?)));
    match parsed {
        Some((code, scale)) if assets::is_valid_code(code) && scale <= SCALE_MAX => {
            Ok((code.to_owned(), scale))
        }
        _ => Err(format!(
            "`{text}` is no asset such as `USDT:18`: a code of 1 to 16 characters A-Z 0-9 . _ - \
             and a scale of 0 to {SCALE_MAX}"
        )),
    }
}

/// The value of `key` as it may be shown: without passwords.
pub fn redacted(key: &str, value: &str) -> String {
    const SECRET_WORDS: [&str; 5] = ["password", "secret", "token", "jaas", "key.pem"];
    if SECRET_WORDS.iter().any(|word| key.contains(word)) {
        return "***".into();
    }
    redacted_url(value)
}

/// A URL without its password; any other text unchanged.
pub fn redacted_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return redacted_words(text);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    // A password may hold an unescaped `/` or `@`: the last `@` of the whole is the safe cut.
    let Some(at) = rest
        .rfind('@')
        .filter(|at| *at < end || rest[..*at].contains(':'))
    else {
        return redacted_query(text);
    };
    let user = rest[..at].split(':').next().unwrap_or_default();
    let has_password = rest[..at].contains(':');
    let password = if has_password { ":***" } else { "" };
    redacted_query(&format!("{scheme}://{user}{password}{}", &rest[at..]))
}

/// `password=…` in the query of a URL.
fn redacted_query(url: &str) -> String {
    let Some((front, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let shown: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.contains("password") => format!("{name}=***"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{front}?{}", shown.join("&"))
}

/// `host=… password=…`, PostgreSQL's other way to write a connection.
fn redacted_words(text: &str) -> String {
    if !text.contains("password") {
        return text.to_owned();
    }
    let end = text.find("password").unwrap_or(text.len());
    format!("{}password=***", &text[..end])
}

fn cluster(settings: &Settings) -> Result {
    if let Some(shards) = settings.cluster.shards {
        within(
            "cluster.shards",
            u64::from(shards),
            1,
            u64::from(SHARDS_MAX),
        )?;
    }
    let mut codes = Vec::new();
    for text in &settings.cluster.assets {
        let (code, _) = parse_asset(text).map_err(|problem| Problem {
            key: "cluster.assets",
            problem,
        })?;
        if codes.contains(&code) {
            return wrong("cluster.assets", format!("`{code}` stands there twice"));
        }
        codes.push(code);
    }
    Ok(())
}

fn api(settings: &Settings) -> Result {
    let grpc = &settings.grpc;
    let bytes = grpc.message_bytes_max as u64;
    within("grpc.message_bytes_max", bytes, 64 << 10, 64 << 20)?;
    within("grpc.streams_max", u64::from(grpc.streams_max), 1, 1 << 20)?;
    let in_flight = grpc.stream_in_flight_max as u64;
    within("grpc.stream_in_flight_max", in_flight, 1, 1 << 20)?;
    within("grpc.waiters_max", grpc.waiters_max as u64, 1, 10_000_000)?;
    let server = &settings.client.server;
    match server.parse::<tonic::transport::Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.authority().is_some() => Ok(()),
        _ => wrong(
            "client.server",
            format!(
                "`{}` is no address such as `http://127.0.0.1:7250`",
                redacted_url(server)
            ),
        ),
    }
}

fn servers(settings: &Settings) -> Result {
    let postgres = &settings.postgres;
    if let Some(url) = &postgres.url
        && url.parse::<tokio_postgres::Config>().is_err()
    {
        let form = "it must look like `postgres://user:password@host:5432/database`";
        return wrong(
            "postgres.url",
            format!("`{}` is no URL, {form}", redacted_url(url)),
        );
    }
    let connections = u64::from(postgres.read_connections_max);
    within("postgres.read_connections_max", connections, 1, 1_000)?;
    positive("postgres.connect_timeout", postgres.connect_timeout)?;
    positive("postgres.statement_timeout", postgres.statement_timeout)?;

    let kafka = &settings.kafka;
    if let Some(brokers) = &kafka.brokers {
        brokers.split(',').try_for_each(broker)?;
    }
    let is_topic_character =
        |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if !kafka.topic_prefix.chars().all(is_topic_character) || kafka.topic_prefix.len() > 200 {
        let form = "it may hold up to 200 of the characters a-z A-Z 0-9 . _ -";
        return wrong(
            "kafka.topic_prefix",
            format!("`{}`: {form}", kafka.topic_prefix),
        );
    }
    within("kafka.replication", u64::from(kafka.replication), 1, 64)?;
    let (min, most) = (kafka.min_insync_replicas, kafka.replication);
    within(
        "kafka.min_insync_replicas",
        u64::from(min),
        1,
        u64::from(most),
    )?;

    let redis = &settings.redis;
    if let Some(url) = &redis.url
        && redis::parse_redis_url(url).is_none()
    {
        let form = "it must look like `redis://host:6379`";
        return wrong(
            "redis.url",
            format!("`{}` is no URL, {form}", redacted_url(url)),
        );
    }
    positive("redis.timeout", redis.timeout)
}

fn broker(text: &str) -> Result {
    let parsed = text.trim().rsplit_once(':');
    match parsed {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => wrong(
            "kafka.brokers",
            format!("`{text}` is no `host:port`, several are separated by commas"),
        ),
    }
}

fn acceptance(settings: &Settings) -> Result {
    let writer = &settings.writer;
    let group = writer.group_count_max as u64;
    within("writer.group_count_max", group, 1, 10_000)?;
    within(
        "writer.inbox_count_max",
        writer.inbox_count_max as u64,
        group,
        10_000_000,
    )?;
    within(
        "writer.block_size",
        u64::from(writer.block_size),
        1,
        10_000_000,
    )?;
    let outbox = &settings.outbox;
    positive("outbox.interval", outbox.interval)?;
    positive("outbox.margin", outbox.margin)?;
    positive("outbox.block_age_max", outbox.block_age_max)?;
    within(
        "outbox.pass_count_max",
        outbox.pass_count_max as u64,
        1,
        1_000_000,
    )
}

fn leading(settings: &Settings) -> Result {
    let consume = &settings.consume;
    within(
        "consume.batch_count_max",
        consume.batch_count_max as u64,
        1,
        60_000,
    )?;
    let bytes = consume.batch_bytes_max as u64;
    within("consume.batch_bytes_max", bytes, 64 << 10, 1 << 30)?;
    within(
        "consume.accounts_max",
        consume.accounts_max as u64,
        1,
        1 << 32,
    )?;
    within(
        "consume.drift_accounts_max",
        consume.drift_accounts_max as u64,
        0,
        10_000,
    )?;
    let (shortest, longest) = (Duration::from_millis(500), Duration::from_secs(60));
    let lease = consume.lease_ttl;
    if lease < shortest || lease > longest {
        let shown = humantime::format_duration(lease);
        return wrong(
            "consume.lease_ttl",
            format!("{shown} is out of range, it must be 500ms to 1m"),
        );
    }
    Ok(())
}

fn within(key: &'static str, value: u64, least: u64, most: u64) -> Result {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    wrong(
        key,
        format!("{value} is out of range, it must be {least} to {most}"),
    )
}

fn positive(key: &'static str, value: Duration) -> Result {
    if value.is_zero() {
        return wrong(key, "it must be longer than 0s".into());
    }
    Ok(())
}

fn wrong<T>(key: &'static str, problem: String) -> Result<T> {
    Err(Problem { key, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(check(&Settings::default()), Ok(()));
    }

    #[test]
    fn every_setting_out_of_range_is_named() {
        type Change = fn(&mut Settings);
        let table: [(&str, Change); 14] = [
            ("cluster.shards", |s| s.cluster.shards = Some(1025)),
            ("cluster.assets", |s| {
                s.cluster.assets = vec!["usdt:18".into()]
            }),
            ("cluster.assets", |s| {
                s.cluster.assets = vec!["EUR:2".into(), "EUR:3".into()]
            }),
            ("grpc.message_bytes_max", |s| s.grpc.message_bytes_max = 1),
            ("client.server", |s| {
                s.client.server = "127.0.0.1:7250".into()
            }),
            ("client.server", |s| {
                s.client.server = "https://127.0.0.1:7250".into()
            }),
            ("postgres.url", |s| {
                s.postgres.url = Some("mysql://x".into())
            }),
            ("kafka.brokers", |s| s.kafka.brokers = Some("a:1,b".into())),
            ("kafka.topic_prefix", |s| {
                s.kafka.topic_prefix = "a/b".into()
            }),
            ("kafka.min_insync_replicas", |s| {
                s.kafka.min_insync_replicas = 2
            }),
            ("redis.url", |s| s.redis.url = Some("http://x".into())),
            ("writer.inbox_count_max", |s| s.writer.inbox_count_max = 1),
            ("consume.lease_ttl", |s| {
                s.consume.lease_ttl = Duration::from_millis(1)
            }),
            ("outbox.margin", |s| s.outbox.margin = Duration::ZERO),
        ];
        for (key, change) in table {
            let mut settings = Settings::default();
            change(&mut settings);
            let problem = check(&settings).expect_err(key);
            assert_eq!(problem.key, key, "{}", problem.problem);
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let table = [
            (
                "postgres://ann:s3cret@host:5432/axs",
                "postgres://ann:***@host:5432/axs",
            ),
            (
                "postgres://ann:a/b@c@host/axs",
                "postgres://ann:***@host/axs",
            ),
            ("postgres://ann@host/axs", "postgres://ann@host/axs"),
            (
                "postgres://host/axs?user=a&password=b",
                "postgres://host/axs?user=a&password=***",
            ),
            ("host=h user=u password=b", "host=h user=u password=***"),
            ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
            ("redis://host:6379", "redis://host:6379"),
            ("a:9092,b:9092", "a:9092,b:9092"),
        ];
        for (text, shown) in table {
            assert_eq!(redacted("postgres.url", text), shown);
        }
        assert_eq!(redacted("kafka.properties.sasl.password", "x"), "***");
    }
}
