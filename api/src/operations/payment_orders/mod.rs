//! Payment orders: create, look, cancel, decide, assign.

mod create;
mod decide;
mod request;
mod views;

use std::time::Duration;

use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef};
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_entity::pages::{Place, Window};
use cryptopay_entity::payment_order::OrderFilter;
use cryptopay_entity::{event, payment_order};
use tokio::time::timeout;

pub use super::audit::by_principal as audit;
pub use create::create;
pub use decide::{assign, cancel, resolve};
pub use request::{MAX_ORDER_INFO_BYTES, MAX_URL_CHARS, parse_chain, parse_token, webhook_policy};
pub(crate) use views::newest_payments;
pub use views::{one_view, views};

use super::counts::Span;
use super::pages::{Asked, ListPage};
use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// Maximum run time of a search, without the wait for its turn.
const SEARCH_WITHIN: Duration = Duration::from_secs(10);

/// An order as it is answered with: its snapshot now.
pub type OrderView = OrderSnapshot;

/// A merchant's order by its number or its `ORD-…`.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<payment_order::Model, ApiError> {
    found(app, principal, id).await?.ok_or_else(|| ApiError::not_found("payment order"))
}

async fn found(app: &App, principal: &Principal, id: &str) -> Result<Option<payment_order::Model>, ApiError> {
    let merchant = principal.merchant_id();
    Ok(if let Ok(order_id) = id.parse::<OrderRef>() {
        payment_order::Entity::find_owned_by_ref(app.database(), merchant, &order_id).await?
    } else if let Some(number) = super::number(id) {
        payment_order::Entity::find_owned(app.database(), merchant, OrderId(number)).await?
    } else {
        None
    })
}

/// Whether a text can be the id of an order: its number or its `ORD-…`.
pub fn is_id(text: &str) -> bool {
    super::number(text).is_some_and(|number| number > 0) || text.parse::<OrderRef>().is_ok()
}

/// One order.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get(app: &App, principal: &Principal, id: &str) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    one_view(app.database(), order).await
}

/// A page of orders, of those that contain the text of a search if there is one.
///
/// # Errors
/// `NOT_FOUND` past the end; a fault of `after`; those of [`Searches`](super::searches::Searches).
pub async fn list(
    app: &App,
    principal: &Principal,
    filter: &OrderFilter,
    search: Option<&str>,
    asked: &Asked,
) -> Result<ListPage<OrderView>, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match &asked.after {
        Some(id) => found(app, principal, id).await?.map(|order| order.place()),
        None => None,
    };
    let id = |order: &payment_order::Model| order.id.to_string();
    let mut page = match search {
        Some(text) => {
            let places = found_places(app, merchant, filter, text).await?;
            let read = |window: Window| {
                let places = window.among(&places);
                async move { payment_order::Entity::at_places(database, merchant, &places).await }
            };
            asked.page(u64::try_from(places.len()).unwrap_or(u64::MAX), place, read, id).await?
        }
        None => {
            let count = count(app, principal, filter).await?;
            let read = |window| payment_order::Entity::list_owned(database, merchant, filter, window);
            asked.page(count, place, read, id).await?
        }
    };
    let views = views(database, std::mem::take(&mut page.rows)).await?;
    Ok(page.with(views))
}

/// Searches in the merchant's turn.
async fn found_places(
    app: &App,
    merchant: MerchantId,
    filter: &OrderFilter,
    text: &str,
) -> Result<Vec<Place>, ApiError> {
    let turn = app.searches.begin(merchant).await?;
    let search = payment_order::Entity::search(turn.database(), merchant, filter, text);
    Ok(timeout(SEARCH_WITHIN, search).await.map_err(ApiError::too_long)??)
}

async fn count(app: &App, principal: &Principal, filter: &OrderFilter) -> Result<u64, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    if !filter.is_lasting() {
        return Ok(payment_order::Entity::count_owned(database, merchant, filter).await?);
    }
    // A merchant of the sandbox may begin anew, which touches the account.
    let since = principal.merchant.updated_at;
    let list = format!("orders {merchant} {since:?} {filter:?}");
    let counted = app.counts.of(database, list, |span: Span| {
        let part = OrderFilter {
            created_after: span.after(filter.created_after),
            created_before: span.before(filter.created_before),
            ..filter.clone()
        };
        async move { payment_order::Entity::count_owned(database, merchant, &part).await }
    });
    Ok(counted.await?)
}

/// A page of the history of an order.
///
/// # Errors
/// `NOT_FOUND`, also past the end; a fault of `after`.
pub async fn history(
    app: &App,
    principal: &Principal,
    id: &str,
    asked: &Asked,
) -> Result<ListPage<event::Model>, ApiError> {
    let order = find(app, principal, id).await?.id;
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match asked.after.as_ref().and_then(|id| id.parse().ok()) {
        Some(id) => event::Entity::find_of_order(database, merchant, order, &id).await?.and_then(|event| event.place()),
        None => None,
    };
    let count = event::Entity::count_of_order(database, merchant, order).await?;
    let read = |window| event::Entity::window_of_order(database, merchant, order, window);
    asked.page(count, place, read, |event| event.event_id.to_string()).await
}
