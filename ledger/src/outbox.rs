//! Events and their deliveries, written in the transaction of the change that they tell of.

use std::collections::BTreeMap;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{DeliveryRef, EventId, EventRef, MerchantId, OrderId, TransferId};
use cryptopay_domain::merchant::{DeliveryState, EndpointScope};
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook;
use cryptopay_entity::{event, webhook_delivery, webhook_endpoint};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ActiveModelTrait, ActiveValue, ConnectionTrait, EntityTrait};
use serde_json::{Map, Value};

use crate::error::LedgerError;
use crate::nudges::{DeliveryKey, Nudges};

/// The endpoints of the merchants that a transaction touches, read once.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<MerchantId, Vec<webhook_endpoint::Model>>);

impl Endpoints {
    /// Reads the endpoints of these merchants.
    pub(crate) async fn of(
        connection: &impl ConnectionTrait,
        merchants: impl IntoIterator<Item = MerchantId>,
    ) -> Result<Self, LedgerError> {
        let mut endpoints: BTreeMap<MerchantId, Vec<_>> = BTreeMap::new();
        for endpoint in webhook_endpoint::Entity::receiving(connection, merchants).await? {
            endpoints.entry(endpoint.merchant_id).or_default().push(endpoint);
        }
        Ok(Self(endpoints))
    }

    /// The endpoints of one merchant, which were read before.
    pub(crate) fn from_rows(merchant: MerchantId, endpoints: Vec<webhook_endpoint::Model>) -> Self {
        Self(BTreeMap::from([(merchant, endpoints)]))
    }

    fn get(&self, merchant: MerchantId) -> &[webhook_endpoint::Model] {
        self.0.get(&merchant).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What an event is about.
pub(crate) enum Subject<'a> {
    /// An order at one version.
    Order(&'a OrderSnapshot),
    /// A transfer that fits no order.
    Transfer(TransferId, &'a Map<String, Value>),
}

/// An event to record.
pub(crate) struct NewEvent<'a> {
    pub(crate) merchant: MerchantId,
    pub(crate) event_type: EventType,
    pub(crate) subject: Subject<'a>,
    pub(crate) cause: &'a str,
    pub(crate) now: Timestamp,
}

/// An event and a delivery for everyone who wants it, to be written.
pub(crate) struct Outgoing {
    pub(crate) event: event::ActiveModel,
    pub(crate) deliveries: Vec<webhook_delivery::ActiveModel>,
}

impl Outgoing {
    /// The rows, without the event's number.
    pub(crate) fn new(endpoints: &Endpoints, new: &NewEvent<'_>, nudges: &mut Nudges) -> Result<Self, LedgerError> {
        let event_ref = EventRef::from_entropy(rand::random());
        let (order_id, transfer_id, order_version, snapshot) = match &new.subject {
            Subject::Order(order) => (Some(order.id), None, Some(order.version), to_json(order)?),
            Subject::Transfer(transfer, snapshot) => (None, Some(*transfer), None, to_json(snapshot)?),
        };
        nudges.events = true;
        let mut deliveries = Vec::new();
        for target in targets(endpoints.get(new.merchant), new) {
            let delivery_ref = DeliveryRef::from_entropy(rand::random());
            let body = match &new.subject {
                Subject::Order(order) => webhook::order_body(new.event_type, &event_ref, &delivery_ref, new.now, order),
                Subject::Transfer(_, snapshot) => {
                    webhook::plain_body(new.event_type, &event_ref, &delivery_ref, new.now, snapshot)
                }
            }
            .map_err(|error| LedgerError::Corrupt(error.to_string()))?;
            if target.dead_reason.is_none() {
                nudges.deliveries.insert(DeliveryKey { endpoint: target.endpoint.id, origin: target.origin.clone() });
            }
            let of_order = (order_id, order_version);
            deliveries.push(delivery_row((NotSet, new.event_type), target, delivery_ref, body, of_order, new.now));
        }
        let event = event::ActiveModel {
            id: NotSet,
            event_id: Set(event_ref),
            merchant_id: Set(new.merchant),
            order_id: Set(order_id),
            transfer_id: Set(transfer_id),
            event_type: Set(new.event_type),
            order_version: Set(order_version),
            cause: Set(new.cause.to_owned()),
            snapshot: Set(snapshot),
            sequence: Set(None),
            created_at: Set(new.now),
        };
        Ok(Self { event, deliveries })
    }

    /// The rows of an event that has its number before it is written.
    pub(crate) fn numbered(mut self, event: EventId) -> Self {
        self.event.id = Set(event);
        self.deliveries.iter_mut().for_each(|delivery| delivery.event_id = Set(event));
        self
    }
}

/// Records an event and a delivery for everyone who wants it.
pub(crate) async fn record(
    connection: &impl ConnectionTrait,
    endpoints: &Endpoints,
    new: NewEvent<'_>,
    nudges: &mut Nudges,
) -> Result<(), LedgerError> {
    let Outgoing { event, mut deliveries } = Outgoing::new(endpoints, &new, nudges)?;
    // Its number alone comes back: the rest is known, and may be large.
    let event = event::Entity::insert(event).exec(connection).await?.last_insert_id;
    deliveries.iter_mut().for_each(|delivery| delivery.event_id = Set(event));
    if !deliveries.is_empty() {
        webhook_delivery::Entity::insert_many(deliveries).exec_without_returning(connection).await?;
    }
    Ok(())
}

fn delivery_row(
    (event, event_type): (ActiveValue<EventId>, EventType),
    target: Target<'_>,
    delivery_ref: DeliveryRef,
    body: String,
    (order_id, order_version): (Option<OrderId>, Option<i64>),
    now: Timestamp,
) -> webhook_delivery::ActiveModel {
    let state = if target.dead_reason.is_some() { DeliveryState::Dead } else { DeliveryState::Pending };
    webhook_delivery::ActiveModel {
        id: NotSet,
        delivery_id: Set(delivery_ref),
        merchant_id: Set(target.endpoint.merchant_id),
        event_id: event,
        endpoint_id: Set(target.endpoint.id),
        order_id: Set(order_id),
        order_version: Set(order_version),
        event_type: Set(event_type),
        url: Set(target.url),
        origin: Set(target.origin),
        body: Set(body),
        state: Set(state),
        attempts: Set(0),
        next_attempt_at: Set(now),
        lease_token: Set(None),
        lease_until: Set(None),
        last_status: Set(None),
        last_error: Set(None),
        dead_reason: Set(target.dead_reason),
        delivered_at: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    }
}

/// Records a `webhook.test` event with one delivery to `endpoint`, claimed by the caller under `token`.
///
/// # Errors
/// The database fails.
pub async fn test_delivery(
    connection: &impl ConnectionTrait,
    endpoint: &webhook_endpoint::Model,
    url: &str,
    token: &str,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<webhook_delivery::Model, LedgerError> {
    let event_ref = EventRef::from_entropy(rand::random());
    let delivery_ref = DeliveryRef::from_entropy(rand::random());
    let mut snapshot = Map::new();
    snapshot.insert("endpoint_id".into(), endpoint.id.0.into());
    snapshot.insert("message".into(), "This is a test. Nothing has happened.".into());
    let event = event::ActiveModel {
        id: NotSet,
        event_id: Set(event_ref.clone()),
        merchant_id: Set(endpoint.merchant_id),
        order_id: Set(None),
        transfer_id: Set(None),
        event_type: Set(EventType::WebhookTest),
        order_version: Set(None),
        cause: Set("asked for by the merchant".to_owned()),
        snapshot: Set(to_json(&snapshot)?),
        sequence: Set(None),
        created_at: Set(now),
    };
    let event = event::Entity::insert(event).exec(connection).await?.last_insert_id;
    let body = webhook::plain_body(EventType::WebhookTest, &event_ref, &delivery_ref, now, &snapshot)
        .map_err(|error| LedgerError::Corrupt(error.to_string()))?;
    let target = Target { endpoint, url: url.to_owned(), origin: String::new(), dead_reason: None };
    let mut row = delivery_row((Set(event), EventType::WebhookTest), target, delivery_ref, body, (None, None), now);
    row.attempts = Set(1);
    row.lease_token = Set(Some(token.to_owned()));
    row.lease_until = Set(Some(lease_until));
    Ok(row.insert(connection).await?)
}

/// Where a delivery goes.
struct Target<'a> {
    endpoint: &'a webhook_endpoint::Model,
    url: String,
    origin: String,
    dead_reason: Option<String>,
}

/// Who gets an event: every registered endpoint that wants it, and the order's own url unless such an endpoint has it.
/// What is switched off gets a dead delivery with the reason, to be sent again later.
fn targets<'a>(endpoints: &'a [webhook_endpoint::Model], new: &NewEvent<'_>) -> Vec<Target<'a>> {
    let wanting = || endpoints.iter().filter(|endpoint| endpoint.filter().wants(new.event_type));
    let mut targets = Vec::new();
    for endpoint in wanting().filter(|endpoint| endpoint.scope == EndpointScope::Merchant) {
        let Some(url) = endpoint.url.clone() else { continue };
        targets.push(Target { endpoint, url, origin: String::new(), dead_reason: endpoint.off_reason() });
    }
    let own_url = match &new.subject {
        Subject::Order(order) => order.webhook_url.as_ref(),
        Subject::Transfer(..) => None,
    };
    if let Some(url) = own_url
        && !targets.iter().any(|target| target.dead_reason.is_none() && target.url == *url)
        && let Some(endpoint) = wanting().find(|endpoint| endpoint.scope == EndpointScope::Order)
    {
        let origin = url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        targets.push(Target { endpoint, url: url.clone(), origin, dead_reason: endpoint.off_reason() });
    }
    targets
}

fn to_json(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Corrupt(error.to_string()))
}
