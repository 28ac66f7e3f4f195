//! Orders of a merchant in lists: filtered, searched, in pages.

use std::collections::BTreeSet;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{MerchantId, OrderRef};
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, Func, LikeExpr, Query, SelectStatement, UnionType};
use sea_orm::{Condition, Order, PaginatorTrait, QueryOrder, QuerySelect, QueryTrait, Select};

use super::{Column, Entity, Model};
use crate::pages::{Place, Window};
use crate::{allocation, transfer};

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
    /// Public id, nonce, transaction hash, or a part of order_info.
    pub search: Option<String>,
}

impl OrderFilter {
    /// Whether what the filter lets through once it lets through for good: nothing in it can change.
    pub fn is_lasting(&self) -> bool {
        self.statuses.is_empty() && self.search.is_none()
    }

    fn condition(&self, merchant: MerchantId) -> Condition {
        match &self.search {
            // The merchant is named inside: named outside as well, its list would be walked for what was found.
            Some(search) => Condition::all().add(Column::Id.in_subquery(self.found(merchant, search))),
            None => self.without_search(merchant).add_option(self.status_condition()),
        }
    }

    fn status_condition(&self) -> Option<Expr> {
        match self.statuses.as_slice() {
            [] => None,
            [one] => Some(Column::Status.eq(*one)),
            several => Some(Column::Status.is_in(several.iter().copied())),
        }
    }

    fn without_search(&self, merchant: MerchantId) -> Condition {
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

    /// Keys of the orders that a text was found in: by an index where it is a whole id, nonce or hash; as a part of
    /// `order_info`, which has none, among the newest orders only.
    fn found(&self, merchant: MerchantId, search: &str) -> SelectStatement {
        let among = || Entity::find().filter(self.without_search(merchant).add_option(self.status_condition()));
        let keys = |rows: Select<Entity>| rows.select_only().column(Column::Id).into_query();
        let newest = among()
            .select_only()
            .column(Column::Id)
            .column(Column::OrderInfo)
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::Id)
            .limit(MAX_INFO_SEARCHED);
        // SQLite folds ASCII alone: what has other capitals is found as it was written.
        let lowered = BTreeSet::from([search.to_lowercase(), search.to_ascii_lowercase()]);
        let part = |text: &str| LikeExpr::new(format!("%{}%", escape_like(text))).escape('!');
        let mut holds = Condition::any().add(Expr::col(Column::OrderInfo).like(part(search)));
        for text in &lowered {
            holds = holds.add(Expr::expr(Func::lower(Expr::col(Column::OrderInfo))).like(part(text)));
        }
        let mut found =
            Query::select().column(Column::Id).from_subquery(newest.into_query(), "newest").cond_where(holds).take();
        if let Ok(order_id) = in_its_case(search).parse::<OrderRef>() {
            found.union(UnionType::Distinct, keys(among().filter(Column::OrderId.eq(order_id))));
        }
        if let Ok(nonce) = search.parse::<i64>() {
            found.union(UnionType::Distinct, keys(among().filter(Column::Nonce.eq(nonce))));
        }
        if let Ok(hash) = search.to_lowercase().parse::<Hash>() {
            let paid = among().filter(Column::Id.in_subquery(paid_by(merchant, hash)));
            found.union(UnionType::Distinct, keys(paid));
        }
        found
    }
}

/// How many orders' `order_info` one search reads, the newest that the other filters let through.
pub const MAX_INFO_SEARCHED: u64 = 10_000;

/// Keys of the merchant's orders that a transaction pays.
fn paid_by(merchant: MerchantId, hash: Hash) -> SelectStatement {
    let transfers = transfer::Entity::find()
        .select_only()
        .column(transfer::Column::Id)
        .filter(transfer::Column::TxHash.eq(hash))
        .into_query();
    allocation::Entity::find()
        .select_only()
        .column(allocation::Column::OrderId)
        .filter(allocation::Column::MerchantId.eq(merchant))
        .filter(allocation::Column::TransferId.in_subquery(transfers))
        .into_query()
}

/// A public id as it is written, whatever case it was typed in.
fn in_its_case(text: &str) -> String {
    let lowered = text.to_lowercase();
    lowered.strip_prefix("ord-").map_or(lowered.clone(), |rest| format!("ORD-{rest}"))
}

fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
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
        let several = filter.statuses.len() > 1 && filter.search.is_none() && window.is_near();
        let rows = if several {
            let kind = |status: &OrderStatus| {
                Self::find().filter(filter.without_search(merchant)).filter(Column::Status.eq(*status))
            };
            window.of_several(filter.statuses.iter().map(kind).collect(), Column::CreatedAt, Column::Id)
        } else {
            window.of(Self::find().filter(filter.condition(merchant)), Column::CreatedAt, Column::Id)
        };
        rows.all(connection).await
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
