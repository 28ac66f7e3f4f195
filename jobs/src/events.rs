//! The bus on which processes hear that events have been numbered. It carries the last sequence only: whoever hears it
//! reads the events from the database, and whoever misses it reads them a second later.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

/// A handle to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<i64>,
    /// What this process has numbered, for whoever tells other processes.
    numbered: Arc<watch::Sender<i64>>,
}

/// Messages that a slow listener may be behind; it re-reads by sequence anyway.
const CAPACITY: usize = 64;

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(CAPACITY).0, numbered: Arc::new(watch::channel(0).0) }
    }
}

impl Events {
    /// A bus inside this process. Where the queue is shared, [`Workers`](crate::Workers) connects it to those of the others.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// Says that events up to `sequence` are numbered. Nobody listening is fine.
    pub fn publish(&self, sequence: i64) {
        self.hear(sequence);
        self.numbered.send_replace(sequence);
    }

    /// Passes on what another process has said.
    pub(crate) fn hear(&self, sequence: i64) {
        let _ = self.sender.send(sequence);
    }

    /// Follows what this process has numbered; only the newest counts.
    pub(crate) fn numbered(&self) -> watch::Receiver<i64> {
        self.numbered.subscribe()
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Listener {
        Listener { receiver: self.sender.subscribe() }
    }
}

/// One listener on the bus.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<i64>,
}

impl Listener {
    /// Waits until something was published; `false` once the bus is gone. Having missed messages counts as one.
    pub async fn changed(&mut self) -> bool {
        !matches!(self.receiver.recv().await, Err(broadcast::error::RecvError::Closed))
    }
}
