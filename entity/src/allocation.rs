//! Allocations: shares of transfers given to orders.

use std::collections::BTreeMap;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{AllocationId, MerchantId, OrderId, TransferId};
use cryptopay_domain::matching::Method;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{Condition, FromQueryResult, JoinType, QueryOrder, QuerySelect, Select};

use super::{payment_order, transfer};
use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "allocation")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: AllocationId,
    /// Of which transfer.
    pub transfer_id: TransferId,
    /// To which order.
    pub order_id: OrderId,
    /// Whose.
    pub merchant_id: MerchantId,
    /// How much.
    pub units: Units,
    /// How it was found.
    pub method: Method,
    /// Why, as JSON.
    pub evidence: String,
    /// A decision covers its lateness.
    pub late_accepted: bool,
    /// It counted when the order was last derived.
    pub counted: bool,
    /// The block in which it was deep when a confirmation was announced.
    pub announced_block: Option<Hash>,
    /// Made.
    pub created_at: Timestamp,
    /// Taken back.
    pub reversed_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A block with money that a confirmation may wait for.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct WaitingBlock {
    /// Height.
    pub number: i64,
    /// Hash.
    pub hash: Hash,
    /// Depth that the least demanding of its orders asks for.
    pub required: i64,
    /// How many allocations wait.
    pub allocations: i64,
}

impl Entity {
    /// Blocks of `chain` above `above` and up to `height` whose money was not announced there, oldest first, at most
    /// `limit`. However many transfers a block holds, it is one row, and money that depth cannot change is left out: nobody
    /// can push a payment out of sight with a swarm of small ones.
    pub async fn waiting_blocks(
        connection: &impl ConnectionTrait,
        chain: &str,
        above: i64,
        height: i64,
        limit: u64,
    ) -> Result<Vec<WaitingBlock>, DbErr> {
        Self::waiting(chain)
            .select_only()
            .column_as(transfer::Column::BlockNumber, "number")
            .column_as(transfer::Column::BlockHash, "hash")
            .column_as(payment_order::Column::RequiredConfirmations.min(), "required")
            .column_as(Column::Id.count(), "allocations")
            .filter(transfer::Column::BlockNumber.gt(above))
            .filter(transfer::Column::BlockNumber.lte(height))
            .group_by(transfer::Column::BlockNumber)
            .group_by(transfer::Column::BlockHash)
            .order_by_asc(transfer::Column::BlockNumber)
            .limit(limit)
            .into_model()
            .all(connection)
            .await
    }

    /// The orders with money in one block that was not announced there, where depth can change them.
    pub async fn waiting_orders(
        connection: &impl ConnectionTrait,
        chain: &str,
        number: i64,
        hash: Hash,
    ) -> Result<Vec<OrderId>, DbErr> {
        Self::waiting(chain)
            .select_only()
            .column(Column::OrderId)
            .distinct()
            .filter(transfer::Column::BlockNumber.eq(number))
            .filter(transfer::Column::BlockHash.eq(hash))
            .into_tuple()
            .all(connection)
            .await
    }

    /// Live allocations of included transfers that count and were not announced in the block which holds them.
    fn waiting(chain: &str) -> Select<Self> {
        let of_transfer = Self::belongs_to(transfer::Entity).from(Column::TransferId).to(transfer::Column::Id);
        let of_order = Self::belongs_to(payment_order::Entity).from(Column::OrderId).to(payment_order::Column::Id);
        let elsewhere =
            Expr::col((Self, Column::AnnouncedBlock)).ne(Expr::col((transfer::Entity, transfer::Column::BlockHash)));
        Self::find()
            .join(JoinType::InnerJoin, of_transfer.into())
            .join(JoinType::InnerJoin, of_order.into())
            .filter(transfer::Column::Chain.eq(chain))
            .filter(transfer::Column::State.eq(TransferState::Included))
            .filter(Column::ReversedAt.is_null())
            .filter(Column::Counted.eq(true))
            .filter(Condition::any().add(Column::AnnouncedBlock.is_null()).add(elsewhere))
            .filter(payment_order::Column::Status.is_in([
                OrderStatus::Confirming,
                OrderStatus::Reorged,
                OrderStatus::Confirmed,
            ]))
    }

    /// The live allocations of orders.
    pub async fn live_of_orders(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(orders) {
            let live = Self::find().filter(Column::OrderId.is_in(piece)).filter(Column::ReversedAt.is_null());
            rows.extend(live.order_by_asc(Column::Id).all(connection).await?);
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// The live shares that a merchant's orders have of transfers, each with its order, oldest first.
    pub async fn live_with_orders(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        transfers: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<(Model, payment_order::Model)>, DbErr> {
        let rows = Self::find()
            .filter(Column::TransferId.is_in(transfers))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::ReversedAt.is_null())
            .order_by_asc(Column::Id)
            .all(connection)
            .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let orders: BTreeMap<OrderId, payment_order::Model> = payment_order::Entity::find()
            .filter(payment_order::Column::Id.is_in(rows.iter().map(|row| row.order_id)))
            .filter(payment_order::Column::MerchantId.eq(merchant))
            .all(connection)
            .await?
            .into_iter()
            .map(|order| (order.id, order))
            .collect();
        let with_order = |row: Model| orders.get(&row.order_id).cloned().map(|order| (row, order));
        Ok(rows.into_iter().filter_map(with_order).collect())
    }

    /// The live share that an order has of a transfer.
    pub async fn live_share(
        connection: &impl ConnectionTrait,
        transfer: TransferId,
        order: OrderId,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::TransferId.eq(transfer))
            .filter(Column::OrderId.eq(order))
            .filter(Column::ReversedAt.is_null())
            .one(connection)
            .await
    }

    /// Makes a share larger, for a reason of its own.
    pub async fn grow(
        connection: &impl ConnectionTrait,
        id: AllocationId,
        units: Units,
        evidence: String,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::Units, Expr::value(units))
            .col_expr(Column::Evidence, Expr::value(evidence))
            .col_expr(Column::LateAccepted, Expr::value(true))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Whether an order of another merchant has a live share of a transfer.
    pub async fn is_anothers(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        transfer: TransferId,
    ) -> Result<bool, DbErr> {
        let share = Self::find()
            .filter(Column::TransferId.eq(transfer))
            .filter(Column::MerchantId.ne(merchant))
            .filter(Column::ReversedAt.is_null());
        Ok(share.one(connection).await?.is_some())
    }

    /// Notes that a decision covers the lateness of these.
    pub async fn accept_late(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = AllocationId>,
    ) -> Result<(), DbErr> {
        for piece in pieces(ids) {
            let accepted = Self::update_many().col_expr(Column::LateAccepted, Expr::value(true));
            accepted.filter(Column::Id.is_in(piece)).exec(connection).await?;
        }
        Ok(())
    }

    /// Every allocation that transfers ever had.
    pub async fn of_transfers(
        connection: &impl ConnectionTrait,
        transfers: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(transfers) {
            let of = Self::find().filter(Column::TransferId.is_in(piece));
            rows.extend(of.order_by_asc(Column::Id).all(connection).await?);
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// Whether an order has a live allocation.
    pub async fn exists_for(connection: &impl ConnectionTrait, order: OrderId) -> Result<bool, DbErr> {
        let one = Self::find()
            .filter(Column::OrderId.eq(order))
            .filter(Column::ReversedAt.is_null())
            .limit(1)
            .one(connection)
            .await?;
        Ok(one.is_some())
    }

    /// Deletes every allocation, live or not, of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}
