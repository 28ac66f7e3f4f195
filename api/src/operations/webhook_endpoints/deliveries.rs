//! Deliveries of an endpoint: what was sent, what came of it, and sending it once more, one or many.

use cryptopay_domain::ids::{DeliveryRef, EndpointId, OrderRef};
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_delivery::{DeliveryFilter, Model, Replay};
use cryptopay_entity::{clock, transact, webhook_attempt, webhook_delivery, webhook_endpoint};
use cryptopay_ledger::{DeliveryKey, Nudges};
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::operations::audit::by_principal as audit;
use crate::operations::counts::Span;
use crate::operations::pages::{Asked, ListPage};
use crate::operations::stop::Stop;
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

/// A page of an endpoint's deliveries.
///
/// # Errors
/// `NOT_FOUND`, also past the end; a fault of `after`.
pub async fn list_deliveries(
    app: &App,
    principal: &Principal,
    endpoint: &str,
    filter: &DeliveryFilter,
    asked: &Asked,
) -> Result<ListPage<DeliveryView>, ApiError> {
    let endpoint = super::find(app, principal, endpoint).await?.id;
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match &asked.after {
        Some(id) => of_endpoint(app, principal, endpoint, id).await?.map(|row| row.place()),
        None => None,
    };
    let count = count(app, principal, endpoint, filter).await?;
    let read = |window| webhook_delivery::Entity::list_owned(database, merchant, endpoint, filter, window);
    let mut page = asked.page(count, place, read, |delivery| delivery.delivery_id.to_string()).await?;
    let views = views(database, principal, std::mem::take(&mut page.rows)).await?;
    Ok(page.with(views))
}

async fn count(
    app: &App,
    principal: &Principal,
    endpoint: EndpointId,
    filter: &DeliveryFilter,
) -> Result<u64, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    if !filter.is_lasting() {
        return Ok(webhook_delivery::Entity::count_owned(database, merchant, endpoint, filter).await?);
    }
    // A merchant of the sandbox may begin anew, which touches the account.
    let since = principal.merchant.updated_at;
    let list = format!("deliveries {endpoint} {since:?} {filter:?}");
    let counted = app.counts.of(database, list, |span: Span| {
        let part = DeliveryFilter {
            created_after: span.after(filter.created_after),
            created_before: span.before(filter.created_before),
            ..filter.clone()
        };
        async move { webhook_delivery::Entity::count_owned(database, merchant, endpoint, &part).await }
    });
    Ok(counted.await?)
}

/// A delivery to one endpoint by its public id.
async fn of_endpoint(
    app: &App,
    principal: &Principal,
    endpoint: EndpointId,
    id: &str,
) -> Result<Option<Model>, ApiError> {
    match find(app.database(), principal, id).await {
        Ok(delivery) => Ok(Some(delivery).filter(|delivery| delivery.endpoint_id == endpoint)),
        Err(ApiError { code: ErrorCode::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
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
        require_active(&endpoint)?;
        let now = clock::business_now(txn).await?;
        webhook_delivery::Entity::requeue(txn, merchant, vec![found.id], now).await?;
        audit(txn, principal, "webhook_delivery.redeliver", found.delivery_id.as_str(), json!({}), now).await?;
        Ok::<_, Stop>(())
    })?;
    let mut nudges = Nudges::default();
    nudges.deliveries.insert(DeliveryKey { endpoint: found.endpoint_id, origin: found.origin });
    app.context.queue.nudge(nudges);
    get_delivery(app, principal, id).await
}

/// Most deliveries that one request queues again.
const MAX_REPLAYED: u64 = 1_000;

/// What was queued again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// How many.
    pub queued: u64,
    /// The last of them, where there may be more.
    pub last: Option<DeliveryRef>,
}

/// Sends what was made for an endpoint in a span of time once more, oldest first, with the same ids and bodies: what was
/// given up unless `status` says otherwise. At most [`MAX_REPLAYED`] at once.
///
/// # Errors
/// `NOT_FOUND`; every faulty field at once; `INVALID_STATE` if the endpoint is switched off.
pub async fn replay(app: &App, principal: &Principal, id: &str, mut fields: Fields) -> Result<Replayed, ApiError> {
    let merchant = principal.merchant_id();
    let endpoint = super::find(app, principal, id).await?.id;
    let since: Option<Timestamp> = fields.parsed("since");
    let until: Option<Timestamp> = fields.parsed("until");
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        fields.fault("until", "Must be later than since.");
    }
    let states = parse_states(&mut fields);
    let after = match fields.text("after").map(str::to_owned) {
        Some(id) => {
            let found = of_endpoint(app, principal, endpoint, &id).await?;
            if found.is_none() {
                fields.fault("after", "This endpoint has no delivery of this id.");
            }
            found.map(|delivery| delivery.place())
        }
        None => None,
    };
    fields.finish()?;
    let filter = DeliveryFilter { states, events: Vec::new(), created_after: since, created_before: until };
    let (queued, origins, last) = transact!(app.database(), |txn| {
        let found = webhook_endpoint::Entity::find_owned(txn, merchant, endpoint).await?;
        require_active(&found.ok_or_else(super::not_found)?)?;
        let now = clock::business_now(txn).await?;
        let replay = Replay { merchant, endpoint, after, limit: MAX_REPLAYED };
        let (queued, origins, last) = webhook_delivery::Entity::replay(txn, replay, &filter, now).await?;
        let details = json!({"since": since, "until": until, "status": filter.states, "queued": queued});
        audit(txn, principal, "webhook_endpoint.replay", &endpoint.to_string(), details, now).await?;
        Ok::<_, Stop>((queued, origins, last))
    })?;
    let mut nudges = Nudges::default();
    nudges.deliveries.extend(origins.into_iter().map(|origin| DeliveryKey { endpoint, origin }));
    app.context.queue.nudge(nudges);
    Ok(Replayed { queued, last: last.map(|delivery| delivery.delivery_id) })
}

/// What became of the deliveries to replay: what is pending is on its way anyway.
fn parse_states(fields: &mut Fields) -> Vec<DeliveryState> {
    let Some(words) = fields.text("status").map(str::to_owned) else { return vec![DeliveryState::Dead] };
    let mut states = Vec::new();
    for word in words.split(',').map(str::trim) {
        match word.to_lowercase().parse() {
            Ok(state @ (DeliveryState::Dead | DeliveryState::Delivered)) if !states.contains(&state) => {
                states.push(state);
            }
            Ok(DeliveryState::Dead | DeliveryState::Delivered) => {}
            Ok(DeliveryState::Pending) | Err(_) => fields.fault("status", "Must be one of: dead, delivered."),
        }
    }
    states
}

fn require_active(endpoint: &webhook_endpoint::Model) -> Result<(), ApiError> {
    if endpoint.is_active {
        return Ok(());
    }
    let message = "The endpoint is switched off. Activate it first, with is_active: true.";
    Err(ApiError::invalid_state(message))
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
