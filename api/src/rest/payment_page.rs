//! The public payment page of an order: the page itself, its status as JSON and as server-sent events, its QR code.
//! No token: whoever knows the order's public id may look.

mod stream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::http::{HeaderMap, StatusCode, header};
use poem::web::{Data, Path};
use poem::{IntoResponse, Request, Response, Route, get, handler};
use poem_openapi::{Object, OpenApi};
use tokio_util::sync::CancellationToken;

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Created, Success};
use super::pages::ListQuery;
use super::sandbox::SimulatedPayment;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::operations::claims::{self, Claim, Pays};
use crate::operations::payment_page::{self, PaymentStatus};
use crate::page::{self, qr};
use crate::security::entropy;

/// The documented routes.
#[derive(Debug)]
pub struct PaymentPage;

/// What the customer of an order may know. Never the merchant's `order_info`.
#[derive(Debug, Clone, Object)]
pub struct PaymentPageStatus {
    /// Public id, `ORD-…`.
    pub order_id: String,
    /// `pending`, `underpaid`, `confirming`, `confirmed`, `reorged`, `expired`, `canceled` or `failed`.
    pub status: String,
    /// Who is paid.
    pub shop_name: String,
    /// Price.
    pub amount: String,
    /// Symbol.
    pub currency: String,
    /// The exact amount to send.
    pub pay_amount: String,
    /// Always true: `pay_amount` is this order's alone. Kept for older clients.
    pub exact_amount: bool,
    /// What has come and counts.
    pub amount_received: String,
    /// What completes the order.
    pub amount_remaining: String,
    /// What came beyond the amount due; null unless the order is overpaid.
    pub amount_overpaid: Option<String>,
    /// Slug of the chain.
    pub blockchain: String,
    /// Name of the chain.
    pub network: String,
    /// What exchanges call the chain.
    pub exchange_name: String,
    /// Where to pay.
    pub receiving_address: String,
    /// Confirmations of the newest payment.
    pub confirmations: u64,
    /// Confirmations at which it counts as paid.
    pub required_confirmations: u32,
    /// Until when to pay: RFC 3339, UTC.
    pub expires_at: String,
    /// Whether money may still be sent.
    pub payable: bool,
    /// Whether the shop may ship.
    pub fulfillable: bool,
    /// Where the customer goes afterwards.
    pub redirect_url: Option<String>,
    /// The newest payment.
    pub transaction_hash: Option<String>,
    /// Time of the newest payment's block: RFC 3339, UTC.
    pub paid_at: Option<String>,
    /// Where an explorer shows it; null on a simulated chain, which no explorer knows.
    pub explorer_url: Option<String>,
}

impl PaymentPageStatus {
    /// From a status; private parts stay behind.
    pub fn new(status: &PaymentStatus) -> Self {
        let shown = &status.shown;
        Self {
            order_id: shown.order_id.to_string(),
            status: shown.status.to_string(),
            shop_name: status.shop_name.clone(),
            amount: shown.amount.clone(),
            currency: shown.currency.clone(),
            pay_amount: shown.pay_amount.clone(),
            exact_amount: shown.exact_amount,
            amount_received: shown.amount_received.clone(),
            amount_remaining: shown.amount_remaining.clone(),
            amount_overpaid: status.amount_overpaid.clone(),
            blockchain: shown.blockchain.clone(),
            network: status.network.clone(),
            exchange_name: status.exchange_name.clone(),
            receiving_address: shown.receiving_address.to_string(),
            confirmations: shown.confirmations,
            required_confirmations: shown.required_confirmations,
            expires_at: shown.expires_at.to_string(),
            payable: status.payable,
            fulfillable: shown.fulfillable,
            redirect_url: shown.redirect_url.clone(),
            transaction_hash: shown.transfer.as_ref().map(|transfer| transfer.transaction_hash.to_string()),
            paid_at: shown.transfer.as_ref().map(|transfer| transfer.block_timestamp.to_string()),
            explorer_url: status.explorer_url.clone(),
        }
    }
}

/// A transaction that is said to pay an order.
#[derive(Debug, Object)]
pub struct ClaimPayment {
    /// Hash of the transaction: `0x` and 64 hexadecimal digits.
    pub transaction_hash: String,
}

/// What is seen of a transaction that is said to pay an order.
#[derive(Debug, Clone, Object)]
pub struct PaymentClaim {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Slug of the chain on which it was seen; that of the order while it is not known.
    pub blockchain: String,
    /// Name of the chain on which it was seen; null while it is not known.
    pub network: Option<String>,
    /// Whether a payment to the order's address is known in this transaction.
    pub known: bool,
    /// `this_order`, `another_order`, or `nobody`: the shop has to look at it. Null while it is not known.
    pub pays: Option<String>,
    /// `pending`, `confirmed` or `failed`; null while it is not known.
    pub status: Option<String>,
    /// `included`, `final`, `missing`, `orphaned` or `reverted`; null while it is not known.
    pub state: Option<String>,
    /// How much came to the order's address; null unless it pays this order or nobody.
    pub amount: Option<String>,
    /// Symbol; null unless it pays this order or nobody.
    pub currency: Option<String>,
    /// Confirmations: 1 in the newest block, 0 while it is not known.
    pub confirmations: u64,
    /// Confirmations at which it counts as paid.
    pub required_confirmations: u32,
    /// Whether the newest blocks of the chain are not read yet, so that a payment may be there that is not known.
    pub chain_behind: bool,
}

impl PaymentClaim {
    /// From what is seen.
    pub fn new(claim: &Claim) -> Self {
        let seen = claim.seen.as_ref();
        let ours = seen.filter(|(_, pays)| *pays != Pays::AnotherOrder);
        Self {
            transaction_hash: claim.transaction_hash.to_string(),
            blockchain: claim.blockchain.clone(),
            network: claim.network.clone(),
            known: seen.is_some(),
            pays: seen.map(|(_, pays)| pays.as_str().to_owned()),
            status: seen.map(|(transfer, _)| transfer.status.to_string()),
            state: seen.map(|(transfer, _)| transfer.state.to_string()),
            amount: ours.map(|(transfer, _)| transfer.amount.clone()),
            currency: ours.map(|(transfer, _)| transfer.currency.clone()),
            confirmations: seen.map_or(0, |(transfer, _)| transfer.confirmations),
            required_confirmations: claim.required_confirmations,
            chain_behind: claim.chain_behind,
        }
    }
}

#[OpenApi(prefix_path = "/order", tag = "Tag::PaymentPage")]
impl PaymentPage {
    /// Get the public status of a payment order
    ///
    /// What the payment page shows. `/order/{order_id}/events` sends the same as server-sent events, and again whenever
    /// it changes.
    #[oai(path = "/:order_id/status", method = "get", operation_id = "getPaymentStatus")]
    async fn status(
        &self,
        app: Data<&App>,
        /// Public id, `ORD-…`
        order_id: poem_openapi::param::Path<String>,
    ) -> Answer<Success<PaymentPageStatus>> {
        let status = payment_page::status(&app, &order_id).await?;
        Ok(Success(PaymentPageStatus::new(&status), "Success".to_owned()))
    }

    /// Say by which transaction a payment order was paid
    ///
    /// A hint: the answer says what is seen of the transaction on every blockchain that is served, and on which one. It
    /// credits nothing and changes nothing. Claims that are signed by the sender are not available yet and are refused.
    #[oai(path = "/:order_id/claim", method = "post", operation_id = "claimPayment")]
    async fn claim(
        &self,
        app: Data<&App>,
        /// Public id, `ORD-…`
        order_id: poem_openapi::param::Path<String>,
        body: Body<ClaimPayment>,
    ) -> Answer<Success<PaymentClaim>> {
        let ignored = body.fields.clone();
        let claim = claims::look(&app, &order_id, body.fields).await?;
        Ok(Success(PaymentClaim::new(&claim), ignored.message(&claim.words())))
    }

    /// Simulate the payment of an order
    ///
    /// Only in the sandbox, where the payment page has a button for it, and only on a simulated chain while the order takes
    /// money: what is due is sent exactly, and the next block holds it. No token: whoever could pay can simulate it.
    #[oai(path = "/:order_id/simulate", method = "post", operation_id = "simulateOnPaymentPage")]
    async fn simulate(
        &self,
        app: Data<&App>,
        /// Public id, `ORD-…`
        order_id: poem_openapi::param::Path<String>,
        body: Body<NoFields>,
    ) -> Answer<Created<SimulatedPayment>> {
        let sent = payment_page::simulate(&app, &order_id, &body.fields).await?;
        Ok(Created(SimulatedPayment::new(&sent), sent.message))
    }
}

/// Adds what is no JSON: the page, its server-sent events, the QR code. A `CancellationToken` in the request's data ends
/// the streams when it is cancelled.
pub fn public_routes(route: Route) -> Route {
    route.at("/order/:order_id", get(show)).at("/order/:order_id/events", get(events)).at("/qr/:order_id", get(code))
}

#[handler]
async fn show(app: Data<&App>, Path(order_id): Path<String>) -> Result<Response, ApiError> {
    // Fresh for every answer: the page's own script runs, and no other.
    let nonce = STANDARD.encode(entropy::bytes::<16>());
    let (status, html) = match payment_page::page(&app, &order_id).await {
        Ok(view) => (StatusCode::OK, page::render(&view, &nonce)),
        Err(ApiError { code: ErrorCode::NotFound, .. }) => (StatusCode::NOT_FOUND, page::not_found(&nonce)),
        Err(error) => return Err(error),
    };
    let mut response = Response::builder().status(status).content_type("text/html; charset=utf-8");
    for (name, value) in page::security_headers(&nonce) {
        response = response.header(name, value);
    }
    Ok(response.body(html))
}

#[handler]
async fn events(
    app: Data<&App>,
    request: &Request,
    headers: &HeaderMap,
    Path(order_id): Path<String>,
) -> Result<Response, ApiError> {
    let stop = request.data::<CancellationToken>().cloned().unwrap_or_default();
    let last_seen = headers.get("Last-Event-ID").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let Some(stream) = stream::follow(&app, &order_id, last_seen, stop).await? else {
        // Nothing can happen any more: a browser that gets this does not come again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut response = stream.into_response();
    let cache = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(response)
}

#[handler]
async fn code(app: Data<&App>, request: &Request, Path(order_id): Path<String>) -> Result<Response, ApiError> {
    let mut query = ListQuery::of(request);
    let content = query.parsed("content").unwrap_or_default();
    let format = query.parsed("format").unwrap_or_default();
    query.finish()?;
    let checkout = payment_page::find(&app, &order_id).await?;
    let order = &checkout.order;
    let text = qr::content(content, order.receiving_address, order.asset, checkout.chain_id(), checkout.due());
    let cache = match content {
        // An order's address never changes; what is due may, with each payment.
        qr::Content::Address => "private, max-age=3600",
        qr::Content::Uri => "no-store",
    };
    let response = Response::builder().header(header::CACHE_CONTROL, cache);
    let response = response.header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    Ok(match format {
        Format::Svg => response.content_type("image/svg+xml").body(qr::svg(&text).map_err(ApiError::internal)?),
        Format::Png => response.content_type("image/png").body(qr::png(&text).map_err(ApiError::internal)?),
    })
}

/// How a code is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    #[default]
    Svg,
    Png,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "svg" => Ok(Self::Svg),
            "png" => Ok(Self::Png),
            _ => Err("Must be one of: svg, png."),
        }
    }
}
