//! Transactions of futures that move between threads.
//!
//! What `entity::txn::transact` takes is an asynchronous closure that borrows, and the compiler cannot yet prove that such
//! a future is `Send`, which a transport and the handlers of a web server need. So here the transaction is handed out by
//! `Arc`, which has no lifetime to prove anything about. The rules are the same: a conflict restarts the whole.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_entity::txn::{Restart, begin};
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};

/// How often a transaction is begun before its conflict becomes the caller's error.
const MAX_ATTEMPTS: u32 = 5;

/// Runs `work` in a transaction that may write, and commits it; a conflict restarts the whole, every other error rolls
/// back. `work` must not keep the transaction.
pub(crate) async fn transact<T, E, W, F>(database: &DatabaseConnection, work: W) -> Result<T, E>
where
    E: Restart + From<DbErr>,
    W: Fn(Arc<DatabaseTransaction>) -> F,
    F: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match once(database, &work).await {
            Err(error) if error.is_conflict() && attempt < MAX_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(u64::from(attempt).saturating_mul(5))).await;
                attempt = attempt.saturating_add(1);
            }
            outcome => return outcome,
        }
    }
}

async fn once<T, E, W, F>(database: &DatabaseConnection, work: &W) -> Result<T, E>
where
    E: From<DbErr>,
    W: Fn(Arc<DatabaseTransaction>) -> F,
    F: Future<Output = Result<T, E>>,
{
    let txn = Arc::new(begin(database).await?);
    let outcome = work(Arc::clone(&txn)).await;
    let txn = Arc::into_inner(txn).ok_or_else(|| DbErr::Custom("a transaction was kept beyond its work".to_owned()))?;
    match outcome {
        Ok(value) => {
            txn.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // A failed rollback is a lost connection, which rolls back by itself.
            let _ = txn.rollback().await;
            Err(error)
        }
    }
}
