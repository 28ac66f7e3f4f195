//! Allocations: shares of transfers given to orders.

use std::collections::BTreeMap;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{AllocationId, MerchantId, OrderId, TransferId};
use cryptopay_domain::matching::Method;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder, QuerySelect};

use super::payment_order;

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

impl Entity {
    /// The live allocations of orders.
    pub async fn live_of_orders(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::OrderId.is_in(orders))
            .filter(Column::ReversedAt.is_null())
            .order_by_asc(Column::Id)
            .all(connection)
            .await
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

    /// Every allocation that transfers ever had.
    pub async fn of_transfers(
        connection: &impl ConnectionTrait,
        transfers: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(Column::TransferId.is_in(transfers)).order_by_asc(Column::Id).all(connection).await
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
}
