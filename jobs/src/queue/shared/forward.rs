//! From the queue of this process into the one that all share.

use tokio::time::timeout;

use super::super::{JobKey, KeyedQueue};
use super::{NUDGE_WITHIN, Redis};

/// Keys in one go.
const BATCH: usize = 100;

/// Passes keys on as they become due, for ever. What does not get through in time is dropped: the connection says in the
/// log that Redis is away, and the sweep finds the work.
pub(crate) async fn forward<K: JobKey>(redis: &Redis, job: &'static str, queue: &KeyedQueue<K>) {
    loop {
        let keys = queue.take_away(BATCH).await;
        let outcome = timeout(NUDGE_WITHIN, redis.nudge(job, &keys)).await;
        tracing::debug!(job, keys = keys.len(), ?outcome, "nudged");
        if matches!(outcome, Ok(Ok(1..))) {
            // Sooner than over the bus, which tells the other processes.
            redis.wake(job);
        }
    }
}
