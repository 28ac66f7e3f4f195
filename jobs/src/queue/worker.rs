//! A kind of job and the worker that runs it, supervised: a worker that ends by itself is replaced, after a pause, by
//! another one under another name.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;
use rand::random;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shared::Redis;
use super::{JobKey, KeyedQueue, embedded, shared};
use crate::metrics::JobMeter;
use crate::supervise::Backoff;

/// What runs a job: a closure from the key.
pub(crate) trait JobRun<K>: Clone + Send + Sync + 'static {
    /// Runs the job. What goes wrong is logged and left to the next run.
    fn call(&self, key: K) -> impl Future<Output = ()> + Send + 'static;
}

impl<K, R, F> JobRun<K> for R
where
    R: Fn(K) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn call(&self, key: K) -> impl Future<Output = ()> + Send + 'static {
        self(key)
    }
}

/// A kind of job over its queue.
pub(crate) struct Job<K: JobKey, R> {
    /// Its name: of the queue in Redis, of workers, in logs.
    pub(crate) name: &'static str,
    /// The queue of this process.
    pub(crate) queue: KeyedQueue<K>,
    /// How many run at once in this process.
    pub(crate) concurrency: usize,
    /// What a job does.
    pub(crate) run: R,
    /// Knows the jobs that still run when the process is told to stop.
    pub(crate) running: TaskTracker,
}

/// Runs jobs on tasks of their own: they share the process's threads, a panic stays with its job, and a worker that is
/// replaced leaves its jobs running.
#[derive(Clone)]
pub(crate) struct Runner<R> {
    name: &'static str,
    run: R,
    running: TaskTracker,
}

impl<R> Runner<R> {
    pub(super) async fn run<K: JobKey>(&self, key: K)
    where
        R: JobRun<K>,
    {
        let meter = JobMeter(self.name);
        let _timed = meter.begin();
        tracing::debug!(job = self.name, key = key.to_text(), "a job begins");
        if let Err(error) = self.running.spawn(self.run.call(key)).await {
            meter.panicked();
            tracing::error!(job = self.name, %error, "a job broke off; the sweep finds what it left");
        }
    }
}

impl<K: JobKey, R: JobRun<K>> Job<K, R> {
    pub(super) fn runner(&self) -> Runner<R> {
        Runner { name: self.name, run: self.run.clone(), running: self.running.clone() }
    }

    /// Runs workers until `stop`, and then the jobs that still run to their end.
    pub(crate) async fn supervise(self, owner: String, redis: Option<Redis>, stop: CancellationToken) {
        let job = self.name;
        // Never the name of another worker, dead or alive, on any host.
        self.supervise_as(move || format!("{job}-{owner}-{:08x}", random::<u32>()), redis, stop).await;
    }

    /// The same with other names of the workers. One whose name another has is refused, and the next one is started.
    pub(super) async fn supervise_as(
        self,
        mut names: impl FnMut() -> String + Send,
        redis: Option<Redis>,
        stop: CancellationToken,
    ) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let name = names();
            let started = Instant::now();
            let working = async {
                match &redis {
                    None => embedded::work(&self, &name, stop.clone()).await.map_err(|error| error.to_string()),
                    Some(redis) => shared::work(&self, &name, redis, backoff.failures(), stop.clone()).await,
                }
            };
            // Nothing of a worker that broke off is used again.
            let ended = AssertUnwindSafe(working).catch_unwind().await;
            if stop.is_cancelled() {
                break;
            }
            let pause = backoff.after(started);
            JobMeter(self.name).restarted();
            // Each of them, since they are few: one every two seconds at most.
            let ended = ended.unwrap_or_else(|_| Err("it broke off".to_owned()));
            let reason = ended.err().unwrap_or_else(|| "it has stopped".to_owned());
            tracing::warn!(job = self.name, reason, "the worker ended by itself; starting another");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
