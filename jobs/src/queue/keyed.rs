//! An in-process queue of keys. A key is in it once at most, however often it is pushed, and is handed out to one taker
//! at a time: a push while its job runs makes the job run again afterwards, so that nothing committed before the push is
//! overlooked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Keys that wait at most. Beyond that the latest ones are dropped: the sweep finds them when there is room.
const CAPACITY: usize = 10_000;

/// A shared handle to one queue.
pub struct KeyedQueue<K>(Arc<Inner<K>>);

struct Inner<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    /// When each waiting key is due.
    due: BTreeMap<K, Instant>,
    /// The same, by time.
    order: BTreeSet<(Instant, K)>,
    /// Keys whose job runs.
    running: BTreeSet<K>,
}

impl<K: Ord + Clone> KeyedQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State { due: BTreeMap::new(), order: BTreeSet::new(), running: BTreeSet::new() };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Makes a key due now.
    pub fn push(&self, key: K) {
        self.push_after(key, Duration::ZERO);
    }

    /// Makes a key due after `delay`, or earlier if it is due earlier already.
    pub fn push_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        self.state().insert(key, at);
        self.0.changed.notify_one();
    }

    /// Says that the job of a key begins, which was not taken from here. `None` if one runs in this process already: it
    /// is due again when that one ends.
    pub(crate) fn begin(&self, key: K) -> Option<Taken<K>> {
        let mut state = self.state();
        if !state.running.insert(key.clone()) {
            state.insert(key, Instant::now());
            return None;
        }
        drop(state);
        Some(Taken { key, queue: self.clone() })
    }

    /// Waits until keys are due whose job does not run in this process, and takes up to `limit` of them away, for somebody
    /// else to run.
    pub(crate) async fn take_away(&self, limit: usize) -> Vec<K> {
        // Given back at once: whoever runs the job says so.
        let mut keys = vec![self.take().await.key().clone()];
        let mut state = self.state();
        while keys.len() < limit {
            let Popped::Key(key) = state.pop(Instant::now()) else { break };
            state.running.remove(&key);
            keys.push(key);
        }
        keys
    }

    /// Waits for a key that is due and whose job does not run already. Until the returned guard is dropped, the key is
    /// handed to nobody else.
    pub async fn take(&self) -> Taken<K> {
        loop {
            let next = {
                let mut state = self.state();
                match state.pop(Instant::now()) {
                    Popped::Key(key) => {
                        // Somebody else may take the next one.
                        self.0.changed.notify_one();
                        return Taken { key, queue: Self(self.0.clone()) };
                    }
                    Popped::At(at) => Some(at),
                    Popped::Nothing => None,
                }
            };
            match next {
                Some(at) => {
                    tokio::select! {
                        () = sleep_until(at) => {}
                        () = self.0.changed.notified() => {}
                    }
                }
                None => self.0.changed.notified().await,
            }
        }
    }

    /// Takes a key back that is due: its job, which runs already, looks again by itself. `false` if it is not due.
    pub(crate) fn take_back(&self, key: &K) -> bool {
        let mut state = self.state();
        let Some(at) = state.due.get(key).copied().filter(|at| *at <= Instant::now()) else { return false };
        state.due.remove(key);
        state.order.remove(&(at, key.clone()));
        true
    }

    /// How many keys wait, due or not.
    pub fn len(&self) -> usize {
        self.state().due.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // No code that can panic runs under this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Popped<K> {
    Key(K),
    At(Instant),
    Nothing,
}

impl<K: Ord + Clone> State<K> {
    fn insert(&mut self, key: K, at: Instant) {
        if let Some(known) = self.due.get(&key).copied() {
            if known <= at {
                return;
            }
            self.order.remove(&(known, key.clone()));
        } else if self.due.len() >= CAPACITY {
            // What is due first stays.
            if self.order.last().is_some_and(|(latest, _)| *latest <= at) {
                return;
            }
            if let Some((_, latest)) = self.order.pop_last() {
                self.due.remove(&latest);
            }
        }
        self.due.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    fn pop(&mut self, now: Instant) -> Popped<K> {
        let found = self.order.iter().find(|(_, key)| !self.running.contains(key)).cloned();
        match found {
            Some((at, key)) if at <= now => {
                self.due.remove(&key);
                self.order.remove(&(at, key.clone()));
                self.running.insert(key.clone());
                Popped::Key(key)
            }
            Some((at, _)) => Popped::At(at),
            None => Popped::Nothing,
        }
    }
}

impl<K> Clone for KeyedQueue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Clone> Default for KeyedQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for KeyedQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedQueue")
    }
}

/// A key whose job runs until this is dropped.
pub struct Taken<K: Ord + Clone> {
    key: K,
    queue: KeyedQueue<K>,
}

impl<K: Ord + Clone> Taken<K> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Ord + Clone> Drop for Taken<K> {
    fn drop(&mut self) {
        self.queue.state().running.remove(&self.key);
        self.queue.0.changed.notify_one();
    }
}

impl<K: Ord + Clone + fmt::Debug> fmt::Debug for Taken<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_key_is_in_the_queue_once_however_often_it_is_pushed() {
        let queue = KeyedQueue::new();
        queue.push(1);
        queue.push(1);
        assert_eq!(queue.len(), 1);
        drop(queue.take().await);
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_push_while_the_job_runs_makes_it_run_again_but_not_beside_itself() {
        let queue = KeyedQueue::new();
        queue.push("a");
        let first = queue.take().await;
        queue.push("a");
        queue.push("b");
        assert_eq!(*queue.take().await.key(), "b");
        assert!(queue.take().now_or_never().is_none());
        drop(first);
        assert_eq!(*queue.take().await.key(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = KeyedQueue::new();
        let start = Instant::now();
        queue.push_after(1, Duration::from_secs(5));
        queue.push_after(1, Duration::from_secs(2));
        queue.push_after(1, Duration::from_secs(9));
        queue.take().await;
        assert_eq!(start.elapsed().as_secs(), 2);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_runs_can_take_back_what_was_pushed_meanwhile_and_is_due() {
        let queue = KeyedQueue::new();
        queue.push(1);
        let running = queue.take().await;
        assert!(!queue.take_back(&1), "nobody pushed it again");
        queue.push_after(1, Duration::from_secs(5));
        assert!(!queue.take_back(&1), "not yet due");
        queue.push(1);
        assert!(queue.take_back(&1));
        drop(running);
        assert!(queue.is_empty() && queue.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_job_that_came_from_elsewhere_runs_once_at_a_time_and_again_if_it_came_twice() {
        let queue = KeyedQueue::new();
        let running = queue.begin(1).unwrap();
        assert!(queue.begin(1).is_none());
        queue.push(2);
        assert_eq!(queue.take_away(10).await, [2], "what runs here waits");
        drop(running);
        assert_eq!(queue.take_away(10).await, [1]);
        assert!(queue.begin(1).is_some() && queue.begin(2).is_some(), "whoever takes away does not run");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_keeps_what_is_due_first() {
        let queue = KeyedQueue::new();
        let seconds = |number: usize| Duration::from_secs(u64::try_from(number).unwrap());
        (0..CAPACITY).for_each(|number| queue.push_after(number, seconds(number + 1)));
        queue.push_after(CAPACITY, seconds(CAPACITY + 1));
        assert_eq!(queue.len(), CAPACITY);
        queue.push(CAPACITY + 1);
        assert_eq!(queue.len(), CAPACITY);
        assert_eq!(*queue.take().await.key(), CAPACITY + 1);
        assert!(!queue.state().due.contains_key(&(CAPACITY - 1)) && queue.state().due.contains_key(&0));
    }

    #[tokio::test]
    async fn several_takers_share_the_keys() {
        let queue = KeyedQueue::new();
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { *queue.take().await.key() })
            })
            .collect();
        (0..4).for_each(|key| queue.push(key));
        let mut taken = Vec::new();
        for taker in takers {
            taken.push(taker.await.unwrap());
        }
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3]);
    }
}
