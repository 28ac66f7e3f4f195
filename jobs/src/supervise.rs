//! Parts of a process that run as long as it does: started again when they end by themselves, in whatever way.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

/// First pause before what failed is started again; it doubles with every failure in a row.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// Longest such pause: well below the 5 s within which everything works again.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// What has lived this long begins the pauses anew.
const PROVEN: Duration = Duration::from_secs(10);

/// How often in a row something has failed, and how long to wait before it is started again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Failures in a row so far.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause after something that was started then has ended.
    pub(crate) fn after(&mut self, started: Instant) -> Duration {
        self.failures = if started.elapsed() > PROVEN { 1 } else { self.failures.saturating_add(1) };
        MIN_BACKOFF.saturating_mul(1 << self.failures.clamp(1, 8)).min(MAX_BACKOFF)
    }
}

/// Runs a part of the process until `stop`. Should it end by itself, or panic, it is counted and started again after a
/// pause; what it remembered is gone.
pub async fn keep_running<F: Future<Output = ()>>(part: &'static str, stop: CancellationToken, start: impl Fn() -> F) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        // Whatever it was in the midst of is dropped with it, and nothing of it is seen by the next.
        let Some(ended) = stop.run_until_cancelled(AssertUnwindSafe(start()).catch_unwind()).await else { return };
        if ended.is_ok() && stop.is_cancelled() {
            // It looks at the same token.
            return;
        }
        let pause = backoff.after(started);
        crate::metrics::part_restarted(part);
        match ended {
            Ok(()) => tracing::warn!(part, "a part of the process ended by itself; it is started again"),
            // The panic's own words were printed where it happened.
            Err(_) => tracing::error!(part, "a part of the process broke off; it is started again"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_or_ends_is_started_again_until_the_process_stops() {
        let (stop, starts) = (CancellationToken::new(), AtomicU32::new(0));
        let part = || async {
            match starts.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("a defect"),
                1 => {}
                2 => stop.cancel(),
                _ => unreachable!("the process has stopped"),
            }
        };
        keep_running("part", stop.clone(), part).await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_runs_is_left_off_when_the_process_stops() {
        let stop = CancellationToken::new();
        let running = keep_running("part", stop.clone(), std::future::pending);
        tokio::join!(running, async { stop.cancel() });
    }

    #[test]
    fn pauses_grow_with_failures_in_a_row_and_stay_short() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.after(Instant::now()).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000, 2_000, 2_000]);
    }
}
