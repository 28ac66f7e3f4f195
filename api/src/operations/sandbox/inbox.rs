//! The webhook inbox: what arrived, waiting for what will, and taking what comes.

use std::time::Duration;

use cryptopay_domain::merchant::EndpointScope;
use cryptopay_domain::webhook::signature;
use cryptopay_entity::{clock, sandbox_inbox, sandbox_message, webhook_endpoint};
use cryptopay_sandbox::{InboxError, MAX_BODY_BYTES, MessageFilter, Received};
use poem::http::HeaderMap;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::require;
use crate::app::{App, EndpointSecrets};
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::operations;
use crate::operations::pages::{Asked, ListPage};
use crate::principal::Principal;

/// Where messages arrive, without the inbox's token at the end.
pub const PLACE: &str = "/sandbox/inbox/";
/// Longest that a request waits for a message.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// How often a waiting request looks by itself: messages may arrive at another process.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest delay of an answer, whatever the row says.
const MAX_ANSWER_DELAY: Duration = Duration::from_secs(60);

/// Wakes waiting requests when a message arrives at this process. A nudge: they look every half second anyway.
static ARRIVED: Notify = Notify::const_new();

/// What the inbox answers a webhook with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxAnswer {
    /// HTTP status.
    pub status: u16,
    /// After this long.
    pub delay: Duration,
}

/// A page of the merchant's messages. While there is none, waits for one, at most `wait`.
///
/// # Errors
/// `NOT_FOUND` in live mode, and past the end; a fault of `after`.
pub async fn messages(
    app: &App,
    principal: &Principal,
    filter: &MessageFilter,
    wait: Duration,
    asked: &Asked,
) -> Result<ListPage<sandbox_message::Model>, ApiError> {
    require(app)?;
    let merchant = principal.merchant_id();
    let until = Instant::now() + wait.min(MAX_WAIT);
    loop {
        // Listened to before looking: what arrives in between wakes too.
        let arrived = ARRIVED.notified();
        let count = sandbox_message::Entity::count_of(app.database(), merchant, filter).await?;
        if count > 0 || Instant::now() >= until {
            let place = match asked.after.as_deref().and_then(operations::number) {
                Some(id) => sandbox_message::Entity::find_owned(app.database(), merchant, id).await?,
                None => None,
            };
            let read = |window| sandbox_message::Entity::list_owned(app.database(), merchant, filter, window);
            let place = place.map(|message| message.place());
            return asked.page(count, place, read, |message| message.id.to_string()).await;
        }
        // Late or woken, the next look tells.
        let _ = timeout_at(until.min(Instant::now() + LOOK_EVERY), arrived).await;
    }
}

/// Empties the merchant's inbox; how many messages there were.
///
/// # Errors
/// `NOT_FOUND` in live mode.
pub async fn clear(app: &App, principal: &Principal) -> Result<u64, ApiError> {
    require(app)?;
    Ok(cryptopay_sandbox::delete_messages(app.database(), principal.merchant_id()).await?)
}

/// Sets what the merchant's inbox answers webhooks with; what is not said stays.
///
/// # Errors
/// `NOT_FOUND` in live mode, and for an account that was made in live mode; faulty fields.
pub async fn answer_with(app: &App, principal: &Principal, fields: &Fields) -> Result<(InboxAnswer, String), ApiError> {
    require(app)?;
    fields.finish()?;
    let (merchant, database) = (principal.merchant_id(), app.database());
    let delay_ms = fields.integer("delay_seconds").map(|seconds| seconds.saturating_mul(1_000));
    sandbox_inbox::Entity::answer_with(database, merchant, fields.integer("status"), delay_ms).await?;
    let inbox = sandbox_inbox::Entity::of(database, merchant).await?;
    let answer = answer_of(&inbox.ok_or_else(|| ApiError::not_found("inbox"))?);
    let message = format!("The inbox answers {} after {} s.", answer.status, answer.delay.as_secs());
    Ok((answer, fields.message(&message)))
}

/// Whose inbox a token names. The token is the permission.
///
/// # Errors
/// `NOT_FOUND`, in live mode too.
pub async fn of_token(app: &App, token: &str) -> Result<sandbox_inbox::Model, ApiError> {
    require(app)?;
    let inbox = cryptopay_sandbox::inbox_of_token(app.database(), token).await?;
    inbox.ok_or_else(|| ApiError::not_found("inbox"))
}

/// Keeps a message that arrived at an inbox, and says what to answer with.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE`.
pub async fn receive(
    app: &App,
    inbox: &sandbox_inbox::Model,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<InboxAnswer, ApiError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let received = Received {
        at: clock::business_now(app.database()).await?,
        event: header("X-Webhook-Event").map(str::to_owned),
        order_id: order_of(body),
        headers: as_json(headers),
        body: String::from_utf8_lossy(body).into_owned(),
        signature_valid: is_signed(app, inbox, header("X-Webhook-Signature"), body).await?,
    };
    cryptopay_sandbox::record_message(app.database(), inbox.merchant_id, received).await.map_err(
        |error| match error {
            InboxError::TooLarge { .. } => ApiError::new(ErrorCode::PayloadTooLarge, error.to_string()),
            InboxError::Database(error) => error.into(),
        },
    )?;
    ARRIVED.notify_waiters();
    Ok(answer_of(inbox))
}

fn answer_of(inbox: &sandbox_inbox::Model) -> InboxAnswer {
    let delay = Duration::from_millis(u64::try_from(inbox.answer_delay_ms).unwrap_or(0)).min(MAX_ANSWER_DELAY);
    InboxAnswer { status: u16::try_from(inbox.answer_status).unwrap_or(200), delay }
}

/// Most bytes of a message's body.
pub const MAX_MESSAGE_BYTES: usize = MAX_BODY_BYTES;

/// Whether the body was signed with the secret of the endpoint that delivers to this inbox.
async fn is_signed(
    app: &App,
    inbox: &sandbox_inbox::Model,
    claimed: Option<&str>,
    body: &[u8],
) -> Result<bool, ApiError> {
    let Some(claimed) = claimed else { return Ok(false) };
    let endpoints = webhook_endpoint::Entity::receiving(app.database(), [inbox.merchant_id]).await?;
    let secrets = EndpointSecrets(app.keys.clone());
    let delivers_here = |endpoint: &&webhook_endpoint::Model| {
        endpoint.scope == EndpointScope::Merchant
            && endpoint.url.as_ref().is_some_and(|url| url.ends_with(&format!("/{}", inbox.token)))
    };
    for endpoint in endpoints.iter().filter(delivers_here) {
        let secret = secrets.current(endpoint).map_err(ApiError::internal)?;
        let right = signature(&secret, body);
        if bool::from(right.as_bytes().ct_eq(claimed.trim().as_bytes())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The order that a webhook's body is about.
fn order_of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let order_id = body.get("data")?.get("order_id")?.as_str()?;
    // Whatever is longer is no order's id, and must not keep the message out.
    (order_id.len() <= 64).then(|| order_id.to_owned())
}

/// The headers as a JSON object; several of one name are joined by a comma.
fn as_json(headers: &HeaderMap) -> String {
    let mut object = Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        object.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    Value::Object(object).to_string()
}
