//! Pages of lists that are sorted by creation, ties by key: an index seek wherever the page begins.

use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement, UnionType};
use sea_orm::{Order, QueryOrder, QuerySelect, QueryTrait, Select};

/// Where a row stands in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the row was made.
    pub created_at: Timestamp,
    /// Its key: rows of the same moment stand in the order of their keys.
    pub id: i64,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the end of the list that is read first.
    End,
    /// Behind the row at this place, which is not read.
    Behind(Place),
    /// With the row at this place.
    At(Place),
}

/// Which rows of a list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where reading begins.
    pub start: Start,
    /// Which way it goes.
    pub oldest_first: bool,
    /// Rows that are left out at the start. They are read all the same.
    pub skip: u64,
    /// Most rows.
    pub limit: u64,
}

/// Up to this many rows at the start, a list of several kinds is merged from one seek per kind.
const MOST_MERGED: u64 = 2_000;

impl Window {
    /// The rows of this window, of those that `rows` selects.
    /// The columns may be those of a joined table, if its index is to be walked.
    pub(crate) fn of<E: EntityTrait>(
        self,
        rows: Select<E>,
        created_at: impl ColumnTrait,
        id: impl ColumnTrait,
    ) -> Select<E> {
        let order = self.order();
        self.begun(rows, created_at, id)
            .order_by(created_at, order.clone())
            .order_by(id, order)
            .offset(self.skip)
            .limit(self.limit)
    }

    /// The rows of this window where a number says their order, and the ids of places are that number.
    pub(crate) fn of_numbered<E: EntityTrait>(self, rows: Select<E>, number: impl ColumnTrait) -> Select<E> {
        let rows = match (self.start, self.oldest_first) {
            (Start::End, _) => rows,
            (Start::Behind(start), true) => rows.filter(number.gt(start.id)),
            (Start::Behind(start), false) => rows.filter(number.lt(start.id)),
            (Start::At(start), true) => rows.filter(number.gte(start.id)),
            (Start::At(start), false) => rows.filter(number.lte(start.id)),
        };
        rows.order_by(number, self.order()).offset(self.skip).limit(self.limit)
    }

    /// The same of several selections that no row is in twice. Of each only as many keys are read, by its own index, as the
    /// window needs: sorting all that several values of a column let through would cost more, the more there are.
    pub(crate) fn of_several<E: EntityTrait>(
        self,
        kinds: Vec<Select<E>>,
        created_at: E::Column,
        id: E::Column,
    ) -> Select<E> {
        let order = self.order();
        let needed = self.skip.saturating_add(self.limit);
        let mut keys: Option<SelectStatement> = None;
        for kind in kinds {
            let first = self
                .begun(kind, created_at, id)
                .select_only()
                .column(id)
                .order_by(created_at, order.clone())
                .order_by(id, order.clone())
                .limit(needed);
            // SQLite sorts and cuts the parts of a union only inside a query of their own.
            let part = Query::select().column(id).from_subquery(first.into_query(), "kind").take();
            keys = Some(match keys {
                Some(mut keys) => keys.union(UnionType::All, part).take(),
                None => part,
            });
        }
        let rows = match keys {
            Some(keys) => E::find().filter(id.in_subquery(keys)),
            None => E::find().filter(Expr::val(1).eq(0)),
        };
        let rows = rows.order_by(created_at, order.clone()).order_by(id, order);
        rows.offset(self.skip).limit(self.limit)
    }

    /// The places of this window, of a list that is at hand. `places` are sorted, newest first.
    pub fn among(self, places: &[Place]) -> Vec<Place> {
        let begun = |place: &Place| match (self.start, self.oldest_first) {
            (Start::End, _) => true,
            (Start::Behind(start), true) => *place > start,
            (Start::Behind(start), false) => *place < start,
            (Start::At(start), true) => *place >= start,
            (Start::At(start), false) => *place <= start,
        };
        directed(places, self.oldest_first).filter(begun).skip(count(self.skip)).take(count(self.limit)).collect()
    }

    /// Whether few enough rows come before the window for [`Self::of_several`] to pay.
    pub(crate) fn is_near(self) -> bool {
        self.skip <= MOST_MERGED
    }

    fn order(self) -> Order {
        if self.oldest_first { Order::Asc } else { Order::Desc }
    }

    fn begun<E: EntityTrait>(self, rows: Select<E>, created_at: impl ColumnTrait, id: impl ColumnTrait) -> Select<E> {
        let place = Expr::tuple([created_at.into_expr(), id.into_expr()]);
        let bound = |bound: Place| Expr::tuple([Expr::value(bound.created_at), Expr::value(bound.id)]);
        match (self.start, self.oldest_first) {
            (Start::End, _) => rows,
            (Start::Behind(start), true) => rows.filter(place.gt(bound(start))),
            (Start::Behind(start), false) => rows.filter(place.lt(bound(start))),
            (Start::At(start), true) => rows.filter(place.gte(bound(start))),
            (Start::At(start), false) => rows.filter(place.lte(bound(start))),
        }
    }
}

/// Places that are sorted newest first, in the direction of a list.
pub(crate) fn directed(places: &[Place], oldest_first: bool) -> impl Iterator<Item = Place> {
    let last = places.len();
    (0..last).filter_map(move |index| {
        let index = if oldest_first { last.checked_sub(index.saturating_add(1))? } else { index };
        places.get(index).copied()
    })
}

pub(crate) fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
