//! The workers of a process: three apalis workers and the timers, supervised until they are told to stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_entity::{chain_cursor, timer_lease};
use cryptopay_ledger::DeliveryKey;
use futures_util::future::join_all;
use sea_orm::DbErr;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{self, Part};
use crate::context::Context;
use crate::queue::{Job, Redis, shared};
use crate::{confirm_payments, scan, timers, webhooks};

/// Jobs of one kind that run at once. A chain's scan is mostly waiting; one per chain is enough.
const CHAIN_JOBS: usize = 64;
/// Endpoints that are delivered to at once: far above the number that may hang.
const DELIVERY_JOBS: usize = 1_024;
/// How long requests and running jobs may take to finish when the process is told to stop.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The part of it that is left for what comes after the jobs.
const LAST_WORDS: Duration = Duration::from_secs(1);

const SCAN_CHAIN: &str = "scan_chain";
const CONFIRM_PAYMENTS: &str = "confirm_payments";
const DELIVER_WEBHOOKS: &str = "deliver_webhooks";

/// The jobs of this gateway, for whoever wants to know what runs: name, key, and what running twice does.
pub const JOBS: &[(&str, &str, &str)] = &[
    (SCAN_CHAIN, "chain", "the second finds the lease taken, or its transaction is fenced off"),
    (CONFIRM_PAYMENTS, "chain", "confirms what is still unconfirmed: nothing"),
    (DELIVER_WEBHOOKS, "endpoint and origin", "claims what is still due: nothing"),
];

/// Names of the jobs, as queues in Redis have them.
pub(crate) const JOB_NAMES: &[&str] = &[SCAN_CHAIN, CONFIRM_PAYMENTS, DELIVER_WEBHOOKS];

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
        let running = TaskTracker::new();
        let tracker = TaskTracker::new();
        let redis = context.queue.redis().cloned();
        let scans = Job {
            name: SCAN_CHAIN,
            queue: context.queue.scans.clone(),
            concurrency: CHAIN_JOBS,
            run: with(&context, |context, key: String| async move { scan_chain(&context, key).await }),
            running: running.clone(),
        };
        let confirmations = Job {
            name: CONFIRM_PAYMENTS,
            queue: context.queue.confirmations.clone(),
            concurrency: CHAIN_JOBS,
            run: with(&context, |context, key: String| async move {
                let Some(access) = context.chains.get(&key) else { return };
                confirm_payments::run(&context, access).await;
            }),
            running: running.clone(),
        };
        let deliveries = Job {
            name: DELIVER_WEBHOOKS,
            queue: context.queue.deliveries.clone(),
            concurrency: DELIVERY_JOBS,
            run: with(&context, |context, key: DeliveryKey| async move { webhooks::run(&context, &key).await }),
            running: running.clone(),
        };
        tracker.spawn(scans.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(confirmations.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(deliveries.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(timers::run(context.clone(), stop.clone()));
        tracker.spawn(scan::heads::run(context.clone(), stop.clone()));
        tracker.close();
        // Until the last job has ended, since it may leave something to others.
        let ended_sharing = CancellationToken::new();
        let sharing =
            redis.map(|redis| tokio::spawn(share(context.clone(), redis, Part::Worker, ended_sharing.clone())));
        let ended_sending = CancellationToken::new();
        let keeping = tokio::spawn({
            let (context, ended) = (context.clone(), ended_sending.clone());
            async move { ended.run_until_cancelled_owned(webhooks::keep_claims(&context)).await }
        });
        stop.cancelled().await;
        let ended = async {
            tracker.wait().await;
            // Whoever began one of them may be gone.
            running.close();
            running.wait().await;
        };
        if tokio::time::timeout(STOP_WITHIN.saturating_sub(LAST_WORDS), ended).await.is_err() {
            tracing::warn!(
                "jobs were still running when the time to stop was over; their work is found again at start"
            );
        }
        ended_sending.cancel();
        let _ = keeping.await;
        ended_sharing.cancel();
        if let Some(sharing) = sharing {
            let _ = sharing.await;
        }
        let _ = tokio::time::timeout(LAST_WORDS, give_back_leases(&context)).await;
    }

    /// Runs no job, and passes nudges and events on to the processes that do, until `stop`: what an API process does
    /// beside answering. Nothing where the queue is not shared.
    pub async fn relay(context: Arc<Context>, stop: CancellationToken) {
        if let Some(redis) = context.queue.redis().cloned() {
            share(context, redis, Part::Api, stop).await;
        }
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

/// Scans a chain and asks for the next look at it.
async fn scan_chain(context: &Context, slug: String) {
    let Some(access) = context.chains.get(&slug) else { return };
    let again = scan::run(context, access).await;
    if context.queue.redis().is_some() {
        // Whichever worker gets the next look can take it then, and need not wait for the lease to run out.
        scan::give_back(context, access).await;
    }
    context.queue.scan_after(&slug, again);
}

/// Connects the queues and the bus of this process with those of all others, until `stop`.
async fn share(context: Arc<Context>, redis: Redis, part: Part, stop: CancellationToken) {
    let queue = &context.queue;
    let sharing = async {
        tokio::join!(
            shared::forward(redis.clone(), SCAN_CHAIN, queue.scans.clone()),
            shared::forward(redis.clone(), CONFIRM_PAYMENTS, queue.confirmations.clone()),
            shared::forward(redis.clone(), DELIVER_WEBHOOKS, queue.deliveries.clone()),
            shared::tidy(redis.clone(), JOB_NAMES),
            bus::run(&context, &redis, part),
        )
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = sharing => {}
    }
}

/// A job's closure, with the context that it works in.
fn with<K, F>(
    context: &Arc<Context>,
    run: impl Fn(Arc<Context>, K) -> F + Clone + Send + Sync + 'static,
) -> impl Fn(K) -> F + Clone + Send + Sync + 'static {
    let context = context.clone();
    move |key| run(context.clone(), key)
}

/// Each queue once: one whose breaker is open stays due.
async fn drain_deliveries(context: &Context) -> Result<(), DbErr> {
    let mut worked_off = BTreeSet::new();
    loop {
        let mut due = timers::due_queues(context, None).await?;
        due.retain(|key| worked_off.insert(key.clone()));
        if due.is_empty() {
            return Ok(());
        }
        tokio::select! {
            _ = join_all(due.iter().map(|key| webhooks::run(context, key))) => {}
            () = webhooks::keep_claims(context) => {}
        }
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
