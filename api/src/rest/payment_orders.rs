//! `/api/payment-orders/`.

use cryptopay_domain::ids::EventRef;
use cryptopay_entity::payment_order::OrderFilter;
use poem::Request;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Listed, Success};
use super::once::{CreatedOnce, answer};
use super::pages::ListQuery;
use super::types::{AllocateTransfer, CreatePaymentOrder, EventItem, PaymentOrder, ResolvePaymentOrder};
use crate::app::App;
use crate::operations::once::Once;
use crate::operations::payment_orders::{self, OrderView};
use crate::principal::{Reader, Writer};

/// The routes.
#[derive(Debug)]
pub struct PaymentOrders;

#[OpenApi(prefix_path = "/api/payment-orders", tag = "Tag::PaymentOrders")]
impl PaymentOrders {
    /// Create a payment order
    ///
    /// Send the customer to `payment_url`, or show `receiving_address` and `pay_amount` yourself. A `nonce` that you have used
    /// is refused and names the order that has it; to be able to repeat a request, send an `Idempotency-Key`.
    #[oai(path = "/", method = "post", operation_id = "createPaymentOrder")]
    async fn create(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<CreatePaymentOrder>,
    ) -> Answer<CreatedOnce<PaymentOrder>> {
        let (message, url) = (body.fields.message("Order created."), app.public_url.clone());
        let words = move |order: &OrderView| answer(&PaymentOrder::new(order, &url), &message);
        let mut fields = body.fields;
        let once = Once::new(&auth.0, key.as_deref(), "createPaymentOrder", &mut fields, words);
        Ok(payment_orders::create(&app, &auth.0, fields, once).await?.into())
    }

    /// List payment orders
    ///
    /// Newest first, unless `ordering` says otherwise. Filters are combined.
    #[oai(path = "/", method = "get", operation_id = "listPaymentOrders")]
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
        /// Instead of `page`: number or `ORD-…` of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
        /// Statuses, comma-separated
        status: Query<Option<String>>,
        /// Slug of a chain
        blockchain: Query<Option<String>>,
        /// Symbol
        currency: Query<Option<String>>,
        /// Your number
        nonce: Query<Option<String>>,
        /// Public id
        order_id: Query<Option<String>>,
        /// RFC 3339: created at this time or later
        created_after: Query<Option<String>>,
        /// RFC 3339: created before this time
        created_before: Query<Option<String>>,
        /// Public id, nonce, transaction hash, or a part of order_info, in any case. Parts of order_info are looked for in
        /// the newest 10,000 orders that the other filters let through. One search of yours runs at a time
        search: Query<Option<String>>,
    ) -> Answer<Listed<PaymentOrder>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering, status, blockchain, currency, nonce);
        let _ = (order_id, created_after, created_before, search);
        let mut query = ListQuery::of(request);
        let filter = filter(&app, &mut query);
        let search: Option<String> = query.text("search").map(|text| text.chars().take(200).collect());
        let asked = query.asked(payment_orders::is_id);
        query.finish()?;
        let orders = payment_orders::list(&app, &auth.0, &filter, search.as_deref(), &asked).await?;
        Ok(Listed(query.answer(orders.map(|order| PaymentOrder::new(order, &app.public_url)))))
    }

    /// Get a payment order
    ///
    /// As it is now. Ship when `fulfillable` is true.
    #[oai(path = "/:id/", method = "get", operation_id = "getPaymentOrder")]
    async fn get(
        &self,
        app: Data<&App>,
        auth: Reader,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
    ) -> Answer<Success<PaymentOrder>> {
        let order = payment_orders::get(&app, &auth.0, &id).await?;
        Ok(Success(PaymentOrder::new(&order, &app.public_url), "Success".to_owned()))
    }

    /// Cancel a payment order
    ///
    /// Only while nothing has been received.
    #[oai(path = "/:id/cancel/", method = "post", operation_id = "cancelPaymentOrder")]
    async fn cancel(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        body: Body<NoFields>,
    ) -> Answer<Success<PaymentOrder>> {
        let order = payment_orders::cancel(&app, &auth.0, &id).await?;
        Ok(Success(PaymentOrder::new(&order, &app.public_url), body.fields.message("Order canceled.")))
    }

    /// Decide about a payment order
    ///
    /// Accepts or rejects short, late or reviewed money. Only while a decision is due; audited. What was accepted is answered
    /// as `confirming`, however deep it lies already; its confirmation follows in a moment, with an event of its own.
    #[oai(path = "/:id/resolve/", method = "post", operation_id = "resolvePaymentOrder")]
    async fn resolve(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        body: Body<ResolvePaymentOrder>,
    ) -> Answer<Success<PaymentOrder>> {
        let message = body.fields.message("Decision recorded.");
        let order = payment_orders::resolve(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(PaymentOrder::new(&order, &app.public_url), message))
    }

    /// Assign an unmatched transfer to a payment order
    ///
    /// For money that came to one of your wallets and fits no order, as `transfer.unmatched` tells. Audited.
    #[oai(path = "/:id/allocations/", method = "post", operation_id = "allocateTransfer")]
    async fn allocate(
        &self,
        app: Data<&App>,
        auth: Writer,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<AllocateTransfer>,
    ) -> Answer<CreatedOnce<PaymentOrder>> {
        let (message, url) = (body.fields.message("Transfer assigned."), app.public_url.clone());
        let words = move |order: &OrderView| answer(&PaymentOrder::new(order, &url), &message);
        let operation = format!("allocateTransfer {}", id.as_str());
        let mut fields = body.fields;
        let once = Once::new(&auth.0, key.as_deref(), &operation, &mut fields, words);
        Ok(payment_orders::assign(&app, &auth.0, &id, fields, once).await?.into())
    }

    /// The history of a payment order
    ///
    /// Oldest first.
    #[oai(path = "/:id/events/", method = "get", operation_id = "listPaymentOrderEvents")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn events(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: id, `evt_…`, of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at`, which is the default, or `-created_at`
        ordering: Query<Option<String>>,
    ) -> Answer<Listed<EventItem>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering);
        let mut query = ListQuery::of(request);
        let asked = query.asked_of_history(|text| text.parse::<EventRef>().is_ok());
        query.finish()?;
        let events = payment_orders::history(&app, &auth.0, &id, &asked).await?;
        Ok(Listed(query.answer(events.map(EventItem::new))))
    }
}

fn filter(app: &App, query: &mut ListQuery) -> OrderFilter {
    OrderFilter {
        statuses: query.words("status"),
        chain: query.chain(app),
        currency: query.text("currency").map(|symbol| symbol_of(app, symbol)),
        nonce: query.get("nonce").map(str::to_owned).and_then(|text| match text.parse::<i64>() {
            Ok(nonce) if nonce >= 0 => Some(nonce),
            _ => {
                query.fault("nonce", "Must be a whole number from 0.");
                None
            }
        }),
        order_id: query.get("order_id").map(str::to_owned).and_then(|text| match text.parse() {
            Ok(order_id) => Some(order_id),
            Err(_) => {
                query.fault("order_id", "Must be an order's public id, ORD- and twelve characters.");
                None
            }
        }),
        created_after: query.parsed("created_after"),
        created_before: query.parsed("created_before"),
    }
}

/// A symbol by which orders are stored, if the text is another name of one.
fn symbol_of(app: &App, symbol: String) -> String {
    let token = app.context.registry.chains().iter().find_map(|chain| chain.token(&symbol));
    token.map_or(symbol, |token| token.symbol.clone())
}
