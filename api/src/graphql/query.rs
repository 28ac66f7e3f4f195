//! What can be asked.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef};
use cryptopay_entity::payment_order::OrderFilter;
use cryptopay_entity::{event_counter, merchant, payment_order};
use sea_orm::EntityTrait;
use std::sync::Arc;
use tokio::sync::OnceCell;

use super::access::reader;
use super::enums::{OrderStatus, PaymentOrderSort};
use super::failure::Failure;
use super::limits::list_cost;
use super::pages::{PageArguments, cursor};
use super::scalars::{DateTime, Nonce, Sequence};
use super::snapshot::{app, reading, searching};
use super::types::{Merchant, PaymentOrder};
use crate::app::App;
use crate::error::{ApiError, Faults};
use crate::operations::payment_orders;

/// Longest text to search for, in characters.
const MAX_SEARCH_CHARS: usize = 200;

/// What can be asked. All fields of one query are read in one snapshot of the database.
#[derive(Debug)]
pub(crate) struct Query;

/// What can be asked. All fields of one query are read in one snapshot of the database.
#[Object]
impl Query {
    /// The merchant who asks.
    async fn me(&self, ctx: &Context<'_>) -> Result<Merchant, Failure> {
        let principal = reader(ctx)?;
        let row = merchant::Entity::find_by_id(principal.merchant_id()).one(&*reading(ctx).await?).await?;
        row.map(Merchant::from).ok_or_else(|| Failure::not_found("merchant"))
    }

    /// One of your payment orders, by its number or by its public id. The error `NOT_FOUND` if there is none.
    async fn payment_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of the order, as a string.")] id: Option<ID>,
        #[graphql(desc = "Public id, `ORD-…`.")] order_id: Option<String>,
    ) -> Result<Option<PaymentOrder>, Failure> {
        let merchant = reader(ctx)?.merchant_id();
        let snapshot = reading(ctx).await?;
        let found = match (id, order_id) {
            (Some(id), None) => match id.parse() {
                Ok(number) => payment_order::Entity::find_owned(&*snapshot, merchant, OrderId(number)).await?,
                Err(_) => None,
            },
            (None, Some(order_id)) => match order_id.parse::<OrderRef>() {
                Ok(order_id) => payment_order::Entity::find_owned_by_ref(&*snapshot, merchant, &order_id).await?,
                Err(_) => None,
            },
            _ => return Err(Failure::argument("id", "Give either id or orderId.")),
        };
        let order = found.ok_or_else(|| Failure::not_found("payment order"))?;
        Ok(Some(PaymentOrder(Arc::new(payment_orders::one_view(&*snapshot, order).await?))))
    }

    /// Your payment orders, at most 100 at a time; 20 if neither `first` nor `last` is given.
    #[graphql(complexity = "list_cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "each argument is documented by its own")]
    async fn payment_orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which orders; all of them if not said.")] filter: Option<PaymentOrderFilter>,
        #[graphql(desc = "How they are sorted.", default_with = "PaymentOrderSort::CreatedAtDesc")]
        order_by: PaymentOrderSort,
        #[graphql(desc = "So many from the beginning, 0 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<PaymentOrderConnection, Failure> {
        let merchant = reader(ctx)?.merchant_id();
        let (filter, search) = filter.unwrap_or_default().judged(app(ctx)?)?;
        let window = PageArguments { first, after, last, before }.window(order_by == PaymentOrderSort::CreatedAtAsc)?;
        let total = OnceCell::new();
        let (snapshot, rows) = match search {
            Some(text) => {
                let snapshot = searching(ctx).await?;
                let places = payment_order::Entity::search(&*snapshot, merchant, &filter, &text).await?;
                // It is the only value that this cell has had.
                let _ = total.set(u64::try_from(places.len()).unwrap_or(u64::MAX));
                let places = window.seek.among(&places);
                let rows = payment_order::Entity::at_places(&*snapshot, merchant, &places).await?;
                (snapshot, rows)
            }
            None => {
                let snapshot = reading(ctx).await?;
                let rows = payment_order::Entity::seek_owned(&*snapshot, merchant, &filter, window.seek).await?;
                (snapshot, rows)
            }
        };
        let page = window.page(rows);
        let cursors: Vec<String> = page.rows.iter().map(|order| cursor(order.place())).collect();
        let page_info = PageInfo {
            has_next_page: page.has_next,
            has_previous_page: page.has_previous,
            start_cursor: cursors.first().cloned(),
            end_cursor: cursors.last().cloned(),
        };
        let views = payment_orders::views(&*snapshot, page.rows).await?;
        let edges = cursors
            .into_iter()
            .zip(views)
            .map(|(cursor, order)| PaymentOrderEdge { cursor, node: PaymentOrder(Arc::new(order)) })
            .collect();
        Ok(PaymentOrderConnection { merchant, filter, total, edges, page_info })
    }

    /// The sequence of the newest event, read in the same snapshot as the rest of the query: pass it as `after` to a
    /// subscription, and nothing falls between what you have read and what you are told.
    async fn event_cursor(&self, ctx: &Context<'_>) -> Result<Sequence, Failure> {
        reader(ctx)?;
        Ok(Sequence(event_counter::Entity::peek(&*reading(ctx).await?).await?))
    }
}

/// Which payment orders to list. Everything that is set has to hold.
#[derive(Debug, Clone, Default, InputObject)]
pub(super) struct PaymentOrderFilter {
    /// In one of these statuses.
    status: Option<Vec<OrderStatus>>,
    /// On this chain, by its slug, in any case.
    blockchain: Option<String>,
    /// In this currency, by its symbol, in any case.
    currency: Option<String>,
    /// With this number of yours.
    nonce: Option<Nonce>,
    /// With this public id, `ORD-…`.
    order_id: Option<String>,
    /// Created at this time or later.
    created_after: Option<DateTime>,
    /// Created before this time.
    created_before: Option<DateTime>,
    /// Public id, nonce, transaction hash, or a part of `orderInfo`; at most 200 characters.
    search: Option<String>,
}

impl PaymentOrderFilter {
    /// The filter as the database takes it, and the text to search for.
    ///
    /// # Errors
    /// Every field at fault.
    fn judged(self, app: &App) -> Result<(OrderFilter, Option<String>), Failure> {
        let mut faults = Faults::new();
        let mut fault = |name: &str, problem: String| faults.entry(format!("filter.{name}")).or_default().push(problem);
        let chain = self.blockchain.map(|slug| slug.to_lowercase());
        if chain.as_deref().is_some_and(|slug| app.chain(slug).is_none()) {
            fault("blockchain", app.unknown_chain());
        }
        let order_id = self.order_id.and_then(|text| match text.parse() {
            Ok(order_id) => Some(order_id),
            Err(_) => {
                fault("orderId", "Must be an order's public id, ORD- and twelve characters.".to_owned());
                None
            }
        });
        for (name, text) in [("currency", &self.currency), ("search", &self.search)] {
            if text.as_ref().is_some_and(|text| text.contains('\0') || text.chars().count() > MAX_SEARCH_CHARS) {
                let problem = format!("Must have at most {MAX_SEARCH_CHARS} characters, and none of them U+0000.");
                fault(name, problem);
            }
        }
        if !faults.is_empty() {
            return Err(ApiError::fields(faults).into());
        }
        let mut statuses: Vec<_> = self.status.unwrap_or_default().into_iter().map(Into::into).collect();
        statuses.sort_unstable();
        statuses.dedup();
        let filter = OrderFilter {
            statuses,
            chain,
            currency: self.currency.filter(|text| !text.is_empty()),
            nonce: self.nonce.map(|nonce| nonce.0),
            order_id,
            created_after: self.created_after.map(|time| time.0),
            created_before: self.created_before.map(|time| time.0),
        };
        Ok((filter, self.search.filter(|text| !text.is_empty())))
    }
}

/// A page of payment orders.
#[derive(Debug)]
pub(super) struct PaymentOrderConnection {
    merchant: MerchantId,
    filter: OrderFilter,
    /// Number of orders in the list, once it is known. Aliases do not count the list again.
    total: OnceCell<u64>,
    edges: Vec<PaymentOrderEdge>,
    page_info: PageInfo,
}

/// A page of payment orders.
#[Object]
impl PaymentOrderConnection {
    /// The orders of this page, each with its cursor.
    async fn edges(&self) -> &[PaymentOrderEdge] {
        &self.edges
    }

    /// The orders of this page.
    async fn nodes(&self) -> Vec<&PaymentOrder> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// Where this page stands in the list.
    async fn page_info(&self) -> &PageInfo {
        &self.page_info
    }

    /// How many orders the filter lets through in all. Counted only when asked for: it reads all of them.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64, Failure> {
        let count = async {
            let snapshot = reading(ctx).await?;
            let counted = payment_order::Entity::count_owned(&*snapshot, self.merchant, &self.filter);
            Ok::<u64, Failure>(counted.await?)
        };
        Ok(*self.total.get_or_try_init(|| count).await?)
    }
}

/// A payment order in a list.
#[derive(Debug, SimpleObject)]
pub(super) struct PaymentOrderEdge {
    /// Its place in the list: pass it as `after` or `before`.
    cursor: String,
    /// The order.
    node: PaymentOrder,
}

/// Where a page stands in its list.
#[derive(Debug, SimpleObject)]
pub(super) struct PageInfo {
    /// Whether more comes after this page. Reading with `last`, it says whether `before` was given.
    has_next_page: bool,
    /// Whether something comes before this page. Reading with `first`, it says whether `after` was given.
    has_previous_page: bool,
    /// Cursor of the first item, if there is one.
    start_cursor: Option<String>,
    /// Cursor of the last item, if there is one.
    end_cursor: Option<String>,
}
