//! `/api/webhook-endpoints/`, without the deliveries of endpoints.

use cryptopay_domain::merchant::DeliveryState;
use cryptopay_jobs::webhooks::TestDelivery;
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Listed, Nothing, Success};
use super::once::{CreatedOnce, DoneOnce, answer};
use super::pages::{ListQuery, is_number};
use crate::app::App;
use crate::operations::once::Once;
use crate::operations::webhook_endpoints::{self, EndpointView, NewView, ShownSecret};
use crate::principal::{Manager, Reader, Writer};

/// An endpoint to register.
#[derive(Debug, Object)]
pub struct CreateWebhookEndpoint {
    /// Where to: http or https (https only in live mode), at most 2048 characters, no credentials, a public address.
    pub url: String,
    /// Names of the events wanted, or `*` for all, also ones that are added later. If not said: `payment.pending`,
    /// `payment.confirmed`, `payment.failed`, `order.expired`, `order.underpaid`, `order.late_payment`,
    /// `payment.reorged`.
    #[oai(validator(max_items = 50))]
    pub events: Option<Vec<String>>,
    /// Your words for it.
    #[oai(validator(max_length = 200))]
    pub description: Option<String>,
    /// Whether it gets deliveries. True if not said.
    pub is_active: Option<bool>,
}

/// What is to change of an endpoint; the rest stays.
#[derive(Debug, Object)]
pub struct ChangeWebhookEndpoint {
    /// Where to: http or https (https only in live mode), at most 2048 characters, no credentials, a public address.
    pub url: Option<String>,
    /// Names of the events wanted, or `*` for all, also ones that are added later.
    #[oai(validator(max_items = 50))]
    pub events: Option<Vec<String>>,
    /// Your words for it.
    #[oai(validator(max_length = 200))]
    pub description: Option<String>,
    /// Whether it gets deliveries. True clears `disabled_reason`.
    pub is_active: Option<bool>,
}

/// An endpoint.
#[derive(Debug, Clone, Object)]
pub struct WebhookEndpoint {
    /// Number of the endpoint.
    pub id: i64,
    /// Where to; null for scope `order`, which serves the `webhook_url` of your orders.
    pub url: Option<String>,
    /// Names of the events wanted, or `*`.
    pub events: Vec<String>,
    /// Your words for it.
    pub description: String,
    /// Whether it gets deliveries.
    pub is_active: bool,
    /// `merchant`: registered, for all orders. `order`: implicit, for orders with a `webhook_url` of their own.
    pub scope: String,
    /// `healthy`, `failing`, `open` (ten failures in a row: one attempt a minute) or `disabled`.
    pub state: String,
    /// Why the gateway switched it off.
    pub disabled_reason: Option<String>,
    /// When it was added: RFC 3339, UTC.
    pub created_at: String,
    /// When it was last changed: RFC 3339, UTC.
    pub updated_at: String,
    /// When it last took a delivery: RFC 3339, UTC.
    pub last_success_at: Option<String>,
    /// When an attempt last failed: RFC 3339, UTC.
    pub last_failure_at: Option<String>,
    /// Key of the signatures, `whsec_…`; only in the answer to its creation, later at `secret/`.
    #[oai(skip_serializing_if_is_none)]
    pub secret: Option<String>,
}

impl WebhookEndpoint {
    /// From a view; `secret` only where it is to be shown.
    pub fn new(view: &EndpointView, secret: Option<String>) -> Self {
        let endpoint = &view.endpoint;
        Self {
            id: endpoint.id.0,
            url: endpoint.url.clone(),
            events: endpoint.filter().names().into_iter().map(str::to_owned).collect(),
            description: endpoint.description.clone(),
            is_active: endpoint.is_active,
            scope: endpoint.scope.to_string(),
            state: view.state.as_str().to_owned(),
            disabled_reason: endpoint.disabled_reason.clone(),
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
            last_success_at: endpoint.last_success_at.map(|time| time.to_string()),
            last_failure_at: endpoint.last_failure_at.map(|time| time.to_string()),
            secret,
        }
    }
}

/// The signing secret of an endpoint.
#[derive(Debug, Clone, Object)]
pub struct WebhookSecret {
    /// Key of the signatures, `whsec_…`.
    pub secret: String,
    /// Until when the secret before signs as well, after a rotation: RFC 3339, UTC; null if it does not.
    pub previous_signs_until: Option<String>,
}

impl WebhookSecret {
    fn new(shown: &ShownSecret) -> Self {
        Self { secret: shown.secret.clone(), previous_signs_until: shown.previous_until.map(|until| until.to_string()) }
    }
}

/// What came of a test delivery.
#[derive(Debug, Clone, Object)]
pub struct WebhookTest {
    /// Public id of the delivery, `wh_…`.
    pub delivery_id: String,
    /// Whether the receiver took it: a status from 200 to 299.
    pub delivered: bool,
    /// HTTP status of the answer; null if there was none.
    pub status: Option<i64>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// First 4 KiB of the answer.
    pub response: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl WebhookTest {
    /// From what came of it.
    pub fn new(test: &TestDelivery) -> Self {
        let attempt = test.attempt.as_ref();
        Self {
            delivery_id: test.delivery.delivery_id.to_string(),
            delivered: test.delivery.state == DeliveryState::Delivered,
            status: test.delivery.last_status,
            duration_ms: attempt.map(|attempt| attempt.duration_ms).unwrap_or_default(),
            response: attempt.and_then(|attempt| attempt.response.clone()),
            error: test.delivery.last_error.clone(),
        }
    }
}

/// The routes of endpoints.
#[derive(Debug)]
pub struct WebhookEndpoints;

#[OpenApi(prefix_path = "/api/webhook-endpoints", tag = "Tag::Webhooks")]
impl WebhookEndpoints {
    /// Register a webhook endpoint
    ///
    /// At most 20 per merchant. The answer holds its secret.
    #[oai(path = "/", method = "post", operation_id = "createWebhookEndpoint")]
    async fn create(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<CreateWebhookEndpoint>,
    ) -> Answer<CreatedOnce<WebhookEndpoint>> {
        let words =
            |(view, secret, message): &NewView| answer(&WebhookEndpoint::new(view, Some(secret.clone())), message);
        let mut fields = body.fields;
        let once = Once::new(&auth.0, key.as_deref(), "createWebhookEndpoint", &mut fields, words);
        Ok(webhook_endpoints::create(&app, &auth.0, fields, once).await?.into())
    }

    /// List webhook endpoints
    ///
    /// Newest first. The one of scope `order` is always there: its secret signs deliveries to your orders' own
    /// `webhook_url`.
    #[oai(path = "/", method = "get", operation_id = "listWebhookEndpoints")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn list(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: number of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
    ) -> Answer<Listed<WebhookEndpoint>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering);
        let mut query = ListQuery::of(request);
        let asked = query.asked(is_number);
        query.finish()?;
        let endpoints = webhook_endpoints::list(&app, &auth.0, &asked).await?;
        Ok(Listed(query.answer(endpoints.map(|view| WebhookEndpoint::new(view, None)))))
    }

    /// Get a webhook endpoint
    ///
    /// Where it goes, which events it wants, and how its deliveries fare.
    #[oai(path = "/:id/", method = "get", operation_id = "getWebhookEndpoint")]
    async fn get(
        &self,
        app: Data<&App>,
        auth: Reader,
        /// Number of the endpoint
        id: Path<String>,
    ) -> Answer<Success<WebhookEndpoint>> {
        let view = webhook_endpoints::get(&app, &auth.0, &id).await?;
        Ok(Success(WebhookEndpoint::new(&view, None), "Success".to_owned()))
    }

    /// Change a webhook endpoint
    ///
    /// Changes what is sent and keeps the rest, as PATCH does.
    #[oai(path = "/:id/", method = "put", operation_id = "replaceWebhookEndpoint")]
    async fn put(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the endpoint
        id: Path<String>,
        body: Body<ChangeWebhookEndpoint>,
    ) -> Answer<Success<WebhookEndpoint>> {
        let (view, message) = webhook_endpoints::update(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(WebhookEndpoint::new(&view, None), message))
    }

    /// Change parts of a webhook endpoint
    ///
    /// Changes what is sent and keeps the rest. Activating a disabled endpoint forgets its failures.
    #[oai(path = "/:id/", method = "patch", operation_id = "updateWebhookEndpoint")]
    async fn patch(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the endpoint
        id: Path<String>,
        body: Body<ChangeWebhookEndpoint>,
    ) -> Answer<Success<WebhookEndpoint>> {
        let (view, message) = webhook_endpoints::update(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(WebhookEndpoint::new(&view, None), message))
    }

    /// Remove a webhook endpoint
    ///
    /// What was still to be delivered to it is kept as dead. The one of scope `order` cannot be removed.
    #[oai(path = "/:id/", method = "delete", operation_id = "deleteWebhookEndpoint")]
    async fn delete(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the endpoint
        id: Path<String>,
    ) -> Answer<Success<Nothing>> {
        webhook_endpoints::remove(&app, &auth.0, &id).await?;
        Ok(Success(Nothing::default(), "Webhook endpoint removed.".to_owned()))
    }

    /// Show the secret of a webhook endpoint
    ///
    /// Who looks is written to the audit log.
    #[oai(path = "/:id/secret/", method = "get", operation_id = "getWebhookEndpointSecret")]
    async fn secret(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the endpoint
        id: Path<String>,
    ) -> Answer<Success<WebhookSecret>> {
        let shown = webhook_endpoints::secret(&app, &auth.0, &id).await?;
        Ok(Success(WebhookSecret::new(&shown), shown.message))
    }

    /// Rotate the secret of a webhook endpoint
    ///
    /// Makes a new secret, which signs from now on. For 24 hours the one before signs as well: `X-Webhook-Signature-Previous`,
    /// and a second value in `webhook-signature`. Rotating again within that time leaves the two newest; the oldest stops at
    /// once, so that rotating twice retires a secret that has leaked. Written to the audit log.
    #[oai(path = "/:id/rotate-secret/", method = "post", operation_id = "rotateWebhookEndpointSecret")]
    async fn rotate_secret(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the endpoint
        id: Path<String>,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<NoFields>,
    ) -> Answer<DoneOnce<WebhookSecret>> {
        let mut fields = body.fields;
        let ignored = fields.clone();
        let words = move |shown: &ShownSecret| answer(&WebhookSecret::new(shown), &ignored.message(&shown.message));
        let operation = format!("rotateWebhookEndpointSecret {}", id.as_str());
        let once = Once::new(&auth.0, key.as_deref(), &operation, &mut fields, words);
        fields.finish()?;
        Ok(webhook_endpoints::rotate_secret(&app, &auth.0, &id, once).await?.into())
    }

    /// Test a webhook endpoint
    ///
    /// Sends a signed `webhook.test` now and says what came of it.
    #[oai(path = "/:id/test/", method = "post", operation_id = "testWebhookEndpoint")]
    async fn test(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Number of the endpoint
        id: Path<String>,
        body: Body<NoFields>,
    ) -> Answer<Success<WebhookTest>> {
        let test = WebhookTest::new(&webhook_endpoints::test(&app, &auth.0, &id).await?);
        let message = if test.delivered { "The endpoint took it." } else { "The endpoint did not take it." };
        Ok(Success(test, body.fields.message(message)))
    }
}
