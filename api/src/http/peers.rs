//! Count of the connections of each client address, so that no address takes all of them.
//!
//! Trusted proxies speak for many clients and have no bound of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::limits::Network;

/// The connections of this process, by address. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    trusted: Vec<IpNet>,
    open: Mutex<HashMap<Network, usize>>,
}

/// One connection; its place is free when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    peers: Peers,
    network: Option<Network>,
}

impl Peers {
    /// At most so many connections of each address, except of trusted proxies.
    pub(crate) fn new(most: usize, trusted: Vec<IpNet>) -> Self {
        Self(Arc::new(Inner { most, trusted, open: Mutex::default() }))
    }

    /// A place for a connection, if its address has one left. A socket without an address is of this host's own.
    pub(super) fn enter(&self, peer: Option<IpAddr>) -> Option<Place> {
        let peer = peer.map(|peer| peer.to_canonical());
        let bounded = peer.filter(|peer| !self.0.trusted.iter().any(|network| network.contains(peer)));
        let Some(network) = bounded.map(Network::of) else {
            return Some(Place { peers: self.clone(), network: None });
        };
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.0.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { peers: self.clone(), network: Some(network) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.peers.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn an_address_holds_its_share_and_a_closed_one_makes_room() {
        let peers = Peers::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let first = peers.enter(at("203.0.113.1")).unwrap();
        let second = peers.enter(at("::ffff:203.0.113.1")).unwrap();
        assert!(peers.enter(at("203.0.113.1")).is_none(), "one address in both forms");
        assert!(peers.enter(at("203.0.113.2")).is_some());
        drop(first);
        assert!(peers.enter(at("203.0.113.1")).is_some());
        drop(second);
        let places: Vec<_> = (0..2).map(|number| peers.enter(at(&format!("2001:db8::{number}"))).unwrap()).collect();
        assert!(peers.enter(at("2001:db8::9")).is_none(), "a /64 is one client");
        assert!(peers.enter(at("2001:db8:0:1::9")).is_some());
        drop(places);
        assert!(peers.0.open.lock().unwrap().is_empty());
        let proxied: Vec<_> = (0..5).filter_map(|_| peers.enter(at("10.0.0.1"))).collect();
        assert_eq!(proxied.len(), 5, "a trusted proxy speaks for many");
        assert!(peers.enter(None).is_some());
    }
}
