//! The database: is it there, is it new enough, may we use it, does its clock agree with ours.

use std::path::Path;
use std::time::{Duration, Instant};

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::database_error::sqlstate;
use cryptopay_entity::{chain_cursor, chain_start, clock, sandbox_block, webhook_endpoint};
use cryptopay_migration::{Migrator, MigratorTrait, SchemaManager};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{ConnectOptions as _, Connection};
use sea_orm::{
    ColumnTrait, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};
use secrecy::ExposeSecret;
use tokio::time::timeout;
use url::Url;

use super::report::{Check, Checks};
use super::{host_now, shown};
use crate::app::EndpointSecrets;
use crate::config::{Config, DatabaseUrl, Mode, Role};
use crate::database::most_connections;
use crate::security::{Keys, entropy};

/// Longest wait for a connection, and for all questions together.
const LIMIT: Duration = Duration::from_secs(5);
/// Oldest PostgreSQL that is tested, as it numbers itself.
const OLDEST_VERSION: i64 = 150_000;
/// Connections that are left for the operator and for PostgreSQL itself.
const SPARE_CONNECTIONS: u32 = 10;
/// A round trip that takes longer makes every request slow.
const SLOW: Duration = Duration::from_millis(20);
/// Clocks that differ by more: a warning, a fault.
const CLOCK_WARNING: Duration = Duration::from_secs(2);
/// See `CLOCK_WARNING`.
const CLOCK_FAULT: Duration = Duration::from_secs(60);
/// Stored secrets that are tried.
const SECRETS: u64 = 1_000;

/// What the database knows that other checks are judged by.
pub(super) struct Known {
    /// How far each chain is.
    pub(super) cursors: Vec<chain_cursor::Model>,
    /// Chains that cannot start, with their reasons.
    pub(super) starts: Vec<chain_start::Model>,
    /// The database's clock.
    pub(super) now: Timestamp,
}

pub(super) async fn examine(config: &Config) -> (Vec<Check>, Option<Known>) {
    let mut checks = Checks::of("database");
    let known = match &config.database {
        DatabaseUrl::Sqlite(path) => sqlite(config, path, &mut checks).await,
        DatabaseUrl::Postgres(url) => postgres(config, url.expose_secret(), &mut checks).await,
    };
    (checks.done(), known)
}

async fn sqlite(config: &Config, path: &Path, checks: &mut Checks) -> Option<Known> {
    let shown_path = path.display();
    match path.metadata() {
        Ok(file) if file.permissions().readonly() => {
            checks.wrong("file", format!("{shown_path} is read-only"), "let this user write it");
            return None;
        }
        Ok(_) => checks.good("file", format!("SQLite, {shown_path}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            checks.good("file", format!("{shown_path} is not there yet; `cryptopay serve` makes it"));
            return None;
        }
        Err(error) => {
            checks.wrong("file", format!("{shown_path}: {error}"), "let this user read it, or set CRYPTOPAY_DATA_DIR");
            return None;
        }
    }
    match connect(config).await {
        Ok(database) => common(config, &database, checks).await,
        Err(error) => {
            checks.wrong("file", error.to_string(), "restore a backup, or name another file in DATABASE_URL");
            None
        }
    }
}

async fn postgres(config: &Config, url: &str, checks: &mut Checks) -> Option<Known> {
    let database = match reach(url).await {
        Ok(()) => match connect(config).await {
            Ok(database) => database,
            Err(error) => {
                checks.wrong("reachable", scrubbed(&error.to_string(), url), "look into the server's log");
                return None;
            }
        },
        Err((words, mend)) => {
            checks.wrong("reachable", format!("{}: {}", place(url), scrubbed(&words, url)), mend);
            return None;
        }
    };
    match timeout(LIMIT, server(config, &database, url, checks)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => checks.wrong("settings", scrubbed(&error.to_string(), url), "look into the server's log"),
        Err(_) => checks.wrong("settings", "no answer within 5 s", "look what keeps the server busy"),
    }
    common(config, &database, checks).await
}

/// Connects without a pool, which would keep the reason to itself.
async fn reach(url: &str) -> Result<(), (String, &'static str)> {
    let options: PgConnectOptions = url
        .parse()
        .map_err(|_| ("DATABASE_URL cannot be read".to_owned(), "write postgres://user:password@host/database"))?;
    let connection = match timeout(LIMIT, options.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return Err((error.to_string(), mend_of(sqlstate(&error))));
        }
        Err(_) => {
            return Err(("no connection within 5 s".to_owned(), "check host and port in DATABASE_URL, and firewalls"));
        }
    };
    // A connection that does not close properly is closed by its drop.
    let _ = connection.close().await;
    Ok(())
}

/// Remedy for a refused connection, by its SQLSTATE. Without one the server has not answered.
fn mend_of(sqlstate: Option<&str>) -> &'static str {
    match sqlstate {
        // Wrong password; refused by pg_hba.conf, or an unknown role.
        Some("28P01" | "28000") => {
            "check user and password in DATABASE_URL (other than letters and digits are percent-encoded) and the server's pg_hba.conf"
        }
        Some("3D000") => "create the role and the database: docs/OPERATIONS.md shows the commands",
        Some("53300") => "raise max_connections, or run fewer processes",
        Some("57P03") => "wait until PostgreSQL has started, or see its log",
        _ => "start PostgreSQL, and check host and port in DATABASE_URL",
    }
}

/// What only a server has: version, settings, rights.
async fn server(config: &Config, database: &DatabaseConnection, url: &str, checks: &mut Checks) -> Result<(), DbErr> {
    let version = number(database, "SELECT current_setting('server_version_num')::BIGINT AS value").await?;
    // The first one has warmed the connection up.
    let started = Instant::now();
    database.execute_unprepared("SELECT 1").await?;
    let latency = started.elapsed();
    let name = text(database, "SELECT current_setting('server_version') AS value").await?;
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    checks.good("reachable", format!("PostgreSQL {name} on {}", place(url)));
    if version < OLDEST_VERSION {
        checks.wrong("version", format!("PostgreSQL {name} is older than 15"), "move to PostgreSQL 15 or newer");
    }
    if latency > SLOW {
        let found = format!("a round trip takes {}", shown(latency));
        checks.warn("latency", found, "run the gateway beside its database: a request makes several round trips");
    } else {
        checks.good("latency", format!("{} µs a round trip", latency.as_micros()));
    }
    let connections = number(database, "SELECT current_setting('max_connections')::BIGINT AS value").await?;
    // A process for the API and one for jobs together use as many as one for both.
    let [all, api, worker] = [Role::All, Role::Api, Role::Worker].map(most_connections);
    if connections < i64::from(all.saturating_add(SPARE_CONNECTIONS)) {
        let found = format!("max_connections is {connections}; the gateway may use {all} of them");
        let mend = format!(
            "raise max_connections to {all} for each process with the role all, {api} with api, {worker} with worker, and \
             some for yourself"
        );
        checks.warn("connections", found, mend);
    }
    let encoding = text(database, "SELECT current_setting('server_encoding') AS value").await?;
    if encoding != "UTF8" {
        checks.wrong("encoding", format!("the database holds {encoding}"), "create it with ENCODING 'UTF8'");
    }
    let creates = "SELECT has_schema_privilege(current_schema(), 'CREATE')::INT::BIGINT AS value";
    if number(database, creates).await? == 0 {
        let mend = "make the role the owner of its database: ALTER DATABASE … OWNER TO …";
        checks.wrong("rights", "the role may make no tables", mend);
    }
    for (setting, risk) in [
        ("fsync", "a power failure can destroy the database"),
        ("full_page_writes", "a power failure can destroy the database"),
        ("synchronous_commit", "a crash can forget payments that were answered for"),
    ] {
        if text(database, &format!("SELECT current_setting('{setting}') AS value")).await? == "off" {
            let (found, mend) = (format!("{setting} is off: {risk}"), format!("set {setting} = on in postgresql.conf"));
            match config.mode {
                Mode::Live => checks.wrong("durability", found, mend),
                Mode::Sandbox => checks.warn("durability", found, mend),
            }
        }
    }
    let plain =
        number(database, "SELECT COUNT(*) AS value FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND NOT ssl").await?;
    let is_near = matches!(host.as_str(), "" | "localhost" | "127.0.0.1" | "[::1]");
    if plain > 0 && !is_near && config.mode == Mode::Live {
        let mend =
            "switch TLS on at the server and add ?sslmode=require to DATABASE_URL, unless the network is yours alone";
        checks.warn("encryption", "the connection is not encrypted", mend);
    }
    Ok(())
}

/// What both databases have: clock, schema, what is stored.
async fn common(config: &Config, database: &DatabaseConnection, checks: &mut Checks) -> Option<Known> {
    let known = timeout(LIMIT, async {
        let now = clock(database, checks).await?;
        if !schema(database, checks).await? {
            return Ok(None);
        }
        if config.mode == Mode::Live && sandbox_block::Entity::is_any(database).await? {
            let found = "it holds simulated chains of sandbox mode, where nobody paid with money";
            checks.wrong("contents", found, "give live mode an empty database: docs/OPERATIONS.md shows the commands");
        }
        secrets(config, database, checks).await?;
        let cursors = chain_cursor::Entity::list(database).await?;
        let starts = chain_start::Entity::list(database).await?;
        Ok::<_, DbErr>(Some(Known { cursors, starts, now }))
    });
    match known.await {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => {
            checks.wrong("contents", error.to_string(), "look into the server's log, and restore a backup if need be");
            None
        }
        Err(_) => {
            checks.wrong("contents", "no answer within 5 s", "look what keeps the database busy");
            None
        }
    }
}

async fn clock(database: &DatabaseConnection, checks: &mut Checks) -> Result<Timestamp, DbErr> {
    let asked = Instant::now();
    let before = host_now();
    let theirs = clock::database_now(database).await?;
    // Their clock was read about half a round trip ago.
    let ours = before.plus(asked.elapsed() / 2);
    let difference = ours.since(theirs).max(theirs.since(ours));
    let found = format!("{} between the database and this host", shown(difference));
    let mend = "run a time service (chrony, systemd-timesyncd) on both";
    if difference > CLOCK_FAULT {
        checks.wrong("clocks", found, mend);
    } else if difference > CLOCK_WARNING {
        checks.warn("clocks", found, mend);
    } else {
        checks.good("clocks", found);
    }
    Ok(theirs)
}

/// Whether the schema is there to be read from.
async fn schema(database: &DatabaseConnection, checks: &mut Checks) -> Result<bool, DbErr> {
    if !SchemaManager::new(database).has_table("seaql_migrations").await? {
        checks.good("schema", "none yet; the first `cryptopay serve` or `cryptopay migrate up` makes it");
        return Ok(false);
    }
    let applied: Vec<String> =
        Migrator::get_migration_models(database).await?.into_iter().map(|row| row.version).collect();
    let known: Vec<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let newer: Vec<&str> = applied.iter().filter(|name| !known.contains(name)).map(String::as_str).collect();
    if !newer.is_empty() {
        let found = format!("newer than this binary: {}", newer.join(", "));
        checks.wrong("schema", found, "run the version that made it, or restore a backup");
        return Ok(false);
    }
    let missing: Vec<&str> = known.iter().filter(|name| !applied.contains(name)).map(String::as_str).collect();
    if missing.is_empty() {
        checks.good("schema", format!("up to date ({} applied)", applied.len()));
        return Ok(true);
    }
    let found = format!("{} to be applied: {}", missing.len(), missing.join(", "));
    checks.warn("schema", found, "the next `cryptopay serve` applies them; `cryptopay migrate up` does it now");
    Ok(false)
}

/// Whether the configured secret opens what is stored: after a restore it may be another one's.
async fn secrets(config: &Config, database: &DatabaseConnection, checks: &mut Checks) -> Result<(), DbErr> {
    let is_there = config.secret.is_some() || config.data_dir.join("secret").exists();
    if !is_there {
        return Ok(());
    }
    let keys = config
        .secret_or_generated(entropy::bytes())
        .map_err(|error| error.to_string())
        .and_then(|secret| Keys::new(&secret, config.secret_previous.as_ref()).map_err(|error| error.to_string()));
    let keys = match keys {
        Ok(keys) => EndpointSecrets(keys),
        Err(words) => {
            checks.wrong("secret", words, "correct CRYPTOPAY_SECRET");
            return Ok(());
        }
    };
    let endpoints = webhook_endpoint::Entity::find()
        .filter(webhook_endpoint::Column::DeletedAt.is_null())
        .order_by_desc(webhook_endpoint::Column::Id)
        .limit(SECRETS)
        .all(database)
        .await?;
    let closed = endpoints.iter().filter(|endpoint| keys.current(endpoint).is_err()).count();
    let stale = match config.secret_previous {
        Some(_) => endpoints.iter().filter(|endpoint| !keys.0.secret_box().is_current(&endpoint.secret)).count(),
        None => 0,
    };
    if stale > 0 {
        let found = format!("{stale} webhook secrets still need CRYPTOPAY_SECRET_PREVIOUS");
        checks.warn("secret", found, "start `cryptopay serve` once with both secrets: it seals them again");
    }
    if closed > 0 {
        let found =
            format!("{closed} of the newest {} webhook secrets do not open with CRYPTOPAY_SECRET", endpoints.len());
        let mend =
            "set the secret that was in use when they were stored, as CRYPTOPAY_SECRET or CRYPTOPAY_SECRET_PREVIOUS";
        checks.wrong("secret", found, mend);
    } else if !endpoints.is_empty() {
        checks.good("secret", format!("opens what is stored ({} webhook secrets)", endpoints.len()));
    }
    Ok(())
}

async fn connect(config: &Config) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(config.database.connect_url().expose_secret().to_owned());
    options.max_connections(1).connect_timeout(LIMIT).acquire_timeout(LIMIT).sqlx_logging(false);
    Database::connect(options).await
}

async fn number(database: &DatabaseConnection, sql: &str) -> Result<i64, DbErr> {
    one(database, sql).await?.try_get("", "value")
}

async fn text(database: &DatabaseConnection, sql: &str) -> Result<String, DbErr> {
    one(database, sql).await?.try_get("", "value")
}

async fn one(database: &DatabaseConnection, sql: &str) -> Result<sea_orm::QueryResult, DbErr> {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    database.query_one_raw(statement).await?.ok_or_else(|| DbErr::RecordNotFound("a setting".into()))
}

/// Host and port.
fn place(url: &str) -> String {
    let parts = Url::parse(url).ok().and_then(|url| Some((url.host_str()?.to_owned(), url.port().unwrap_or(5_432))));
    parts.map_or_else(|| "the server".to_owned(), |(host, port)| format!("{host}:{port}"))
}

/// A server's words without what must not be shown.
fn scrubbed(words: &str, url: &str) -> String {
    let password = Url::parse(url).ok().and_then(|url| url.password().map(str::to_owned));
    match password.filter(|password| !password.is_empty()) {
        Some(password) => words.replace(&password, "***"),
        None => words.to_owned(),
    }
}
