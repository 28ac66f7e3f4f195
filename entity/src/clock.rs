//! The one place where time comes from: the database's clock, so that every process agrees.
//!
//! *Database time* is for leases, tokens, idempotency keys and rate windows. *Business time* is the same plus the
//! sandbox's test clock (zero in live mode): order windows, webhook retries, simulated blocks. It is read once per
//! transaction and passed down as a value.

use cryptopay_domain::time::Timestamp;
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

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
