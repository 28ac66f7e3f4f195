//! Transfers: facts about a chain.

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId, TransferId};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Position, TransactionStatus, TransferState};
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, Func, FunctionCall, Query, SelectStatement, UnionType};
use sea_orm::{Condition, JoinType, Order, PaginatorTrait, QueryOrder, QuerySelect, QueryTrait};

use super::{allocation, payment_order, receiving_address};

use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "transfer")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: TransferId,
    /// Slug.
    pub chain: String,
    /// Transaction.
    pub tx_hash: Hash,
    /// Place in the transaction.
    pub position: Position,
    /// 0, or more where the same place was mined again with other contents.
    pub generation: i64,
    /// Block-wide index of the log.
    pub log_index: Option<i64>,
    /// Height.
    pub block_number: i64,
    /// Block.
    pub block_hash: Hash,
    /// Time of the block.
    pub block_time: Timestamp,
    /// Payer.
    pub from_address: AccountAddress,
    /// Receiver.
    pub to_address: AccountAddress,
    /// What.
    pub asset: Asset,
    /// How much.
    pub units: Units,
    /// Who signed.
    pub sender: AccountAddress,
    /// The signer's count.
    pub sender_nonce: i64,
    /// Gas.
    pub gas_used: i64,
    /// Wei per gas.
    pub gas_price: Units,
    /// Wei beyond gas × price.
    pub extra_fee: Units,
    /// How much it can be relied on.
    pub state: TransferState,
    /// When it was first not found (real clock).
    pub missing_since: Option<Timestamp>,
    /// Sum of live allocations.
    pub allocated_units: Units,
    /// Why it was matched or not, as JSON.
    pub evidence: String,
    /// Raised by each change.
    pub version: i64,
    /// First seen.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Every stored transfer of these transactions on a chain.
    pub async fn of_transactions(
        connection: &impl ConnectionTrait,
        chain: &str,
        hashes: impl IntoIterator<Item = Hash>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(hashes) {
            let known = Self::find().filter(Column::Chain.eq(chain)).filter(Column::TxHash.is_in(piece));
            rows.extend(known.order_by_asc(Column::Id).lock_exclusive().all(connection).await?);
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// Transfers in blocks above `height`, which a reorganisation has put in doubt, final or not.
    pub async fn above(connection: &impl ConnectionTrait, chain: &str, height: i64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.is_in([TransferState::Included, TransferState::Final]))
            .filter(Column::BlockNumber.gt(height))
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(connection)
            .await
    }

    /// Blocks below `number` that hold transfers, as we know them, newest first, at most `limit`.
    pub async fn blocks_below(
        connection: &impl ConnectionTrait,
        chain: &str,
        number: i64,
        limit: u64,
    ) -> Result<Vec<(i64, Hash)>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::BlockNumber)
            .column(Column::BlockHash)
            .distinct()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.is_in([TransferState::Included, TransferState::Final]))
            .filter(Column::BlockNumber.lt(number))
            .order_by_desc(Column::BlockNumber)
            .limit(limit)
            .into_tuple()
            .all(connection)
            .await
    }

    /// Transfers that were not found at their block, at most `limit`.
    pub async fn missing(connection: &impl ConnectionTrait, chain: &str, limit: u64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Missing))
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Included transfers in blocks up to `height`, at most `limit`, oldest blocks first.
    pub async fn included_up_to(
        connection: &impl ConnectionTrait,
        chain: &str,
        height: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::State.eq(TransferState::Included))
            .filter(Column::BlockNumber.lte(height))
            .order_by_asc(Column::BlockNumber)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Gives transfers another state, one version up, where they still have `from`.
    pub async fn set_state(
        connection: &impl ConnectionTrait,
        ids: Vec<TransferId>,
        from: TransferState,
        to: TransferState,
        missing_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<u64, DbErr> {
        let mut changed = 0_u64;
        for piece in pieces(ids) {
            let done = Self::update_many()
                .col_expr(Column::State, Expr::value(to))
                .col_expr(Column::MissingSince, Expr::value(missing_since))
                .col_expr(Column::Version, Expr::col(Column::Version).add(1))
                .col_expr(Column::UpdatedAt, Expr::value(now))
                .filter(Condition::all().add(Column::Id.is_in(piece)).add(Column::State.eq(from)))
                .exec(connection)
                .await?;
            changed = changed.saturating_add(done.rows_affected);
        }
        Ok(changed)
    }

    /// Transfers by key.
    pub async fn by_ids(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(ids) {
            rows.extend(Self::find().filter(Column::Id.is_in(piece)).all(connection).await?);
        }
        Ok(rows)
    }
}

/// How deep a chain's transfers are, and how deep one has to be where no order says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainDepth {
    /// Slug.
    pub chain: String,
    /// Verified height.
    pub height: i64,
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
    /// Whether it is allocated to an order.
    pub matched: Option<bool>,
}

impl TransferFilter {
    /// `depths` is read once per request, so that the count, the page and what is shown of it agree.
    fn condition(&self, merchant: MerchantId, depths: &[ChainDepth]) -> Condition {
        let mut all = Condition::all().add(match self.visible_to(merchant) {
            Some(visible) => Column::Id.in_subquery(visible),
            None => Column::Id.is_in(Vec::<TransferId>::new()),
        });
        if let Some(chain) = &self.chain {
            all = all.add(Column::Chain.eq(chain.as_str()));
        }
        if !self.statuses.is_empty() {
            let mut any = Condition::any();
            for status in &self.statuses {
                any = any.add(has_status(*status, merchant, depths));
            }
            all = all.add(any);
        }
        all
    }

    /// Keys of the merchant's transfers, as far as it is asked whether they have an order.
    fn visible_to(&self, merchant: MerchantId) -> Option<SelectStatement> {
        let allocated = (self.matched != Some(false)).then(|| allocated_to(merchant, self.order));
        let unmatched = (self.matched != Some(true) && self.order.is_none()).then(|| unmatched_of(merchant));
        match (allocated, unmatched) {
            (Some(mut allocated), Some(unmatched)) => {
                allocated.union(UnionType::All, unmatched);
                Some(allocated)
            }
            (one, other) => one.or(other),
        }
    }
}

impl Entity {
    /// How many of the transfers that a merchant may see the filter lets through: those of its orders, and those of
    /// nobody to an address that it held at that time.
    pub async fn count_visible(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &TransferFilter,
        depths: &[ChainDepth],
    ) -> Result<u64, DbErr> {
        Self::find().filter(filter.condition(merchant, depths)).count(connection).await
    }

    /// The same transfers, newest first, `limit` of them after `offset`.
    pub async fn list_visible(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &TransferFilter,
        depths: &[ChainDepth],
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(filter.condition(merchant, depths))
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::Id)
            .offset(offset)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Transfers of one transaction that a merchant may see, on whichever chain, oldest rows first.
    pub async fn visible_with_hash(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        hash: Hash,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::TxHash.eq(hash))
            .filter(TransferFilter::default().condition(merchant, &[]))
            .order_by_asc(Column::Id)
            .all(connection)
            .await
    }
}

fn allocated_to(merchant: MerchantId, order: Option<OrderId>) -> SelectStatement {
    let mut allocations = allocation::Entity::find()
        .select_only()
        .column(allocation::Column::TransferId)
        .filter(allocation::Column::MerchantId.eq(merchant))
        .filter(allocation::Column::ReversedAt.is_null());
    if let Some(order) = order {
        allocations = allocations.filter(allocation::Column::OrderId.eq(order));
    }
    allocations.into_query()
}

/// Nobody's transfers to an address of the merchant's; what came after it was released belongs to whoever held it then.
fn unmatched_of(merchant: MerchantId) -> SelectStatement {
    use receiving_address::Column as Claim;
    let claim = |column: Claim| Expr::col((receiving_address::Entity, column));
    let own = |column: Column| Expr::col((Entity, column));
    let allocated = Query::select()
        .column(allocation::Column::Id)
        .from(allocation::Entity)
        .and_where(Expr::col((allocation::Entity, allocation::Column::TransferId)).equals((Entity, Column::Id)))
        .and_where(Expr::col((allocation::Entity, allocation::Column::ReversedAt)).is_null())
        .take();
    let received = Condition::all()
        .add(own(Column::Chain).equals((receiving_address::Entity, Claim::Chain)))
        .add(own(Column::ToAddress).equals((receiving_address::Entity, Claim::Address)));
    let held_then = Condition::any()
        .add(claim(Claim::ReleasedAt).is_null())
        .add(claim(Claim::ReleasedAt).gte(own(Column::BlockTime)));
    Query::select()
        .column((Entity, Column::Id))
        .from(receiving_address::Entity)
        .join(JoinType::InnerJoin, Entity, received)
        .and_where(claim(Claim::MerchantId).eq(merchant))
        .cond_where(held_then)
        .and_where(Expr::not_exists(allocated))
        .take()
}

/// `TransferState::status` as a condition.
fn has_status(status: TransactionStatus, merchant: MerchantId, depths: &[ChainDepth]) -> Condition {
    let included = || Condition::all().add(Column::State.eq(TransferState::Included));
    match status {
        TransactionStatus::Confirmed => {
            Condition::any().add(Column::State.eq(TransferState::Final)).add(included().add(is_deep(merchant, depths)))
        }
        TransactionStatus::Pending => Condition::any()
            .add(Column::State.is_in([TransferState::Seen, TransferState::Missing]))
            .add(included().add(is_deep(merchant, depths).not())),
        TransactionStatus::Failed => {
            Condition::any().add(Column::State.is_in([TransferState::Orphaned, TransferState::Reverted]))
        }
    }
}

/// Whether a transfer has the confirmations that its order, or else its chain, requires.
fn is_deep(merchant: MerchantId, depths: &[ChainDepth]) -> Condition {
    let mut any = Condition::any();
    for depth in depths {
        // One confirmation is the newest block itself.
        let deepest = Expr::val(depth.height.saturating_add(1)).sub(required(merchant, depth.confirmations));
        let deep = Expr::col((Entity, Column::BlockNumber)).lte(deepest);
        any = any.add(Condition::all().add(Column::Chain.eq(depth.chain.as_str())).add(deep));
    }
    // Without a chain nothing is deep; an empty condition would mean the opposite.
    if depths.is_empty() { any.add(Column::Id.is_in(Vec::<TransferId>::new())) } else { any }
}

/// The confirmations that a transfer needs: those of the first of the merchant's orders that has a share of it.
fn required(merchant: MerchantId, default: u32) -> FunctionCall {
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
        .order_by((allocation::Entity, allocation::Column::Id), Order::Asc)
        .limit(1)
        .take();
    Func::coalesce([Expr::SubQuery(None, Box::new(of_order.into())), Expr::val(i64::from(default))])
}
