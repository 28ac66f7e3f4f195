//! Amounts held for one order.

use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::ids::{MerchantId, OrderId, ReservationId};
use cryptopay_domain::reservation::ReservationKind;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, Condition, Insert, QueryOrder, QuerySelect, QueryTrait, TryInsertResult,
};

use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "amount_reservation")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: ReservationId,
    /// For which order.
    pub order_id: OrderId,
    /// Slug.
    pub chain: String,
    /// Asset.
    pub asset: Asset,
    /// Address.
    pub address: AccountAddress,
    /// The amount.
    pub units: Units,
    /// The price that it stands for.
    pub plain_units: Units,
    /// The amount due, or a remainder.
    pub kind: ReservationKind,
    /// Held since.
    pub created_at: Timestamp,
    /// Held until a block after this is verified.
    pub held_until: Timestamp,
    /// No longer held since.
    pub released_at: Option<Timestamp>,
    /// New orders avoid it until then.
    pub cools_until: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Where amounts are told apart: a chain, an asset, an address.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Slug.
    pub chain: &'a str,
    /// Asset.
    pub asset: Asset,
    /// Address.
    pub address: AccountAddress,
}

/// A reservation to be made.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// For which order.
    pub order: OrderId,
    /// Where.
    pub place: Place<'a>,
    /// The amount.
    pub units: Units,
    /// The price that it stands for.
    pub plain_units: Units,
    /// The amount due, or a remainder.
    pub kind: ReservationKind,
    /// Held until a block after this is verified.
    pub held_until: Timestamp,
    /// Now.
    pub now: Timestamp,
}

impl Wanted<'_> {
    fn into_row(self) -> ActiveModel {
        ActiveModel {
            id: NotSet,
            order_id: Set(self.order),
            chain: Set(self.place.chain.to_owned()),
            asset: Set(self.place.asset),
            address: Set(self.place.address),
            units: Set(self.units),
            plain_units: Set(self.plain_units),
            kind: Set(self.kind),
            created_at: Set(self.now),
            held_until: Set(self.held_until),
            released_at: Set(None),
            cools_until: Set(None),
        }
    }
}

impl Entity {
    fn at(place: Place<'_>) -> Condition {
        Condition::all()
            .add(Column::Chain.eq(place.chain))
            .add(Column::Asset.eq(place.asset))
            .add(Column::Address.eq(place.address))
    }

    fn taken_at(place: Place<'_>, values: impl IntoIterator<Item = Units>, verified: Timestamp) -> Condition {
        let is_taken = Condition::any().add(Column::ReleasedAt.is_null()).add(Column::CoolsUntil.gt(verified));
        Self::at(place).add(Column::Units.is_in(values)).add(is_taken)
    }

    /// Reservations of any of `values` that are held, or cooling at `verified`.
    pub async fn taken(
        connection: &impl ConnectionTrait,
        place: Place<'_>,
        values: impl IntoIterator<Item = Units>,
        verified: Timestamp,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find().filter(Self::taken_at(place, values, verified)).all(connection).await
    }

    /// Takes an amount; `false` if somebody else holds it: the constraint decides.
    pub async fn hold(connection: &impl ConnectionTrait, wanted: Wanted<'_>) -> Result<bool, DbErr> {
        let inserted = Self::holding(wanted).try_insert().exec_without_returning(connection).await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// The insertion that takes an amount, or inserts nothing if somebody else holds it. It waits for whoever is about to.
    pub fn holding(wanted: Wanted<'_>) -> Insert<ActiveModel> {
        Self::insert(wanted.into_row()).on_conflict(OnConflict::new().do_nothing().to_owned())
    }

    /// The live reservations of an order, oldest first.
    pub async fn held_by(connection: &impl ConnectionTrait, order: OrderId) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::OrderId.eq(order))
            .filter(Column::ReleasedAt.is_null())
            .order_by_asc(Column::Id)
            .all(connection)
            .await
    }

    /// The live reservations of orders.
    pub async fn held_by_any(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(orders) {
            let held = Self::find().filter(Column::OrderId.is_in(piece)).filter(Column::ReleasedAt.is_null());
            rows.extend(held.order_by_asc(Column::Id).all(connection).await?);
        }
        Ok(rows)
    }

    /// Reservations on `chain` whose time is over at `verified`, at most `limit`.
    pub async fn due_for_release(
        connection: &impl ConnectionTrait,
        chain: &str,
        verified: Timestamp,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::ReleasedAt.is_null())
            .filter(Column::HeldUntil.lt(verified))
            .order_by_asc(Column::HeldUntil)
            .limit(limit)
            .all(connection)
            .await
    }

    /// Lets amounts go. `cools_until` keeps new orders away from them.
    pub async fn release(
        connection: &impl ConnectionTrait,
        ids: Vec<ReservationId>,
        now: Timestamp,
        cools_until: Option<Timestamp>,
    ) -> Result<(), DbErr> {
        for piece in pieces(ids) {
            Self::update_many()
                .col_expr(Column::ReleasedAt, Expr::value(Some(now)))
                .col_expr(Column::CoolsUntil, Expr::value(cools_until))
                .filter(Column::Id.is_in(piece))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// Deletes every reservation of a merchant's orders: held, cooling or free.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<(), DbErr> {
        use super::payment_order;
        let orders = payment_order::Entity::find()
            .select_only()
            .column(payment_order::Column::Id)
            .filter(payment_order::Column::MerchantId.eq(merchant));
        Self::delete_many().filter(Column::OrderId.in_subquery(orders.into_query())).exec(connection).await?;
        Ok(())
    }
}
