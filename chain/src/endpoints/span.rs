//! How much one endpoint is asked for at once: blocks in a range, and ranges at the same time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Blocks that a range begins with.
const FIRST_BLOCKS: u64 = 200;
/// Most blocks in one range.
const MAX_BLOCKS: u64 = 2_000;
/// Most ranges that are read at the same time.
const MAX_AHEAD: usize = 8;

/// Ranges as wide as an endpoint's stated limit that it has to answer before a slightly wider one is tried: the limit may
/// have been a misread message, or of an hour in which much was asked.
const AT_LIMIT: u64 = 256;

/// Adapted to what the endpoint answers: halved when it refuses, grown slowly while it does not.
#[derive(Debug)]
pub struct Span {
    blocks: AtomicU64,
    /// What the endpoint has said to be its limit, or [`MAX_BLOCKS`].
    most: AtomicU64,
    /// Ranges as wide as that which it has answered.
    at_most: AtomicU64,
    ahead: AtomicUsize,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            blocks: AtomicU64::new(FIRST_BLOCKS),
            most: AtomicU64::new(MAX_BLOCKS),
            at_most: AtomicU64::new(0),
            ahead: AtomicUsize::new(1),
        }
    }
}

impl Span {
    /// Blocks in a range.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Ranges at the same time.
    pub fn ahead(&self) -> usize {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The endpoint has refused a range; `limit` is what it says that it takes.
    pub fn shrink(&self, limit: Option<u64>) {
        let halved = (self.blocks() / 2).max(1);
        if let Some(limit) = limit {
            self.most.fetch_min(limit.max(1), Ordering::Relaxed);
            self.at_most.store(0, Ordering::Relaxed);
        }
        self.blocks.store(limit.map_or(halved, |limit| limit.clamp(1, halved)), Ordering::Relaxed);
        self.ahead.store(1, Ordering::Relaxed);
    }

    /// The endpoint has answered a range.
    pub fn grow(&self) {
        let blocks = self.blocks();
        let wider = |blocks: u64| blocks.saturating_add(blocks / 8 + 1);
        let most = self.most.load(Ordering::Relaxed);
        if blocks >= most && self.at_most.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= AT_LIMIT {
            self.at_most.store(0, Ordering::Relaxed);
            self.most.store(wider(most).min(MAX_BLOCKS), Ordering::Relaxed);
        }
        let grown = wider(blocks).min(self.most.load(Ordering::Relaxed));
        self.blocks.store(grown, Ordering::Relaxed);
        self.ahead.store(self.ahead().saturating_add(1).min(MAX_AHEAD), Ordering::Relaxed);
    }

    /// The endpoint asks for fewer requests.
    pub fn ease(&self) {
        self.ahead.store((self.ahead() / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_halve_and_grow_back_to_what_the_endpoint_takes() {
        let span = Span::default();
        span.shrink(None);
        assert_eq!(span.blocks(), FIRST_BLOCKS / 2);
        span.shrink(Some(10));
        assert_eq!(span.blocks(), 10);
        (0..100).for_each(|_| span.grow());
        assert_eq!(span.blocks(), 10, "its own limit is not tried again soon");
        (0..20).for_each(|_| span.shrink(None));
        assert_eq!((span.blocks(), span.ahead()), (1, 1));
    }

    #[test]
    fn a_limit_that_an_endpoint_once_stated_is_outgrown_slowly() {
        let span = Span::default();
        span.shrink(Some(1));
        (0..AT_LIMIT).for_each(|_| span.grow());
        assert_eq!(span.blocks(), 2);
        // It was meant: one range in as many is asked for in vain.
        span.shrink(Some(1));
        assert_eq!(span.blocks(), 1);
        (1..AT_LIMIT).for_each(|_| span.grow());
        assert_eq!(span.blocks(), 1);
        (0..AT_LIMIT * 40).for_each(|_| span.grow());
        assert!(span.blocks() > 100, "{}", span.blocks());
        (0..AT_LIMIT * 100).for_each(|_| span.grow());
        assert_eq!(span.blocks(), MAX_BLOCKS);
    }

    #[test]
    fn ranges_at_the_same_time_are_bounded_and_fewer_after_too_many_requests() {
        let span = Span::default();
        (0..50).for_each(|_| span.grow());
        assert_eq!((span.blocks(), span.ahead()), (MAX_BLOCKS, MAX_AHEAD));
        span.ease();
        assert_eq!((span.blocks(), span.ahead()), (MAX_BLOCKS, MAX_AHEAD / 2));
    }
}
