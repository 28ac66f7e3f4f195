//! The status of an order as server-sent events: first what is, then each event of the order as it is numbered, and the
//! confirmations as they grow in between.
//!
//! The id of a message is the sequence of the event that it tells of. A browser that was cut off sends it back as
//! `Last-Event-ID` and gets every event since. Nothing is lost between reading and listening: a stream listens first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::order::{OrderSnapshot, OrderStatus};
use cryptopay_entity::event;
use futures_util::stream;
use poem::web::sse::{Event, SSE};
use poem_openapi::types::ToJSON;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::PaymentPageStatus;
use crate::app::App;
use crate::error::ApiError;
use crate::operations::payment_page::{self, Checkout, PaymentStatus};

/// How often the verified height is looked at while confirmations are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// Of those looks, how many are left out while nothing is counted: then only the end of the order's windows is looked for.
const IDLE_TICKS: u32 = 15;
/// Proxies close connections on which nothing is said for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a browser that was cut off comes back, in milliseconds.
const RETRY_MS: u64 = 2_000;
/// Most streams of a process: each holds a socket and a place among the listeners.
static STREAMS: Semaphore = Semaphore::const_new(10_000);

/// The stream of an order; `None` for a client that has seen everything and nothing can happen any more.
///
/// # Errors
/// `NOT_FOUND`; `SERVICE_UNAVAILABLE` with too many streams.
pub(super) async fn follow(
    app: &App,
    order_id: &str,
    last_seen: Option<i64>,
    stop: CancellationToken,
) -> Result<Option<SSE>, ApiError> {
    let permit = STREAMS.try_acquire().map_err(ApiError::unavailable)?;
    let receiver = app.live.subscribe();
    let mut checkout = payment_page::find(app, order_id).await?;
    let newest = payment_page::last_sequence(app.database(), checkout.order.id).await?;
    let since = last_seen.filter(|seen| (0..newest).contains(seen));
    let missed = match since {
        Some(since) => payment_page::history_after(app.database(), checkout.order.id, since).await?,
        None => Vec::new(),
    };
    // Read last: it is as new as the events at least.
    checkout.reload(app.database()).await?;
    let (now, verified) = checkout.now(app.database()).await?;
    let over = checkout.is_over(verified);
    if over && last_seen.is_some_and(|seen| seen >= newest) {
        return Ok(None);
    }
    let mut ticks = interval_at(Instant::now() + COUNT_EVERY, COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower {
        app: app.clone(),
        sequence: newest,
        told: now.shown.clone(),
        last: None,
        ready: VecDeque::from([Event::retry(RETRY_MS)]),
        behind: false,
        over,
        idle: 0,
        checkout,
        receiver,
        ticks,
        stop,
        _permit: permit,
    };
    for (sequence, snapshot) in missed {
        let status = follower.checkout.status(&snapshot, verified);
        follower.sequence = follower.sequence.max(sequence);
        follower.say(sequence, status);
    }
    // What came after the missed events, or everything for a client that is new.
    if follower.last.as_ref() != Some(&now) {
        follower.say(follower.sequence, now);
    }
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    });
    Ok(Some(SSE::new(events).keep_alive(KEEP_ALIVE)))
}

struct Follower {
    app: App,
    checkout: Checkout,
    receiver: broadcast::Receiver<Arc<event::Model>>,
    ticks: Interval,
    stop: CancellationToken,
    /// Of the newest event that was told of.
    sequence: i64,
    /// What that event told.
    told: OrderSnapshot,
    /// What was said last.
    last: Option<PaymentStatus>,
    /// To be said.
    ready: VecDeque<Event>,
    /// Events were missed and have to be read from the database.
    behind: bool,
    /// Nothing can happen any more.
    over: bool,
    /// Ticks since the last look at the chain.
    idle: u32,
    _permit: SemaphorePermit<'static>,
}

impl Follower {
    /// The next thing to say; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let stop = self.stop.clone();
            let outcome = tokio::select! {
                () = stop.cancelled() => return None,
                received = self.receiver.recv() => match received {
                    Ok(event) => self.hear(&event).await,
                    Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => return None,
                },
                _ = self.ticks.tick() => self.look().await,
            };
            if let Err(error) = outcome {
                // The database is away: the next tick reads what was missed.
                tracing::debug!(%error, "a payment page's stream waits");
                self.behind = true;
            }
        }
    }

    async fn hear(&mut self, event: &event::Model) -> Result<(), ApiError> {
        let ours = event.order_id == Some(self.checkout.order.id);
        if !ours || event.sequence.is_none_or(|sequence| sequence <= self.sequence) {
            return Ok(());
        }
        if self.behind {
            return self.catch_up().await;
        }
        let Some((sequence, snapshot)) = payment_page::told_by(event) else { return Ok(()) };
        self.checkout.reload(self.app.database()).await?;
        self.tell(sequence, snapshot).await
    }

    async fn catch_up(&mut self) -> Result<(), ApiError> {
        self.behind = true;
        self.checkout.reload(self.app.database()).await?;
        let missed = payment_page::history_after(self.app.database(), self.checkout.order.id, self.sequence).await?;
        for (sequence, snapshot) in missed {
            self.tell(sequence, snapshot).await?;
        }
        self.behind = false;
        Ok(())
    }

    async fn tell(&mut self, sequence: i64, snapshot: OrderSnapshot) -> Result<(), ApiError> {
        let verified = self.checkout.verified(self.app.database()).await?;
        let status = self.checkout.status(&snapshot, verified);
        self.sequence = sequence;
        self.told = snapshot;
        self.say(sequence, status);
        Ok(())
    }

    /// Looks how far the chain is verified, where that can change what is shown.
    async fn look(&mut self) -> Result<(), ApiError> {
        if self.behind {
            self.catch_up().await?;
        }
        self.idle = self.idle.saturating_add(1);
        if !self.is_counting() && self.idle < IDLE_TICKS {
            return Ok(());
        }
        self.idle = 0;
        let verified = self.checkout.verified(self.app.database()).await?;
        let status = self.checkout.status(&self.told, verified);
        if self.last.as_ref() != Some(&status) {
            self.say(self.sequence, status);
        }
        self.over = self.checkout.is_over(verified);
        Ok(())
    }

    /// Whether confirmations are of interest: until the payment is confirmed.
    fn is_counting(&self) -> bool {
        let deep = self.last.as_ref().is_some_and(|last| {
            last.shown.confirmations >= u64::from(last.shown.required_confirmations)
                && last.shown.status == OrderStatus::Confirmed
        });
        self.told.transfer.is_some() && !deep
    }

    fn say(&mut self, sequence: i64, status: PaymentStatus) {
        let data = PaymentPageStatus::new(&status).to_json_string();
        self.ready.push_back(Event::message(data).id(sequence.to_string()));
        self.last = Some(status);
    }
}
