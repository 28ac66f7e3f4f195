//! The two sets of real parts that a gateway runs on, and one test body run on both.

use crate::{TestDatabase, TestRedis};

/// What a gateway runs on.
#[derive(Debug)]
pub struct Parts {
    /// The truth.
    pub database: TestDatabase,
    /// Where processes meet; without one everything stays in one process.
    pub redis: Option<TestRedis>,
}

impl Parts {
    /// SQLite, and nothing between processes: a gateway with no variable set.
    ///
    /// # Panics
    ///
    /// When the file cannot be made.
    pub async fn embedded() -> Self {
        Self { database: TestDatabase::sqlite().await, redis: None }
    }

    /// PostgreSQL and Redis.
    ///
    /// # Panics
    ///
    /// When a server is missing and cannot be started.
    pub async fn production() -> Self {
        Self { database: TestDatabase::postgres().await, redis: Some(TestRedis::new()) }
    }
}

/// One process on this database.
impl From<TestDatabase> for Parts {
    fn from(database: TestDatabase) -> Self {
        Self { database, redis: None }
    }
}

/// Makes two tests of one body: `name::embedded` on SQLite and in one process, `name::production` on PostgreSQL and Redis.
///
/// ```no_run
/// use cryptopay_test_support::{Parts, on_both_sets_of_parts};
///
/// on_both_sets_of_parts!(a_fresh_database_answers, async |parts: Parts| {
///     parts.database.connection().ping().await.unwrap();
/// });
/// ```
#[macro_export]
macro_rules! on_both_sets_of_parts {
    ($name:ident, $body:expr $(,)?) => {
        mod $name {
            use super::*;

            #[test]
            fn embedded() {
                $crate::block_on(async { ($body)($crate::Parts::embedded().await).await });
            }

            #[test]
            fn production() {
                $crate::block_on(async { ($body)($crate::Parts::production().await).await });
            }
        }
    };
}
