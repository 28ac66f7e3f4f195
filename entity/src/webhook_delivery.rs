//! Deliveries: one event's way to one endpoint.

mod lists;
mod settling;

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{DeliveryId, DeliveryRef, EndpointId, EventId, MerchantId, OrderId, OrderRef};
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, LockBehavior, LockType, Query};
use sea_orm::{Condition, FromQueryResult, PaginatorTrait, QueryOrder, QuerySelect, Statement};

pub use lists::{DeliveryFilter, Replay};
pub use settling::{Next, Settled};

use crate::clock;
use crate::pages::Place;
use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: DeliveryId,
    /// Public id, the same over all retries.
    pub delivery_id: DeliveryRef,
    /// Whose.
    pub merchant_id: MerchantId,
    /// Which event.
    pub event_id: EventId,
    /// Which endpoint.
    pub endpoint_id: EndpointId,
    /// About which order.
    pub order_id: Option<OrderId>,
    /// At which version.
    pub order_version: Option<i64>,
    /// What happened.
    pub event_type: EventType,
    /// Where to.
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
    /// The exact bytes.
    pub body: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: i64,
    /// When it is due.
    pub next_attempt_at: Timestamp,
    /// Who is sending it.
    pub lease_token: Option<String>,
    /// Until when (database clock).
    pub lease_until: Option<Timestamp>,
    /// Last answer.
    pub last_status: Option<i64>,
    /// Last failure in words.
    pub last_error: Option<String>,
    /// Why it was given up.
    pub dead_reason: Option<String>,
    /// When it was taken.
    pub delivered_at: Option<Timestamp>,
    /// Made.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A queue of deliveries: an endpoint, and the origin for deliveries to an order's own url (else empty).
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    /// Endpoint.
    pub endpoint: EndpointId,
    /// Origin, or empty.
    pub origin: &'a str,
}

/// The two clocks that a claim looks at: retries follow business time, leases the database's.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Business time.
    pub business: Timestamp,
    /// Database time.
    pub database: Timestamp,
}

impl Entity {
    fn due(clocks: Clocks) -> Condition {
        Condition::all()
            .add(Column::State.eq(DeliveryState::Pending))
            .add(Column::NextAttemptAt.lte(clocks.business))
            .add(clock::is_over(Column::LeaseUntil, clocks.database).add(Column::LeaseUntil.is_null()))
    }

    fn in_queue(queue: Queue<'_>) -> Condition {
        Condition::all().add(Column::EndpointId.eq(queue.endpoint)).add(Column::Origin.eq(queue.origin))
    }

    /// Claims up to `limit` due deliveries of a queue, oldest first, under `token` until `lease_until`. Attempts are
    /// counted here, so that a worker that dies while sending has used one.
    pub async fn claim(
        txn: &impl ConnectionTrait,
        queue: Queue<'_>,
        clocks: Clocks,
        limit: u64,
        token: &str,
        lease_until: Timestamp,
    ) -> Result<Vec<Model>, DbErr> {
        let mut due = Self::find()
            .filter(Self::in_queue(queue))
            .filter(Self::due(clocks))
            .order_by_asc(Column::Id)
            .limit(limit)
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            .all(txn)
            .await?;
        if due.is_empty() {
            return Ok(due);
        }
        Self::update_many()
            .col_expr(Column::LeaseToken, Expr::value(Some(token.to_owned())))
            .col_expr(Column::LeaseUntil, Expr::value(Some(lease_until)))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .filter(Column::Id.is_in(due.iter().map(|row| row.id)))
            .exec(txn)
            .await?;
        for row in &mut due {
            row.attempts = row.attempts.saturating_add(1);
            row.lease_token = Some(token.to_owned());
            row.lease_until = Some(lease_until);
        }
        Ok(due)
    }

    /// Keeps claims until `lease_until`, of those that are still claimed under a token that begins with `owner`.
    pub async fn renew(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = DeliveryId>,
        owner: &str,
        lease_until: Timestamp,
    ) -> Result<(), DbErr> {
        for ids in pieces(ids) {
            Self::update_many()
                .col_expr(Column::LeaseUntil, Expr::value(Some(lease_until)))
                .filter(Column::Id.is_in(ids))
                .filter(Column::LeaseToken.starts_with(owner))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// How many deliveries of a queue are being sent right now.
    pub async fn in_flight(
        connection: &impl ConnectionTrait,
        queue: Queue<'_>,
        database_now: Timestamp,
    ) -> Result<u64, DbErr> {
        Self::find()
            .filter(Self::in_queue(queue))
            .filter(Column::State.eq(DeliveryState::Pending))
            .filter(clock::is_over(Column::LeaseUntil, database_now).not())
            .count(connection)
            .await
    }

    /// Queues with something due that nobody is sending and whose breaker lets it through: at most `limit`, in the order of
    /// their keys, from behind `after` on.
    pub async fn due_queues(
        connection: &impl ConnectionTrait,
        clocks: Clocks,
        after: Option<Queue<'_>>,
        limit: u64,
    ) -> Result<Vec<(EndpointId, String)>, DbErr> {
        use super::webhook_breaker;
        let open_breaker = Query::select()
            .expr(Expr::val(1))
            .from(webhook_breaker::Entity)
            .and_where(webhook_breaker::Column::EndpointId.into_expr().equals(Column::EndpointId.as_column_ref()))
            .and_where(webhook_breaker::Column::Origin.into_expr().equals(Column::Origin.as_column_ref()))
            .and_where(webhook_breaker::Column::OpenUntil.gt(clocks.business))
            .to_owned();
        let mut due = Self::find()
            .select_only()
            .column(Column::EndpointId)
            .column(Column::Origin)
            .distinct()
            // As the index on these keys says it: with a parameter instead, neither database would use that.
            .filter(Expr::cust("state = 'pending'"))
            .filter(Self::due(clocks))
            .filter(Expr::exists(open_breaker).not())
            .order_by_asc(Column::EndpointId)
            .order_by_asc(Column::Origin)
            .limit(limit);
        if let Some(after) = after {
            let later_origin = Column::EndpointId.eq(after.endpoint).and(Column::Origin.gt(after.origin));
            due = due.filter(Column::EndpointId.gt(after.endpoint).or(later_origin));
        }
        due.into_tuple().all(connection).await
    }

    /// When the next delivery of a queue is due.
    pub async fn next_due(connection: &impl ConnectionTrait, queue: Queue<'_>) -> Result<Option<Timestamp>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::NextAttemptAt)
            .filter(Self::in_queue(queue))
            .filter(Column::State.eq(DeliveryState::Pending))
            .order_by_asc(Column::NextAttemptAt)
            .limit(1)
            .into_tuple()
            .one(connection)
            .await
    }

    /// Turns everything that still waits for an endpoint into dead rows, with the reason.
    pub async fn bury(
        connection: &impl ConnectionTrait,
        endpoint: EndpointId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::State, Expr::value(DeliveryState::Dead))
            .col_expr(Column::DeadReason, Expr::value(Some(reason.to_owned())))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::EndpointId.eq(endpoint))
            .filter(Column::State.eq(DeliveryState::Pending))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Takes every claim on a merchant's deliveries away: whoever is sending one records nothing any more. The rows stay
    /// locked until the transaction ends.
    pub async fn unclaim_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::LeaseToken, Expr::value(None::<String>))
            .filter(Column::MerchantId.eq(merchant))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Deletes every delivery of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}

/// What waits to be delivered, of every merchant; for those who watch over the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromQueryResult)]
pub struct Backlog {
    /// Could go out now.
    pub due: i64,
    /// Due, but their receiver has failed so often that only a probe a minute goes to it.
    pub held: i64,
    /// To be tried again later, or being sent.
    pub waiting: i64,
    /// Since when the longest of the due ones could have gone out.
    pub oldest_due: Option<Timestamp>,
}

impl Entity {
    /// Counts what waits, looking at no more than `most` deliveries.
    pub async fn backlog(connection: &impl ConnectionTrait, clocks: Clocks, most: u32) -> Result<Backlog, DbErr> {
        let Clocks { business, database } = clocks;
        let (first, last) = clock::under_way(database).into_inner();
        let (business, first, last) = (business.as_micros(), first.as_micros(), last.as_micros());
        let sql = format!(
            "SELECT COALESCE(SUM(CASE WHEN is_due AND NOT is_held THEN 1 ELSE 0 END), 0) AS due, \
             COALESCE(SUM(CASE WHEN is_due AND is_held THEN 1 ELSE 0 END), 0) AS held, \
             COALESCE(SUM(CASE WHEN is_due THEN 0 ELSE 1 END), 0) AS waiting, \
             MIN(CASE WHEN is_due AND NOT is_held THEN next_attempt_at END) AS oldest_due \
             FROM (SELECT d.next_attempt_at, \
             d.next_attempt_at <= {business} AND COALESCE(d.lease_until, 0) NOT BETWEEN {first} AND {last} AS is_due, \
             COALESCE(b.open_until, 0) > {business} AS is_held \
             FROM (SELECT endpoint_id, origin, next_attempt_at, lease_until FROM webhook_delivery \
             WHERE state = 'pending' LIMIT {most}) AS d \
             LEFT JOIN webhook_breaker b ON b.endpoint_id = d.endpoint_id AND b.origin = d.origin) AS seen"
        );
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        Ok(Backlog::find_by_statement(statement).one(connection).await?.unwrap_or_default())
    }
}

impl Entity {
    /// The delivery of a merchant by its public id.
    pub async fn find_owned_by_ref(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        delivery_id: &DeliveryRef,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::DeliveryId.eq(delivery_id.clone()))
            .filter(Column::MerchantId.eq(merchant))
            .one(connection)
            .await
    }

    /// The public ids of the orders that deliveries of a merchant are about.
    pub async fn order_refs(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        deliveries: &[Model],
    ) -> Result<BTreeMap<OrderId, OrderRef>, DbErr> {
        use super::payment_order;
        let ids: BTreeSet<OrderId> = deliveries.iter().filter_map(|delivery| delivery.order_id).collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let refs: Vec<(OrderId, OrderRef)> = payment_order::Entity::find()
            .select_only()
            .column(payment_order::Column::Id)
            .column(payment_order::Column::OrderId)
            .filter(payment_order::Column::Id.is_in(ids))
            .filter(payment_order::Column::MerchantId.eq(merchant))
            .into_tuple()
            .all(connection)
            .await?;
        Ok(refs.into_iter().collect())
    }

    /// Makes deliveries of a merchant due now, as if they had never been tried; ids and bodies stay. A claim that is held on
    /// one stays too, so that it is not sent twice at once; what comes of that attempt does not settle this one, and it is
    /// sent again as soon as the claim has ended.
    pub async fn requeue(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        ids: Vec<DeliveryId>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::State, Expr::value(DeliveryState::Pending))
            .col_expr(Column::Attempts, Expr::value(0_i64))
            .col_expr(Column::NextAttemptAt, Expr::value(now))
            .col_expr(Column::DeadReason, Expr::value(None::<String>))
            .col_expr(Column::DeliveredAt, Expr::value(None::<Timestamp>))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.is_in(ids))
            .filter(Column::MerchantId.eq(merchant))
            .exec(connection)
            .await?;
        Ok(())
    }
}

impl Model {
    /// The delivery's place among its endpoint's.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }
}
