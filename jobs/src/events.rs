//! The bus on which processes hear that events have been numbered. It carries the last sequence only: whoever hears it
//! reads the events from the database, and whoever misses it reads them a second later.

use tokio::sync::broadcast;

/// A handle to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<i64>,
}

/// Messages that a slow listener may be behind; it re-reads by sequence anyway.
const CAPACITY: usize = 64;

impl Events {
    /// A bus inside this process.
    pub fn embedded() -> Self {
        Self { sender: broadcast::channel(CAPACITY).0 }
    }

    /// Says that events up to `sequence` are numbered. Nobody listening is fine.
    pub fn publish(&self, sequence: i64) {
        let _ = self.sender.send(sequence);
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
