//! Permits that this process holds for requests to come. A process under load takes several at once from Redis, so that
//! most requests wait for nobody; a quiet one takes each by itself.
//!
//! What is held has been counted already: no limit is ever exceeded for it. The other way round a merchant may meet a limit
//! early by what processes hold and do not use. So permits are held for [`HOLD_FOR`] and go back then, and Redis gives more
//! than one only where a bucket is far from full: a [`PART`]th of what is left, [`MOST_PERMITS`] at most. What a process
//! holds when it is killed stays counted until the window ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Begins, Bucket, Key, Standing};

/// Permits that are taken at once at most.
const MOST_PERMITS: u64 = 32;
/// Which part of what a bucket has left may be taken at once.
pub(super) const PART: u64 = 64;
/// How long permits are held. A bucket of which a few are taken each second, in a process with much to do, uses up a good part
/// of them.
const HOLD_FOR: Duration = Duration::from_secs(5);
/// Requests a second, for anybody, from which on this process is under load.
const LOAD: u64 = 200;
/// Buckets of which permits are held at most: about five megabytes.
const MOST_HELD: usize = 32_768;
/// Permits do not go back so shortly before their window ends: the next window must not get them, in seconds.
const TOO_LATE: u64 = 2;

/// What is held.
#[derive(Debug)]
pub(super) struct Held(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    permits: HashMap<Key, Permits>,
    load: Load,
}

/// Permits of one bucket. All of them have been counted.
#[derive(Debug, Clone, Copy)]
struct Permits {
    bucket: Bucket,
    left: u64,
    /// How many had been counted when these were taken, with them.
    used: u64,
    /// When the window ends and when these were taken by Redis' clock, in seconds since 1970.
    ends_at: u64,
    taken_at: u64,
    /// When these were taken.
    since: Instant,
    /// Somebody is asking for more, since then.
    asking: Option<Instant>,
}

/// How many requests come.
#[derive(Debug)]
struct Load {
    second: Instant,
    now: u64,
    before: u64,
}

/// What is to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing: it has its permit.
    Permit(Standing),
    /// To take as many as this, if they can be had. These others go back first.
    Ask(u64, Option<(Bucket, u64)>),
}

/// What Redis has counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// How many, with the permits that it gave.
    pub(super) used: u64,
    /// When the window ends and what time it is, by its clock, in seconds since 1970.
    pub(super) ends_at: u64,
    pub(super) now: u64,
}

impl Held {
    pub(super) fn new(now: Instant) -> Self {
        let load = Load { second: now, now: 0, before: 0 };
        Self(Mutex::new(Inner { permits: HashMap::new(), load }))
    }

    /// Takes a permit that is held, or says how many to ask for. `patience` is how long an answer is waited for.
    pub(super) fn take(&self, bucket: Bucket, now: Instant, patience: Duration) -> Taken {
        let mut inner = self.lock();
        let Inner { permits, load } = &mut *inner;
        let is_busy = load.count(now) && bucket.window.begins == Begins::OnTheDot;
        let is_room = permits.len() < MOST_HELD;
        let mut entry = match permits.entry(bucket.key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(_) if !is_busy || !is_room => return Taken::Ask(1, None),
            Entry::Vacant(entry) => {
                entry.insert(Permits::none(bucket, now));
                return Taken::Ask(MOST_PERMITS, None);
            }
        };
        let held = entry.get_mut();
        if held.is_good(bucket, now) {
            if let Some(left) = held.left.checked_sub(1) {
                held.left = left;
                return Taken::Permit(held.standing(now));
            }
            // One asks for all; who comes meanwhile asks for itself.
            if held.asking.is_some_and(|since| now.saturating_duration_since(since) < patience) {
                return Taken::Ask(1, None);
            }
        }
        let back = held.rest(now);
        if is_busy {
            *held = Permits::none(bucket, now);
            Taken::Ask(MOST_PERMITS, back)
        } else {
            entry.remove();
            Taken::Ask(1, back)
        }
    }

    /// Holds `more` permits that were taken beside the one for the request itself. Gives how many are not wanted any more.
    pub(super) fn keep(&self, bucket: Bucket, more: u64, counted: Counted, now: Instant) -> u64 {
        let mut inner = self.lock();
        // Whoever asked has left a place for them; another limit may have come meanwhile.
        let Some(held) = inner.permits.get_mut(&bucket.key).filter(|held| held.bucket == bucket) else { return more };
        let Counted { used, ends_at, now: taken_at } = counted;
        let before = if held.ends_at == ends_at { held.left } else { 0 };
        let left = before.saturating_add(more);
        *held = Permits { bucket, left, used, ends_at, taken_at, since: now, asking: None };
        0
    }

    /// Takes out what has been held for long enough, as it is to be given back.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(Bucket, u64)> {
        let mut back = Vec::new();
        self.lock().permits.retain(|_, held| {
            let is_kept = now.saturating_duration_since(held.since) < HOLD_FOR;
            if !is_kept {
                back.extend(held.rest(now));
            }
            is_kept
        });
        back
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permits {
    /// A place for permits that somebody asks for.
    fn none(bucket: Bucket, now: Instant) -> Self {
        Self { bucket, left: 0, used: 0, ends_at: u64::MAX, taken_at: 0, since: now, asking: Some(now) }
    }

    /// Whether they still count for this bucket, by this limit.
    fn is_good(&self, bucket: Bucket, now: Instant) -> bool {
        self.bucket == bucket
            && now.saturating_duration_since(self.since) < HOLD_FOR
            && self.time_there(now) < self.ends_at
    }

    /// How the bucket stands for whoever has just taken one: what is left here is left for this process.
    fn standing(&self, now: Instant) -> Standing {
        self.bucket.standing(self.used.saturating_sub(self.left), self.ends_at, self.time_there(now))
    }

    /// What goes back.
    fn rest(&self, now: Instant) -> Option<(Bucket, u64)> {
        let is_in_time = self.time_there(now).saturating_add(TOO_LATE) <= self.ends_at;
        (self.left > 0 && is_in_time).then_some((self.bucket, self.left))
    }

    /// The time by Redis' clock, in seconds since 1970.
    fn time_there(&self, now: Instant) -> u64 {
        self.taken_at.saturating_add(now.saturating_duration_since(self.since).as_secs())
    }
}

impl Load {
    /// Counts a request; whether there are many.
    fn count(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.second);
        if passed >= Duration::from_secs(1) {
            self.before = if passed < Duration::from_secs(2) { self.now } else { 0 };
            (self.second, self.now) = (now, 0);
        }
        self.now = self.now.saturating_add(1);
        self.now.max(self.before) >= LOAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::bucket::Window;
    use cryptopay_domain::ids::MerchantId;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_millis(250);
    const NOON: u64 = 1_800_003_600;
    const HOUR: u64 = 3_600;

    fn bucket(id: i64, limit: u64) -> Bucket {
        Bucket { key: Key::ApiKeys(MerchantId(id)), limit, window: Window { secs: HOUR, begins: Begins::OnTheDot } }
    }

    fn counted(used: u64) -> Counted {
        Counted { used, ends_at: NOON + HOUR, now: NOON }
    }

    /// A process that has much to do, a second after it began to.
    fn busy() -> (Held, Instant) {
        let start = Instant::now();
        let held = Held::new(start);
        for _ in 1..LOAD {
            held.take(bucket(0, 1), start, PATIENCE);
        }
        (held, start)
    }

    #[test]
    fn a_quiet_process_takes_each_permit_by_itself_and_a_busy_one_many_at_once() {
        let now = Instant::now();
        let (mut held, one) = (Held::new(now), bucket(1, 5_000));
        for _ in 1..LOAD {
            assert_eq!(held.take(one, now, PATIENCE), Taken::Ask(1, None));
        }
        assert_eq!(held.take(one, now, PATIENCE), Taken::Ask(MOST_PERMITS, None));
        assert_eq!(held.take(one, now, PATIENCE), Taken::Ask(1, None), "one asks for all");
        assert_eq!(held.keep(one, 2, counted(10), now), 0);
        for remaining in [4_991, 4_990] {
            let Taken::Permit(standing) = held.take(one, now, PATIENCE) else { panic!("two are held") };
            assert_eq!((standing.limit, standing.remaining, standing.ends_in), (5_000, remaining, HOUR));
        }
        assert_eq!(held.take(one, now, PATIENCE), Taken::Ask(MOST_PERMITS, None), "they are used up");
        // A window that does not begin on the dot is one of failures: each counts by itself.
        let failures = Bucket { window: Window { secs: HOUR, begins: Begins::WithTheFirst }, ..bucket(2, 100) };
        assert_eq!(held.take(failures, now, PATIENCE), Taken::Ask(1, None));
        // No answer has come: somebody else asks.
        assert_eq!(held.take(one, now + PATIENCE, PATIENCE), Taken::Ask(MOST_PERMITS, None));
        held = Held::new(now);
        assert_eq!(held.keep(one, 7, counted(10), now), 7, "nobody has asked for them");
    }

    #[test]
    fn what_is_held_for_long_enough_goes_back_and_so_does_what_another_limit_replaces() {
        let (held, now) = busy();
        let [one, other] = [bucket(1, 5_000), bucket(2, 5_000)];
        for bucket in [one, other] {
            held.take(bucket, now, PATIENCE);
            held.keep(bucket, 10, counted(11), now);
        }
        assert_eq!(held.overdue(now + HOLD_FOR - Duration::from_millis(1)), []);
        let changed = bucket(1, 77);
        assert_eq!(held.take(changed, now, PATIENCE), Taken::Ask(MOST_PERMITS, Some((one, 10))));
        assert_eq!(held.overdue(now + HOLD_FOR), [(other, 10)]);
        assert_eq!(held.overdue(now + HOLD_FOR), []);
    }

    #[test]
    fn permits_end_with_their_window_and_never_go_back_to_the_next() {
        let (held, now) = busy();
        let one = bucket(1, 5_000);
        let last = Counted { used: 11, ends_at: NOON + HOUR, now: NOON + HOUR - 1 };
        held.take(one, now, PATIENCE);
        held.keep(one, 10, last, now);
        assert!(matches!(held.take(one, now, PATIENCE), Taken::Permit(standing) if standing.ends_in == 1));
        assert_eq!(held.take(one, now + Duration::from_secs(1), PATIENCE), Taken::Ask(MOST_PERMITS, None));
        held.keep(one, 10, last, now);
        assert_eq!(held.overdue(now + HOLD_FOR), []);
    }

    #[test]
    fn memory_is_bounded() {
        let (held, now) = busy();
        for id in 0..100_000 {
            let taken = held.take(bucket(id, 5_000), now, PATIENCE);
            assert!(matches!(taken, Taken::Ask(..)));
        }
        assert_eq!(held.lock().permits.len(), MOST_HELD);
    }

    /// What a process does next.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take,
        GiveBackWhatIsOverdue,
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            8 => Just(Step::Take),
            1 => Just(Step::GiveBackWhatIsOverdue),
            1 => (1_u64..3_000).prop_map(Step::Pass),
        ];
        proptest::collection::vec((0_usize..3, step), 1..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn processes_together_never_let_more_than_the_limit_through_and_in_the_end_all_of_it(
            limit in 1_u64..400,
            steps in steps(),
        ) {
            let start = Instant::now();
            let processes: Vec<_> = (0..3).map(|_| busy().0).collect();
            let (mut now, mut used, mut accepted) = (start, 0_u64, 0_u64);
            let one = bucket(1, limit);
            // As the script does it.
            let ask = |used: &mut u64, many: u64| {
                let taken = if *used < limit { many.min((limit - *used) / PART).max(1) } else { 0 };
                *used += taken;
                taken
            };
            for (process, step) in steps {
                let held = &processes[process];
                match step {
                    Step::Take => match held.take(one, now, PATIENCE) {
                        Taken::Permit(standing) => {
                            accepted += 1;
                            prop_assert!(standing.remaining < limit);
                        }
                        Taken::Ask(many, back) => {
                            used -= back.map_or(0, |(_, many)| many);
                            let taken = ask(&mut used, many);
                            accepted += taken.min(1);
                            if many > 1 {
                                used -= held.keep(one, taken.saturating_sub(1), counted(used), now);
                            }
                        }
                    },
                    Step::GiveBackWhatIsOverdue => used -= held.overdue(now).iter().map(|(_, many)| many).sum::<u64>(),
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                }
                prop_assert!(accepted <= used && used <= limit, "{accepted} of {used} of {limit}");
            }
            // Once all is given back, what is counted is what was let through, and the rest can be had.
            for held in &processes {
                used -= held.overdue(now + HOLD_FOR).iter().map(|(_, many)| many).sum::<u64>();
            }
            prop_assert_eq!(accepted, used);
            while ask(&mut used, 1) > 0 {
                accepted += 1;
            }
            prop_assert_eq!(accepted, limit);
        }
    }
}
