//! Which page of a list is asked for, by number or behind a row, and what stands around it.

use cryptopay_entity::pages::{Place, Start, Window};
use sea_orm::DbErr;

use crate::error::ApiError;

/// Which page of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Number of the page, from 1; 1 with `after`.
    pub number: u64,
    /// Id of the row that the page comes behind.
    pub after: Option<String>,
    /// Which way the list goes.
    pub oldest_first: bool,
    /// Rows on a page.
    pub size: u64,
}

impl Asked {
    /// The page of a list of `count` rows, which `read` reads and `id` names as `after` does. `place` is where the row that
    /// `after` names stands, if it does.
    ///
    /// # Errors
    /// `NOT_FOUND` past the end; a fault of `after` without a row of that id. Page 1 of nothing is fine.
    pub async fn page<T, F>(
        &self,
        count: u64,
        place: Option<Place>,
        read: impl Fn(Window) -> F,
        id: impl Fn(&T) -> String,
    ) -> Result<ListPage<T>, ApiError>
    where
        F: Future<Output = Result<Vec<T>, DbErr>>,
    {
        let reading = self.reading(count, place)?;
        let rows = read(reading.window()).await?;
        let before = match reading.before() {
            Some(before) => read(before).await?.pop(),
            None => None,
        };
        Ok(reading.page(rows, before, id))
    }

    /// How to read it.
    fn reading(&self, count: u64, place: Option<Place>) -> Result<Reading, ApiError> {
        let Self { number, ref after, oldest_first, size } = *self;
        let behind = match (after, place) {
            (Some(_), None) => return Err(ApiError::field("after", "No item of this list has this id.")),
            (Some(_), Some(place)) => Some(place),
            (None, _) => None,
        };
        let reading = Reading { count, number, behind, oldest_first, size };
        if behind.is_none() && number > 1 && reading.skip() >= count {
            return Err(ApiError::not_found("page"));
        }
        Ok(reading)
    }
}

/// How to read a page.
#[derive(Debug, Clone, Copy)]
struct Reading {
    count: u64,
    number: u64,
    behind: Option<Place>,
    oldest_first: bool,
    size: u64,
}

impl Reading {
    /// The page and one row more, which says whether the list goes on.
    fn window(&self) -> Window {
        let start = self.behind.map_or(Start::End, Start::Behind);
        let skip = if self.behind.is_some() { 0 } else { self.skip() };
        Window { start, oldest_first: self.oldest_first, skip, limit: self.size.saturating_add(1) }
    }

    /// The row that the page before comes behind. None for pages by number, whose neighbours have numbers.
    fn before(&self) -> Option<Window> {
        let start = Start::At(self.behind?);
        Some(Window { start, oldest_first: !self.oldest_first, skip: self.size, limit: 1 })
    }

    /// The page, from what its two windows hold. `id` is what a row is called in `after`.
    fn page<T>(&self, mut rows: Vec<T>, before: Option<T>, id: impl Fn(&T) -> String) -> ListPage<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let goes_on = rows.len() > size;
        rows.truncate(size);
        let (next, previous) = if self.behind.is_some() {
            let next = rows.last().filter(|_| goes_on).map(|last| Neighbour::After(id(last)));
            (next, Some(before.map_or(Neighbour::Number(1), |row| Neighbour::After(id(&row)))))
        } else {
            let next = goes_on.then(|| Neighbour::Number(self.number.saturating_add(1)));
            (next, (self.number > 1).then(|| Neighbour::Number(self.number.saturating_sub(1))))
        };
        // What was written since the rows were counted is on the page already.
        let least = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        ListPage { count: self.count.max(least), rows, next, previous }
    }

    fn skip(&self) -> u64 {
        self.number.saturating_sub(1).saturating_mul(self.size)
    }
}

/// A page before or after another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbour {
    /// With this number.
    Number(u64),
    /// Behind the row of this id.
    After(String),
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct ListPage<T> {
    /// How many rows the list has in all.
    pub count: u64,
    /// This page.
    pub rows: Vec<T>,
    /// The page after it, if there is one.
    pub next: Option<Neighbour>,
    /// The page before it, if there is one.
    pub previous: Option<Neighbour>,
}

impl<T> ListPage<T> {
    /// The same page with other rows, one for each.
    pub fn with<U>(self, rows: Vec<U>) -> ListPage<U> {
        ListPage { count: self.count, rows, next: self.next, previous: self.previous }
    }

    /// The same page with each row made into something else.
    pub fn map<U>(self, make: impl Fn(&T) -> U) -> ListPage<U> {
        let rows = self.rows.iter().map(make).collect();
        self.with(rows)
    }
}

/// The first rows of a list, newest first.
#[cfg(test)]
pub(crate) fn first(size: u64) -> Asked {
    Asked { number: 1, after: None, oldest_first: false, size }
}
