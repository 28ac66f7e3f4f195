//! How many rows a long list has, without counting them all for every page.
//!
//! What a filter lets through for good is counted once up to a moment before which nobody writes any more; every page then
//! counts what came since. The sum is exact as long as no transaction takes longer than [`SETTLED`] from its first look at
//! the clock to its commit, and is counted anew every [`KEPT_FOR`], should that ever fail. Lists whose rows come and go
//! (orders by status, what a text was found in) are counted as they are.
//!
//! A list that nobody has counted yet is counted by one request; those that come meanwhile wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
pub struct Counts {
    known: Mutex<HashMap<String, Base>>,
    /// Lists that are being counted for the first time.
    begun: Mutex<HashMap<String, Weak<Turn>>>,
}

/// Held by whoever counts a list for the first time.
type Turn = tokio::sync::Mutex<()>;

#[derive(Debug, Clone, Copy)]
struct Base {
    /// Rows before this moment are in `rows`; `None` for a short list, of which none are.
    until: Option<Timestamp>,
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
        if let Some(base) = self.known(&list) {
            return self.count_on(database, list, base, count).await;
        }
        let turn = self.turn(&list);
        let first = turn.lock().await;
        if let Some(base) = self.known(&list) {
            // Counted while this waited.
            drop(first);
            return self.count_on(database, list, base, count).await;
        }
        let base = Base { until: None, rows: 0, counted_at: Instant::now() };
        let all = self.count_on(database, list.clone(), base, count).await?;
        if all < LONG {
            self.remember(list, base);
        }
        Ok(all)
    }

    /// Counts what came since the base, and moves the base where that was much.
    async fn count_on<F>(
        &self,
        database: &DatabaseConnection,
        list: String,
        base: Base,
        count: impl Fn(Span) -> F + Send + Sync,
    ) -> Result<u64, DbErr>
    where
        F: Future<Output = Result<u64, DbErr>> + Send,
    {
        let since = count(Span { from: base.until, until: None }).await?;
        if since >= LONG {
            let until = Some(clock::database_now(database).await?.minus(SETTLED));
            if until > base.until {
                let settled = count(Span { from: base.until, until }).await?;
                self.remember(list, Base { until, rows: base.rows.saturating_add(settled), ..base });
            }
        }
        Ok(base.rows.saturating_add(since))
    }

    fn known(&self, list: &str) -> Option<Base> {
        locked(&self.known).get(list).copied().filter(|base| base.counted_at.elapsed() < KEPT_FOR)
    }

    fn remember(&self, list: String, base: Base) {
        let mut known = locked(&self.known);
        if known.len() >= MOST_LISTS {
            known.retain(|_, base| base.counted_at.elapsed() < KEPT_FOR);
        }
        if known.len() < MOST_LISTS {
            known.insert(list, base);
        }
    }

    fn turn(&self, list: &str) -> Arc<Turn> {
        let mut begun = locked(&self.begun);
        if let Some(turn) = begun.get(list).and_then(Weak::upgrade) {
            return turn;
        }
        // Nobody waits any more for those that ended, or were given up.
        begun.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        begun.insert(list.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// What a panic left behind is whole: nothing here is changed in two steps.
fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use futures_util::FutureExt;

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

    on_both_databases!(
        those_who_ask_at_once_for_a_list_that_nobody_has_counted_wait_for_one,
        async |db: TestDatabase| {
            let now = clock::database_now(db.connection()).await.unwrap();
            let (list, counts) = (List::default(), Counts::default());
            list.add(9_000, now.minus(2 * SETTLED));
            let answers = futures_util::future::join_all((0..20).map(|_| list.count(&counts, &db))).await;
            assert_eq!(answers, vec![9_000; 20]);
            assert!(list.effort() <= 2 * 9_000, "once whole, once up to the moment that is built upon");
        }
    );

    on_both_databases!(whoever_is_given_up_while_counting_leaves_it_to_the_next, async |db: TestDatabase| {
        let counts = Counts::default();
        let never = counts.of(db.connection(), "list".to_owned(), |_| std::future::pending());
        assert_eq!(never.now_or_never(), None);
        let (list, now) = (List::default(), clock::database_now(db.connection()).await.unwrap());
        list.add(3, now);
        assert_eq!(list.count(&counts, &db).await, 3);
    });
}
