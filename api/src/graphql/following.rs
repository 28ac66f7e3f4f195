//! One order's events, from a sequence on, without gap or duplicate.
//!
//! Listening begins before the database is read, so an event is in what was read or is heard, or both; the sequence says
//! which were handled. Sequences have no gaps, so a hole in what is heard is seen at once, and read from the database,
//! as is everything after falling behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::ids::{MerchantId, OrderId};
use cryptopay_entity::{event, event_counter};
use sea_orm::DbErr;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::failure::Failure;
use crate::app::App;
use crate::error::ApiError;

/// Events read at once.
const BATCH: u64 = 100;
/// Between two tries while the database is away. A second more delay is what the tailer has too.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A stream of one order's events.
pub(super) struct Following {
    app: App,
    merchant: MerchantId,
    order: OrderId,
    live: broadcast::Receiver<Arc<event::Model>>,
    /// Every event up to here was handed out, or is none of this order.
    seen: i64,
    /// Whether there is more in the database than was heard.
    behind: bool,
    ready: VecDeque<Arc<event::Model>>,
}

impl Following {
    /// From `after` on, or from now. `live` was subscribed to before anything about the order was read.
    ///
    /// # Errors
    /// `after` lies ahead of everything, or what follows it is no longer kept.
    pub(super) async fn begin(
        app: &App,
        live: broadcast::Receiver<Arc<event::Model>>,
        (merchant, order): (MerchantId, OrderId),
        after: Option<i64>,
    ) -> Result<Self, Failure> {
        let newest = event_counter::Entity::peek(app.database()).await?;
        if let Some(after) = after {
            if after > newest {
                let problem = format!("There is no event {after} yet; the newest is {newest}. Query eventCursor.");
                return Err(Failure::argument("after", problem));
            }
            // Without any event, the next one is the oldest.
            let oldest = event::Entity::oldest_sequence(app.database()).await?.unwrap_or(newest.saturating_add(1));
            if after.saturating_add(1) < oldest {
                return Err(Failure::sequence_gone(oldest));
            }
        }
        Ok(Self {
            app: app.clone(),
            merchant,
            order,
            live,
            seen: after.unwrap_or(newest),
            behind: after.is_some_and(|after| after < newest),
            ready: VecDeque::new(),
        })
    }

    /// The next event and its sequence; `None` when the process stops.
    pub(super) async fn next(&mut self) -> Option<(Arc<event::Model>, i64)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                let sequence = event.sequence.unwrap_or_default();
                return Some((event, sequence));
            }
            if self.behind {
                if let Err(error) = self.catch_up().await {
                    // Heard once for all by the tailer's log; here it would be said as often as there are sockets.
                    tracing::debug!(%error, "a subscription waits for the database");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                continue;
            }
            match self.live.recv().await {
                Ok(event) => self.hear(event),
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn hear(&mut self, event: Arc<event::Model>) {
        let Some(sequence) = event.sequence else {
            // Never: only numbered events are told. Should it be, the database knows the number.
            let _ = ApiError::internal("an event without sequence was told");
            return;
        };
        if sequence > self.seen.saturating_add(1) {
            self.behind = true;
        } else if sequence > self.seen {
            self.seen = sequence;
            if event.order_id == Some(self.order) && event.merchant_id == self.merchant {
                self.ready.push_back(event);
            }
        }
    }

    /// Reads what follows, a batch at a time, so that a reader far behind holds little.
    async fn catch_up(&mut self) -> Result<(), DbErr> {
        let database = self.app.database();
        // Read first: whatever has a number up to here is visible to the read below.
        let newest = event_counter::Entity::peek(database).await?;
        let events = event::Entity::of_owned_order_after(database, self.merchant, self.order, self.seen, BATCH).await?;
        let is_all = u64::try_from(events.len()).unwrap_or(u64::MAX) < BATCH;
        let last = events.last().and_then(|event| event.sequence).unwrap_or(self.seen);
        self.seen = if is_all { last.max(newest) } else { last };
        self.behind = !is_all;
        self.ready.extend(events.into_iter().map(Arc::new));
        Ok(())
    }
}
