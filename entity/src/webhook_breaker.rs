//! Failures in a row, by endpoint and origin.

use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{FromQueryResult, QuerySelect, QueryTrait};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_breaker")]
pub struct Model {
    /// Endpoint.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    /// Scheme, host and port.
    #[sea_orm(primary_key, auto_increment = false)]
    pub origin: String,
    /// In a row.
    pub failures: i64,
    /// Since the first of them.
    pub failing_since: Option<Timestamp>,
    /// No attempts before that.
    pub open_until: Option<Timestamp>,
    /// Answers 410 in a row.
    pub gone_count: i64,
    /// Since the first of them.
    pub gone_since: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The worst of an endpoint's breakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct Worst {
    /// Endpoint.
    pub endpoint_id: EndpointId,
    /// Most failures in a row of one origin.
    pub failures: i64,
    /// The latest time before which there are no attempts.
    pub open_until: Option<Timestamp>,
}

impl Entity {
    /// The worst breaker of each of these endpoints; endpoints without one are left out.
    pub async fn worst(
        connection: &impl ConnectionTrait,
        endpoints: impl IntoIterator<Item = EndpointId>,
    ) -> Result<Vec<Worst>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::EndpointId)
            .column_as(Expr::col(Column::Failures).max(), "failures")
            .column_as(Expr::col(Column::OpenUntil).max(), "open_until")
            .filter(Column::EndpointId.is_in(endpoints))
            .group_by(Column::EndpointId)
            .into_model()
            .all(connection)
            .await
    }

    /// Forgets every failure of an endpoint.
    pub async fn forget(connection: &impl ConnectionTrait, endpoint: EndpointId) -> Result<(), DbErr> {
        Self::delete_many().filter(Column::EndpointId.eq(endpoint)).exec(connection).await?;
        Ok(())
    }

    /// The breaker of an endpoint and origin, closed if there is none yet.
    pub async fn of(connection: &impl ConnectionTrait, endpoint: EndpointId, origin: &str) -> Result<Model, DbErr> {
        let stored = Self::find_by_id((endpoint, origin.to_owned())).one(connection).await?;
        Ok(stored.unwrap_or_else(|| Model {
            endpoint_id: endpoint,
            origin: origin.to_owned(),
            failures: 0,
            failing_since: None,
            open_until: None,
            gone_count: 0,
            gone_since: None,
        }))
    }

    /// Stores a breaker.
    pub async fn save(connection: &impl ConnectionTrait, breaker: Model) -> Result<(), DbErr> {
        let row = ActiveModel {
            endpoint_id: Set(breaker.endpoint_id),
            origin: Set(breaker.origin),
            failures: Set(breaker.failures),
            failing_since: Set(breaker.failing_since),
            open_until: Set(breaker.open_until),
            gone_count: Set(breaker.gone_count),
            gone_since: Set(breaker.gone_since),
        };
        Self::insert(row)
            .on_conflict(
                OnConflict::columns([Column::EndpointId, Column::Origin])
                    .update_columns([
                        Column::Failures,
                        Column::FailingSince,
                        Column::OpenUntil,
                        Column::GoneCount,
                        Column::GoneSince,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(connection)
            .await?;
        Ok(())
    }

    /// Deletes what is remembered of every endpoint of a merchant.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<(), DbErr> {
        use super::webhook_endpoint;
        let endpoints = webhook_endpoint::Entity::find()
            .select_only()
            .column(webhook_endpoint::Column::Id)
            .filter(webhook_endpoint::Column::MerchantId.eq(merchant));
        Self::delete_many().filter(Column::EndpointId.in_subquery(endpoints.into_query())).exec(connection).await?;
        Ok(())
    }
}
