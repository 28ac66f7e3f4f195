//! How many streams a merchant holds open: sockets and server-sent events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cryptopay_domain::ids::MerchantId;

/// Most open streams of one merchant in this process. A process is meant to carry 10,000; the rest is for clients that
/// come again before their old connection is known to be gone.
pub(super) const MAX_PER_MERCHANT: usize = 12_000;

/// The open streams of this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<HashMap<MerchantId, usize>>>);

/// One open stream; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    connections: Connections,
    merchant: MerchantId,
}

impl Connections {
    /// Room for one more stream of a merchant, if there is some.
    pub(super) fn enter(&self, merchant: MerchantId, most: usize) -> Option<Permit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(merchant).or_default();
        if *count >= most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Permit { connections: self.clone(), merchant })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.merchant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.merchant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merchant_gets_no_more_streams_than_allowed_and_a_closed_one_makes_room() {
        let connections = Connections::default();
        let first = connections.enter(MerchantId(1), 2).unwrap();
        let second = connections.enter(MerchantId(1), 2);
        assert!(second.is_some() && connections.enter(MerchantId(1), 2).is_none());
        assert!(connections.enter(MerchantId(2), 2).is_some());
        drop(first);
        assert!(connections.enter(MerchantId(1), 2).is_some());
        drop(second);
        assert!(connections.0.lock().unwrap().is_empty());
    }
}
