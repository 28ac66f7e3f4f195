//! Searches take turns: one of a merchant at a time, and as many in all as have a connection of their own.
//!
//! A search reads up to 10,000 texts, many times the work of any other request. So it waits here, without a connection,
//! until it is its turn. Each merchant has at most one search in the common line, so that many searches of one delay those
//! of another by one each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use sea_orm::DatabaseConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::database::SEARCH_CONNECTIONS;
use crate::error::{ApiError, ErrorCode};

/// Searches of one merchant that run or wait at once.
const MOST_OF_MERCHANT: usize = 4;
/// Maximum time that a search waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The searches of this process.
#[derive(Debug)]
pub struct Searches {
    database: DatabaseConnection,
    turns: Arc<Semaphore>,
    lines: Mutex<HashMap<MerchantId, Weak<Line>>>,
    patience: Duration,
}

/// The searches of one merchant.
#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// The right to search; the next search begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    database: DatabaseConnection,
    // Dropped in this order: the merchant's next search enters the common line behind the others.
    _shared: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _line: Arc<Line>,
}

impl Searches {
    /// Searches over these connections.
    pub fn new(database: DatabaseConnection) -> Self {
        let turns = usize::try_from(SEARCH_CONNECTIONS).unwrap_or(1);
        Self { database, turns: Arc::new(Semaphore::new(turns)), lines: Mutex::default(), patience: PATIENCE }
    }

    /// Waits for a merchant's turn.
    ///
    /// # Errors
    /// `RATE_LIMITED` where too many searches of the merchant wait already; `SERVICE_UNAVAILABLE` where the turn does not
    /// come in time.
    pub async fn begin(&self, merchant: MerchantId) -> Result<Turn, ApiError> {
        let line = self.line(merchant);
        let place = Arc::clone(&line.places).try_acquire_owned().map_err(|_| too_many())?;
        let turn = async {
            let own = Arc::clone(&line.turn).acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>((Arc::clone(&self.turns).acquire_owned().await?, own))
        };
        let turn = timeout(self.patience, turn).await.map_err(ApiError::too_long)?;
        let (shared, own) = turn.map_err(ApiError::internal)?;
        Ok(Turn { database: self.database.clone(), _shared: shared, _own: own, _place: place, _line: line })
    }

    fn line(&self, merchant: MerchantId) -> Arc<Line> {
        // No code that can panic runs under this lock.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&merchant).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Line { places: Arc::new(Semaphore::new(MOST_OF_MERCHANT)), turn: Arc::new(Semaphore::new(1)) };
        let line = Arc::new(line);
        lines.insert(merchant, Arc::downgrade(&line));
        line
    }
}

impl Turn {
    /// The connections to search over.
    pub fn database(&self) -> &DatabaseConnection {
        &self.database
    }
}

fn too_many() -> ApiError {
    let message = format!("{MOST_OF_MERCHANT} searches of yours run or wait already. Send it again in a second.");
    ApiError { retry_after_secs: Some(1), ..ApiError::new(ErrorCode::RateLimited, message) }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use futures_util::poll;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Turn, ApiError>> + 'a>>;

    fn searches(patience: Duration) -> Searches {
        Searches { patience, ..Searches::new(DatabaseConnection::default()) }
    }

    #[tokio::test]
    async fn one_merchant_searches_once_at_a_time_and_four_may_wait() {
        let searches = searches(Duration::from_secs(3_600));
        let running = searches.begin(MerchantId(1)).await.unwrap();
        let mut waiting: Vec<Waiting<'_>> =
            (1..MOST_OF_MERCHANT).map(|_| Box::pin(searches.begin(MerchantId(1))) as _).collect();
        for waits in &mut waiting {
            assert!(poll!(waits.as_mut()).is_pending());
        }
        assert_eq!(searches.begin(MerchantId(1)).await.unwrap_err().code, ErrorCode::RateLimited);
        // Another merchant has the second turn, for any number of searches by the first one.
        let other = searches.begin(MerchantId(2)).await.unwrap();
        // A search that is given up makes room.
        waiting.pop();
        drop(running);
        for waits in waiting {
            drop(waits.await.unwrap());
        }
        drop(other);
        assert_eq!(searches.turns.available_permits(), 2);
        searches.begin(MerchantId(3)).await.unwrap();
        assert_eq!(searches.lines.lock().unwrap().len(), 1, "lines that nobody stands in are forgotten");
    }

    #[tokio::test]
    async fn merchants_take_turns_in_the_order_of_their_coming() {
        let searches = searches(Duration::from_secs(3_600));
        let (first, second) =
            (searches.begin(MerchantId(1)).await.unwrap(), searches.begin(MerchantId(2)).await.unwrap());
        let mut greedy: Vec<Waiting<'_>> = (0..3).map(|_| Box::pin(searches.begin(MerchantId(1))) as _).collect();
        for waits in &mut greedy {
            assert!(poll!(waits.as_mut()).is_pending());
        }
        let mut third: Waiting<'_> = Box::pin(searches.begin(MerchantId(3)));
        assert!(poll!(third.as_mut()).is_pending());
        drop(first);
        assert!(poll!(third.as_mut()).is_ready(), "those of a merchant that searches stand behind");
        assert!(poll!(greedy[0].as_mut()).is_ready(), "and its next one follows");
        drop(second);
    }

    #[tokio::test]
    async fn a_search_that_gets_no_turn_in_time_is_refused() {
        let searches = searches(Duration::ZERO);
        let turns = [searches.begin(MerchantId(1)).await.unwrap(), searches.begin(MerchantId(2)).await.unwrap()];
        assert_eq!(searches.begin(MerchantId(3)).await.unwrap_err().code, ErrorCode::ServiceUnavailable);
        drop(turns);
        assert!(searches.begin(MerchantId(3)).await.is_ok());
    }
}
