//! Deliveries: one event's way to one endpoint.

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{DeliveryId, DeliveryRef, EndpointId, EventId, MerchantId, OrderId};
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: DeliveryId,
    /// Public id, the same over all retries.
    pub delivery_id: DeliveryRef,
    /// Whose.
    pub merchant_id: MerchantId,
    /// Which event.
    pub event_id: EventId,
    /// Which endpoint.
    pub endpoint_id: EndpointId,
    /// About which order.
    pub order_id: Option<OrderId>,
    /// At which version.
    pub order_version: Option<i64>,
    /// What happened.
    pub event_type: EventType,
    /// Where to.
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
    /// The exact bytes.
    pub body: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: i64,
    /// When it is due.
    pub next_attempt_at: Timestamp,
    /// Who is sending it.
    pub lease_token: Option<String>,
    /// Until when (database clock).
    pub lease_until: Option<Timestamp>,
    /// Last answer.
    pub last_status: Option<i64>,
    /// Last failure in words.
    pub last_error: Option<String>,
    /// Why it was given up.
    pub dead_reason: Option<String>,
    /// When it was taken.
    pub delivered_at: Option<Timestamp>,
    /// Made.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
