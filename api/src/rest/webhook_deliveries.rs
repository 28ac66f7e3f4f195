//! `/api/webhook-deliveries/`, and the deliveries of endpoints.

use cryptopay_domain::ids::DeliveryRef;
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_entity::webhook_attempt;
use cryptopay_entity::webhook_delivery::DeliveryFilter;
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Listed, Success};
use super::pages::ListQuery;
use crate::app::App;
use crate::operations::webhook_endpoints::{self, DeliveryDetail, DeliveryView};
use crate::principal::{Reader, Writer};

/// Which deliveries to send once more.
#[derive(Debug, Object)]
pub struct ReplayWebhookDeliveries {
    /// Made at this time or later: RFC 3339; from the beginning if not said.
    pub since: Option<String>,
    /// Made before this time: RFC 3339; to the end if not said.
    pub until: Option<String>,
    /// `dead`, `delivered`, or both, comma-separated; `dead` if not said. What is pending is on its way anyway.
    pub status: Option<String>,
    /// Go on behind this delivery: `next_after` of the answer before.
    pub after: Option<String>,
}

/// What was queued again.
#[derive(Debug, Clone, Object)]
pub struct WebhookReplay {
    /// How many deliveries.
    pub queued: u64,
    /// Public id of the last one where there may be more: send it as `after`, with the rest as it was. Null at the end.
    pub next_after: Option<String>,
}

/// One event's way to one endpoint.
#[derive(Debug, Clone, Object)]
pub struct WebhookDelivery {
    /// Public id, `wh_…`, the same over all retries; `webhook_id` in the body.
    pub id: String,
    /// Number of the endpoint.
    pub endpoint_id: i64,
    /// What happened.
    pub event: String,
    /// Public id of the order that it is about, if any.
    pub order_id: Option<String>,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Attempts begun since it was queued, or queued again.
    pub attempts: i64,
    /// When the next attempt is due: RFC 3339, UTC; null unless pending.
    pub next_attempt_at: Option<String>,
    /// HTTP status of the last answer.
    pub last_status: Option<i64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Why it was given up.
    pub dead_reason: Option<String>,
    /// When it was made: RFC 3339, UTC.
    pub created_at: String,
    /// When it was taken: RFC 3339, UTC.
    pub delivered_at: Option<String>,
    /// Where to.
    pub url: String,
    /// The newest attempts, at most 100, oldest first; only where one delivery is asked for.
    #[oai(skip_serializing_if_is_none)]
    pub history: Option<Vec<WebhookAttempt>>,
}

impl WebhookDelivery {
    /// From a view.
    pub fn new(view: &DeliveryView) -> Self {
        let delivery = &view.delivery;
        let pending = delivery.state == DeliveryState::Pending;
        Self {
            id: delivery.delivery_id.to_string(),
            endpoint_id: delivery.endpoint_id.0,
            event: delivery.event_type.to_string(),
            order_id: view.order_id.as_ref().map(ToString::to_string),
            status: delivery.state.to_string(),
            attempts: delivery.attempts,
            next_attempt_at: pending.then(|| delivery.next_attempt_at.to_string()),
            last_status: delivery.last_status,
            last_error: delivery.last_error.clone(),
            dead_reason: delivery.dead_reason.clone(),
            created_at: delivery.created_at.to_string(),
            delivered_at: delivery.delivered_at.map(|time| time.to_string()),
            url: delivery.url.clone(),
            history: None,
        }
    }

    /// From a view with attempts.
    pub fn detailed(detail: &DeliveryDetail) -> Self {
        let history = detail.attempts.iter().map(WebhookAttempt::new).collect();
        Self { history: Some(history), ..Self::new(&detail.view) }
    }
}

/// One attempt to deliver.
#[derive(Debug, Clone, Object)]
pub struct WebhookAttempt {
    /// From 1; from 1 again after a redelivery.
    pub attempt: i64,
    /// When it began: RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// HTTP status of the answer; null if there was none.
    pub status: Option<i64>,
    /// First 4 KiB of the answer.
    pub response: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl WebhookAttempt {
    fn new(attempt: &webhook_attempt::Model) -> Self {
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at.to_string(),
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            response: attempt.response.clone(),
            error: attempt.error.clone(),
        }
    }
}

/// The routes of deliveries.
#[derive(Debug)]
pub struct WebhookDeliveries;

#[OpenApi(prefix_path = "/api", tag = "Tag::Webhooks")]
impl WebhookDeliveries {
    /// List the deliveries of a webhook endpoint
    ///
    /// Newest first.
    #[oai(path = "/webhook-endpoints/:id/deliveries/", method = "get", operation_id = "listWebhookDeliveries")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn deliveries(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Number of the endpoint
        id: Path<String>,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: id, `wh_…`, of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
        /// `pending`, `delivered` or `dead`, comma-separated
        status: Query<Option<String>>,
        /// Names of events, comma-separated
        event: Query<Option<String>>,
    ) -> Answer<Listed<WebhookDelivery>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering, status, event);
        let mut query = ListQuery::of(request);
        let (states, events) = (query.words("status"), query.words("event"));
        let filter = DeliveryFilter { states, events, ..DeliveryFilter::default() };
        let asked = query.asked(|text| text.parse::<DeliveryRef>().is_ok());
        query.finish()?;
        let deliveries = webhook_endpoints::list_deliveries(&app, &auth.0, &id, &filter, &asked).await?;
        Ok(Listed(query.answer(deliveries.map(WebhookDelivery::new))))
    }

    /// Replay deliveries of a webhook endpoint
    ///
    /// Queues what was made for the endpoint in a span of time once more, oldest first, with the same ids and bodies, and
    /// the whole schedule of retries. At most 1,000 at a time: `next_after` says how to go on. Written to the audit log.
    #[oai(path = "/webhook-endpoints/:id/replay/", method = "post", operation_id = "replayWebhookDeliveries")]
    async fn replay(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Number of the endpoint
        id: Path<String>,
        body: Body<ReplayWebhookDeliveries>,
    ) -> Answer<Success<WebhookReplay>> {
        let fields = body.fields;
        let ignored = fields.clone();
        let replayed = webhook_endpoints::replay(&app, &auth.0, &id, fields).await?;
        let message = ignored.message(&format!("{} deliveries queued again.", replayed.queued));
        let next_after = replayed.last.map(|last| last.to_string());
        Ok(Success(WebhookReplay { queued: replayed.queued, next_after }, message))
    }

    /// Get a webhook delivery
    ///
    /// With its attempts.
    #[oai(path = "/webhook-deliveries/:id/", method = "get", operation_id = "getWebhookDelivery")]
    async fn get(
        &self,
        app: Data<&App>,
        auth: Reader,
        /// Public id of the delivery, `wh_…`
        id: Path<String>,
    ) -> Answer<Success<WebhookDelivery>> {
        let detail = webhook_endpoints::get_delivery(&app, &auth.0, &id).await?;
        Ok(Success(WebhookDelivery::detailed(&detail), "Success".to_owned()))
    }

    /// Send a webhook delivery once more
    ///
    /// With the same id and body, now, whatever became of it; attempts are counted from the start.
    #[oai(path = "/webhook-deliveries/:id/redeliver/", method = "post", operation_id = "redeliverWebhookDelivery")]
    async fn redeliver(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Public id of the delivery, `wh_…`
        id: Path<String>,
        body: Body<NoFields>,
    ) -> Answer<Success<WebhookDelivery>> {
        let detail = webhook_endpoints::redeliver(&app, &auth.0, &id).await?;
        Ok(Success(WebhookDelivery::detailed(&detail), body.fields.message("Queued for delivery now.")))
    }
}
