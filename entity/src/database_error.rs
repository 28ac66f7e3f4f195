//! Classes of database errors, by SQLSTATE and by SQLite's result codes.
//!
//! A server words its messages in the language of its `lc_messages`. No class depends on a message.

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr, sqlx};

/// Class of a database error: the reaction that it calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Another transaction was in the way. The whole transaction may be run again.
    Conflict,
    /// A lock was not granted within `lock_timeout`.
    LockTimeout,
    /// A statement was canceled: it ran longer than `statement_timeout`.
    StatementTimeout,
    /// The server or the connection is away: cut off, shut down, starting, or out of resources.
    Unavailable,
    /// A unique constraint refused a row.
    UniqueViolation,
    /// Every other error.
    Other,
}

impl ErrorClass {
    /// Class of an error.
    #[must_use]
    pub fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(_) => Self::Unavailable,
            DbErr::Conn(inner) => match Self::of_runtime(inner) {
                Self::Other => Self::Unavailable,
                class => class,
            },
            DbErr::Exec(inner) | DbErr::Query(inner) => Self::of_runtime(inner),
            _ => Self::Other,
        }
    }

    fn of_runtime(error: &RuntimeErr) -> Self {
        let RuntimeErr::SqlxError(error) = error else { return Self::Other };
        match &**error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable,
            sqlx::Error::Database(error) => Self::of_answer(&**error),
            _ => Self::Other,
        }
    }

    fn of_answer(error: &dyn DatabaseError) -> Self {
        if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
            return Self::of_sqlstate(error.code());
        }
        let is_sqlite = error.try_downcast_ref::<SqliteError>().is_some();
        let code = error.code().filter(|_| is_sqlite).and_then(|code| code.parse().ok());
        code.map_or(Self::Other, Self::of_sqlite)
    }

    /// Class of a SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    fn of_sqlstate(code: &str) -> Self {
        match code {
            // Serialisation failure; deadlock; foreign key: a row that was read is deleted, or a new row refers to a deleted one.
            "40001" | "40P01" | "23503" => Self::Conflict,
            "55P03" => Self::LockTimeout,
            "57014" => Self::StatementTimeout,
            "23505" => Self::UniqueViolation,
            // The connection was ended by the server's limit of an idle transaction.
            "25P03" => Self::Unavailable,
            // Connection exceptions; insufficient resources; shutdown, crash, start-up, and a dropped database.
            _ if ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) => Self::Unavailable,
            _ => Self::Other,
        }
    }

    /// Class of an extended result code: <https://www.sqlite.org/rescode.html>. Its low byte is the primary code.
    fn of_sqlite(code: u32) -> Self {
        const BUSY: u32 = 5;
        const LOCKED: u32 = 6;
        const CONSTRAINT_PRIMARY_KEY: u32 = 1_555;
        const CONSTRAINT_UNIQUE: u32 = 2_067;
        match code {
            CONSTRAINT_PRIMARY_KEY | CONSTRAINT_UNIQUE => Self::UniqueViolation,
            _ if matches!(code & 0xff, BUSY | LOCKED) => Self::Conflict,
            _ => Self::Other,
        }
    }
}

/// SQLSTATE of an error that PostgreSQL answered with.
#[must_use]
pub fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// Reports that a unique constraint refused a row: the one of this name, which PostgreSQL reports, over these columns
/// (`table.column`, comma-separated), which SQLite lists in place of a name.
#[must_use]
pub fn violates_unique(error: &DbErr, constraint: &str, columns: &str) -> bool {
    if ErrorClass::of(error) != ErrorClass::UniqueViolation {
        return false;
    }
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let Some(error) = error.as_database_error() else { return false };
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => error.constraint() == Some(constraint),
        // Identifiers of the schema. SQLite has one language.
        None => error.message().ends_with(&format!(": {columns}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_alone_decides_the_class_of_an_error() {
        for (codes, class) in [
            (&["40001", "40P01", "23503"][..], ErrorClass::Conflict),
            (&["55P03"], ErrorClass::LockTimeout),
            (&["57014"], ErrorClass::StatementTimeout),
            (&["23505"], ErrorClass::UniqueViolation),
            (&["57P01", "57P02", "57P03", "57P04", "57P05", "25P03"], ErrorClass::Unavailable),
            (&["08000", "08003", "08006", "08P01", "53100", "53300"], ErrorClass::Unavailable),
            (&["42601", "42P01", "23502", "23514", "22001", "XX000", ""], ErrorClass::Other),
        ] {
            for code in codes {
                assert_eq!(ErrorClass::of_sqlstate(code), class, "{code}");
            }
        }
    }

    #[test]
    fn the_primary_code_of_sqlite_decides_about_a_conflict() {
        // Busy, recovery, snapshot, time-out; locked, shared cache, virtual table.
        for code in [5, 261, 517, 773, 6, 262, 518] {
            assert_eq!(ErrorClass::of_sqlite(code), ErrorClass::Conflict, "{code}");
        }
        // Foreign key, not null, check, I/O, full.
        for code in [787, 1_299, 275, 10, 13, 1] {
            assert_eq!(ErrorClass::of_sqlite(code), ErrorClass::Other, "{code}");
        }
        assert_eq!(ErrorClass::of_sqlite(2_067), ErrorClass::UniqueViolation);
    }
}
