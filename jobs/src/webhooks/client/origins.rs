//! Who may keep connections open between requests.
//!
//! The HTTP pool bounds idle connections per host, not in all, and merchants can name any number of hosts. So only a
//! fixed number of origins at a time uses the pool; everybody else pays for a new connection per request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The origins whose connections are kept.
#[derive(Debug)]
pub(super) struct KeptOrigins {
    seats: Mutex<HashMap<String, Seat>>,
    most: usize,
    linger: Duration,
}

#[derive(Debug)]
struct Seat {
    in_flight: usize,
    last_used: Instant,
}

/// Keeps its origin seated until it is dropped.
#[derive(Debug)]
pub(super) struct Seated<'a> {
    origins: &'a KeptOrigins,
    origin: &'a str,
}

impl KeptOrigins {
    /// At most `most` origins. `linger` is how long after its last request an origin may still have connections open.
    pub(super) fn new(most: usize, linger: Duration) -> Self {
        Self { seats: Mutex::default(), most, linger }
    }

    /// A seat for a request to `origin`, or `None` where all are taken: its connection must not be kept.
    pub(super) fn enter<'a>(&'a self, origin: &'a str, now: Instant) -> Option<Seated<'a>> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.get_mut(origin) {
            seat.in_flight += 1;
            return Some(Seated { origins: self, origin });
        }
        if seats.len() >= self.most {
            seats.retain(|_, seat| seat.in_flight > 0 || now.duration_since(seat.last_used) < self.linger);
        }
        if seats.len() >= self.most {
            return None;
        }
        seats.insert(origin.to_owned(), Seat { in_flight: 1, last_used: now });
        Some(Seated { origins: self, origin })
    }
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        let mut seats = self.origins.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.get_mut(self.origin) {
            seat.in_flight = seat.in_flight.saturating_sub(1);
            seat.last_used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(60);

    #[test]
    fn a_seat_is_given_on_only_when_its_connections_are_gone() {
        let origins = KeptOrigins::new(1, LINGER);
        let now = Instant::now();
        let first = origins.enter("http://a:80", now).unwrap();
        assert!(origins.enter("http://a:80", now).is_some(), "the same origin shares its seat");
        assert!(origins.enter("http://b:80", now + 2 * LINGER).is_none(), "in flight");
        drop(first);
        assert!(origins.enter("http://b:80", now).is_none(), "idle connections may still be open");
        let second = origins.enter("http://b:80", now + 2 * LINGER);
        assert!(second.is_some());
        assert!(origins.enter("http://a:80", now + 2 * LINGER).is_none());
    }
}
