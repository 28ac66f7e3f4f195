//! Transactions that are restarted when they lose a race.

use std::time::Duration;

use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

/// Errors that know whether the whole transaction may be tried again.
pub trait Restart {
    /// Whether another transaction was in the way: a deadlock, a serialisation failure, a lost guard, a busy database.
    fn is_conflict(&self) -> bool;
}

impl Restart for DbErr {
    fn is_conflict(&self) -> bool {
        is_conflict(self)
    }
}

/// How often a transaction is begun before its conflict becomes the caller's error.
const MAX_ATTEMPTS: u32 = 5;

/// Runs `work` in a transaction that may write, and commits it. A conflict restarts the whole, at most five times; every
/// other error rolls back. On SQLite, which has one writer, the transaction takes the write lock at once: upgrading a
/// read lock later can fail for ever.
pub async fn transact<T, E, F>(database: &DatabaseConnection, work: F) -> Result<T, E>
where
    E: Restart + From<DbErr>,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let mut attempt = 1;
    loop {
        let outcome = match begin(database).await {
            Err(error) => Err(E::from(error)),
            Ok(txn) => match work(&txn).await {
                Ok(value) => txn.commit().await.map(|()| value).map_err(E::from),
                Err(error) => {
                    // A failed rollback is a lost connection, which rolls back by itself.
                    let _ = txn.rollback().await;
                    Err(error)
                }
            },
        };
        match outcome {
            Err(error) if error.is_conflict() && attempt < MAX_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 5)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Begins a transaction that may write.
pub async fn begin(database: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    database
        .begin_with_options(TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        })
        .await
}

/// Begins a transaction that reads one snapshot.
pub async fn begin_snapshot(database: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    match database.get_database_backend() {
        DbBackend::Postgres => {
            database.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await
        }
        _ => database.begin().await,
    }
}

fn is_conflict(error: &DbErr) -> bool {
    let text = match error {
        DbErr::Exec(inner) | DbErr::Query(inner) | DbErr::Conn(inner) => inner.to_string(),
        _ => return false,
    };
    // PostgreSQL: 40001 serialisation failure, 40P01 deadlock. SQLite: busy or locked.
    ["could not serialize", "deadlock detected", "database is locked", "database table is locked"]
        .iter()
        .any(|known| text.contains(known))
}
