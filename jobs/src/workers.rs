//! The workers of a process: three apalis workers and the timers, supervised until they are told to stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{
    MemorySink, MemoryStorage, MemoryStorageError, Task, TaskBuilder, WorkerBuilder, WorkerBuilderExt,
};
use cryptopay_entity::{chain_cursor, timer_lease};
use cryptopay_ledger::DeliveryKey;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use futures_util::{SinkExt, sink};
use sea_orm::DbErr;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::queue::{KeyedQueue, Taken};
use crate::{confirm_payments, metrics, scan, timers, webhooks};

/// Jobs of one kind that run at once. A chain's scan is mostly waiting; one per chain is enough.
const CHAIN_JOBS: usize = 64;
/// Endpoints that are delivered to at once: far above the number that may hang.
const DELIVERY_JOBS: usize = 1_024;
/// Longest pause between restarts of a worker that failed.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long running jobs may take to finish when the process is told to stop.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The jobs of this gateway, for whoever wants to know what runs: name, key, and what running twice does.
pub const JOBS: &[(&str, &str, &str)] = &[
    ("scan_chain", "chain", "the second finds the lease taken, or its transaction is fenced off"),
    ("confirm_payments", "chain", "confirms what is still unconfirmed: nothing"),
    ("deliver_webhooks", "endpoint and origin", "claims what is still due: nothing"),
];

/// The workers.
#[derive(Debug)]
pub struct Workers;

impl Workers {
    /// Runs every job and timer until `stop`, then lets running jobs finish for up to 20 s and gives leases back.
    pub async fn run(context: Arc<Context>, stop: CancellationToken) {
        for chain in context.chains.keys() {
            context.queue.scan(chain);
            context.queue.confirmations.push(chain.clone());
        }
        let tracker = TaskTracker::new();
        let scans = Job {
            name: "scan_chain",
            queue: context.queue.scans.clone(),
            concurrency: CHAIN_JOBS,
            run: |context: Arc<Context>, key: String| async move {
                let Some(access) = context.chains.get(&key) else { return };
                let again = scan::run(&context, access).await;
                context.queue.scan_after(&key, again);
            },
        };
        let confirmations = Job {
            name: "confirm_payments",
            queue: context.queue.confirmations.clone(),
            concurrency: CHAIN_JOBS,
            run: |context: Arc<Context>, key: String| async move {
                let Some(access) = context.chains.get(&key) else { return };
                confirm_payments::run(&context, access).await;
            },
        };
        let deliveries = Job {
            name: "deliver_webhooks",
            queue: context.queue.deliveries.clone(),
            concurrency: DELIVERY_JOBS,
            run: |context: Arc<Context>, key: DeliveryKey| async move { webhooks::run(&context, &key).await },
        };
        tracker.spawn(scans.supervise(context.clone(), stop.clone()));
        tracker.spawn(confirmations.supervise(context.clone(), stop.clone()));
        tracker.spawn(deliveries.supervise(context.clone(), stop.clone()));
        tracker.spawn(timers::run(context.clone(), stop.clone()));
        tracker.close();
        stop.cancelled().await;
        if tokio::time::timeout(STOP_WITHIN, tracker.wait()).await.is_err() {
            tracing::warn!(
                "jobs were still running when the time to stop was over; their work is found again at start"
            );
        }
        give_back_leases(&context).await;
    }

    /// Does once whatever is due now, and returns: for tests and tools, which decide themselves what happens when.
    ///
    /// The order is fixed: every chain is scanned to its head (second looks included), what is deep enough is confirmed,
    /// deadlines are passed, events numbered, and every queue with a due delivery is worked off, queues side by side.
    /// Leases, claims and breakers are respected as by the workers. What fails is logged and left where it is, as there.
    pub async fn drain(context: &Context) {
        for access in context.chains.values() {
            scan::run(context, access).await;
            confirm_payments::run(context, access).await;
        }
        timers::report("expire_orders", timers::pass_deadlines(context).await);
        timers::report("publish_events", timers::publish_events(context).await);
        timers::report("deliver_webhooks", drain_deliveries(context).await);
    }
}

/// Each queue once: one whose breaker is open stays due.
async fn drain_deliveries(context: &Context) -> Result<(), DbErr> {
    let mut worked_off = BTreeSet::new();
    loop {
        let mut due = timers::due_queues(context).await?;
        due.retain(|key| worked_off.insert(key.clone()));
        if due.is_empty() {
            return Ok(());
        }
        join_all(due.iter().map(|key| webhooks::run(context, key))).await;
    }
}

async fn give_back_leases(context: &Context) {
    let released = async {
        chain_cursor::Entity::release_all(&context.database, &context.owner).await?;
        timer_lease::Entity::release_all(&context.database, &context.owner).await
    };
    if let Err(error) = released.await {
        tracing::warn!(%error, "leases could not be given back; they run out by themselves");
    }
}

/// A kind of job over its queue.
struct Job<K: Ord + Clone, R> {
    name: &'static str,
    queue: KeyedQueue<K>,
    concurrency: usize,
    run: R,
}

impl<K, R, F> Job<K, R>
where
    K: Ord + Clone + Send + Sync + std::fmt::Debug + 'static,
    R: Fn(Arc<Context>, K) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Runs an apalis worker; should it ever end by itself, starts another one under another name.
    async fn supervise(self, context: Arc<Context>, stop: CancellationToken) {
        let mut restarts: u32 = 0;
        while !stop.is_cancelled() {
            let name = format!("{}-{}-{restarts}", self.name, context.owner);
            let outcome = self.work(&name, context.clone(), stop.clone()).await;
            if stop.is_cancelled() {
                break;
            }
            restarts = restarts.saturating_add(1);
            metrics::JobMeter(self.name).restarted();
            let pause = Duration::from_millis(100).saturating_mul(restarts.min(50)).min(MAX_BACKOFF);
            tracing::error!(job = self.name, outcome = ?outcome.err(), "the worker ended by itself; starting another");
            tokio::time::sleep(pause).await;
        }
    }

    async fn work(
        &self,
        name: &str,
        context: Arc<Context>,
        stop: CancellationToken,
    ) -> Result<(), apalis::prelude::WorkerError> {
        let run = self.run;
        let meter = metrics::JobMeter(self.name);
        let handler = move |taken: Arc<Taken<K>>| {
            let context = context.clone();
            async move {
                let _timed = meter.begin();
                // On a task of its own: jobs share the process's threads, and a panic stays with its job.
                let key = taken.key().clone();
                if let Err(error) = tokio::spawn(run(context, key)).await {
                    meter.panicked();
                    tracing::error!(%error, "a job broke off; the sweep finds what it left");
                }
                drop(taken);
                Ok::<(), std::convert::Infallible>(())
            }
        };
        WorkerBuilder::new(name)
            .backend(storage(self.queue.clone(), stop.clone()))
            .concurrency(self.concurrency)
            .build(handler)
            .run_until(async move {
                stop.cancelled().await;
                Ok::<(), std::io::Error>(())
            })
            .await
    }
}

/// The keyed queue as a stream that apalis reads. Its sink is never used: jobs are pushed into the keyed queue, because
/// the one of `MemoryStorage` may panic when two push at once.
fn storage<K>(queue: KeyedQueue<K>, stop: CancellationToken) -> MemoryStorage<Arc<Taken<K>>>
where
    K: Ord + Clone + Send + Sync + 'static,
{
    let unused = sink::drain().sink_map_err(|never| match never {});
    let boxed: Box<dyn sink::Sink<Task<Arc<Taken<K>>>, Error = MemoryStorageError> + Send + Sync + Unpin> =
        Box::new(unused);
    let sink = MemorySink::new(Arc::new(futures_util::lock::Mutex::new(boxed)));
    let tasks = stream::unfold(queue, |queue| async move {
        let taken = queue.take().await;
        Some((TaskBuilder::new(Arc::new(taken)).build(), queue))
    })
    .take_until(stop.cancelled_owned());
    MemoryStorage::new_with(sink, tasks.boxed())
}
