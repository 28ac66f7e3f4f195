//! Attempts to deliver.

use cryptopay_domain::ids::{DeliveryId, MerchantId};
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder, QuerySelect, QueryTrait};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_attempt")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Of which delivery.
    pub delivery_id: DeliveryId,
    /// From 1.
    pub attempt: i64,
    /// When.
    pub started_at: Timestamp,
    /// How long, in milliseconds.
    pub duration_ms: i64,
    /// HTTP status.
    pub status: Option<i64>,
    /// First 4 KiB of the answer.
    pub response: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The newest attempts of a delivery, at most `limit`, oldest first. Whoever asks has found the delivery by its owner.
    pub async fn of_delivery(
        connection: &impl ConnectionTrait,
        delivery: DeliveryId,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        let mut attempts = Self::find()
            .filter(Column::DeliveryId.eq(delivery))
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(connection)
            .await?;
        attempts.reverse();
        Ok(attempts)
    }

    /// Adds attempts, of which there is at least one.
    pub async fn add(
        connection: &impl ConnectionTrait,
        attempts: impl IntoIterator<Item = NewAttempt>,
    ) -> Result<(), DbErr> {
        let rows = attempts.into_iter().map(|new| ActiveModel {
            id: NotSet,
            delivery_id: Set(new.delivery),
            attempt: Set(new.attempt),
            started_at: Set(new.started_at),
            duration_ms: Set(new.duration_ms),
            status: Set(new.status),
            response: Set(new.response),
            error: Set(new.error),
        });
        Self::insert_many(rows).exec_without_returning(connection).await.map(|_| ())
    }

    /// Deletes every attempt to deliver something to a merchant.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<(), DbErr> {
        use super::webhook_delivery;
        let deliveries = webhook_delivery::Entity::find()
            .select_only()
            .column(webhook_delivery::Column::Id)
            .filter(webhook_delivery::Column::MerchantId.eq(merchant));
        Self::delete_many().filter(Column::DeliveryId.in_subquery(deliveries.into_query())).exec(connection).await?;
        Ok(())
    }
}

/// An attempt that was made.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// From 1.
    pub attempt: i64,
    /// When.
    pub started_at: Timestamp,
    /// How long, in milliseconds.
    pub duration_ms: i64,
    /// HTTP status.
    pub status: Option<i64>,
    /// First 4 KiB of the answer.
    pub response: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}
