//! What is remembered of one endpoint: how fast and how far it is, what went wrong, and how long it is left alone.
//!
//! Time and chance are passed in: nothing here waits or looks at a clock.

use std::time::{Duration, Instant};

use cryptopay_domain::address::Hash;

use crate::ChainError;

/// First rest after a failure; doubles with each further one in a row.
const FIRST_REST: Duration = Duration::from_millis(250);
/// Longest rest after failures: a node that is back is found within this time.
const MAX_REST: Duration = Duration::from_secs(4);
/// First rest of an endpoint that asks for fewer requests and does not say for how long.
const FIRST_RATE_REST: Duration = Duration::from_secs(1);
const MAX_RATE_REST: Duration = Duration::from_secs(60);
/// Longest rest of a sole endpoint that does not ask for a longer one, a quarter less or more: with what a look takes, a
/// node that is back is found within 5 s whatever was wrong with it.
const MAX_SOLE_REST: Duration = Duration::from_secs(3);
/// Failures in a row up to which an endpoint is thought to be between two attempts, and not away: the rests between so many
/// take about two seconds.
const FEW_FAILURES: u32 = 3;
/// First quarantine for a lie; four times as long for each further one.
const FIRST_QUARANTINE: Duration = Duration::from_secs(5);
const MAX_QUARANTINE: Duration = Duration::from_secs(3_600);
/// How often an endpoint of another chain is asked again who it is.
const FOREIGN_QUARANTINE: Duration = Duration::from_secs(15);
/// After so long without a lie the last one is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// Why an endpoint is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It failed.
    BackOff,
    /// It said how long it wants to be left alone.
    Asked,
    /// It said something untrue.
    Lied,
    /// It is of another chain.
    Foreign,
}

/// Memory of one endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Whether nobody else could answer.
    is_sole: bool,
    /// Moving average.
    latency: Option<Duration>,
    /// Failures in a row.
    failures: u32,
    lies: u32,
    last_lie: Option<Instant>,
    rest: Option<(Instant, Rest)>,
    /// What was wrong the last time, in words without secrets.
    problem: Option<String>,
    /// Newest block that it has shown.
    head: Option<u64>,
    /// When it was last asked for that.
    asked: Option<Instant>,
    /// A block whose header did not hash to its own name, and that nobody else could be asked about.
    unverified: Option<(u64, Hash)>,
}

impl Standing {
    /// Of an endpoint beside which there is no other.
    pub(crate) fn of_sole() -> Self {
        Self { is_sole: true, ..Self::default() }
    }

    /// Does as if this much time had passed.
    pub(crate) fn pass(&mut self, time: Duration) {
        let earlier = |at: Instant| at.checked_sub(time);
        self.rest = self.rest.and_then(|(until, rest)| Some((earlier(until)?, rest)));
        self.last_lie = self.last_lie.and_then(earlier);
        self.asked = self.asked.and_then(earlier);
    }

    /// Whether it may be asked at all.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.rest.is_none_or(|(until, _)| until <= now)
    }

    /// When it may be asked again, where it may not now.
    pub(crate) fn usable_at(&self) -> Option<Instant> {
        self.rest.map(|(until, _)| until)
    }

    /// Why it is left alone now, if it is.
    pub(crate) fn resting(&self, now: Instant) -> Option<Rest> {
        self.rest.filter(|(until, _)| *until > now).map(|(_, rest)| rest)
    }

    /// Whether it may be asked now, or in a moment: it only rests after a failure or two.
    pub(crate) fn is_near(&self, now: Instant) -> bool {
        match self.resting(now) {
            None => true,
            Some(Rest::BackOff) => self.failures <= FEW_FAILURES,
            Some(Rest::Asked | Rest::Lied | Rest::Foreign) => false,
        }
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(crate) fn head(&self) -> Option<u64> {
        self.head
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Whether it was not asked for its newest block for this long.
    pub(crate) fn is_unasked(&self, now: Instant, since: Duration) -> bool {
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= since)
    }

    /// Lower is better, in milliseconds of expected delay: what it takes to answer, and what its faults have cost.
    /// `freshest` is the newest block that any endpoint of the chain has shown.
    pub(crate) fn cost(&self, freshest: u64) -> u64 {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lag = self.head.map_or(0, |head| freshest.saturating_sub(head));
        // One block behind is nothing but the moment of asking.
        let lag = lag.saturating_sub(1).min(100);
        self.latency
            .map_or(0, millis)
            .saturating_add(u64::from(self.failures.min(10)).saturating_mul(1_000))
            .saturating_add(u64::from(self.lies.min(10)).saturating_mul(10_000))
            .saturating_add(lag.saturating_mul(2_000))
    }

    /// It gave a usable answer.
    pub(crate) fn answered(&mut self, now: Instant, took: Duration) {
        self.latency = Some(match self.latency {
            Some(average) => average.saturating_mul(7).saturating_add(took) / 8,
            None => took,
        });
        self.failures = 0;
        if self.rest.is_some_and(|(until, _)| until <= now) {
            self.rest = None;
        }
        if self.lies > 0 && self.last_lie.is_none_or(|lie| now.saturating_duration_since(lie) >= FORGIVEN_AFTER) {
            self.lies = self.lies.saturating_sub(1);
            self.last_lie = Some(now);
        }
        if self.lies == 0 {
            self.problem = None;
        }
    }

    /// It showed its newest block, or was asked for it in vain.
    pub(crate) fn showed(&mut self, now: Instant, head: Option<u64>) {
        self.asked = Some(now);
        if head.is_some() {
            self.head = head;
        }
    }

    /// Remembers a block whose header could not be verified; gives the one that was remembered.
    pub(crate) fn note_unverified(&mut self, number: u64, stated: Hash) -> Option<(u64, Hash)> {
        self.unverified.replace((number, stated))
    }

    /// The last failure was none of its own: it may be asked again at once.
    pub(crate) fn forgive_failure(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        self.rest = self.rest.filter(|(_, rest)| *rest != Rest::BackOff);
    }

    /// It gave no usable answer. `chance` (0 to 255) spreads the waiting of many.
    pub(crate) fn failed(&mut self, now: Instant, error: &ChainError, chance: u8) {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(1).min(16);
        let (rest, wait) = match error {
            ChainError::WrongChain { .. } => (Rest::Foreign, FOREIGN_QUARANTINE),
            error if error.is_lie() => {
                self.lies = self.lies.saturating_add(1);
                self.last_lie = Some(now);
                let times = 4_u32.saturating_pow(self.lies.saturating_sub(1).min(15));
                (Rest::Lied, FIRST_QUARANTINE.saturating_mul(times).min(MAX_QUARANTINE))
            }
            // What is asked of us is kept to the second. A fault of the only one is another matter: whoever stands before it
            // cannot know when it is back.
            error
                if error.retry_after().is_some()
                    && !(self.is_sole && matches!(error, ChainError::Unavailable { .. })) =>
            {
                self.rest_until(now, error.retry_after().unwrap_or_default(), Rest::Asked);
                self.problem = Some(error.to_string());
                return;
            }
            ChainError::RateLimited { .. } | ChainError::QuotaUsed => {
                (Rest::BackOff, FIRST_RATE_REST.saturating_mul(1 << doublings).min(MAX_RATE_REST))
            }
            _ => (Rest::BackOff, FIRST_REST.saturating_mul(1 << doublings).min(MAX_REST)),
        };
        let wait = if self.is_sole { wait.min(MAX_SOLE_REST) } else { wait };
        // Between three quarters and five quarters of it.
        let spread = wait.saturating_mul(u32::from(chance)) / 510;
        self.rest_until(now, wait.saturating_mul(3) / 4 + spread, rest);
        self.problem = Some(error.to_string());
    }

    /// Another rest never shortens one that is under way.
    fn rest_until(&mut self, now: Instant, wait: Duration, rest: Rest) {
        let until = now.checked_add(wait).unwrap_or(now);
        if self.rest.is_none_or(|(known, _)| known < until) {
            self.rest = Some((until, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lie() -> ChainError {
        ChainError::Untrue { method: "eth_getLogs", what: "a log of another block".into() }
    }

    fn away() -> ChainError {
        ChainError::Unreachable("connection refused".into())
    }

    #[test]
    fn rests_grow_and_are_bounded_so_that_a_node_that_is_back_is_found_within_five_seconds() {
        let now = Instant::now();
        let mut standing = Standing::default();
        let mut last = Duration::ZERO;
        for failure in 0..40_u8 {
            standing.rest = None;
            standing.failed(now, &away(), failure.wrapping_mul(7));
            let rest = standing.usable_at().unwrap().saturating_duration_since(now);
            assert!(rest <= Duration::from_secs(5) && (failure > 8 || rest.saturating_mul(2) > last), "{rest:?}");
            last = rest;
        }
        standing.answered(now + Duration::from_secs(5), Duration::from_millis(80));
        assert!(standing.is_usable(now + Duration::from_secs(5)) && standing.problem().is_none());
    }

    #[test]
    fn a_sole_endpoint_rests_longer_each_time_but_is_found_within_five_seconds_whatever_was_wrong_with_it() {
        let now = Instant::now();
        let errors: [fn() -> ChainError; 4] = [
            away,
            lie,
            || ChainError::RateLimited { retry_after: None },
            || ChainError::WrongChain { expected: 1, found: 2 },
        ];
        for error in errors {
            let mut standing = Standing::of_sole();
            let mut rests = Vec::new();
            for _ in 0..20 {
                standing.rest = None;
                standing.failed(now, &error(), 128);
                rests.push(standing.usable_at().unwrap() - now);
            }
            assert!(rests.is_sorted() && rests[0] > Duration::ZERO && rests[19] < Duration::from_secs(4), "{rests:?}");
            standing.failed(now, &error(), 255);
            assert!(standing.is_usable(now + Duration::from_secs(4)));
            standing.failed(now, &ChainError::RateLimited { retry_after: Some(Duration::from_secs(60)) }, 255);
            assert!(!standing.is_usable(now + Duration::from_secs(59)), "it asked for that");
            standing.pass(Duration::from_secs(60));
            assert!(standing.is_usable(now));
        }
    }

    #[test]
    fn a_liar_is_left_alone_longer_each_time_and_forgiven_slowly() {
        let mut now = Instant::now();
        let mut standing = Standing::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            standing.failed(now, &lie(), 128);
            assert_eq!(standing.resting(now), Some(Rest::Lied));
            let until = standing.usable_at().unwrap();
            waits.push(until - now);
            now = until;
            standing.answered(now, Duration::from_millis(10));
        }
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!(waits[0] < Duration::from_secs(7) && waits[7] > Duration::from_secs(3_000), "{waits:?}");
        for _ in 0..8 {
            assert!(standing.cost(0) >= 10_000 && standing.problem().is_some());
            now += FORGIVEN_AFTER;
            standing.answered(now, Duration::from_millis(10));
        }
        assert!(standing.cost(0) < 10_000 && standing.problem().is_none());
    }

    #[test]
    fn what_an_endpoint_asks_for_is_kept_and_not_shortened_by_another_failure() {
        let now = Instant::now();
        let mut standing = Standing::default();
        standing.failed(now, &ChainError::RateLimited { retry_after: Some(Duration::from_secs(90)) }, 0);
        standing.failed(now, &away(), 0);
        assert!(
            !standing.is_usable(now + Duration::from_secs(89)) && standing.is_usable(now + Duration::from_secs(90))
        );
    }

    #[test]
    fn a_fault_that_names_an_hour_does_not_blind_a_chain_with_one_endpoint() {
        let now = Instant::now();
        let fault = ChainError::Unavailable { status: 503, retry_after: Some(Duration::from_secs(3_600)) };
        let mut sole = Standing::of_sole();
        for _ in 0..20 {
            sole.rest = None;
            sole.failed(now, &fault, 255);
        }
        assert!(!sole.is_usable(now) && sole.is_usable(now + Duration::from_secs(4)));
        let mut one_of_several = Standing::default();
        one_of_several.failed(now, &fault, 255);
        assert!(!one_of_several.is_usable(now + Duration::from_secs(3_599)), "others answer meanwhile");
    }

    #[test]
    fn one_that_failed_just_now_is_near_and_one_that_keeps_failing_or_lied_is_not() {
        let now = Instant::now();
        let mut standing = Standing::default();
        assert!(standing.is_near(now));
        for _ in 0..FEW_FAILURES {
            standing.failed(now, &away(), 128);
            assert!(standing.is_near(now) && !standing.is_usable(now));
        }
        standing.failed(now, &away(), 128);
        assert!(!standing.is_near(now));
        let mut liar = Standing::default();
        liar.failed(now, &lie(), 128);
        assert!(!liar.is_near(now));
    }

    #[test]
    fn lag_failures_and_lies_cost_more_than_any_latency() {
        let now = Instant::now();
        let mut fast = Standing::default();
        fast.answered(now, Duration::from_millis(5));
        fast.showed(now, Some(80));
        let mut slow = Standing::default();
        slow.answered(now, Duration::from_millis(900));
        slow.showed(now, Some(100));
        assert!(slow.cost(100) < fast.cost(100), "twenty blocks behind");
        fast.showed(now, Some(99));
        assert!(fast.cost(100) < slow.cost(100), "one block behind is only the moment of asking");
    }
}
