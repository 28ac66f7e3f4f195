//! Payment orders: create, look, cancel, decide, assign.

mod create;
mod decide;
mod request;
mod views;

use cryptopay_domain::ids::{OrderId, OrderRef};
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_entity::payment_order::OrderFilter;
use cryptopay_entity::{event, payment_order};

pub use super::audit::audit;
pub use create::create;
pub use decide::{assign, cancel, resolve};
pub use request::{DEFAULT_EXPIRY, MAX_ORDER_INFO_BYTES, MAX_URL_CHARS, parse_chain, webhook_policy};
pub use views::{one_view, views};

use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// An order as it is answered with: its snapshot now.
pub type OrderView = OrderSnapshot;

/// A merchant's order by its number or its `ORD-…`.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<payment_order::Model, ApiError> {
    let merchant = principal.merchant_id();
    let found = if let Ok(order_id) = id.parse::<OrderRef>() {
        payment_order::Entity::find_owned_by_ref(app.database(), merchant, &order_id).await?
    } else if let Some(number) = super::number(id) {
        payment_order::Entity::find_owned(app.database(), merchant, OrderId(number)).await?
    } else {
        None
    };
    found.ok_or_else(|| ApiError::not_found("payment order"))
}

/// One order.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get(app: &App, principal: &Principal, id: &str) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    one_view(app.database(), order).await
}

/// A page of orders and how many there are in all.
///
/// # Errors
/// Only failures of the database.
pub async fn list(
    app: &App,
    principal: &Principal,
    filter: &OrderFilter,
    oldest_first: bool,
    offset: u64,
    limit: u64,
) -> Result<(u64, Vec<OrderView>), ApiError> {
    let merchant = principal.merchant_id();
    let count = payment_order::Entity::count_owned(app.database(), merchant, filter).await?;
    let orders =
        payment_order::Entity::list_owned(app.database(), merchant, filter, oldest_first, offset, limit).await?;
    Ok((count, views(app.database(), orders).await?))
}

/// The history of an order, oldest first.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn history(app: &App, principal: &Principal, id: &str) -> Result<Vec<event::Model>, ApiError> {
    let order = find(app, principal, id).await?;
    Ok(event::Entity::of_order(app.database(), principal.merchant_id(), order.id).await?)
}
