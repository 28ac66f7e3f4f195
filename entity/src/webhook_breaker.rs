//! Failures in a row, by endpoint and origin.

use cryptopay_domain::ids::EndpointId;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

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

impl Entity {
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
}
