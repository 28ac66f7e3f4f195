//! `/api/sandbox/…` and the address that webhooks arrive at. In live mode none of it exists.

use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::OrderRef;
use cryptopay_entity::sandbox_message;
use cryptopay_sandbox::MessageFilter;
use poem::http::{HeaderMap, StatusCode};
use poem::web::Data;
use poem::{Body as RawBody, FromRequest, Request, RequestBody, Response, Route, handler, post};
use poem_openapi::param::{Path, Query};
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;

use super::Tag;
use super::body::Body;
use super::envelope::{Answer, Created, Listed, Nothing, Success};
use super::pages::{ListQuery, is_number};
use crate::app::App;
use crate::error::ApiError;
use crate::http::json_body;
use crate::operations::sandbox::{self, Sent, inbox};
use crate::principal::{Manager, Reader, Writer};

/// The routes.
#[derive(Debug)]
pub struct Sandbox;

/// How to pay.
#[derive(Debug, Object)]
pub struct PayOrder {
    /// `exact` (if not said), `underpay`, `overpay`, `late` or `reorg_before_confirmation`.
    #[oai(validator(max_length = 64))]
    pub scenario: Option<String>,
    /// How much, as a plain decimal, instead of what the scenario would choose.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub amount: Option<String>,
    /// From which address; if not said, each order has a payer of its own.
    #[oai(validator(max_length = 64))]
    pub from: Option<String>,
    /// Whether the transaction carries the order's reference; if not said, all scenarios but `exact` do.
    pub with_reference: Option<bool>,
    /// Also mine the confirmations now.
    pub confirm: Option<bool>,
}

/// A payment that was sent.
#[derive(Debug, Object)]
pub struct SimulatedPayment {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Status of the order at the moment; it changes when the gateway has read the block.
    pub order_status: String,
    /// About how long the confirmation takes if nobody mines, in seconds.
    pub confirms_in_seconds: u64,
}

/// How much to mine.
#[derive(Debug, Object)]
pub struct MineBlocks {
    /// How many blocks; the chain's confirmations if not said.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub blocks: Option<i64>,
}

/// How to reorganise.
#[derive(Debug, Object)]
pub struct ReorganiseChain {
    /// How many of the newest blocks are replaced.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub depth: i64,
    /// Whether their transactions are in the new blocks too; true if not said.
    pub keep_transactions: Option<bool>,
}

/// Blocks that are new.
#[derive(Debug, Object)]
pub struct NewBlocks {
    /// Slug of the chain.
    pub blockchain: String,
    /// Height of the first.
    pub from_block: u64,
    /// Height of the last.
    pub to_block: u64,
}

/// How far to move the test clock.
#[derive(Debug, Object)]
pub struct AdvanceClock {
    /// By how many seconds; it only goes forward.
    #[oai(validator(minimum(value = "1"), maximum(value = "31622400")))]
    pub seconds: i64,
}

/// The test clock.
#[derive(Debug, Object)]
pub struct TestClock {
    /// What it shows: RFC 3339, UTC.
    pub now: String,
}

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

/// Taken first by every operation: in live mode nothing here exists, with or without a token.
struct SandboxOnly;

impl<'a> FromRequest<'a> for SandboxOnly {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let app = request.data::<App>().ok_or_else(|| ApiError::internal("no App in the request"))?;
        sandbox::require(app)?;
        Ok(Self)
    }
}

#[OpenApi(prefix_path = "/api/sandbox", tag = "Tag::Sandbox")]
impl Sandbox {
    /// Pay an order on the simulated chain
    ///
    /// As a customer would: the transaction waits for the next block, and the gateway finds it there.
    #[oai(path = "/payment-orders/:id/pay/", method = "post", operation_id = "simulatePayment")]
    async fn pay(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        auth: Writer,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        body: Body<PayOrder>,
    ) -> Answer<Created<SimulatedPayment>> {
        let Sent { transaction_hash, order_status, confirms_in_seconds, message } =
            sandbox::pay(&app, &auth.0, &id, body.fields).await?;
        let payment = SimulatedPayment {
            transaction_hash: transaction_hash.to_string(),
            order_status: order_status.to_string(),
            confirms_in_seconds,
        };
        Ok(Created(payment, message))
    }

    /// Mine blocks on a simulated chain
    ///
    /// Acts on the whole instance, for every merchant.
    #[oai(path = "/blockchains/:slug/mine/", method = "post", operation_id = "mineBlocks")]
    async fn mine(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        /// Slug of the chain, in any case
        slug: Path<String>,
        body: Body<MineBlocks>,
    ) -> Answer<Success<NewBlocks>> {
        let (mined, message) = sandbox::mine(&app, &slug, &body.fields).await?;
        Ok(Success(NewBlocks { blockchain: slug.to_lowercase(), from_block: mined.from, to_block: mined.to }, message))
    }

    /// Reorganise a simulated chain
    ///
    /// Replaces the newest blocks by as many others and one more. Acts on the whole instance, for every merchant.
    #[oai(path = "/blockchains/:slug/reorg/", method = "post", operation_id = "reorganiseChain")]
    async fn reorg(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        /// Slug of the chain, in any case
        slug: Path<String>,
        body: Body<ReorganiseChain>,
    ) -> Answer<Success<NewBlocks>> {
        let (done, message) = sandbox::reorg(&app, &slug, &body.fields).await?;
        Ok(Success(NewBlocks { blockchain: slug.to_lowercase(), from_block: done.from, to_block: done.to }, message))
    }

    /// Move the test clock forward
    ///
    /// For expiry, late windows and webhook retries. Acts on the whole instance, for every merchant; tokens, leases and
    /// rate limits keep the real clock.
    #[oai(path = "/clock/advance/", method = "post", operation_id = "advanceClock")]
    async fn advance_clock(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        body: Body<AdvanceClock>,
    ) -> Answer<Success<TestClock>> {
        let (now, message) = sandbox::advance_clock(&app, &body.fields).await?;
        Ok(Success(TestClock { now: now.to_string() }, message))
    }

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
