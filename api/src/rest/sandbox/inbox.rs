//! The webhook inbox: its messages, what it answers with, and the address that webhooks arrive at.

use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::OrderRef;
use cryptopay_entity::sandbox_message;
use cryptopay_sandbox::MessageFilter;
use poem::http::{HeaderMap, StatusCode};
use poem::web::Data;
use poem::{Body as RawBody, Request, Response, Route, handler, post};
use poem_openapi::param::Query;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;

use super::SandboxOnly;
use crate::app::App;
use crate::error::ApiError;
use crate::http::json_body;
use crate::operations::sandbox::inbox;
use crate::principal::{Reader, Writer};
use crate::rest::Tag;
use crate::rest::body::Body;
use crate::rest::envelope::{Answer, Listed, Nothing, Success};
use crate::rest::pages::{ListQuery, is_number};

/// The routes.
#[derive(Debug)]
pub struct Inbox;

/// A webhook that arrived.
#[derive(Debug, Clone, Object)]
pub struct InboxMessage {
    /// Number of the message.
    pub id: i64,
    /// When, by the test clock: RFC 3339, UTC.
    pub received_at: String,
    /// Which event, by its header.
    pub event: Option<String>,
    /// About which order, by its body.
    pub order_id: Option<String>,
    /// Its headers, names in lower case.
    pub headers: Any<Value>,
    /// Its body, as it came.
    pub body: String,
    /// Whether `X-Webhook-Signature` was right.
    pub signature_valid: bool,
}

/// What the inbox is to answer webhooks with. What is left out stays.
#[derive(Debug, Object)]
pub struct ChangeInbox {
    /// HTTP status. Anything but 2xx is a failure to whoever delivers; 410 again and again switches the endpoint off.
    #[oai(validator(minimum(value = "200"), maximum(value = "599")))]
    pub status: Option<i64>,
    /// After how many seconds it answers. Deliveries wait 15 s for an answer.
    #[oai(validator(minimum(value = "0"), maximum(value = "60")))]
    pub delay_seconds: Option<i64>,
}

/// What the inbox answers webhooks with.
#[derive(Debug, Object)]
pub struct InboxAnswers {
    /// HTTP status.
    pub status: u16,
    /// After how many seconds it answers.
    pub delay_seconds: u64,
}

#[OpenApi(prefix_path = "/api/sandbox", tag = "Tag::Sandbox")]
impl Inbox {
    /// List the webhooks that arrived in your inbox
    ///
    /// Newest first.
    #[oai(path = "/webhook-inbox/", method = "get", operation_id = "listInboxMessages")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn inbox(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: id of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
        /// Name of an event, such as `payment.confirmed`
        event: Query<Option<String>>,
        /// Public id of an order, `ORD-…`
        order_id: Query<Option<String>>,
        /// Seconds to wait, at most 60, while nothing matches
        wait: Query<Option<String>>,
    ) -> Answer<Listed<InboxMessage>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering, event, order_id, wait);
        let mut query = ListQuery::of(request);
        let filter = filter(&mut query);
        let wait = wait_of(&mut query);
        let asked = query.asked(is_number);
        query.finish()?;
        let messages = inbox::messages(&app, &auth.0, &filter, wait, &asked).await?;
        Ok(Listed(query.answer(messages.map(InboxMessage::new))))
    }

    /// Empty your webhook inbox
    ///
    /// Deletes the messages of your own inbox; the answer says how many there were.
    #[oai(path = "/webhook-inbox/", method = "delete", operation_id = "clearInbox")]
    async fn clear_inbox(&self, _mode: SandboxOnly, app: Data<&App>, auth: Writer) -> Answer<Success<Nothing>> {
        let count = inbox::clear(&app, &auth.0).await?;
        Ok(Success(Nothing::default(), format!("{count} messages deleted.")))
    }

    /// Set what your webhook inbox answers with
    ///
    /// To watch how deliveries are tried again: let it answer 503, or late, and advance the test clock. What arrives is kept
    /// all the same.
    #[oai(path = "/webhook-inbox/", method = "patch", operation_id = "changeInbox")]
    async fn change_inbox(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        auth: Writer,
        body: Body<ChangeInbox>,
    ) -> Answer<Success<InboxAnswers>> {
        let (answer, message) = inbox::answer_with(&app, &auth.0, &body.fields).await?;
        Ok(Success(InboxAnswers { status: answer.status, delay_seconds: answer.delay.as_secs() }, message))
    }
}

fn filter(query: &mut ListQuery) -> MessageFilter {
    MessageFilter {
        event: query.parsed::<EventType>("event").map(|event| event.to_string()),
        order_id: query.get("order_id").map(str::to_owned).and_then(|text| match text.parse::<OrderRef>() {
            Ok(order_id) => Some(order_id.to_string()),
            Err(_) => {
                query.fault("order_id", "Must be an order's public id, ORD- and twelve characters.");
                None
            }
        }),
    }
}

fn wait_of(query: &mut ListQuery) -> Duration {
    match query.get("wait").map(str::parse::<u64>) {
        None => Duration::ZERO,
        Some(Ok(seconds)) if Duration::from_secs(seconds) <= inbox::MAX_WAIT => Duration::from_secs(seconds),
        Some(_) => {
            query.fault("wait", "Must be a whole number of seconds, at most 60.");
            Duration::ZERO
        }
    }
}

impl InboxMessage {
    /// From a row.
    pub fn new(message: &sandbox_message::Model) -> Self {
        Self {
            id: message.id,
            received_at: message.received_at.to_string(),
            event: message.event.clone(),
            order_id: message.order_id.clone(),
            headers: Any(serde_json::from_str(&message.headers).unwrap_or_default()),
            body: message.body.clone(),
            signature_valid: message.signature_valid,
        }
    }
}

/// Adds the address that webhooks arrive at: `POST /sandbox/inbox/{token}`.
pub fn inbox_route(route: Route) -> Route {
    route.at(format!("{}:token", inbox::PLACE), post(receive))
}

#[handler]
async fn receive(
    app: Data<&App>,
    poem::web::Path(token): poem::web::Path<String>,
    headers: &HeaderMap,
    body: RawBody,
) -> Result<Response, ApiError> {
    let inbox = inbox::of_token(&app, &token).await?;
    let body = json_body::read_at_most(body, inbox::MAX_MESSAGE_BYTES).await?;
    let answer = inbox::receive(&app, &inbox, headers, &body).await?;
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    Ok(Response::builder().status(status).body(()))
}
