//! The one place where time comes from: the database's clock, so that every process agrees.
//!
//! *Database time* is for leases, tokens, idempotency keys and rate windows. *Business time* is the same plus the
//! sandbox's test clock (zero in live mode): order windows, webhook retries, simulated blocks. It is read once per
//! transaction and passed down as a value.

use std::ops::RangeInclusive;
use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, Statement};

/// No lease lasts as long. One that seems to was given before the database's clock was set back, and is over: what would be
/// lost by waiting for it is time, and what protects the work from its holder is not the lease but the epoch or token that
/// comes with it.
pub const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// Until when a lease may last that is under way: one that says any other time is over.
pub fn under_way(now: Timestamp) -> RangeInclusive<Timestamp> {
    now..=now.plus(LONGEST_LEASE)
}

/// Whether a lease, by the column that says until when, is over.
pub fn is_over(until: impl ColumnTrait, now: Timestamp) -> Condition {
    let (first, last) = under_way(now).into_inner();
    Condition::any().add(until.lt(first)).add(until.gt(last))
}

/// The database's clock.
pub async fn database_now(connection: &impl ConnectionTrait) -> Result<Timestamp, DbErr> {
    read(connection, format!("SELECT {} AS now", now_sql(connection.get_database_backend()))).await
}

/// The database's clock plus the sandbox's offset.
pub async fn business_now(connection: &impl ConnectionTrait) -> Result<Timestamp, DbErr> {
    let now = now_sql(connection.get_database_backend());
    read(
        connection,
        format!("SELECT {now} + COALESCE((SELECT offset_micros FROM sandbox_clock WHERE id = 1), 0) AS now"),
    )
    .await
}

/// The database's clock, as what a statement writes.
pub fn database_now_expr(connection: &impl ConnectionTrait) -> Expr {
    Expr::cust(now_sql(connection.get_database_backend()))
}

/// SQL for the database's clock in microseconds since 1970.
pub fn now_sql(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT",
        _ => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    }
}

async fn read(connection: &impl ConnectionTrait, sql: String) -> Result<Timestamp, DbErr> {
    let row = connection
        .query_one_raw(Statement::from_string(connection.get_database_backend(), sql))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("the database's clock".into()))?;
    row.try_get("", "now")
}
