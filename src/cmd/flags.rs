//! Flags that override settings, shared by the commands that use them.

use std::net::SocketAddr;

/// (setting, flag, value), as `config::load` takes them.
pub type Settings = Vec<(&'static str, &'static str, String)>;

/// Where the gRPC API is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Server {
    /// Address of the API [default: client.server, http://127.0.0.1:7250]
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub server: Option<String>,
}

impl Server {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "client.server",
            "--server",
            self.server.as_ref(),
        );
        settings
    }
}

/// PostgreSQL.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Postgres {
    /// PostgreSQL [default: postgres.url]
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub postgres_url: Option<String>,
}

/// Kafka.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Kafka {
    /// Kafka, as host:port,… [default: kafka.brokers]
    #[arg(long, value_name = "BROKERS")]
    pub kafka_brokers: Option<String>,
}

/// Redis.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Redis {
    /// Redis [default: redis.url; without it reads come from PostgreSQL]
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub redis_url: Option<String>,
}

/// Everything a service connects to, and its admin port.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Servers {
    #[command(flatten)]
    pub postgres: Postgres,
    #[command(flatten)]
    pub kafka: Kafka,
    #[command(flatten)]
    pub redis: Redis,
}

/// The admin port.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Admin {
    /// Where /healthz, /readyz, /metrics and /version are [default: admin.listen, see `axs config`]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
}

/// The gRPC API.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Grpc {
    /// Where the gRPC API listens [default: grpc.listen, 127.0.0.1:7250]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc_listen: Option<SocketAddr>,
}

impl Postgres {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "postgres.url",
            "--postgres-url",
            self.postgres_url.as_ref(),
        );
        settings
    }
}

impl Kafka {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "kafka.brokers",
            "--kafka-brokers",
            self.kafka_brokers.as_ref(),
        );
        settings
    }
}

impl Redis {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "redis.url",
            "--redis-url",
            self.redis_url.as_ref(),
        );
        settings
    }
}

impl Servers {
    pub fn settings(&self) -> Settings {
        [
            self.postgres.settings(),
            self.kafka.settings(),
            self.redis.settings(),
        ]
        .concat()
    }
}

impl Admin {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "admin.listen",
            "--admin-listen",
            self.admin_listen.as_ref(),
        );
        settings
    }
}

impl Grpc {
    pub fn settings(&self) -> Settings {
        let mut settings = Vec::new();
        given(
            &mut settings,
            "grpc.listen",
            "--grpc-listen",
            self.grpc_listen.as_ref(),
        );
        settings
    }
}

/// Adds the setting, if its flag was given.
pub fn given(
    settings: &mut Settings,
    key: &'static str,
    flag: &'static str,
    value: Option<&impl ToString>,
) {
    if let Some(value) = value {
        settings.push((key, flag, value.to_string()));
    }
}
