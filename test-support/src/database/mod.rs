//! A database with the whole schema and no rows, for one test alone.

mod both;
mod postgres;
mod postgres_server;
mod sqlite;

use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use std::{fmt, time::Duration};

pub use both::block_on;
pub use postgres_server::PostgresServer;

/// Connections that one test may hold at a time: more than the tasks of any race that a test plays.
const MAX_CONNECTIONS: u32 = 10;
/// How long a test waits for a connection before it fails: far longer than a loaded machine takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A migrated, empty database that nobody else uses. It is deleted when this value is dropped.
///
/// [`on_both_databases!`](crate::on_both_databases) hands one to a test body on each database.
pub struct TestDatabase {
    // Fields are dropped in this order: the pool before what it is connected to.
    connection: DatabaseConnection,
    url: String,
    _storage: Storage,
}

/// Never read; kept for its drop, which deletes the database.
enum Storage {
    Sqlite { _folder: tempfile::TempDir },
    Postgres { _database: postgres::Owned },
}

impl TestDatabase {
    /// A SQLite file in a folder of its own, opened as in production: write-ahead log, foreign keys, a busy time-out,
    /// `synchronous` at `NORMAL`.
    ///
    /// # Panics
    ///
    /// When the file cannot be made or migrated.
    pub async fn sqlite() -> Self {
        let (connection, url, folder) = sqlite::create().await;
        Self { connection, url, _storage: Storage::Sqlite { _folder: folder } }
    }

    /// A PostgreSQL database, copied from a migrated template.
    ///
    /// It lives in the server that `CRYPTOPAY_TEST_POSTGRES` names (`scripts/test` sets it), else in a throwaway server
    /// that is started once per test process and ends with it.
    ///
    /// # Panics
    ///
    /// When there is no server and none can be started; the message says what is missing.
    pub async fn postgres() -> Self {
        Self::on(postgres_server::admin_url()).await
    }

    /// The same in a server of the test's own.
    ///
    /// # Panics
    ///
    /// When the server does not run.
    pub async fn postgres_in(server: &PostgresServer) -> Self {
        Self::on(server.admin_url()).await
    }

    async fn on(admin_url: &str) -> Self {
        let (connection, url, owned) = postgres::create(admin_url).await;
        Self { connection, url, _storage: Storage::Postgres { _database: owned } }
    }

    /// The pool of connections to this database. Clone it for tasks of their own; after the drop of this value such a
    /// clone gets errors.
    #[must_use]
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// The address, as `DATABASE_URL` takes it, for a process or a second pool that a test starts.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A pool for `url` with the tests' limits, opened through `adjust`.
async fn connect(url: &str, max_connections: u32, adjust: impl FnOnce(&mut ConnectOptions)) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(max_connections)
        .connect_timeout(CONNECT_TIMEOUT)
        .acquire_timeout(CONNECT_TIMEOUT)
        .sqlx_logging(false);
    adjust(&mut options);
    Database::connect(options).await.unwrap_or_else(|error| panic!("cannot open the test database {url}: {error}"))
}
