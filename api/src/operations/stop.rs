//! Why a transaction came to nothing, told apart until it has ended: a lost race is worth another try, an answer is not.

use cryptopay_entity::txn::Restart;
use sea_orm::{DbErr, SqlErr};

use crate::error::ApiError;

/// The error of a `transact!` block that decides about a request.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The database refused.
    Database(DbErr),
    /// The request is answered with this.
    Answer(Box<ApiError>),
}

impl From<DbErr> for Stop {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Answer(Box::new(error))
    }
}

impl From<Stop> for ApiError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Database(error) if is_taken(&error) => Self::unavailable(&error),
            Stop::Database(error) => error.into(),
            Stop::Answer(error) => *error,
        }
    }
}

impl Restart for Stop {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict() || is_taken(error))
    }
}

/// Whether somebody else wrote the same in the meantime. The next try sees their row and answers by it.
fn is_taken(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}
