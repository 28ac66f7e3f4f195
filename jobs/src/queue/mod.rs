//! Who should do what next. A queue holds keys only (a chain, an endpoint): losing one costs a moment, because the sweep
//! finds in the database whatever was not nudged.

mod keyed;

use std::time::Duration;

use cryptopay_ledger::{DeliveryKey, Nudges};
use std::sync::Arc;
use tokio::sync::Notify;

pub use keyed::{KeyedQueue, Taken};

/// The queues of the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub(crate) scans: KeyedQueue<String>,
    pub(crate) confirmations: KeyedQueue<String>,
    pub(crate) deliveries: KeyedQueue<DeliveryKey>,
    pub(crate) unpublished: Arc<Notify>,
}

impl Queue {
    /// Queues inside this process, for one process that does everything.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// Passes on what a committed transaction has left to do. Never waits.
    pub fn nudge(&self, nudges: Nudges) {
        if nudges.events {
            self.unpublished.notify_one();
        }
        for chain in nudges.chains {
            self.scans.push(chain);
        }
        for key in nudges.deliveries {
            self.deliveries.push(key);
        }
    }

    /// How many keys wait for each job, those that are due later included.
    pub(crate) async fn lengths(&self) -> [(&'static str, usize); 3] {
        [
            ("scan_chain", self.scans.len()),
            ("confirm_payments", self.confirmations.len()),
            ("deliver_webhooks", self.deliveries.len()),
        ]
    }

    /// Asks for a look at a chain now.
    pub fn scan(&self, chain: &str) {
        self.scans.push(chain.to_owned());
    }

    /// Asks for a look at a chain after `delay`.
    pub(crate) fn scan_after(&self, chain: &str, delay: Duration) {
        self.scans.push_after(chain.to_owned(), delay);
    }
}
