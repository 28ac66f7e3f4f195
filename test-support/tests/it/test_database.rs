use cryptopay_test_support::{TestDatabase, block_on, on_both_databases};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, SqlErr};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

const TIMER: &str = "INSERT INTO timer_lease (name, owner, lease_until) VALUES ('sweep', 'a', 1)";
const ORPHAN: &str = "INSERT INTO webhook_breaker (endpoint_id, origin, failures, gone_count) VALUES (7, 'x', 0, 0)";

async fn timers(connection: &DatabaseConnection) -> i64 {
    let backend = connection.get_database_backend();
    let count = sea_orm::Statement::from_string(backend, "SELECT count(*) AS n FROM timer_lease");
    connection.query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
}

on_both_databases!(every_test_has_a_database_of_its_own, async |db: TestDatabase| {
    let other = match db.connection().get_database_backend() {
        sea_orm::DbBackend::Sqlite => TestDatabase::sqlite().await,
        _ => TestDatabase::postgres().await,
    };
    db.connection().execute_unprepared(TIMER).await.unwrap();
    assert_eq!((timers(db.connection()).await, timers(other.connection()).await), (1, 0));
});

on_both_databases!(the_url_opens_the_same_database, async |db: TestDatabase| {
    db.connection().execute_unprepared(TIMER).await.unwrap();
    let second = Database::connect(db.url()).await.unwrap();
    assert_eq!(timers(&second).await, 1);
});

on_both_databases!(foreign_keys_are_enforced, async |db: TestDatabase| {
    let error = db.connection().execute_unprepared(ORPHAN).await.unwrap_err();
    assert!(matches!(error.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))), "{error}");
});

on_both_databases!(a_dropped_database_is_gone, async |db: TestDatabase| {
    let url = db.url().replace("mode=rwc", "mode=rw");
    drop(db);
    assert!(Database::connect(url).await.is_err());
});

#[test]
fn sqlite_writes_ahead_and_never_switches_synchronous_off() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        assert_eq!(pragma::<String>(&db, "journal_mode").await, "wal");
        assert_eq!(pragma::<i64>(&db, "synchronous").await, 1, "1 is NORMAL");
        assert_eq!(pragma::<i64>(&db, "busy_timeout").await, 30_000);
    });
}

/// What the kernel does for a process that was killed, this test does by hand: it closes the pipe.
#[test]
fn the_server_ends_with_the_process_that_holds_its_standard_input() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/database/postgres-server.sh");
    let mut server = Command::new("sh").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let folder: String = block_on(async {
        let connection = Database::connect(url.trim()).await.unwrap();
        let setting = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SHOW data_directory");
        connection.query_one_raw(setting).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    });
    assert!(Path::new(&folder).parent().unwrap().exists());

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(!Path::new(&folder).parent().unwrap().exists());
}

#[test]
fn the_server_is_taken_down_in_order_when_its_caller_is_gone_before_it_is_up() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/database/postgres-server.sh");
    let mut server = Command::new("sh")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop((server.stdin.take(), server.stdout.take()));
    // A script killed by a signal has no exit code, and would have left the server behind.
    assert!(server.wait().unwrap().code().is_some());
}

async fn pragma<T: sea_orm::TryGetable>(db: &TestDatabase, name: &str) -> T {
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, format!("PRAGMA {name}"));
    db.connection().query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
