//! Blocks per log query and parallel queries of one endpoint, adapted to its answers.
//!
//! A failed query over several blocks halves the width, down to one block. The width that failed bounds all wider queries
//! for an hour; growth below it is probing, at most a tenth a minute. Time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Blocks of the first query.
const FIRST_BLOCKS: u64 = 200;
/// Most blocks of one query.
const MAX_BLOCKS: u64 = 2_000;
/// Most parallel queries.
const MAX_AHEAD: usize = 8;
/// Validity of a failed width. Limits of providers change seldom; a passing fault costs no more than this.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Time in which a probing width grows by a tenth.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Rate limits in a row from which the width shrinks too: some providers refuse wide queries in those words.
const RATE_LIMITS: u32 = 3;
/// Rate limits within this time answer parallel queries and count once.
const BURST: Duration = Duration::from_millis(500);

/// Width of the next log query of an endpoint, and the number of parallel ones.
#[derive(Debug)]
pub struct BatchSize(Mutex<Size>);

#[derive(Debug)]
struct Size {
    blocks: u64,
    ahead: usize,
    /// Widest query that was answered within the last hour.
    answered: Option<Width>,
    /// Last width that failed although a narrower query was answered afterwards.
    failed: Option<Width>,
    /// Last width that failed, before any narrower query was answered: the endpoint may be away altogether.
    pending: Option<Width>,
    /// Start of the current probing step.
    probed_at: Option<Instant>,
    rate_limits: u32,
    rate_limited_at: Option<Instant>,
}

/// A width with the time of its answer or failure.
#[derive(Debug, Clone, Copy)]
struct Width {
    blocks: u64,
    at: Instant,
    /// Widest query that may follow a failure of this width.
    most: u64,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self(Mutex::new(Size {
            blocks: FIRST_BLOCKS,
            ahead: 1,
            answered: None,
            failed: None,
            pending: None,
            probed_at: None,
            rate_limits: 0,
            rate_limited_at: None,
        }))
    }
}

impl BatchSize {
    /// Blocks of the next query.
    pub fn blocks(&self) -> u64 {
        self.size().blocks
    }

    /// Parallel queries.
    pub fn ahead(&self) -> usize {
        self.size().ahead
    }

    /// Records that a query over `blocks` blocks failed; `stated` is the limit that the endpoint named. Halves the width,
    /// or takes the stated limit if it is smaller.
    pub fn failed(&self, blocks: u64, stated: Option<u64>, now: Instant) {
        let mut size = self.size();
        let halved = (blocks / 2).max(1);
        // A width that was answered within the hour is no limit: its failure may be a passing fault, so probing may return
        // to the widest one that was answered. Any other failed width is not tried again within the hour.
        let proven = size.answered.filter(|answered| answered.is_recent(now) && answered.blocks >= blocks);
        let most = proven.map_or(blocks.saturating_sub(1), |answered| answered.blocks);
        size.pending = Some(Width { blocks, at: now, most: most.max(1) });
        size.probed_at = Some(now);
        size.blocks = stated.map_or(halved, |limit| limit.clamp(1, halved));
        size.ahead = 1;
        size.rate_limits = 0;
        if size.answered.is_some_and(|answered| answered.blocks >= blocks) {
            size.answered = None;
        }
    }

    /// Records that the endpoint failed for a single block: it is away, and the wider failures before prove no limit.
    pub fn failed_for_one_block(&self) {
        let mut size = self.size();
        size.pending = None;
        size.ahead = 1;
    }

    /// Records that a query over `blocks` blocks was answered.
    pub fn answered(&self, blocks: u64, now: Instant) {
        let mut size = self.size();
        size.rate_limits = 0;
        size.ahead = size.ahead.saturating_add(1).min(MAX_AHEAD);
        if size.answered.is_none_or(|answered| !answered.is_recent(now) || answered.blocks <= blocks) {
            size.answered = Some(Width { blocks, at: now, most: blocks });
        }
        if let Some(pending) = size.pending.take() {
            size.failed = Some(pending);
        }
        size.failed = size.failed.filter(|failed| failed.is_recent(now));
        // A narrower query, as near the head, says nothing about this width.
        if blocks < size.blocks {
            return;
        }
        let Some(failed) = size.failed else {
            let doubled = size.blocks.saturating_mul(2).min(FIRST_BLOCKS);
            let grown = size.blocks.saturating_add(size.blocks / 8).saturating_add(1);
            size.blocks = grown.max(doubled).min(MAX_BLOCKS);
            return;
        };
        let step = (size.blocks / 10).max(1);
        // Below ten blocks the smallest step is more than a tenth, and takes as much longer.
        let few = u32::try_from(size.blocks.clamp(1, 10)).unwrap_or(10);
        let wait = PROBE_EVERY.saturating_mul(10).checked_div(few).unwrap_or(PROBE_EVERY);
        let since = *size.probed_at.get_or_insert(now);
        if now.saturating_duration_since(since) >= wait {
            size.blocks = size.blocks.saturating_add(step).min(failed.most.max(size.blocks));
            size.probed_at = Some(now);
        }
    }

    /// Records that the endpoint asked for fewer requests: half as many in parallel, and after several in a row half as
    /// many blocks. A rate limit states nothing about a width, so no failed width is remembered.
    pub fn rate_limited(&self, now: Instant) {
        let mut size = self.size();
        size.ahead = (size.ahead / 2).max(1);
        if size.rate_limited_at.is_none_or(|at| now.saturating_duration_since(at) >= BURST) {
            size.rate_limited_at = Some(now);
            size.rate_limits = size.rate_limits.saturating_add(1);
        }
        if size.rate_limits >= RATE_LIMITS {
            size.rate_limits = 0;
            size.blocks = (size.blocks / 2).max(1);
        }
    }

    /// Shifts every remembered time into the past: for tests, which do not wait.
    pub(super) fn pass(&self, time: Duration) {
        let size = &mut *self.size();
        for width in [&mut size.answered, &mut size.failed, &mut size.pending].into_iter().flatten() {
            width.at = width.at.checked_sub(time).unwrap_or(width.at);
        }
        size.probed_at = size.probed_at.map(|at| at.checked_sub(time).unwrap_or(at));
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Width {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Queries of an endpoint that takes `limit` blocks, one a second for `time`; returns the widths that were asked for.
    fn queries(size: &BatchSize, limit: u64, now: &mut Instant, time: Duration) -> Vec<u64> {
        let end = *now + time;
        let mut asked = Vec::new();
        while *now < end {
            let blocks = size.blocks();
            asked.push(blocks);
            match (blocks <= limit, blocks) {
                (true, _) => size.answered(blocks, *now),
                (false, 1) => size.failed_for_one_block(),
                (false, _) => size.failed(blocks, None, *now),
            }
            *now += Duration::from_secs(1);
        }
        asked
    }

    #[test]
    fn widths_halve_on_every_failure_down_to_one_block() {
        let (size, now) = (BatchSize::default(), Instant::now());
        let mut widths = Vec::new();
        for _ in 0..9 {
            widths.push(size.blocks());
            size.failed(size.blocks(), None, now);
        }
        assert_eq!(widths, [200, 100, 50, 25, 12, 6, 3, 1, 1]);
        assert_eq!(size.ahead(), 1);
    }

    #[test]
    fn a_failed_width_is_not_reached_again_for_an_hour() {
        for limit in [1, 2, 9, 10, 30, 57, 100, 300, 1_500] {
            let (size, mut now) = (BatchSize::default(), Instant::now());
            while size.blocks() <= limit {
                size.answered(size.blocks(), now);
            }
            let failed = size.blocks();
            // The first failure above the limit, and the halvings after it.
            let asked = queries(&size, limit, &mut now, Duration::from_secs(12));
            let lowest = *asked.iter().filter(|blocks| **blocks > limit).min().unwrap_or(&failed);
            let asked = queries(&size, limit, &mut now, Duration::from_secs(3_500));
            assert!(asked.iter().all(|blocks| *blocks < lowest), "{limit}: below {lowest}, {:?}", asked.iter().max());
            assert!(*asked.iter().max().unwrap() > limit / 2, "{limit}");
        }
    }

    #[test]
    fn probing_grows_by_at_most_a_tenth_a_minute() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        size.failed(200, Some(3), now);
        let asked = queries(&size, 150, &mut now, Duration::from_secs(3_500));
        // Seconds at each width before it changed.
        let mut steps: Vec<(u64, u64)> = Vec::new();
        for blocks in asked {
            match steps.last_mut() {
                Some((known, seconds)) if *known == blocks => *seconds += 1,
                _ => steps.push((blocks, 1)),
            }
        }
        assert_eq!(steps[0].0, 3);
        for pair in steps.windows(2) {
            let ((blocks, seconds), (next, _)) = (pair[0], pair[1]);
            let grown = next.saturating_sub(blocks);
            assert!(grown * 600 <= blocks * seconds, "{blocks} to {next} after {seconds} s");
        }
        assert!(steps.iter().any(|(blocks, _)| *blocks > 80), "{steps:?}");
    }

    #[test]
    fn after_an_hour_without_failures_the_width_grows_freely() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        size.failed(200, None, now);
        queries(&size, u64::MAX, &mut now, 59 * MINUTE);
        assert!(size.blocks() < 200);
        queries(&size, u64::MAX, &mut now, 2 * MINUTE);
        assert_eq!(size.blocks(), MAX_BLOCKS);
    }

    #[test]
    fn a_stated_limit_is_taken_at_once_and_nothing_wider() {
        let (size, now) = (BatchSize::default(), Instant::now());
        size.failed(200, Some(30), now);
        assert_eq!(size.blocks(), 30);
        size.answered(30, now);
        assert_eq!(size.blocks(), 30, "wider ones are probed in a minute");
        size.failed(30, Some(4_000), now);
        assert_eq!(size.blocks(), 15, "a stated limit above what failed is no help");
    }

    #[test]
    fn an_endpoint_that_was_away_keeps_no_failed_width() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        queries(&size, 0, &mut now, Duration::from_secs(10));
        assert_eq!(size.blocks(), 1);
        let asked = queries(&size, u64::MAX, &mut now, Duration::from_secs(9));
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 64, 128, 200]);
    }

    #[test]
    fn a_passing_fault_near_the_head_bounds_nothing_below_it() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        size.answered(4, now);
        size.failed(4, None, now);
        assert_eq!(size.blocks(), 2);
        queries(&size, u64::MAX, &mut now, 30 * MINUTE);
        assert_eq!(size.blocks(), 4, "that width had been answered before");
    }

    #[test]
    fn a_slow_answer_near_the_head_bounds_no_wider_query() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        size.answered(200, now);
        size.failed(2, None, now);
        assert_eq!(size.blocks(), 1);
        queries(&size, u64::MAX, &mut now, 55 * MINUTE);
        assert!(size.blocks() > 20, "{} blocks", size.blocks());
        assert!(size.blocks() <= 200, "wider ones were never answered");
    }

    #[test]
    fn parallel_queries_are_bounded_and_fewer_after_a_rate_limit() {
        let (size, now) = (BatchSize::default(), Instant::now());
        (0..50).for_each(|_| size.answered(size.blocks(), now));
        assert_eq!((size.blocks(), size.ahead()), (MAX_BLOCKS, MAX_AHEAD));
        size.rate_limited(now);
        assert_eq!((size.blocks(), size.ahead()), (MAX_BLOCKS, MAX_AHEAD / 2));
        size.rate_limited(now);
        size.rate_limited(now + BURST);
        assert_eq!(size.blocks(), MAX_BLOCKS, "parallel answers count once");
        size.rate_limited(now + 2 * BURST);
        assert_eq!(size.blocks(), MAX_BLOCKS / 2, "nothing but that answer for a wide query");
    }

    #[test]
    fn rate_limits_are_forgotten_with_the_next_answers() {
        let (size, mut now) = (BatchSize::default(), Instant::now());
        size.answered(200, now);
        for _ in 0..60 {
            size.rate_limited(now);
            now += Duration::from_secs(1);
        }
        assert_eq!(size.blocks(), 1);
        let asked = queries(&size, u64::MAX, &mut now, Duration::from_secs(60));
        assert_eq!(asked[..9], [1, 2, 4, 8, 16, 32, 64, 128, 200]);
        assert_eq!(size.blocks(), MAX_BLOCKS);
        // An answer between two rate limits ends their row.
        for _ in 0..10 {
            size.rate_limited(now);
            size.rate_limited(now + BURST);
            size.answered(1, now + 2 * BURST);
            now += MINUTE;
        }
        assert_eq!(size.blocks(), MAX_BLOCKS);
    }
}
