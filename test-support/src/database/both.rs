//! One test body, run on both databases.

use std::future::Future;
use tokio::runtime;

/// Makes two tests of one body: `name::on_sqlite` and `name::on_postgres`, so that the runner's list says which failed.
///
/// ```
/// use cryptopay_test_support::{TestDatabase, on_both_databases};
///
/// on_both_databases!(a_fresh_database_answers, async |db: TestDatabase| {
///     db.connection().ping().await.unwrap();
/// });
/// ```
///
/// The body runs on a multi-threaded runtime, as the gateway does.
#[macro_export]
macro_rules! on_both_databases {
    ($name:ident, $body:expr $(,)?) => {
        mod $name {
            use super::*;

            #[test]
            fn on_sqlite() {
                $crate::block_on(async { ($body)($crate::TestDatabase::sqlite().await).await });
            }

            #[test]
            fn on_postgres() {
                $crate::block_on(async { ($body)($crate::TestDatabase::postgres().await).await });
            }
        }
    };
}

/// Runs a test body to its end on a runtime of its own, with two threads, so that tasks truly run side by side.
///
/// # Panics
///
/// When the body does.
pub fn block_on<T>(body: impl Future<Output = T>) -> T {
    runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the machine should have room for two threads")
        .block_on(body)
}
