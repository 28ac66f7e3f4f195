//! Orders of a merchant in lists: filtered, in pages.

use cryptopay_domain::ids::{MerchantId, OrderRef};
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, Func};
use sea_orm::{Condition, Order, PaginatorTrait, QueryOrder, QuerySelect, Select};

use super::{Column, Entity, Model};
use crate::pages::{Place, Window, count, directed};

/// Which orders of a merchant to list. Everything that is set has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// One of these.
    pub statuses: Vec<OrderStatus>,
    /// On this chain.
    pub chain: Option<String>,
    /// In this currency (any case).
    pub currency: Option<String>,
    /// With this nonce.
    pub nonce: Option<i64>,
    /// With this public id.
    pub order_id: Option<OrderRef>,
    /// Created at this time or later.
    pub created_after: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
}

impl OrderFilter {
    /// Whether what the filter lets through once it lets through for good: nothing in it can change.
    pub fn is_lasting(&self) -> bool {
        self.statuses.is_empty()
    }

    /// Everything that has to hold of an order, its owner included.
    pub(super) fn condition(&self, merchant: MerchantId) -> Condition {
        self.without_status(merchant).add_option(self.status_condition())
    }

    /// A window of the list.
    pub(super) fn window(&self, merchant: MerchantId, window: Window) -> Select<Entity> {
        if self.statuses.len() > 1 && window.is_near() {
            let kind = |status: &OrderStatus| {
                Entity::find().filter(self.without_status(merchant)).filter(Column::Status.eq(*status))
            };
            window.of_several(self.statuses.iter().map(kind).collect(), Column::CreatedAt, Column::Id)
        } else {
            window.of(Entity::find().filter(self.condition(merchant)), Column::CreatedAt, Column::Id)
        }
    }

    fn status_condition(&self) -> Option<Expr> {
        match self.statuses.as_slice() {
            [] => None,
            [one] => Some(Column::Status.eq(*one)),
            several => Some(Column::Status.is_in(several.iter().copied())),
        }
    }

    fn without_status(&self, merchant: MerchantId) -> Condition {
        let currency = self.currency.as_ref().map(|currency| currency.to_lowercase());
        let own = |column: Column| Expr::col((Entity, column));
        Condition::all()
            .add(Column::MerchantId.eq(merchant))
            .add_option(self.chain.as_ref().map(|chain| Column::Chain.eq(chain.as_str())))
            .add_option(currency.map(|currency| Expr::expr(Func::lower(own(Column::Currency))).eq(currency)))
            .add_option(self.nonce.map(|nonce| Column::Nonce.eq(nonce)))
            .add_option(self.order_id.as_ref().map(|order_id| Column::OrderId.eq(order_id.clone())))
            .add_option(self.created_after.map(|time| Column::CreatedAt.gte(time)))
            .add_option(self.created_before.map(|time| Column::CreatedAt.lt(time)))
    }
}

impl Entity {
    /// How many orders of a merchant the filter lets through.
    pub async fn count_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &OrderFilter,
    ) -> Result<u64, DbErr> {
        Self::find().filter(filter.condition(merchant)).count(connection).await
    }

    /// Orders of a merchant in a window of the list.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &OrderFilter,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        filter.window(merchant, window).all(connection).await
    }

    /// A stretch of a merchant's orders, nearest first as `seek` walks. An index seek, however deep.
    pub async fn seek_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &OrderFilter,
        seek: Seek,
    ) -> Result<Vec<Model>, DbErr> {
        let place = || Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
        let bound = |place: Place| Expr::tuple([Expr::value(place.created_at), Expr::value(place.id)]);
        let mut rows = Self::find().filter(filter.condition(merchant));
        if let Some(newer_than) = seek.newer_than {
            rows = rows.filter(place().gt(bound(newer_than)));
        }
        if let Some(older_than) = seek.older_than {
            rows = rows.filter(place().lt(bound(older_than)));
        }
        let order = if seek.oldest_first { Order::Asc } else { Order::Desc };
        rows.order_by(Column::CreatedAt, order.clone())
            .order_by(Column::Id, order)
            .limit(seek.limit)
            .all(connection)
            .await
    }
}

/// A stretch between two places, neither of which belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seek {
    /// Only orders created after the one at this place.
    pub newer_than: Option<Place>,
    /// Only orders created before the one at this place.
    pub older_than: Option<Place>,
    /// Which end to begin at.
    pub oldest_first: bool,
    /// Most orders.
    pub limit: u64,
}

impl Seek {
    /// Those of these places that lie in the stretch, nearest first. `places` are sorted, newest first.
    pub fn among(self, places: &[Place]) -> Vec<Place> {
        let within = |place: &Place| {
            self.newer_than.is_none_or(|bound| *place > bound) && self.older_than.is_none_or(|bound| *place < bound)
        };
        directed(places, self.oldest_first).filter(within).take(count(self.limit)).collect()
    }
}
