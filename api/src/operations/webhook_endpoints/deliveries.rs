//! Deliveries of an endpoint: what was sent, what came of it, and sending it once more.

use cryptopay_domain::ids::{DeliveryRef, OrderRef};
use cryptopay_entity::webhook_delivery::{DeliveryFilter, Model};
use cryptopay_entity::{clock, transact, webhook_attempt, webhook_delivery, webhook_endpoint};
use cryptopay_ledger::{DeliveryKey, Nudges};
use sea_orm::ConnectionTrait;
use serde_json::json;

use super::super::payment_orders::audit;
use super::super::stop::Stop;
use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// Attempts that are shown of a delivery, the newest. One that is never redelivered has at most 13.
const MAX_ATTEMPTS_SHOWN: u64 = 100;

/// A delivery as it is answered with.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// Row.
    pub delivery: Model,
    /// The order that it is about.
    pub order_id: Option<OrderRef>,
}

/// A delivery with its attempts, oldest first.
#[derive(Debug, Clone)]
pub struct DeliveryDetail {
    /// The delivery.
    pub view: DeliveryView,
    /// Its attempts.
    pub attempts: Vec<webhook_attempt::Model>,
}

/// A page of an endpoint's deliveries, newest first, and how many there are in all.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_deliveries(
    app: &App,
    principal: &Principal,
    endpoint: &str,
    filter: &DeliveryFilter,
    offset: u64,
    limit: u64,
) -> Result<(u64, Vec<DeliveryView>), ApiError> {
    let endpoint = super::find(app, principal, endpoint).await?.id;
    let merchant = principal.merchant_id();
    let database = app.database();
    let count = webhook_delivery::Entity::count_owned(database, merchant, endpoint, filter).await?;
    let rows = webhook_delivery::Entity::list_owned(database, merchant, endpoint, filter, offset, limit).await?;
    Ok((count, views(database, principal, rows).await?))
}

/// One delivery with its attempts.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn get_delivery(app: &App, principal: &Principal, id: &str) -> Result<DeliveryDetail, ApiError> {
    let delivery = find(app.database(), principal, id).await?;
    let attempts = webhook_attempt::Entity::of_delivery(app.database(), delivery.id, MAX_ATTEMPTS_SHOWN).await?;
    let view = views(app.database(), principal, vec![delivery]).await?.pop().ok_or_else(not_found)?;
    Ok(DeliveryDetail { view, attempts })
}

/// Sends a delivery once more, whatever became of it, with the same id and body and the whole schedule of retries.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_STATE` if its endpoint was removed or is switched off.
pub async fn redeliver(app: &App, principal: &Principal, id: &str) -> Result<DeliveryDetail, ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app.database(), principal, id).await?;
    transact!(app.database(), |txn| {
        let endpoint = webhook_endpoint::Entity::find_owned(txn, merchant, found.endpoint_id).await?;
        let endpoint = endpoint.ok_or_else(|| ApiError::invalid_state("The endpoint of this delivery was removed."))?;
        if !endpoint.is_active {
            let message = "The endpoint of this delivery is switched off. Activate it first, with is_active: true.";
            return Err(ApiError::invalid_state(message).into());
        }
        let now = clock::business_now(txn).await?;
        webhook_delivery::Entity::requeue(txn, merchant, found.id, now).await?;
        audit(txn, principal, "webhook_delivery.redeliver", found.delivery_id.as_str(), json!({}), now).await?;
        Ok::<_, Stop>(())
    })?;
    let mut nudges = Nudges::default();
    nudges.deliveries.insert(DeliveryKey { endpoint: found.endpoint_id, origin: found.origin });
    app.context.queue.nudge(nudges);
    get_delivery(app, principal, id).await
}

async fn find(connection: &impl ConnectionTrait, principal: &Principal, id: &str) -> Result<Model, ApiError> {
    let Ok(id) = id.parse::<DeliveryRef>() else { return Err(not_found()) };
    let found = webhook_delivery::Entity::find_owned_by_ref(connection, principal.merchant_id(), &id).await?;
    found.ok_or_else(not_found)
}

async fn views(
    connection: &impl ConnectionTrait,
    principal: &Principal,
    deliveries: Vec<Model>,
) -> Result<Vec<DeliveryView>, ApiError> {
    let refs = webhook_delivery::Entity::order_refs(connection, principal.merchant_id(), &deliveries).await?;
    let view = |delivery: Model| {
        let order_id = delivery.order_id.and_then(|id| refs.get(&id)).cloned();
        DeliveryView { delivery, order_id }
    };
    Ok(deliveries.into_iter().map(view).collect())
}

fn not_found() -> ApiError {
    ApiError::not_found("webhook delivery")
}
