//! A PostgreSQL database of a test's own: made and migrated at the beginning, dropped at the end,
//! a failed test's too.

use axs::core::{
    config,
    store::{Store, postgres},
};
use tokio_postgres::{Client, Config, NoTls};

use crate::support::{required, unique};

/// Dropped with it.
pub struct Database {
    /// The server's own database, from which others are made.
    server: Config,
    name: String,
    /// Names the database.
    pub settings: config::Postgres,
}

impl Database {
    /// Empty, without a schema, on the server that tests share.
    pub async fn empty() -> Self {
        Self::empty_at(&required("AXS_TEST_POSTGRES_URL")).await
    }

    /// Empty, on a server named by the URL of any of its databases.
    pub async fn empty_at(url: &str) -> Self {
        let server: Config = url.parse().expect("the server's address is a URL");
        let name = unique("axs-test");
        let admin = client(&server).await;
        let create = format!("CREATE DATABASE \"{name}\"");
        admin.batch_execute(&create).await.expect("a new database");
        let settings = config::Postgres {
            url: Some(with_database(url, &name)),
            ..config::Postgres::default()
        };
        Self {
            server,
            name,
            settings,
        }
    }

    /// With the schema, so many shards and no assets.
    pub async fn migrated(shards: u16) -> Self {
        let database = Self::empty().await;
        let cluster = config::Cluster {
            shards: Some(shards),
            assets: Vec::new(),
        };
        let report = postgres::migrate::run(&database.settings, &cluster).await;
        assert_eq!(report.expect("the schema is made").shards, shards);
        database
    }

    /// A process's store on it.
    pub async fn store(&self) -> Store {
        let store = postgres::Store::connect(&self.settings, "axs-test").await;
        Store::Postgres(store.expect("the database was just made"))
    }

    /// Copies it, as a backup would; nobody may be connected.
    pub async fn copy_aside(&self) {
        let (name, admin) = (&self.name, client(&self.server).await);
        let copy = format!("CREATE DATABASE \"{name}-copy\" TEMPLATE \"{name}\"");
        admin.batch_execute(&copy).await.expect("a copy");
    }

    /// Puts the copy in its place; nobody may be connected.
    pub async fn bring_copy_back(&self) {
        let (name, admin) = (&self.name, client(&self.server).await);
        let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
        admin
            .batch_execute(&drop)
            .await
            .expect("the later database goes");
        let rename = format!("ALTER DATABASE \"{name}-copy\" RENAME TO \"{name}\"");
        admin
            .batch_execute(&rename)
            .await
            .expect("the copy takes its place");
    }

    /// A session of its own, for SQL by hand.
    pub async fn session(&self) -> Client {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        client(&config).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test's runtime cannot wait in here, and may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
                client(&server).await.batch_execute(&drop).await
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) && !std::thread::panicking() {
            panic!("the test's database `{}` could not be dropped", self.name);
        }
    }
}

async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// The URL with another database in it.
fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = base.split_once("://").expect("a URL has a scheme");
    let server = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}://{server}/{name}?{parameters}")
}
