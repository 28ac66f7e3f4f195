//! Answers kept for safe retries.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::TryInsertResult;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, OnConflict};

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

impl Entity {
    /// The row of a key that is not older than `oldest`.
    pub async fn kept(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        key: &str,
        oldest: Timestamp,
    ) -> Result<Option<Model>, DbErr> {
        let row = Self::find_by_id((merchant, key.to_owned())).one(connection).await?;
        Ok(row.filter(|row| row.created_at > oldest))
    }

    /// Takes a key for a request that begins; `false` if an earlier one has it. Takes over the row of a key that is older
    /// than `oldest`. Waits for a transaction that has taken it and is not over.
    pub async fn begin(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        key: &str,
        fingerprint: &str,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<bool, DbErr> {
        let row = ActiveModel {
            merchant_id: Set(merchant),
            idempotency_key: Set(key.to_owned()),
            fingerprint: Set(fingerprint.to_owned()),
            status: Set(None),
            body: Set(None),
            created_at: Set(now),
        };
        let taken_over = OnConflict::columns([Column::MerchantId, Column::IdempotencyKey])
            .update_columns([Column::Fingerprint, Column::Status, Column::Body, Column::CreatedAt])
            .action_and_where(Expr::col((Entity, Column::CreatedAt)).lte(oldest))
            .to_owned();
        let inserted =
            Self::insert(row).on_conflict(taken_over).try_insert().exec_without_returning(connection).await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Keeps the answer to the request that has taken a key.
    pub async fn keep(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        key: &str,
        status: u16,
        body: String,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::Status, Expr::value(Some(i64::from(status))))
            .col_expr(Column::Body, Expr::value(Some(body)))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::IdempotencyKey.eq(key))
            .exec(connection)
            .await?;
        Ok(())
    }
}
