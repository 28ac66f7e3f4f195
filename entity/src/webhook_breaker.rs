//! Failures in a row, by endpoint and origin.

use cryptopay_domain::ids::EndpointId;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

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
