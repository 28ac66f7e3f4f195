//! Events: the outbox, and the history of every order.

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{EventId, EventRef, MerchantId, OrderId, TransferId};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{DatabaseConnection, DbBackend, PaginatorTrait, QueryOrder, QuerySelect};

use crate::pages::{Place, Window};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: EventId,
    /// Public id.
    pub event_id: EventRef,
    /// Whose.
    pub merchant_id: MerchantId,
    /// About which order.
    pub order_id: Option<OrderId>,
    /// About which transfer.
    pub transfer_id: Option<TransferId>,
    /// What happened.
    pub event_type: EventType,
    /// Version that it made.
    pub order_version: Option<i64>,
    /// What led to it.
    pub cause: String,
    /// State afterwards, as JSON.
    pub snapshot: String,
    /// Given after commit; order of visibility.
    pub sequence: Option<i64>,
    /// When.
    pub created_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Most events that one transaction numbers.
const PUBLISH_BATCH: u64 = 1_000;
/// Key of the advisory lock under which events are numbered (PostgreSQL).
const PUBLISH_LOCK: i64 = 0x43_50_5f_65_76_6e_74;

impl Entity {
    /// Numbers committed events that have no sequence yet, in the order of their keys, and gives the last number. Drawn
    /// only after commit and under one lock, numbers have no gaps and never appear out of order.
    pub async fn publish(database: &DatabaseConnection) -> Result<Option<i64>, DbErr> {
        let waiting = Self::find().select_only().column(Column::Id).filter(Column::Sequence.is_null()).limit(1);
        if waiting.into_tuple::<EventId>().one(database).await?.is_none() {
            return Ok(None);
        }
        let txn = crate::txn::begin(database).await?;
        if txn.get_database_backend() == DbBackend::Postgres {
            txn.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({PUBLISH_LOCK})")).await?;
        }
        let before = super::event_counter::Entity::last(&txn).await?;
        let numbered = txn
            .execute_unprepared(&format!(
                "UPDATE event SET sequence = {before} + waiting.place FROM (
                    SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM event
                    WHERE sequence IS NULL ORDER BY id LIMIT {PUBLISH_BATCH}
                 ) AS waiting WHERE event.id = waiting.id"
            ))
            .await?
            .rows_affected();
        let last = before.saturating_add(i64::try_from(numbered).unwrap_or(i64::MAX));
        super::event_counter::Entity::set_last(&txn, last).await?;
        txn.commit().await?;
        Ok((numbered > 0).then_some(last))
    }

    /// Since when the oldest event waits for its number; `None` when all have one. One index look-up.
    pub async fn oldest_unnumbered(connection: &impl ConnectionTrait) -> Result<Option<Timestamp>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::CreatedAt)
            .filter(Column::Sequence.is_null())
            .order_by_asc(Column::Id)
            .limit(1)
            .into_tuple()
            .one(connection)
            .await
    }

    /// Numbered events after `sequence`, in order, at most `limit`: of every merchant, for the tailer of a process.
    pub async fn tail(connection: &impl ConnectionTrait, sequence: i64, limit: u64) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Sequence.gt(sequence))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Numbered events of one merchant after `sequence`, in order, at most `limit`.
    pub async fn after(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        sequence: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Sequence.gt(sequence))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .all(connection)
            .await
    }

    /// How many events one order of a merchant has.
    pub async fn count_of_order(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order: OrderId,
    ) -> Result<u64, DbErr> {
        Self::find().filter(Column::MerchantId.eq(merchant)).filter(Column::OrderId.eq(order)).count(connection).await
    }

    /// Events of one order of a merchant in a window of its history, in which the id of a place is a version.
    pub async fn window_of_order(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order: OrderId,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        let rows = Self::find().filter(Column::MerchantId.eq(merchant)).filter(Column::OrderId.eq(order));
        window.of_numbered(rows, Column::OrderVersion).all(connection).await
    }

    /// An event of one order of a merchant by its public id.
    pub async fn find_of_order(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order: OrderId,
        event: &EventRef,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::EventId.eq(event.clone()))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::OrderId.eq(order))
            .one(connection)
            .await
    }

    /// The history of one order of a merchant, oldest first.
    pub async fn of_order(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order: OrderId,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::OrderId.eq(order))
            .order_by_asc(Column::OrderVersion)
            .all(connection)
            .await
    }

    /// Numbered events of one order of a merchant after `sequence`, in order, at most `limit`.
    pub async fn of_owned_order_after(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order: OrderId,
        sequence: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::OrderId.eq(order))
            .filter(Column::Sequence.gt(sequence))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .all(connection)
            .await
    }

    /// The smallest number that is still kept, of any merchant; `None` when no event is numbered. What a merchant has deleted by
    /// starting anew is nobody else's, and nothing that the others could have missed. Two index look-ups.
    pub async fn oldest_sequence(connection: &impl ConnectionTrait) -> Result<Option<i64>, DbErr> {
        let oldest = Self::find()
            .select_only()
            .column(Column::Sequence)
            .filter(Column::Sequence.is_not_null())
            .order_by_asc(Column::Sequence)
            .limit(1);
        let kept: Option<i64> = oldest.into_tuple().one(connection).await?;
        let removed = super::removed_event::Entity::oldest(connection).await?;
        Ok(kept.into_iter().chain(removed).min())
    }

    /// Published events about one order after `sequence`.
    pub async fn of_order_after(
        connection: &impl ConnectionTrait,
        order: OrderId,
        sequence: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::OrderId.eq(order))
            .filter(Column::Sequence.gt(sequence))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .all(connection)
            .await
    }

    /// The number of the newest published event about one order; 0 before the first.
    pub async fn last_of_order(connection: &impl ConnectionTrait, order: OrderId) -> Result<i64, DbErr> {
        let last = Self::find()
            .select_only()
            .column(Column::Sequence)
            .filter(Column::OrderId.eq(order))
            .filter(Column::Sequence.is_not_null())
            .order_by_desc(Column::Sequence)
            .limit(1)
            .into_tuple::<i64>()
            .one(connection)
            .await?;
        Ok(last.unwrap_or(0))
    }

    /// Deletes every event of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}

impl Model {
    /// The event's place in the history of its order, where versions count. None where it is about no order.
    pub fn place(&self) -> Option<Place> {
        Some(Place { created_at: self.created_at, id: self.order_version? })
    }
}
