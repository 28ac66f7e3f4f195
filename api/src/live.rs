//! Events as they are numbered, for everything that is pushed: one read of the database per event and process, however
//! many sockets wait for it.
//!
//! A lost message on the bus is a delay of at most a second: the tailer also looks by itself. A subscriber that falls
//! behind re-reads by sequence; it never skips.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cryptopay_entity::{event, event_counter};
use cryptopay_jobs::{Events, keep_running};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Events that a slow subscriber may be behind before it re-reads from the database.
const CAPACITY: usize = 1_024;
/// How often the tailer looks when the bus is silent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long passing on what is new may take before the database is asked again; a connection that hangs is thrown away.
const FORWARD_WITHIN: Duration = Duration::from_secs(5);
/// Events read at once.
const BATCH: u64 = 500;

/// A handle to the stream of events of this process.
#[derive(Debug, Clone)]
pub struct Live {
    sender: broadcast::Sender<Arc<event::Model>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { sender: broadcast::channel(CAPACITY).0 }
    }
}

impl Live {
    /// Listens from now on. To miss nothing, listen first and read what came before second.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<event::Model>> {
        self.sender.subscribe()
    }

    /// Follows the events that are numbered from now on, until `stop`.
    pub async fn run(self, database: DatabaseConnection, events: Events, stop: CancellationToken) {
        loop {
            match event_counter::Entity::peek(&database).await {
                Ok(newest) => return self.follow(newest, database, events, stop).await,
                Err(error) => tracing::warn!(%error, "live events wait for the database"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Follows the events numbered after `last`, until `stop`. Whoever subscribes later than `last` was read hears of every
    /// event that is numbered after that. Should it break off, it goes on behind the last one that was passed on.
    pub async fn follow(self, last: i64, database: DatabaseConnection, events: Events, stop: CancellationToken) {
        let last = AtomicI64::new(last);
        keep_running("live_events", stop, || self.pass_on(&last, &database, &events)).await;
    }

    async fn pass_on(&self, last: &AtomicI64, database: &DatabaseConnection, events: &Events) {
        let mut bus = events.subscribe();
        let mut waits = false;
        loop {
            // A database that vanished without a word answers nothing, and refuses nothing.
            let passed = timeout(FORWARD_WITHIN, self.forward(database, last)).await;
            match passed.unwrap_or_else(|_| Err(DbErr::Custom("it does not answer".to_owned()))) {
                Ok(()) if waits => {
                    waits = false;
                    tracing::info!("live events go on");
                }
                Err(error) if !waits => {
                    waits = true;
                    tracing::warn!(%error, "live events wait for the database");
                }
                Ok(()) | Err(_) => {}
            }
            let _ = timeout(LOOK_EVERY, bus.changed()).await;
        }
    }

    async fn forward(&self, database: &DatabaseConnection, last: &AtomicI64) -> Result<(), DbErr> {
        loop {
            let events = event::Entity::tail(database, last.load(Ordering::Relaxed), BATCH).await?;
            let Some(newest) = events.last().and_then(|event| event.sequence) else { return Ok(()) };
            for event in events {
                // Nobody listening is fine.
                let _ = self.sender.send(Arc::new(event));
            }
            last.store(newest, Ordering::Relaxed);
        }
    }
}
