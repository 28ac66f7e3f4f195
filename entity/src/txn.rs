//! Transactions that are restarted when they lose a race.

use std::time::Duration;

use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

use crate::database_error::ErrorClass;

/// Errors that know whether the whole transaction may be tried again.
pub trait Restart {
    /// Whether another transaction was in the way: a deadlock, a serialisation failure, a lost guard, a busy database.
    fn is_conflict(&self) -> bool;
}

impl Restart for DbErr {
    fn is_conflict(&self) -> bool {
        ErrorClass::of(self) == ErrorClass::Conflict
    }
}

/// How often a transaction is begun before its conflict becomes the caller's error.
const MAX_ATTEMPTS: u32 = 5;

/// Runs a block in a transaction that may write, and commits it: `transact!(&database, |txn| { … Ok(value) })`. Awaits in
/// place, so it stands in an `async` function. A conflict restarts the whole block, at most five times; every other error
/// rolls back.
///
/// A macro, because a function would take an async closure, whose future the compiler cannot yet prove to be `Send` when
/// it borrows from its surroundings; every job and every handler has to be.
#[macro_export]
macro_rules! transact {
    ($database:expr, |$txn:ident| $body:block) => {{
        let mut attempts = $crate::txn::Attempts::default();
        loop {
            let outcome = match $crate::txn::begin($database).await {
                Err(error) => Err(::std::convert::From::from(error)),
                Ok(txn) => {
                    let result = {
                        let $txn = &txn;
                        async { $body }.await
                    };
                    $crate::txn::finish(txn, result).await
                }
            };
            match outcome {
                Err(error) if attempts.again(&error) => attempts.pause().await,
                outcome => break outcome,
            }
        }
    }};
}

/// Counts how often a transaction was begun.
#[derive(Debug, Default)]
pub struct Attempts(u32);

impl Attempts {
    /// Whether to begin again after `error`.
    pub fn again(&mut self, error: &impl Restart) -> bool {
        self.0 = self.0.saturating_add(1);
        error.is_conflict() && self.0 < MAX_ATTEMPTS
    }

    /// Lets whoever was in the way finish.
    pub async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(u64::from(self.0).saturating_mul(5))).await;
    }
}

/// Ends a transaction: commits it after success, rolls it back after an error.
pub async fn finish<T, E: From<DbErr>>(txn: DatabaseTransaction, result: Result<T, E>) -> Result<T, E> {
    match result {
        Ok(value) => txn.commit().await.map(|()| value).map_err(E::from),
        Err(error) => {
            // A failed rollback is a lost connection, which rolls back by itself.
            let _ = txn.rollback().await;
            Err(error)
        }
    }
}

/// Begins a transaction that may write. On SQLite, which has one writer, it takes the write lock at once: upgrading a
/// read lock later can fail for ever.
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
