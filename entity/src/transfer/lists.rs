//! The transfers that a merchant may see, in lists: those that its orders have a share of, and those of nobody that came
//! to an address which it held then.

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId, TransferId};
use cryptopay_domain::order::ChainView;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{TransactionStatus, TransferState};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, Func, FunctionCall, Query, SelectStatement};
use sea_orm::{Condition, JoinType, Order, PaginatorTrait, QueryOrder, QuerySelect, QueryTrait, Select};

use super::{Column, Entity, Model};
use crate::pages::Window;
use crate::{allocation, merchant_transfer, payment_order};

/// How deep a chain's transfers are, and how deep one has to be where no order says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainDepth {
    /// Slug.
    pub chain: String,
    /// What the verified scanner sees of it.
    pub seen: ChainView,
    /// The chain's default of required confirmations.
    pub confirmations: u32,
}

/// Which of the transfers that a merchant may see are wanted. Everything that is set has to hold.
#[derive(Debug, Clone, Default)]
pub struct TransferFilter {
    /// On this chain.
    pub chain: Option<String>,
    /// One of these statuses; any if there is none.
    pub statuses: Vec<TransactionStatus>,
    /// Allocated to this order.
    pub order: Option<OrderId>,
    /// Whether all of it is allocated to orders.
    pub matched: Option<bool>,
    /// First seen at this time or later.
    pub created_after: Option<Timestamp>,
    /// First seen before this time.
    pub created_before: Option<Timestamp>,
}

/// What a transfer's being shown to a merchant says.
type Shown = merchant_transfer::Column;

impl TransferFilter {
    /// Whether what the filter lets through once it lets through for good: nothing in it can change.
    pub fn is_lasting(&self) -> bool {
        self.statuses.is_empty() && self.order.is_none() && self.matched.is_none()
    }

    /// The merchant's transfers. `depths` is read once per request, so that the count, the page and what is shown of it
    /// agree.
    fn select(&self, merchant: MerchantId, depths: &[ChainDepth]) -> Select<Entity> {
        let mut rows = if self.is_unsettled() {
            // The few of the whole table that are not settled, in the words of their index, then whose they are.
            let shown = merchant_transfer::Entity::find()
                .select_only()
                .column(Shown::TransferId)
                .filter(self.shown_to(merchant))
                .filter(Expr::col((merchant_transfer::Entity, Shown::TransferId)).equals((Entity, Column::Id)));
            Entity::find()
                .filter(Expr::cust("transfer.state <> 'final'"))
                .filter(Column::State.is_in(self.statuses.iter().flat_map(|status| states_of(*status))))
                .filter(Expr::exists(shown.into_query()))
        } else {
            let shown = Entity::belongs_to(merchant_transfer::Entity).from(Column::Id).to(Shown::TransferId);
            Entity::find().join(JoinType::InnerJoin, shown.into()).filter(self.shown_to(merchant))
        };
        if let Some(order) = self.order {
            rows = rows.filter(Column::Id.in_subquery(shares_of(merchant, order)));
        }
        if !self.statuses.is_empty() {
            let mut any = Condition::any();
            for status in &self.statuses {
                any = any.add(has_status(*status, merchant, self.order, depths));
            }
            rows = rows.filter(any);
        }
        rows
    }

    /// What the rows say that show transfers to a merchant.
    fn shown_to(&self, merchant: MerchantId) -> Condition {
        let matched = self.matched.map(|matched| match matched {
            true => Shown::Waiting.eq(false),
            // As the index on these rows says it: with a parameter instead, neither database would use that.
            false => Expr::cust("merchant_transfer.waiting"),
        });
        Condition::all()
            .add(Shown::MerchantId.eq(merchant))
            .add_option(self.chain.as_ref().map(|chain| Shown::Chain.eq(chain.as_str())))
            .add_option(self.created_after.map(|time| Shown::CreatedAt.gte(time)))
            .add_option(self.created_before.map(|time| Shown::CreatedAt.lt(time)))
            .add_option(matched)
    }

    /// Whether nothing is asked for that lasts: then few transfers are meant, however many there are.
    fn is_unsettled(&self) -> bool {
        !self.statuses.is_empty() && !self.statuses.contains(&TransactionStatus::Confirmed)
    }
}

impl Entity {
    /// How many of the transfers that a merchant may see the filter lets through.
    pub async fn count_visible(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &TransferFilter,
        depths: &[ChainDepth],
    ) -> Result<u64, DbErr> {
        if filter.is_lasting() {
            // Without the transfers themselves: an index alone.
            return merchant_transfer::Entity::find().filter(filter.shown_to(merchant)).count(connection).await;
        }
        filter.select(merchant, depths).count(connection).await
    }

    /// Those transfers in a window of their list.
    pub async fn list_visible(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &TransferFilter,
        depths: &[ChainDepth],
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        let rows = filter.select(merchant, depths);
        // By whose index the rows come is by whose columns they are sorted.
        if filter.is_unsettled() {
            return window.of(rows, Column::CreatedAt, Column::Id).all(connection).await;
        }
        window.of(rows, Shown::CreatedAt, Shown::TransferId).all(connection).await
    }

    /// A transfer that a merchant may see, by its key.
    pub async fn find_visible(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: TransferId,
    ) -> Result<Option<Model>, DbErr> {
        TransferFilter::default().select(merchant, &[]).filter(Column::Id.eq(id)).one(connection).await
    }

    /// Transfers of one transaction that a merchant may see, on whichever chain, oldest rows first.
    pub async fn visible_with_hash(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        hash: Hash,
    ) -> Result<Vec<Model>, DbErr> {
        TransferFilter::default()
            .select(merchant, &[])
            .filter(Column::TxHash.eq(hash))
            .order_by_asc(Column::Id)
            .all(connection)
            .await
    }

    /// Transfers of one transaction to one address, whoever may see them, at most `limit`: for an order's payment page.
    pub async fn to_address_with_hash(
        connection: &impl ConnectionTrait,
        chains: &[&str],
        hash: Hash,
        to: AccountAddress,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::TxHash.eq(hash))
            .filter(Column::Chain.is_in(chains.iter().copied()))
            .filter(Column::ToAddress.eq(to))
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }
}

/// Keys of the transfers that an order of the merchant's has a share of.
fn shares_of(merchant: MerchantId, order: OrderId) -> SelectStatement {
    allocation::Entity::find()
        .select_only()
        .column(allocation::Column::TransferId)
        .filter(allocation::Column::MerchantId.eq(merchant))
        .filter(allocation::Column::OrderId.eq(order))
        .filter(allocation::Column::ReversedAt.is_null())
        .into_query()
}

/// The states that a transfer of this status may be in.
fn states_of(status: TransactionStatus) -> Vec<TransferState> {
    let shows = |state: &TransferState| [false, true].iter().any(|deep| state.status(*deep) == status);
    TransferState::ALL.iter().copied().filter(shows).collect()
}

/// `TransferState::status` as a condition.
fn has_status(
    status: TransactionStatus,
    merchant: MerchantId,
    order: Option<OrderId>,
    depths: &[ChainDepth],
) -> Condition {
    let included = || Condition::all().add(Column::State.eq(TransferState::Included));
    match status {
        TransactionStatus::Confirmed => Condition::any()
            .add(Column::State.eq(TransferState::Final))
            .add(included().add(is_deep(merchant, order, depths))),
        TransactionStatus::Pending => Condition::any()
            .add(Column::State.is_in([TransferState::Missing, TransferState::Unverifiable]))
            .add(included().add(is_deep(merchant, order, depths).not())),
        TransactionStatus::Failed => Condition::any().add(Column::State.eq(TransferState::Orphaned)),
    }
}

/// Whether a transfer has the confirmations that its order, or else its chain, requires, or the finality tag speaks for
/// it: `ChainView::is_deep` as a condition.
fn is_deep(merchant: MerchantId, order: Option<OrderId>, depths: &[ChainDepth]) -> Condition {
    let mut any = Condition::any();
    for depth in depths {
        // One confirmation is the newest block itself.
        let height = signed(depth.seen.height);
        let deepest = Expr::val(height.saturating_add(1)).sub(required(merchant, order, depth.confirmations));
        let block = || Expr::col((Entity, Column::BlockNumber));
        let tagged = depth.seen.final_height.map(|tag| block().lte(Ord::min(signed(tag), height)));
        let deep = Condition::any().add(block().lte(deepest)).add_option(tagged);
        any = any.add(Condition::all().add(Column::Chain.eq(depth.chain.as_str())).add(deep));
    }
    // Without a chain nothing is deep; an empty condition would mean the opposite.
    if depths.is_empty() { any.add(Column::Id.is_in(Vec::<TransferId>::new())) } else { any }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The confirmations that a transfer needs: those of the order that is asked about, or else of the first of the
/// merchant's orders that has a share of it.
fn required(merchant: MerchantId, order: Option<OrderId>, default: u32) -> FunctionCall {
    let share = |column: allocation::Column| Expr::col((allocation::Entity, column));
    let of_order = Query::select()
        .column((payment_order::Entity, payment_order::Column::RequiredConfirmations))
        .from(allocation::Entity)
        .join(
            JoinType::InnerJoin,
            payment_order::Entity,
            share(allocation::Column::OrderId).equals((payment_order::Entity, payment_order::Column::Id)),
        )
        .and_where(share(allocation::Column::TransferId).equals((Entity, Column::Id)))
        .and_where(share(allocation::Column::MerchantId).eq(merchant))
        .and_where(share(allocation::Column::ReversedAt).is_null())
        .and_where_option(order.map(|order| share(allocation::Column::OrderId).eq(order)))
        .order_by((allocation::Entity, allocation::Column::Id), Order::Asc)
        .limit(1)
        .take();
    Func::coalesce([Expr::SubQuery(None, Box::new(of_order.into())), Expr::val(i64::from(default))])
}
