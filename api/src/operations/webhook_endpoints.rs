//! Webhook endpoints: who is told what happened, and with which secret it is signed.
//!
//! Every merchant also has one implicit endpoint, without a url of its own, whose secret signs deliveries to the
//! `webhook_url` of orders. It is listed and can be switched off, but neither removed, tested nor given a url.

mod deliveries;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::merchant::EndpointScope;
use cryptopay_entity::webhook_endpoint::{Model, NewEndpoint};
use cryptopay_entity::{clock, merchant, transact, webhook_breaker, webhook_delivery, webhook_endpoint};
use cryptopay_jobs::webhooks::client::check_url;
use cryptopay_jobs::webhooks::{TestDelivery, TestError, send_test};
use sea_orm::ConnectionTrait;
use serde_json::json;

pub use deliveries::{DeliveryDetail, DeliveryView, Replayed, get_delivery, list_deliveries, redeliver, replay};
pub use secrets::{ShownSecret, new_secret, rotate_secret, secret};

use super::once::{Once, Outcome};
use super::pages::{Asked, ListPage};
use super::payment_orders::{audit, webhook_policy};
use super::stop::Stop;
use crate::app::{App, is_implicit};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::principal::Principal;

/// Most registered endpoints of a merchant; every one multiplies what each event costs.
pub const MAX_ENDPOINTS: u64 = 20;

/// How an endpoint fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// The last attempt, if any, was taken.
    Healthy,
    /// The last attempts failed.
    Failing,
    /// So many attempts failed in a row that only one a minute is made.
    Open,
    /// It gets nothing: switched off by its merchant, or by the gateway for the reason that it names.
    Disabled,
}

impl EndpointState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Open => "open",
            Self::Disabled => "disabled",
        }
    }

    fn of(endpoint: &Model, worst: Option<&webhook_breaker::Worst>) -> Self {
        match worst {
            _ if !endpoint.is_active => Self::Disabled,
            // The implicit endpoint serves many receivers: one that is down does not stop the rest.
            Some(worst) if worst.open_until.is_some() && !is_implicit(endpoint) => Self::Open,
            Some(worst) if worst.failures > 0 => Self::Failing,
            _ => Self::Healthy,
        }
    }
}

/// An endpoint as it is answered with.
#[derive(Debug, Clone)]
pub struct EndpointView {
    /// Row.
    pub endpoint: Model,
    /// How it fares.
    pub state: EndpointState,
}

/// A new endpoint, its secret in clear text, and the message.
pub type NewView = (EndpointView, String, String);

/// Registers an endpoint.
///
/// # Errors
/// Every faulty field at once.
pub async fn create(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: Once<NewView>,
) -> Result<Outcome<NewView>, ApiError> {
    once.answered(app, create_anew(app, principal, fields, &once)).await
}

async fn create_anew(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: &Once<NewView>,
) -> Result<Outcome<NewView>, ApiError> {
    let merchant = principal.merchant_id();
    let mut fields = fields;
    let url = parse_url(app, &mut fields);
    let events = parse_events(&mut fields);
    judge_count(app.database(), merchant, &mut fields).await?;
    fields.finish()?;
    let Some(url) = url else { return Err(fields.faulty()) };
    let (secret, sealed) = new_secret(app, merchant)?;
    let new = NewEndpoint {
        merchant,
        scope: EndpointScope::Merchant,
        url: Some(url),
        events: events.unwrap_or_default(),
        description: fields.trimmed("description").unwrap_or_default().to_owned(),
        is_active: fields.flag("is_active").unwrap_or(true),
        secret: sealed,
    };
    transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok(given);
        }
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut fields = fields.clone();
        judge_count(txn, merchant, &mut fields).await?;
        fields.finish()?;
        let endpoint = webhook_endpoint::Entity::add(txn, new.clone(), now).await?;
        record(txn, principal, "webhook_endpoint.create", &endpoint, now).await?;
        let state = EndpointState::of(&endpoint, None);
        let message = fields.message("Webhook endpoint added. Keep its secret: it verifies the signatures.");
        once.keep(app, txn, (EndpointView { endpoint, state }, secret.clone(), message)).await
    })
    .map_err(Stop::into)
}

/// Changes what is sent of an endpoint and keeps the rest. Activating a disabled one, or giving it another url, forgets
/// its failures.
///
/// # Errors
/// `NOT_FOUND`; every faulty field at once.
pub async fn update(
    app: &App,
    principal: &Principal,
    id: &str,
    fields: Fields,
) -> Result<(EndpointView, String), ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app, principal, id).await?;
    let mut fields = fields;
    let url = if is_implicit(&found) && fields.value("url").is_some() {
        fields.fault("url", "This endpoint serves the webhook_url of your orders and has no url of its own.");
        None
    } else {
        parse_url(app, &mut fields)
    };
    let events = parse_events(&mut fields);
    fields.finish()?;
    transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut endpoint =
            webhook_endpoint::Entity::find_owned(txn, merchant, found.id).await?.ok_or_else(not_found)?;
        let moved = url.is_some() && endpoint.url != url;
        let activated = fields.flag("is_active") == Some(true) && !endpoint.is_active;
        if moved {
            endpoint.url.clone_from(&url);
        }
        if let Some(events) = &events {
            endpoint.events = events.to_string();
        }
        if let Some(description) = fields.trimmed("description") {
            description.clone_into(&mut endpoint.description);
        }
        if let Some(is_active) = fields.flag("is_active") {
            endpoint.is_active = is_active;
        }
        if activated {
            endpoint.disabled_reason = None;
        }
        if activated || moved {
            webhook_breaker::Entity::forget(txn, endpoint.id).await?;
        }
        endpoint.updated_at = now;
        webhook_endpoint::Entity::change(txn, &endpoint).await?;
        record(txn, principal, "webhook_endpoint.change", &endpoint, now).await?;
        Ok::<_, Stop>(())
    })?;
    Ok((get(app, principal, id).await?, fields.message("Webhook endpoint changed.")))
}

/// Removes an endpoint. What was still to be delivered to it is kept as dead.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_STATE` for the implicit one.
pub async fn remove(app: &App, principal: &Principal, id: &str) -> Result<(), ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app, principal, id).await?;
    if is_implicit(&found) {
        let message = "This endpoint signs deliveries to the webhook_url of your orders and cannot be removed. \
                       Send is_active: false to switch it off.";
        return Err(ApiError::invalid_state(message));
    }
    transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut endpoint =
            webhook_endpoint::Entity::find_owned(txn, merchant, found.id).await?.ok_or_else(not_found)?;
        endpoint.is_active = false;
        endpoint.updated_at = now;
        endpoint.deleted_at = Some(now);
        webhook_endpoint::Entity::change(txn, &endpoint).await?;
        webhook_delivery::Entity::bury(txn, endpoint.id, "the endpoint was removed", now).await?;
        record(txn, principal, "webhook_endpoint.remove", &endpoint, now).await?;
        Ok::<_, Stop>(())
    })?;
    Ok(())
}

/// One endpoint.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn get(app: &App, principal: &Principal, id: &str) -> Result<EndpointView, ApiError> {
    let endpoint = find(app, principal, id).await?;
    let mut views = views(app.database(), vec![endpoint]).await?;
    views.pop().ok_or_else(not_found)
}

/// A page of endpoints. The implicit one is among them.
///
/// # Errors
/// `NOT_FOUND` past the end; a fault of `after`.
pub async fn list(app: &App, principal: &Principal, asked: &Asked) -> Result<ListPage<EndpointView>, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match asked.after.as_deref().and_then(super::number) {
        Some(id) => {
            webhook_endpoint::Entity::find_owned(database, merchant, EndpointId(id)).await?.map(|row| row.place())
        }
        None => None,
    };
    let count = webhook_endpoint::Entity::count_owned(database, merchant).await?;
    let read = |window| webhook_endpoint::Entity::list_owned(database, merchant, window);
    let mut page = asked.page(count, place, read, |endpoint| endpoint.id.to_string()).await?;
    let views = views(database, std::mem::take(&mut page.rows)).await?;
    Ok(page.with(views))
}

/// Sends a signed `webhook.test` now; takes as long as the receiver does, at most about 25 s.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_STATE` for the implicit endpoint, which has no url.
pub async fn test(app: &App, principal: &Principal, id: &str) -> Result<TestDelivery, ApiError> {
    let id = parse_id(id)?;
    send_test(&app.context, principal.merchant_id(), id).await.map_err(|error| match error {
        TestError::NotFound => not_found(),
        TestError::NoUrl => ApiError::invalid_state(error.to_string()),
        TestError::Database(error) => error.into(),
        TestError::Ledger(error) => error.into(),
    })
}

/// An endpoint of the merchant by the id of a path.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<Model, ApiError> {
    let id = parse_id(id)?;
    let found = webhook_endpoint::Entity::find_owned(app.database(), principal.merchant_id(), id).await?;
    found.ok_or_else(not_found)
}

async fn views(connection: &impl ConnectionTrait, endpoints: Vec<Model>) -> Result<Vec<EndpointView>, ApiError> {
    let ids = endpoints.iter().map(|endpoint| endpoint.id);
    let worst: BTreeMap<EndpointId, _> = webhook_breaker::Entity::worst(connection, ids)
        .await?
        .into_iter()
        .map(|worst| (worst.endpoint_id, worst))
        .collect();
    let view = |endpoint: Model| {
        let state = EndpointState::of(&endpoint, worst.get(&endpoint.id));
        EndpointView { endpoint, state }
    };
    Ok(endpoints.into_iter().map(view).collect())
}

fn parse_id(id: &str) -> Result<EndpointId, ApiError> {
    super::number(id).map(EndpointId).ok_or_else(not_found)
}

fn parse_url(app: &App, fields: &mut Fields) -> Option<String> {
    let text = fields.text("url")?.to_owned();
    let checked = check_url(&text, &webhook_policy(app));
    fields.ok("url", checked).map(|url| url.to_string())
}

/// The events, if any are named; every unknown name is a fault of its own.
fn parse_events(fields: &mut Fields) -> Option<EventFilter> {
    let names: Vec<String> = fields.texts("events")?.into_iter().map(str::to_owned).collect();
    for (index, name) in names.iter().enumerate() {
        fields.ok(&format!("events[{index}]"), EventFilter::parse([name.as_str()]));
    }
    // Faulty in a part is faulty.
    fields.value("events")?;
    let filter = EventFilter::parse(names.iter().map(String::as_str));
    fields.ok("events", filter)
}

async fn judge_count(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    fields: &mut Fields,
) -> Result<(), sea_orm::DbErr> {
    if webhook_endpoint::Entity::count_registered(connection, merchant).await? >= MAX_ENDPOINTS {
        let problem = format!("You have {MAX_ENDPOINTS} webhook endpoints, the most there may be. Remove one first.");
        fields.fault("url", problem);
    }
    Ok(())
}

async fn record(
    txn: &impl ConnectionTrait,
    principal: &Principal,
    action: &str,
    endpoint: &Model,
    now: cryptopay_domain::time::Timestamp,
) -> Result<(), sea_orm::DbErr> {
    let details = json!({"url": endpoint.url, "events": endpoint.events, "is_active": endpoint.is_active});
    audit(txn, principal, action, &endpoint.id.to_string(), details, now).await
}

fn not_found() -> ApiError {
    ApiError::not_found("webhook endpoint")
}
