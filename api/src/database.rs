//! Opening the database and bringing its schema up to date.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cryptopay_entity::{pool, sandbox_block};
use cryptopay_migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, TransactionTrait};
use secrecy::ExposeSecret;

use crate::config::{DatabaseUrl, Mode, Role};

/// Connections at most; a request or job holds one for the length of a transaction.
const MAX_CONNECTIONS: u32 = 24;
/// Connections for searches: as many as run at once (`operations::searches`).
pub const SEARCH_CONNECTIONS: u32 = 2;
/// Most connections of a process with this role to PostgreSQL. Jobs use one pool, requests and searches one each.
pub const fn most_connections(role: Role) -> u32 {
    match role {
        Role::All => most_connections(Role::Api).saturating_add(most_connections(Role::Worker)),
        Role::Api => MAX_CONNECTIONS.saturating_add(SEARCH_CONNECTIONS),
        Role::Worker => MAX_CONNECTIONS,
    }
}

/// Longest statement of a request on PostgreSQL. It is longer than [`LOCK_TIMEOUT`], so that a wait for a lock ends as
/// one, and shorter than the 10 s of a GraphQL operation.
const STATEMENT_TIMEOUT: &str = "8s";
/// How long a request waits for a connection before it is told that the gateway is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a writer waits for SQLite's one write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a statement waits on PostgreSQL for what another transaction holds. Source: the REST contract's wait for the
/// first request with an idempotency key.
const LOCK_TIMEOUT: &str = "5s";
/// Key of the advisory lock under which the schema is migrated (PostgreSQL).
const MIGRATION_LOCK: i64 = 0x43_50_5f_6d_69_67;

/// Why the schema is not what this binary needs.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database cannot be used at the moment.
    #[error("{0}")]
    Database(#[from] DbErr),
    /// The folder or lock file of the SQLite database cannot be used.
    #[error("{path}: {source}; make the folder writable or set CRYPTOPAY_DATA_DIR")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A newer version has migrated it.
    #[error("the database's schema is newer than this binary ({0}); run the version that made it, or restore a backup")]
    Newer(String),
    /// Live mode was begun on the database of a sandbox.
    #[error(
        "the database holds simulated chains of sandbox mode, where nobody paid with money; give live mode an empty database"
    )]
    Simulated,
}

impl SchemaError {
    /// Whether waiting can help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// The connections of a process, by their use.
#[derive(Debug, Clone)]
pub struct Pools {
    /// For jobs, timers and migrations. Their statements may take long.
    pub work: DatabaseConnection,
    /// For requests. On PostgreSQL each statement has a time-out. On SQLite these are the connections of `work`: no
    /// statement can be stopped there, and requests are bounded by the rows that they read.
    pub requests: DatabaseConnection,
    /// For searches, so that none of them holds a connection that orders or scans need.
    pub searches: DatabaseConnection,
}

impl Pools {
    /// Opens the database without waiting for it.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(url: &DatabaseUrl) -> Result<Self, SchemaError> {
        let work = open(url).await?;
        let requests = match url {
            DatabaseUrl::Sqlite(_) => work.clone(),
            DatabaseUrl::Postgres(_) => connect(url, MAX_CONNECTIONS, Some(STATEMENT_TIMEOUT)).await?,
        };
        let searches = connect(url, SEARCH_CONNECTIONS, Some(STATEMENT_TIMEOUT)).await?;
        Ok(Self { work, requests, searches })
    }
}

/// Opens the database without waiting for it: a server that is away is connected to when it comes back. Statements have
/// no time-out.
///
/// # Errors
/// Only for what no waiting mends, such as a folder that cannot be made.
pub async fn open(url: &DatabaseUrl) -> Result<DatabaseConnection, SchemaError> {
    connect(url, MAX_CONNECTIONS, None).await
}

async fn connect(
    url: &DatabaseUrl,
    connections: u32,
    statement_timeout: Option<&'static str>,
) -> Result<DatabaseConnection, SchemaError> {
    if let DatabaseUrl::Sqlite(path) = url {
        make_parent(path)?;
    }
    let mut options = ConnectOptions::new(url.connect_url().expose_secret().to_owned());
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy(true)
        .sqlx_logging(false)
        .map_sqlx_postgres_opts(move |postgres| {
            let statement_timeout = statement_timeout.map(|limit| ("statement_timeout", limit));
            postgres.options([("lock_timeout", LOCK_TIMEOUT)].into_iter().chain(statement_timeout))
        })
        .map_sqlx_postgres_pool_opts(pool::without_the_dead)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .journal_mode(sea_orm::sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sea_orm::sqlx::sqlite::SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT)
                .foreign_keys(true)
        });
    Ok(Database::connect(options).await?)
}

fn make_parent(path: &Path) -> Result<(), SchemaError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|source| SchemaError::File { path: parent.display().to_string(), source })
}

/// Applies what is missing, one process at a time.
///
/// # Errors
/// A newer schema is refused.
pub async fn migrate(url: &DatabaseUrl, database: &DatabaseConnection) -> Result<(), SchemaError> {
    match url {
        DatabaseUrl::Sqlite(path) => {
            let lock = lock_file(path).await?;
            let done = up(database).await;
            drop(lock);
            done
        }
        DatabaseUrl::Postgres(_) => {
            let lock = database.begin().await?;
            lock.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
            up(database).await?;
            lock.commit().await?;
            Ok(())
        }
    }
}

async fn up(database: &DatabaseConnection) -> Result<(), SchemaError> {
    check_not_newer(database).await?;
    Migrator::up(database, None).await?;
    Ok(())
}

/// Refuses, in live mode, a database that simulated chains have run in: nothing in an order tells that it was paid there.
///
/// # Errors
/// `Simulated`.
pub async fn check_not_simulated(mode: Mode, database: &DatabaseConnection) -> Result<(), SchemaError> {
    match mode {
        Mode::Live if sandbox_block::Entity::is_any(database).await? => Err(SchemaError::Simulated),
        _ => Ok(()),
    }
}

/// Refuses a schema that holds migrations which this binary does not know.
///
/// # Errors
/// `Newer`, naming them.
pub async fn check_not_newer(database: &DatabaseConnection) -> Result<(), SchemaError> {
    Migrator::install(database).await?;
    let known: Vec<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let applied = Migrator::get_migration_models(database).await?;
    let unknown: Vec<String> =
        applied.into_iter().map(|row| row.version).filter(|version| !known.contains(version)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(SchemaError::Newer(unknown.join(", "))) }
}

/// A lock beside the SQLite file, held while this is alive: the system gives it back however the process ends.
async fn lock_file(path: &Path) -> Result<File, SchemaError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".migrate-lock");
    let path = PathBuf::from(name);
    let shown = path.display().to_string();
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    locked.map_err(|source| SchemaError::File { path: shown, source })
}
