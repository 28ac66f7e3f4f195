//! Counts in this process alone: where no Redis is set, and while it is away.
//!
//! Memory is bounded: windows that are over are forgotten, and of [`MOST_COUNTS`] the half that has counted least makes
//! room for new ones. Whoever is near a limit is kept, so that nobody gets rid of a count by coming from many addresses.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Change, Key, Outcome};

/// Counts that are kept at most: about ten megabytes.
const MOST_COUNTS: usize = 65_536;

/// The counts.
#[derive(Debug)]
pub(super) struct Local {
    counts: Mutex<HashMap<Key, Count>>,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    used: u64,
    ends_at: u64,
}

impl Default for Local {
    fn default() -> Self {
        Self { counts: Mutex::default(), most: MOST_COUNTS }
    }
}

impl Local {
    /// Does this to every bucket, or to none if one has no room. `now` is in seconds since 1970.
    pub(super) fn apply(&self, buckets: &[Bucket], change: Change, now: u64) -> Outcome {
        let mut counts = self.lock();
        let found: Vec<Count> = buckets.iter().map(|bucket| current(&counts, bucket, now)).collect();
        let full = buckets.iter().zip(&found).position(|(bucket, count)| count.used >= bucket.limit);
        let full = full.filter(|_| change == Change::Take);
        let mut standings = Vec::with_capacity(buckets.len());
        for (bucket, mut count) in buckets.iter().zip(found) {
            let changed = match change {
                Change::Take if full.is_none() => count.used.saturating_add(1),
                Change::GiveBack => count.used.saturating_sub(1),
                Change::Take | Change::Look => count.used,
            };
            if changed != count.used {
                count.used = changed;
                self.keep(&mut counts, bucket.key, count, now);
            }
            standings.push(bucket.standing(count.used, count.ends_at, now));
        }
        Outcome { full, standings }
    }

    fn keep(&self, counts: &mut HashMap<Key, Count>, key: Key, count: Count, now: u64) {
        if counts.len() >= self.most && !counts.contains_key(&key) {
            make_room(counts, now, self.most);
        }
        counts.insert(key, count);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        // No code that can panic runs under this lock.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(counts: &HashMap<Key, Count>, bucket: &Bucket, now: u64) -> Count {
    let kept = counts.get(&bucket.key).copied().filter(|count| now < count.ends_at);
    kept.unwrap_or_else(|| Count { used: 0, ends_at: bucket.window.end(now) })
}

/// Forgets what is over, and if that does not halve the counts, those that have counted least. It takes as long as there
/// are counts, but only once for as many new ones as it makes room for.
fn make_room(counts: &mut HashMap<Key, Count>, now: u64, most: usize) {
    counts.retain(|_, count| now < count.ends_at);
    let half = most / 2;
    if counts.len() <= half {
        return;
    }
    let mut used: Vec<u64> = counts.values().map(|count| count.used).collect();
    let middle = used.len().saturating_sub(half).min(used.len().saturating_sub(1));
    let (_, median, _) = used.select_nth_unstable(middle);
    let bound = *median;
    // Of those that have counted as much as the one in the middle, as many as fit.
    let above = counts.values().filter(|count| count.used > bound).count();
    let mut room = half.saturating_sub(above);
    counts.retain(|_, count| {
        if count.used != bound {
            return count.used > bound;
        }
        let fits = room > 0;
        room = room.saturating_sub(1);
        fits
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::bucket::{Begins, Window};
    use cryptopay_domain::ids::MerchantId;
    use proptest::prelude::*;
    use std::sync::Arc;

    const NOW: u64 = 1_800_003_599;

    fn bucket(id: i64, limit: u64) -> Bucket {
        Bucket { key: Key::ApiKeys(MerchantId(id)), limit, window: Window { secs: 3_600, begins: Begins::OnTheDot } }
    }

    fn take(local: &Local, bucket: Bucket, now: u64) -> bool {
        local.apply(&[bucket], Change::Take, now).full.is_none()
    }

    #[test]
    fn a_window_lets_its_limit_through_and_the_next_begins_on_the_hour() {
        let local = Local::default();
        let bucket = bucket(1, 3);
        let remaining: Vec<_> = (0..4).map(|_| local.apply(&[bucket], Change::Take, NOW)).collect();
        let shown: Vec<_> = remaining.iter().map(|outcome| (outcome.full, outcome.standings[0].remaining)).collect();
        assert_eq!(shown, [(None, 2), (None, 1), (None, 0), (Some(0), 0)]);
        let standing = remaining[3].standings[0];
        assert_eq!((standing.limit, standing.ends_at, standing.ends_in), (3, NOW + 1, 1));
        assert!(take(&local, bucket, NOW + 1));
        assert_eq!(local.apply(&[bucket], Change::Look, NOW + 1).standings[0].remaining, 2);
    }

    #[test]
    fn a_larger_limit_counts_at_once_and_a_smaller_one_too() {
        let local = Local::default();
        assert!(take(&local, bucket(1, 1), NOW) && !take(&local, bucket(1, 1), NOW));
        assert!(take(&local, bucket(1, 5), NOW));
        assert!(!take(&local, bucket(1, 2), NOW));
        assert_eq!(local.apply(&[bucket(1, 1)], Change::Look, NOW).standings[0].remaining, 0);
    }

    #[test]
    fn of_several_buckets_all_are_counted_or_none() {
        let local = Local::default();
        let pair = [bucket(1, 5), bucket(2, 1)];
        assert_eq!(local.apply(&pair, Change::Take, NOW).full, None);
        assert_eq!(local.apply(&pair, Change::Take, NOW).full, Some(1));
        let looked = local.apply(&pair, Change::Look, NOW).standings;
        assert_eq!((looked[0].remaining, looked[1].remaining), (4, 0));
        local.apply(&pair, Change::GiveBack, NOW);
        local.apply(&pair, Change::GiveBack, NOW);
        let looked = local.apply(&pair, Change::Look, NOW).standings;
        assert_eq!((looked[0].remaining, looked[1].remaining), (5, 1), "never more than there is");
    }

    #[test]
    fn memory_is_bounded_and_whoever_counts_most_is_kept() {
        let local = Local { most: 100, ..Local::default() };
        let busy = bucket(-1, 2);
        assert!(take(&local, busy, NOW) && take(&local, busy, NOW));
        for id in 0..10_000 {
            assert!(take(&local, bucket(id, 2), NOW));
            assert!(local.lock().len() <= 100);
        }
        assert!(!take(&local, busy, NOW), "who is at the limit is not forgotten");
        for id in 0..200 {
            assert!(take(&local, bucket(id, 1), NOW + 3_600));
        }
        assert!(take(&local, busy, NOW + 3_600));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_window_ever_lets_more_than_its_limit_through(
            limit in 1_u64..40,
            threads in 2_usize..5,
            steps in proptest::collection::vec((0_u64..3, any::<bool>()), 10..200),
        ) {
            let local = Arc::new(Local::default());
            let workers: Vec<_> = (0..threads).map(|_| {
                let (local, steps) = (Arc::clone(&local), steps.clone());
                std::thread::spawn(move || {
                    let mut accepted: HashMap<u64, u64> = HashMap::new();
                    let mut now = NOW - 20;
                    for (passed, look) in steps {
                        now += passed;
                        let outcome = local.apply(&[bucket(7, limit)], if look { Change::Look } else { Change::Take }, now);
                        if !look && outcome.full.is_none() {
                            *accepted.entry(outcome.standings[0].ends_at).or_default() += 1;
                        }
                        assert!(outcome.standings[0].remaining <= limit);
                    }
                    accepted
                })
            }).collect();
            let mut total: HashMap<u64, u64> = HashMap::new();
            for worker in workers {
                for (window, accepted) in worker.join().unwrap() {
                    *total.entry(window).or_default() += accepted;
                }
            }
            // Threads may see the clock turn at different moments; a window is told by its end, not by the thread.
            for (window, accepted) in total {
                prop_assert!(accepted <= limit, "{accepted} of {limit} in the window that ends at {window}");
            }
        }
    }
}
