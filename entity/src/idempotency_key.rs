//! Answers kept for safe retries.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{Statement, UpdateMany};

use crate::clock;

/// How long an answer is kept for its key. Source: the REST contract.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: MerchantId,
    /// The key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub idempotency_key: String,
    /// Of the parsed request.
    pub fingerprint: String,
    /// Stored status.
    pub status: Option<i64>,
    /// Stored answer, encrypted.
    pub body: Option<String>,
    /// When (real clock).
    pub created_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The answer to a request that has taken a key.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Whose key.
    pub merchant: MerchantId,
    /// The key.
    pub key: String,
    /// Status.
    pub status: u16,
    /// Answer, encrypted.
    pub body: String,
}

impl Entity {
    /// The row of a key that is still kept by the database's clock.
    pub async fn kept(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        key: &str,
    ) -> Result<Option<Model>, DbErr> {
        let now = clock::now_sql(connection.get_database_backend());
        let is_kept = Expr::cust(format!("created_at > {now} - {}", KEPT_FOR.as_micros()));
        Self::find_by_id((merchant, key.to_owned())).filter(is_kept).one(connection).await
    }

    /// Takes a key for a request that begins; `false` if an earlier one has it. Takes over the row of a key that is kept
    /// no longer. Waits for a transaction that has taken it and is not over. One statement, that reads the database's
    /// clock as well: it precedes every effect.
    pub async fn begin(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        key: &str,
        fingerprint: &str,
    ) -> Result<bool, DbErr> {
        let backend = connection.get_database_backend();
        let sql = format!(
            "INSERT INTO idempotency_key (merchant_id, idempotency_key, fingerprint, created_at) \
             VALUES ($1, $2, $3, {now}) ON CONFLICT (merchant_id, idempotency_key) DO UPDATE \
             SET fingerprint = excluded.fingerprint, status = NULL, body = NULL, created_at = excluded.created_at \
             WHERE idempotency_key.created_at <= excluded.created_at - {kept}",
            now = clock::now_sql(backend),
            kept = KEPT_FOR.as_micros(),
        );
        let values = [merchant.into(), key.into(), fingerprint.into()];
        let done = connection.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps the answer to the request that has taken a key.
    pub async fn keep(connection: &impl ConnectionTrait, answer: Answered) -> Result<(), DbErr> {
        Self::keeping(answer).exec(connection).await?;
        Ok(())
    }

    /// The update that keeps the answer to the request that has taken a key.
    pub fn keeping(answer: Answered) -> UpdateMany<Self> {
        Self::update_many()
            .col_expr(Column::Status, Expr::value(Some(i64::from(answer.status))))
            .col_expr(Column::Body, Expr::value(Some(answer.body)))
            .filter(Column::MerchantId.eq(answer.merchant))
            .filter(Column::IdempotencyKey.eq(answer.key))
    }

    /// Deletes every key of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}
