//! What arrived in the inboxes.

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, NotSet, PaginatorTrait, QueryOrder, QuerySelect, Set};

use crate::pages::{Place, Window};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_message")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Whose.
    pub merchant_id: MerchantId,
    /// When.
    pub received_at: Timestamp,
    /// Which event, by its header.
    pub event: Option<String>,
    /// About which order.
    pub order_id: Option<String>,
    /// As JSON.
    pub headers: String,
    /// As it came.
    pub body: String,
    /// Whether its signature was right.
    pub signature_valid: bool,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The message's place among its merchant's.
    pub fn place(&self) -> Place {
        Place { created_at: self.received_at, id: self.id }
    }
}

/// A message that just arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// When.
    pub received_at: Timestamp,
    /// Which event, by its header.
    pub event: Option<String>,
    /// About which order.
    pub order_id: Option<String>,
    /// As JSON.
    pub headers: String,
    /// As it came.
    pub body: String,
    /// Whether its signature was right.
    pub signature_valid: bool,
}

/// Which messages are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Only this event.
    pub event: Option<String>,
    /// Only about this order.
    pub order_id: Option<String>,
}

impl MessageFilter {
    fn condition(&self, merchant: MerchantId) -> Condition {
        let mut all = Condition::all().add(Column::MerchantId.eq(merchant));
        if let Some(event) = &self.event {
            all = all.add(Column::Event.eq(event.as_str()));
        }
        if let Some(order) = &self.order_id {
            all = all.add(Column::OrderId.eq(order.as_str()));
        }
        all
    }
}

impl Entity {
    /// Adds a message; its key.
    pub async fn add(connection: &impl ConnectionTrait, merchant: MerchantId, arrived: Arrived) -> Result<i64, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(merchant),
            received_at: Set(arrived.received_at),
            event: Set(arrived.event),
            order_id: Set(arrived.order_id),
            headers: Set(arrived.headers),
            body: Set(arrived.body),
            signature_valid: Set(arrived.signature_valid),
        };
        Ok(Self::insert(row).exec(connection).await?.last_insert_id)
    }

    /// Deletes all but the newest `keep` messages of a merchant.
    pub async fn trim(connection: &impl ConnectionTrait, merchant: MerchantId, keep: u64) -> Result<(), DbErr> {
        let newest_too_many: Option<i64> = Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::MerchantId.eq(merchant))
            .order_by_desc(Column::Id)
            .offset(keep)
            .limit(1)
            .into_tuple()
            .one(connection)
            .await?;
        if let Some(id) = newest_too_many {
            Self::delete_many()
                .filter(Column::MerchantId.eq(merchant))
                .filter(Column::Id.lte(id))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// A merchant's messages, newest first.
    pub async fn of(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &MessageFilter,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(filter.condition(merchant)).order_by_desc(Column::Id).limit(limit).all(connection).await
    }

    /// How many of a merchant's messages the filter lets through.
    pub async fn count_of(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &MessageFilter,
    ) -> Result<u64, DbErr> {
        Self::find().filter(filter.condition(merchant)).count(connection).await
    }

    /// The same messages, a window of them. Their numbers say their order.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &MessageFilter,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        let rows = Self::find().filter(filter.condition(merchant));
        window.of_numbered(rows, Column::Id).all(connection).await
    }

    /// One of a merchant's messages.
    pub async fn find_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: i64,
    ) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id).filter(Column::MerchantId.eq(merchant)).one(connection).await
    }

    /// Deletes a merchant's messages; how many there were.
    pub async fn clear(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}
