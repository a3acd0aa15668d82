//! A verdict that notices nothing proves nothing: a key that is forgotten in the middle of a run must
//! be found out.

use tokio_postgres::{Client, NoTls};

use crate::{
    member::{PATIENCE, eventually},
    run::{Run, own_servers},
    stack::Stack,
};

const LAW: &str = "every key belongs to a command, and every command has its key";
/// Of somebody who was told its outcome.
const FORGET: &str = "DELETE FROM idempotency WHERE command_id = (SELECT min(command_id)
    FROM idempotency)";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_forgotten_is_a_difference() {
    let stack = own_servers();
    let arguments = ["--minutes", "0.2", "--faults", "stop", "--keep"];
    let run = Run::start(&arguments, Some(&stack));
    let url = Stack::address(Some(&stack), "AXS_TEST_POSTGRES_URL");
    let name = eventually(PATIENCE, async || {
        let server = session(&url, None).await?;
        let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'axs\\_chaos\\_%'";
        let row = server.query_one(sql, &[]).await;
        row.map(|row| row.get::<_, String>(0))
            .map_err(|error| error.to_string())
    })
    .await;
    eventually(PATIENCE, async || {
        let session = session(&url, Some(&name)).await?;
        let count = "SELECT count(*) FROM journal";
        let row = session.query_one(count, &[]).await;
        match row.map(|row| row.get::<_, i64>(0)) {
            Ok(1..) => session.execute(FORGET, &[]).await,
            Ok(_) => return Err("nothing is decided yet".into()),
            Err(error) => Err(error),
        }
        .map_err(|error| error.to_string())
    })
    .await;
    let report = run.finish();
    assert!(!report.law_holds(LAW), "{report:?}");
    assert_eq!(report.code, Some(3), "{report:?}");
}

async fn session(url: &str, database: Option<&str>) -> Result<Client, String> {
    let mut config: tokio_postgres::Config = url.parse().expect("a URL");
    if let Some(database) = database {
        config.dbname(database);
    }
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}
