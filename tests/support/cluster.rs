//! A whole AXS on real servers: a database, topics and keys of its own, and the services of the
//! built binary. All of it goes with it.

use std::{path::Path, time::Duration};

use axs::core::{config, log::kafka::Topics as Names};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    database::Database,
    fixture::Topics,
    member::{Environment, PATIENCE, Process, command, eventually},
    process::Submit,
    stack::Stack,
    stream::{Report, Stream},
    support::unique,
};

/// Clusters at a time: each is half a dozen busy processes.
const CLUSTERS_MAX: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(CLUSTERS_MAX);

/// What a cluster consists of.
pub struct Options<'a> {
    pub shards: u16,
    /// As `cluster.assets`.
    pub assets: String,
    pub servers: usize,
    pub consumers: usize,
    pub outboxes: usize,
    /// Servers that the test may kill; what is not in there is shared.
    pub stack: Option<&'a Stack>,
    /// Further settings, as environment variables.
    pub settings: &'a [(&'a str, &'a str)],
}

impl Options<'_> {
    /// One of each, for a stream.
    pub fn of(stream: &Stream, shards: u16) -> Self {
        Self {
            shards,
            assets: stream.assets(),
            servers: 1,
            consumers: 1,
            outboxes: 1,
            stack: None,
            settings: &[],
        }
    }
}

/// Processes go first, then what they used.
pub struct Cluster {
    pub servers: Vec<Process>,
    pub consumers: Vec<Process>,
    pub outboxes: Vec<Process>,
    pub topics: Topics,
    pub redis: Keys,
    pub database: Database,
    pub shards: u16,
    environment: Environment,
    folder: tempfile::TempDir,
    _turn: SemaphorePermit<'static>,
}

impl Cluster {
    /// Made by `axs migrate`; every service is ready and every shard led.
    pub async fn start(options: Options<'_>) -> Self {
        let turn = TURNS.acquire().await.expect("it is never closed");
        let folder = tempfile::tempdir().expect("a folder");
        let address = |variable| Stack::address(options.stack, variable);
        let database = Database::empty_at(&address("AXS_TEST_POSTGRES_URL")).await;
        let prefix = unique("axs-test");
        let kafka = config::Kafka {
            brokers: Some(address("AXS_TEST_KAFKA_BROKERS")),
            topic_prefix: format!("{prefix}."),
            ..config::Kafka::default()
        };
        let redis = Keys {
            url: address("AXS_TEST_REDIS_URL"),
            prefix: format!("{prefix}:"),
        };
        let url = database
            .settings
            .url
            .clone()
            .expect("it names the database");
        let mut environment: Environment = [
            ("AXS_POSTGRES__URL", url),
            (
                "AXS_KAFKA__BROKERS",
                kafka.brokers.clone().expect("set above"),
            ),
            ("AXS_KAFKA__TOPIC_PREFIX", kafka.topic_prefix.clone()),
            ("AXS_REDIS__URL", redis.url.clone()),
            ("AXS_REDIS__KEY_PREFIX", redis.prefix.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let further = options.settings.iter();
        environment.extend(further.map(|(name, value)| ((*name).into(), (*value).into())));
        let mut cluster = Self {
            servers: Vec::new(),
            consumers: Vec::new(),
            outboxes: Vec::new(),
            topics: Topics {
                names: Names::new(&kafka.topic_prefix),
                settings: kafka,
                shards: options.shards,
            },
            redis,
            database,
            shards: options.shards,
            environment,
            folder,
            _turn: turn,
        };
        cluster.migrate(&options.assets);
        for _ in 0..options.consumers {
            cluster.add_consumer().await;
        }
        for _ in 0..options.outboxes {
            cluster.add_outbox().await;
        }
        for _ in 0..options.servers {
            cluster.add_server().await;
        }
        if options.consumers > 0 {
            cluster.is_led().await;
        }
        cluster
    }

    fn migrate(&self, assets: &str) {
        let mut environment = self.environment.clone();
        environment.push(("AXS_CLUSTER__SHARDS".into(), self.shards.to_string()));
        environment.push(("AXS_CLUSTER__ASSETS".into(), assets.into()));
        let output = command(&["migrate"], &environment, self.folder()).output();
        let output = output.expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "axs migrate: {error}");
    }

    pub async fn add_server(&mut self) {
        let process = self.process("serve-grpc", self.servers.len()).await;
        self.servers.push(process);
    }

    pub async fn add_consumer(&mut self) {
        let process = self.process("consume", self.consumers.len()).await;
        self.consumers.push(process);
    }

    pub async fn add_outbox(&mut self) {
        let process = self.process("cron-outbox", self.outboxes.len()).await;
        self.outboxes.push(process);
    }

    async fn process(&self, command: &'static str, number: usize) -> Process {
        let name = format!("{command}-{number}");
        Process::start(name, command, self.environment.clone(), self.folder()).await
    }

    /// Of the first server's API.
    pub fn server(&self) -> String {
        format!("http://{}", self.servers[0].grpc)
    }

    /// Of every process, and of commands beside them.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// From now on processes are started with this setting.
    pub fn set(&mut self, name: &str, value: &str) {
        let pair = (name.to_owned(), value.to_owned());
        self.environment.push(pair.clone());
        let processes = self.servers.iter_mut().chain(&mut self.consumers);
        for process in processes.chain(&mut self.outboxes) {
            process.set(pair.clone());
        }
    }

    /// The test's own; it goes with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a file; `wait` is `accepted` or `applied`.
    pub fn submit(&self, file: &Path, wait: &str) -> Submit {
        Submit::start(&self.server(), file, wait)
    }

    /// Sends a file and waits until each line is answered.
    pub fn send(&self, file: &Path, wait: &str) -> Vec<Report> {
        self.submit(file, wait).finish()
    }

    /// Runs a command of the operator's, and parses the JSON that it prints.
    pub async fn run(&self, arguments: &[&str]) -> serde_json::Value {
        let (code, document, error) = self.run_to_end(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {error}");
        document
    }

    /// Runs a command that may fail: its exit code, the JSON that it prints, and its errors.
    pub async fn run_to_end(&self, arguments: &[&str]) -> (i32, serde_json::Value, String) {
        let mut command = command(arguments, &self.environment, self.folder());
        command.arg("--json").stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output
            .expect("nobody aborts it")
            .expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let document = match output.stdout.is_empty() {
            true => serde_json::Value::Null,
            false => serde_json::from_slice(&output.stdout).expect("one document"),
        };
        (
            output.status.code().expect("it ends by itself"),
            document,
            error,
        )
    }

    /// Waits until every shard has a leader.
    pub async fn is_led(&self) {
        eventually(PATIENCE, async || {
            let led: usize = self
                .spread()
                .await
                .into_iter()
                .map(|(_, count)| count)
                .sum();
            match led == usize::from(self.shards) {
                true => Ok(()),
                false => Err(format!("{led} of {} shards are led", self.shards)),
            }
        })
        .await;
    }

    /// The single number that a query answers.
    pub async fn count(&self, sql: &str) -> i64 {
        let row = self.database.session().await.query_one(sql, &[]).await;
        row.expect("a number").get(0)
    }

    /// Process ids of the leaders, and how many shards each leads.
    pub async fn spread(&self) -> Vec<(u32, usize)> {
        let sql = "SELECT split_part(leader, ':', 2)::bigint, count(*) FROM shard_position
            WHERE lease_until > clock_timestamp() GROUP BY 1 ORDER BY 1";
        let rows = self.database.session().await.query(sql, &[]).await;
        let rows = rows.expect("leaders are read").into_iter();
        let spread = rows.map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1)));
        let small = "a small number";
        spread
            .map(|(pid, count)| {
                (
                    u32::try_from(pid).expect(small),
                    usize::try_from(count).expect(small),
                )
            })
            .collect()
    }
}

/// Keys under a prefix, deleted with it.
pub struct Keys {
    url: String,
    prefix: String,
}

impl Keys {
    /// Values of all keys below `name` in a shard, beside the rest of their keys.
    pub fn values(&self, shard: i16, name: &str) -> Vec<(String, String)> {
        let mut connection = self.connection().expect("Redis answers");
        let head = format!("{}{{{shard}}}:{name}:", self.prefix);
        let keys = self.keys(&mut connection, &head).expect("keys are listed");
        // A key may go between the list and the look: a value at fault is deleted before it is
        // written again.
        let value = |key: String| {
            let value: Option<String> = redis::cmd("GET")
                .arg(&key)
                .query(&mut connection)
                .expect("Redis answers");
            Some((key[head.len()..].to_owned(), value?))
        };
        keys.into_iter().filter_map(value).collect()
    }

    /// Loses a balance value.
    pub fn delete(&self, shard: i16, account: &str) {
        let mut connection = self.connection().expect("Redis answers");
        let delete = redis::cmd("DEL")
            .arg(self.balance(shard, account))
            .exec(&mut connection);
        delete.expect("a key is deleted");
    }

    /// Loses everything of a shard.
    pub fn delete_all(&self, shard: i16) {
        let mut connection = self.connection().expect("Redis answers");
        let pattern = format!("{}{{{shard}}}:*", self.prefix);
        let keys = redis::cmd("KEYS").arg(pattern).query(&mut connection);
        let keys: Vec<String> = keys.expect("keys are listed");
        let delete = redis::cmd("DEL").arg(keys).exec(&mut connection);
        delete.expect("keys are deleted");
    }

    /// Puts a balance value in place, whatever is there.
    pub fn set(&self, shard: i16, account: &str, value: &str) {
        let mut connection = self.connection().expect("Redis answers");
        let mut set = redis::cmd("SET");
        let set = set
            .arg(self.balance(shard, account))
            .arg(value)
            .exec(&mut connection);
        set.expect("a key is set");
    }

    fn balance(&self, shard: i16, account: &str) -> String {
        format!("{}{{{shard}}}:balance:{account}", self.prefix)
    }

    fn connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url.as_str())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn keys(
        &self,
        connection: &mut redis::Connection,
        head: &str,
    ) -> redis::RedisResult<Vec<String>> {
        let mut scan = redis::cmd("SCAN");
        scan.cursor_arg(0)
            .arg("MATCH")
            .arg(format!("{head}*"))
            .arg("COUNT")
            .arg(1_000);
        scan.iter(connection)?.collect()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A test that failed must say why itself: nothing is asserted here.
        if let Ok(mut connection) = self.connection()
            && let Ok(keys) = self.keys(&mut connection, &self.prefix)
            && !keys.is_empty()
        {
            let _ = redis::cmd("DEL").arg(keys).query::<i64>(&mut connection);
        }
    }
}
