//! Allocations: shares of transfers given to orders.

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{AllocationId, MerchantId, OrderId, TransferId};
use cryptopay_domain::matching::Method;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder, QuerySelect};

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
