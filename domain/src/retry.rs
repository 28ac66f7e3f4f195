//! When a failed webhook is tried again.

use std::time::Duration;

/// Waiting times before each attempt; the first is sent at once. About three days in all.
const SCHEDULE_SECS: [u64; 13] =
    [0, 5, 30, 2 * 60, 10 * 60, 30 * 60, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 12 * 3600, 24 * 3600, 24 * 3600];

/// Attempts before a delivery is given up.
pub const MAX_ATTEMPTS: usize = SCHEDULE_SECS.len();

/// Longest wait that a receiver may ask for with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long to wait after `attempts` attempts have failed, or `None` when it is given up. `chance` (0 to 1000) spreads
/// the retries of many deliveries by ±20 %. A receiver's own wish (`Retry-After`) can only make it longer.
pub fn delay_after(attempts: usize, chance: u16, retry_after: Option<Duration>) -> Option<Duration> {
    let base = Duration::from_secs(*SCHEDULE_SECS.get(attempts)?);
    let permille = 800_u32.saturating_add(u32::from(chance.min(1000)).saturating_mul(2) / 5);
    let jittered = base.saturating_mul(permille).checked_div(1000).unwrap_or(base);
    Some(jittered.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedule_lasts_about_three_days_and_then_gives_up() {
        let total: Duration = (0..).map_while(|attempts| delay_after(attempts, 500, None)).sum();
        assert!((3 * 86_400..4 * 86_400).contains(&total.as_secs()), "{total:?}");
        assert_eq!(delay_after(MAX_ATTEMPTS, 500, Some(Duration::from_secs(1))), None);
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_more_than_an_hour() {
        assert_eq!(delay_after(1, 500, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
        assert_eq!(delay_after(1, 500, Some(Duration::from_secs(86_400))), Some(MAX_RETRY_AFTER));
    }

    proptest! {
        #[test]
        fn the_jitter_stays_within_a_fifth(attempts in 1usize..MAX_ATTEMPTS, chance in 0u16..=1000) {
            let base = Duration::from_secs(SCHEDULE_SECS[attempts]);
            let delay = delay_after(attempts, chance, None).unwrap();
            prop_assert!(delay >= base * 4 / 5 && delay <= base * 6 / 5);
        }
    }
}
