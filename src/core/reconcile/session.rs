//! One consistent snapshot of PostgreSQL: a transaction that reads only, on a connection of its own.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, Row, types::ToSql};

use super::{Error, copy::Rows};
use crate::core::{config, store::postgres::connection::address};

/// A snapshot that nobody reads on holds old rows back in the server: it is ended after so long.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A snapshot. It ends with its connection.
pub struct Snapshot {
    client: Client,
}

impl Snapshot {
    /// Begins one. Plans are the planner's own here: whole tables are read.
    pub async fn begin(settings: &config::Postgres) -> Result<Self, Error> {
        let url = settings.url.as_deref().unwrap_or_default();
        let mut config: Config = url
            .parse()
            .map_err(|error| Error::Failed(format!("`postgres.url` is no URL: {error}")))?;
        // A statement reads a whole shard, and takes as long as it takes.
        let options = format!(
            "{} -c statement_timeout=0 -c idle_in_transaction_session_timeout={} -c jit=off \
             -c enable_sort=off",
            config.get_options().unwrap_or_default(),
            IDLE_MAX.as_millis()
        );
        config
            .options(options.trim())
            .application_name("axs-reconcile")
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(settings.statement_timeout);
        let address = address(&config);
        let connected = config.connect(NoTls).await;
        let (client, connection) =
            connected.map_err(|error| Error::Unavailable(format!("{address}: {error}")))?;
        // Ends when the client is dropped; what goes wrong is told to whoever waits for an answer.
        tokio::spawn(connection);
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client.batch_execute(begin).await?;
        Ok(Self { client })
    }

    /// Ends it before its connection ends.
    pub async fn end(&self) {
        // A connection that is lost has ended it too.
        let _ = self.client.batch_execute("COMMIT").await;
    }

    /// Rows of a statement whose answer is small.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        Ok(self.client.query(sql, parameters).await?)
    }

    /// Rows of a statement whose answer is large, one after the other.
    pub async fn rows(&self, select: &str) -> Result<Rows, Error> {
        let copy = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        Ok(Rows::new(self.client.copy_out(&copy).await?))
    }
}
