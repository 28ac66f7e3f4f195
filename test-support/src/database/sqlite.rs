//! SQLite: a file in a temporary folder, with the settings of production.

use super::{MAX_CONNECTIONS, connect};
use cryptopay_migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectOptions, DatabaseConnection,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use std::time::Duration;
use tempfile::TempDir;

/// How long a writer waits for the one that SQLite lets write. Long, so that a slow machine does not look like a bug.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn create() -> (DatabaseConnection, String, TempDir) {
    let folder = tempfile::Builder::new()
        .prefix("cryptopay-sqlite.")
        .tempdir()
        .expect("the temporary folder should be writable");
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("cryptopay.db").display());
    let connection = connect(&url, MAX_CONNECTIONS, configure).await;
    Migrator::up(&connection, None).await.unwrap_or_else(|error| panic!("cannot migrate {url}: {error}"));
    (connection, url, folder)
}

fn configure(options: &mut ConnectOptions) {
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
    });
}
