//! How many rows a long list has, without counting them all for every page.
//!
//! What a filter lets through for good is counted once up to a moment before which nobody writes any more; every page then
//! counts what came since. The sum is exact as long as no transaction takes longer than [`SETTLED`] from its first look at
//! the clock to its commit, and is counted anew every [`KEPT_FOR`], should that ever fail. Lists whose rows come and go
//! (orders by status, what a text was found in) are counted as they are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::clock;
use sea_orm::{DatabaseConnection, DbErr};

/// How old a moment is before which nobody writes any more.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a count is built upon.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Shorter lists are counted every time, and so is what came since a longer one was.
const LONG: u64 = 1_000;
/// Most lists that are remembered: merchants times the filters that they use.
const MOST_LISTS: usize = 10_000;

/// A part of a list, by when its rows were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}

impl Span {
    /// The beginning of this span, or of a narrower one.
    pub fn after(&self, other: Option<Timestamp>) -> Option<Timestamp> {
        self.from.max(other)
    }

    /// The end of this span, or of a narrower one.
    pub fn before(&self, other: Option<Timestamp>) -> Option<Timestamp> {
        match (self.until, other) {
            (Some(until), Some(other)) => Some(until.min(other)),
            (one, None) | (None, one) => one,
        }
    }
}

/// What lists came to when they were counted. One per process.
#[derive(Debug, Default)]
pub struct Counts(Mutex<HashMap<String, Base>>);

#[derive(Debug, Clone, Copy)]
struct Base {
    until: Timestamp,
    rows: u64,
    counted_at: Instant,
}

impl Counts {
    /// How many rows a list has. `list` names it with its merchant and filter, which lets through for good what it lets
    /// through; `count` counts a part of it.
    ///
    /// # Errors
    /// Those of `count`.
    pub async fn of<F>(
        &self,
        database: &DatabaseConnection,
        list: String,
        count: impl Fn(Span) -> F + Send + Sync,
    ) -> Result<u64, DbErr>
    where
        F: Future<Output = Result<u64, DbErr>> + Send,
    {
        let Some(base) = self.known(&list) else {
            let all = count(Span::default()).await?;
            if all >= LONG {
                let until = clock::database_now(database).await?.minus(SETTLED);
                let rows = count(Span { from: None, until: Some(until) }).await?;
                self.remember(list, Base { until, rows, counted_at: Instant::now() });
            }
            return Ok(all);
        };
        let since = count(Span { from: Some(base.until), until: None }).await?;
        if since >= LONG {
            let until = clock::database_now(database).await?.minus(SETTLED);
            if until > base.until {
                let settled = count(Span { from: Some(base.until), until: Some(until) }).await?;
                self.remember(list, Base { until, rows: base.rows.saturating_add(settled), ..base });
            }
        }
        Ok(base.rows.saturating_add(since))
    }

    fn known(&self, list: &str) -> Option<Base> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(list).copied().filter(|base| base.counted_at.elapsed() < KEPT_FOR)
    }

    fn remember(&self, list: String, base: Base) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_LISTS {
            known.retain(|_, base| base.counted_at.elapsed() < KEPT_FOR);
        }
        if known.len() < MOST_LISTS {
            known.insert(list, base);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cryptopay_test_support::{TestDatabase, on_both_databases};

    use super::*;

    /// A list, and how many of its rows were looked at to count it.
    #[derive(Clone, Default)]
    struct List(Arc<Mutex<(Vec<Timestamp>, usize)>>);

    impl List {
        async fn count(&self, counts: &Counts, db: &TestDatabase) -> u64 {
            let list = self.clone();
            let count = move |span: Span| {
                let list = list.clone();
                async move {
                    let mut list = list.0.lock().unwrap();
                    let within = |at: &Timestamp| {
                        span.from.is_none_or(|from| *at >= from) && span.until.is_none_or(|until| *at < until)
                    };
                    let found = list.0.iter().filter(|at| within(at)).count();
                    list.1 += found;
                    Ok(u64::try_from(found).unwrap())
                }
            };
            counts.of(db.connection(), "list".to_owned(), count).await.unwrap()
        }

        fn add(&self, rows: u64, at: Timestamp) {
            self.0.lock().unwrap().0.extend((0..rows).map(|_| at));
        }

        /// Rows looked at since this was asked last.
        fn effort(&self) -> usize {
            std::mem::take(&mut self.0.lock().unwrap().1)
        }
    }

    on_both_databases!(a_long_list_is_counted_once_and_then_what_is_new, async |db: TestDatabase| {
        let now = clock::database_now(db.connection()).await.unwrap();
        let (list, counts) = (List::default(), Counts::default());
        list.add(LONG - 1, now.minus(2 * SETTLED));
        for _ in 0..2 {
            assert_eq!((list.count(&counts, &db).await, list.effort()), (999, 999), "a short list is just counted");
        }
        list.add(9_000, now.minus(2 * SETTLED));
        list.add(5, now);
        assert_eq!(list.count(&counts, &db).await, 10_004);
        list.effort();
        assert_eq!((list.count(&counts, &db).await, list.effort()), (10_004, 5));
        // One that was begun earlier and committed later is not lost.
        list.add(1, now.minus(SETTLED / 2));
        list.add(2, now);
        assert_eq!((list.count(&counts, &db).await, list.effort()), (10_007, 8));
        // Much that is new and settled is counted once more, by itself.
        list.add(3_000, now.minus(SETTLED / 2));
        assert_eq!(list.count(&counts, &db).await, 13_007);
        assert!(list.effort() < 7_000);
    });
}
