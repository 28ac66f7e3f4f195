//! Errors of a real server, whose messages are English or German.

use std::sync::Arc;

use cryptopay_entity::database_error::{ErrorClass, violates_unique};
use cryptopay_entity::transact;
use cryptopay_test_support::{PostgresServer, TestDatabase, block_on, on_both_databases};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, TransactionTrait};
use tokio::sync::Barrier;

const GERMAN: &str = "de_DE";
const LEASES: &str = "INSERT INTO timer_lease (name, owner, lease_until) VALUES ('a', 'x', 1), ('b', 'x', 1)";

async fn failure(database: &impl ConnectionTrait, statement: &str) -> DbErr {
    database.execute_unprepared(statement).await.unwrap_err()
}

/// A database of a server that words its messages in German.
async fn german(server: &PostgresServer) -> TestDatabase {
    let db = TestDatabase::postgres_in(server).await;
    let error = failure(db.connection(), "SELECT 1 / 0").await;
    assert!(error.to_string().contains("Division durch Null"), "{error}");
    db
}

/// Runs a test on the English server and on a German one.
fn in_both_languages(test: impl AsyncFn(&TestDatabase)) {
    block_on(async {
        test(&TestDatabase::postgres().await).await;
        let server = PostgresServer::start_in(GERMAN);
        test(&german(&server).await).await;
    });
}

#[test]
fn a_deadlock_restarts_its_transaction_in_any_language() {
    in_both_languages(async |db| {
        db.connection().execute_unprepared(LEASES).await.unwrap();
        let both = Arc::new(Barrier::new(2));
        let tasks = [("a", "b"), ("b", "a")].map(|(first, second)| {
            let (database, both) = (db.connection().clone(), both.clone());
            tokio::spawn(async move { crossed(&database, &both, first, second).await })
        });
        let mut attempts = 0;
        for task in tasks {
            attempts += task.await.unwrap().unwrap();
        }
        assert_eq!(attempts, 3, "one of two transactions is begun again");
    });
}

/// Takes both rows, in this order; gives the number of attempts. The other task has its first row by then.
async fn crossed(database: &DatabaseConnection, both: &Barrier, first: &str, second: &str) -> Result<u32, DbErr> {
    let mut attempts = 0;
    transact!(database, |txn| {
        attempts += 1;
        txn.execute_unprepared(&format!("UPDATE timer_lease SET lease_until = 2 WHERE name = '{first}'")).await?;
        if attempts == 1 {
            both.wait().await;
        }
        txn.execute_unprepared(&format!("UPDATE timer_lease SET lease_until = 2 WHERE name = '{second}'")).await?;
        Ok::<(), DbErr>(())
    })?;
    Ok(attempts)
}

#[test]
fn a_server_of_any_language_gives_the_same_classes() {
    in_both_languages(async |db| {
        let database = db.connection();
        database.execute_unprepared(LEASES).await.unwrap();
        let locked = database.begin().await.unwrap();
        locked.execute_unprepared("LOCK TABLE timer_lease").await.unwrap();
        let txn = database.begin().await.unwrap();
        txn.execute_unprepared("SET LOCAL lock_timeout = '20ms'").await.unwrap();
        assert_eq!(
            ErrorClass::of(&failure(&txn, "SELECT * FROM timer_lease FOR UPDATE").await),
            ErrorClass::LockTimeout
        );
        txn.rollback().await.unwrap();
        locked.rollback().await.unwrap();

        let txn = database.begin().await.unwrap();
        txn.execute_unprepared("SET LOCAL statement_timeout = '20ms'").await.unwrap();
        assert_eq!(ErrorClass::of(&failure(&txn, "SELECT pg_sleep(60)").await), ErrorClass::StatementTimeout);
        txn.rollback().await.unwrap();

        let taken = failure(database, LEASES).await;
        assert_eq!(ErrorClass::of(&taken), ErrorClass::UniqueViolation);
        assert!(violates_unique(&taken, "timer_lease_pkey", "timer_lease.name"), "{taken}");
        assert!(!violates_unique(&taken, "timer_lease", "timer_lease.owner"), "{taken}");

        let orphan = "INSERT INTO webhook_breaker (endpoint_id, origin, failures, gone_count) VALUES (7, 'x', 0, 0)";
        assert_eq!(ErrorClass::of(&failure(database, orphan).await), ErrorClass::Conflict);
        let ended = failure(database, "SELECT pg_terminate_backend(pg_backend_pid())").await;
        assert_eq!(ErrorClass::of(&ended), ErrorClass::Unavailable, "{ended}");
        assert_eq!(ErrorClass::of(&failure(database, "SELECT nonsense").await), ErrorClass::Other);
    });
}

#[test]
fn a_stopped_server_is_away_in_any_language() {
    block_on(async {
        let mut server = PostgresServer::start_in(GERMAN);
        let db = german(&server).await;
        // Its connection is open already: the pool would wait for another one.
        let txn = db.connection().begin().await.unwrap();
        server.crash();
        let error = failure(&txn, "SELECT 1").await;
        assert_eq!(ErrorClass::of(&error), ErrorClass::Unavailable, "{error}");
        server.start_again();
    });
}

on_both_databases!(a_refused_row_names_its_unique_constraint, async |db: TestDatabase| {
    db.connection().execute_unprepared(LEASES).await.unwrap();
    let taken = failure(db.connection(), LEASES).await;
    assert!(violates_unique(&taken, "timer_lease_pkey", "timer_lease.name"), "{taken}");
    assert!(!violates_unique(&taken, "timer_lease_other", "timer_lease.owner"), "{taken}");
});
