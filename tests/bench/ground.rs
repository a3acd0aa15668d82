//! Where benches of a test run: on the shared servers, under names of the test's own, so that what
//! a bench leaves behind is seen.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    process::axs,
    support::{required, unique},
};

/// One at a time: each is several busy processes, and databases are told apart by time.
static TURN: Mutex<()> = Mutex::new(());
/// A server answers within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Names, and what was there before.
pub struct Ground {
    settings: Vec<(&'static str, String)>,
    prefix: String,
    folder: tempfile::TempDir,
    databases: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    /// Waits for its turn.
    pub fn take() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = unique("axs-test");
        let settings = vec![
            ("AXS_POSTGRES__URL", required("AXS_TEST_POSTGRES_URL")),
            ("AXS_KAFKA__BROKERS", required("AXS_TEST_KAFKA_BROKERS")),
            ("AXS_KAFKA__TOPIC_PREFIX", format!("{prefix}.")),
            ("AXS_REDIS__URL", required("AXS_TEST_REDIS_URL")),
            ("AXS_REDIS__KEY_PREFIX", format!("{prefix}:")),
            // Logs of its services.
            ("TMPDIR", folder.path().join("tmp").display().to_string()),
            ("PATH", required("PATH")),
        ];
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder");
        let mut ground = Self {
            settings,
            prefix,
            folder,
            databases: Vec::new(),
            _turn: turn,
        };
        ground.databases = ground.databases();
        ground
    }

    /// For files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `axs bench` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let settings = self.settings.iter();
        let settings: Vec<(&str, &str)> = settings.map(|(name, it)| (*name, &**it)).collect();
        let mut command = axs(&["bench"], &settings);
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Of benches, but for those that were there before.
    pub fn databases(&self) -> Vec<String> {
        let url = required("AXS_TEST_POSTGRES_URL");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let names = runtime.expect("a runtime").block_on(async {
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            let (client, connection) = connected.expect("PostgreSQL answers");
            tokio::spawn(connection);
            let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'axs\\_bench\\_%'";
            let rows = client.query(sql, &[]).await.expect("databases are listed");
            rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        });
        let is_new = |name: &String| !self.databases.contains(name);
        names.into_iter().filter(is_new).collect()
    }

    fn topics(&self) -> Vec<String> {
        let mut config = ClientConfig::new();
        let config = config.set("bootstrap.servers", required("AXS_TEST_KAFKA_BROKERS"));
        let client: BaseConsumer = config.create().expect("a client");
        let metadata = client
            .fetch_metadata(None, PATIENCE)
            .expect("Kafka answers");
        let names = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned());
        names
            .filter(|name| name.starts_with(&self.prefix))
            .collect()
    }

    fn keys(&self) -> Vec<String> {
        let client = redis::Client::open(required("AXS_TEST_REDIS_URL")).expect("an address");
        let connection = client.get_connection_with_timeout(PATIENCE);
        let mut connection = connection.expect("Redis answers");
        let mut keys = redis::cmd("KEYS");
        let keys = keys.arg(format!("{}*", self.prefix)).query(&mut connection);
        keys.expect("keys are listed")
    }

    /// Nothing is left on any server, and no log of a service.
    #[track_caller]
    pub fn is_clean(&self) {
        let logs = std::fs::read_dir(self.folder.path().join("tmp")).expect("a folder");
        let logs: Vec<_> = logs.map(|it| it.expect("an entry").path()).collect();
        let left = (self.databases(), self.topics(), self.keys(), logs);
        assert_eq!(left, (Vec::new(), Vec::new(), Vec::new(), Vec::new()));
    }
}
