//! Amounts that one order holds on an address.
//!
//! A reservation is held, then released and cooling, then free. Until it is free no other order gets an equal decimal amount on
//! the same address, on any chain and in any asset: a unique index decides.

use std::collections::BTreeSet;

use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::ids::{MerchantId, OrderId, ReservationId};
use cryptopay_domain::reservation::ReservationKind;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, Condition, Insert, QueryOrder, QuerySelect, QueryTrait, Select,
    TryInsertResult,
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
    /// The amount, in base units.
    pub units: Units,
    /// The price, or the missing amount, that it stands for. Never handed out itself.
    pub plain_units: Units,
    /// The amount due, or a remainder.
    pub kind: ReservationKind,
    /// The amount, as a decimal number.
    pub amount: DecimalAmount,
    /// The same of `plain_units`.
    pub plain_amount: DecimalAmount,
    /// Held since.
    pub created_at: Timestamp,
    /// Held until a block after this is verified.
    pub held_until: Timestamp,
    /// No longer held since.
    pub released_at: Option<Timestamp>,
    /// End of the cool-down, by block time.
    pub cools_until: Option<Timestamp>,
    /// The cool-down is over since. From then on the amount can be handed out again.
    pub freed_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The place of a payment: a chain, an asset, an address.
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
    /// Decimals of the asset.
    pub decimals: u8,
    /// The amount.
    pub units: Units,
    /// The price, or the missing amount, that it stands for.
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
            amount: Set(DecimalAmount::new(self.units, self.decimals)),
            plain_amount: Set(DecimalAmount::new(self.plain_units, self.decimals)),
            created_at: Set(self.now),
            held_until: Set(self.held_until),
            released_at: Set(None),
            cools_until: Set(None),
            freed_at: Set(None),
        }
    }
}

impl Entity {
    /// Reservations at `address`, held or cooling, on every chain and in every asset.
    fn at(address: AccountAddress) -> Select<Self> {
        Self::find().filter(Column::Address.eq(address)).filter(Column::FreedAt.is_null())
    }

    /// Reservations of a decimal amount at an address, on every chain and in every asset.
    pub async fn of_amount(
        connection: &impl ConnectionTrait,
        address: AccountAddress,
        amount: &DecimalAmount,
    ) -> Result<Vec<Model>, DbErr> {
        Self::at(address).filter(Column::Amount.eq(amount.clone())).order_by_asc(Column::Id).all(connection).await
    }

    /// The newest reservations that stand for a decimal amount at an address, at most `limit`. Orders of the chain that were
    /// created with the block verified are left out.
    pub async fn of_plain_amount(
        connection: &impl ConnectionTrait,
        address: AccountAddress,
        plain: &DecimalAmount,
        (chain, block_number): (&str, i64),
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        use super::payment_order;
        let older = Condition::any()
            .add(payment_order::Column::Chain.ne(chain))
            .add(payment_order::Column::ScannedHeight.lt(block_number));
        let orders = payment_order::Entity::find().select_only().column(payment_order::Column::Id).filter(older);
        let rows = Self::at(address)
            .filter(Column::PlainAmount.eq(plain.clone()))
            .filter(Column::OrderId.in_subquery(orders.into_query()));
        rows.order_by_desc(Column::Id).limit(limit).all(connection).await
    }

    /// Those of `amounts` that cannot be handed out at an address: one order holds them, held them until lately, or has them
    /// as its price.
    pub async fn taken(
        connection: &impl ConnectionTrait,
        address: AccountAddress,
        amounts: &[DecimalAmount],
    ) -> Result<BTreeSet<DecimalAmount>, DbErr> {
        let mut taken = BTreeSet::new();
        for column in [Column::Amount, Column::PlainAmount] {
            let rows = Self::at(address).select_only().column(column).filter(column.is_in(amounts.iter().cloned()));
            taken.extend(rows.into_tuple::<DecimalAmount>().all(connection).await?);
        }
        Ok(taken)
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

    /// The remainders that orders were ever asked for.
    pub async fn remainders_of(
        connection: &impl ConnectionTrait,
        orders: impl IntoIterator<Item = OrderId>,
    ) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(orders) {
            let remainders = Self::find().filter(Column::OrderId.is_in(piece));
            rows.extend(remainders.filter(Column::Kind.eq(ReservationKind::Remainder)).all(connection).await?);
        }
        Ok(rows)
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

    /// Releases reservations. Their amounts cool down until `cools_until`.
    pub async fn release(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = ReservationId>,
        now: Timestamp,
        cools_until: Timestamp,
    ) -> Result<(), DbErr> {
        for piece in pieces(ids) {
            Self::update_many()
                .col_expr(Column::ReleasedAt, Expr::value(Some(now)))
                .col_expr(Column::CoolsUntil, Expr::value(Some(cools_until)))
                .filter(Column::Id.is_in(piece))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// Reservations on `chain` whose cool-down is over at `verified`, at most `limit`.
    pub async fn due_to_free(
        connection: &impl ConnectionTrait,
        chain: &str,
        verified: Timestamp,
        limit: u64,
    ) -> Result<Vec<ReservationId>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Chain.eq(chain))
            .filter(Column::ReleasedAt.is_not_null())
            .filter(Column::FreedAt.is_null())
            .filter(Column::CoolsUntil.lt(verified))
            .order_by_asc(Column::CoolsUntil)
            .limit(limit)
            .into_tuple()
            .all(connection)
            .await
    }

    /// Ends the cool-down of reservations: their amounts can be handed out again.
    pub async fn free(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = ReservationId>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        for piece in pieces(ids) {
            Self::update_many()
                .col_expr(Column::FreedAt, Expr::value(Some(now)))
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
