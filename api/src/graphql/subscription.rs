//! What can be followed.

use async_graphql::{Context, Subscription};
use cryptopay_domain::ids::OrderRef;
use cryptopay_entity::payment_order;
use futures_util::{Stream, stream};

use super::access::reader;
use super::failure::Failure;
use super::following::Following;
use super::scalars::Sequence;
use super::snapshot::app;
use super::types::OrderUpdate;

/// What can be followed.
#[derive(Debug)]
pub(crate) struct Subscriptions;

/// What can be followed.
#[Subscription(name = "Subscription")]
impl Subscriptions {
    /// Every change of one of your orders, in order, each once. With `after` it begins with what happened after that
    /// sequence, then goes live; without, with the next change. Errors: `NOT_FOUND`; `VALIDATION_ERROR` if `after` lies
    /// ahead of every event; `SEQUENCE_GONE` if what follows it is no longer kept.
    async fn order_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Public id, `ORD-…`.")] order_id: String,
        #[graphql(desc = "The last sequence that you know: from an update, or from `eventCursor`.")] after: Option<
            Sequence,
        >,
    ) -> Result<impl Stream<Item = Result<OrderUpdate, Failure>> + use<>, Failure> {
        let merchant = reader(ctx)?.merchant_id();
        let app = app(ctx)?;
        // Listen first, read second: what happens in between is heard.
        let live = app.live.subscribe();
        let order = match order_id.parse::<OrderRef>() {
            Ok(order_id) => payment_order::Entity::find_owned_by_ref(app.database(), merchant, &order_id).await?,
            Err(_) => None,
        };
        let order = order.ok_or_else(|| Failure::not_found("payment order"))?.id;
        let following = Following::begin(app, live, (merchant, order), after.map(|after| after.0)).await?;
        Ok(stream::unfold(following, |mut following| async move {
            let (event, sequence) = following.next().await?;
            Some((OrderUpdate::new(&event, sequence), following))
        }))
    }
}
