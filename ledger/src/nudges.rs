//! What the caller tells the queue after its transaction has committed. Losing one costs a moment, never an event.

use std::collections::BTreeSet;

use cryptopay_domain::ids::EndpointId;

/// The owner of a queue of deliveries: an endpoint, and for the scope `order` the origin too (empty otherwise).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Endpoint.
    pub endpoint: EndpointId,
    /// Scheme, host and port for deliveries to an order's own url; empty for a registered endpoint.
    pub origin: String,
}

/// Work that a committed transaction has left for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "nudges are sent after commit; without them the work waits for the sweep"]
pub struct Nudges {
    /// Chains that have become worth scanning.
    pub chains: BTreeSet<String>,
    /// Endpoints with something to deliver.
    pub deliveries: BTreeSet<DeliveryKey>,
    /// Whether there are events to number and publish.
    pub events: bool,
}

impl Nudges {
    /// Adds another transaction's nudges.
    pub fn merge(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.deliveries.extend(other.deliveries);
        self.events |= other.events;
    }
}
