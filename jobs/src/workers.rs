//! The workers of a process: three apalis workers and the timers, supervised until they are told to stop.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_entity::{chain_cursor, timer_lease};
use cryptopay_ledger::DeliveryKey;
use futures_util::future::join_all;
use sea_orm::DbErr;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{self, Part};
use crate::context::Context;
use crate::metrics::JobMeter;
use crate::queue::{Job, KeyedQueue, Redis, shared};
use crate::supervise::keep_running;
use crate::{confirm_payments, scan, timers, webhooks};

/// Jobs of one kind that run at once. A chain's scan is mostly waiting; one per chain is enough.
const CHAIN_JOBS: usize = 64;
/// Endpoints that are delivered to at once: far above the number that may hang.
const DELIVERY_JOBS: usize = 1_024;
/// How long requests and running jobs may take to finish when the process is told to stop.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The part of it that is left for what comes after the jobs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Pause before a chain is given back that this process cannot read. Long enough for somebody else to be idle.
const LEFT_TO_OTHERS: Duration = Duration::from_millis(500);

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
            run: with(&context, &stop, scan_chain),
            running: running.clone(),
        };
        let confirmations = Job {
            name: CONFIRM_PAYMENTS,
            queue: context.queue.confirmations.clone(),
            concurrency: CHAIN_JOBS,
            run: with(&context, &stop, confirm),
            running: running.clone(),
        };
        let deliveries = Job {
            name: DELIVER_WEBHOOKS,
            queue: context.queue.deliveries.clone(),
            concurrency: DELIVERY_JOBS,
            run: with(&context, &stop, deliver),
            running: running.clone(),
        };
        tracker.spawn(scans.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(confirmations.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(deliveries.supervise(context.owner.clone(), redis.clone(), stop.clone()));
        tracker.spawn(timers::run(context.clone(), stop.clone()));
        tracker.spawn({
            let (context, stop) = (context.clone(), stop.clone());
            async move { keep_running("heads", stop.clone(), || scan::heads::run(&context, &stop)).await }
        });
        tracker.close();
        // Until the last job has ended, since it may leave something to others.
        let ended_sharing = CancellationToken::new();
        let sharing =
            redis.map(|redis| tokio::spawn(share(context.clone(), redis, Part::Worker, ended_sharing.clone())));
        let ended_sending = CancellationToken::new();
        let keeping = tokio::spawn({
            let (context, ended) = (context.clone(), ended_sending.clone());
            async move { keep_running("keep_claims", ended, || webhooks::keep_claims(&context)).await }
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
        let never = CancellationToken::new();
        for access in context.chains.values() {
            scan::run(context, access, &never).await;
            confirm_payments::run(context, access).await;
        }
        timers::report("expire_orders", timers::pass_deadlines(context).await);
        timers::report("publish_events", timers::publish_events(context).await);
        timers::report("deliver_webhooks", drain_deliveries(context).await);
    }
}

/// Scans a chain and asks for the next look at it.
async fn scan_chain(context: Arc<Context>, stop: CancellationToken, slug: String) {
    let Some(access) = context.chains.get(&slug) else {
        return leave_to_others(&context, slug, &context.queue.scans);
    };
    let scanning = async {
        let again = scan::run(&context, access, &stop).await;
        if context.queue.redis().is_some() {
            // Whichever worker gets the next look can take it then, and need not wait for the lease to run out.
            scan::give_back(&context, access).await;
        }
        again
    };
    let again = while_alive(context.deadlines.silence, || access.alive_at(), scanning).await.unwrap_or_else(|| {
        JobMeter(SCAN_CHAIN).given_up();
        let silence_ms = u64::try_from(context.deadlines.silence.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(
            chain = slug,
            silence_ms,
            "a scan was given up that showed no sign of life; another one begins"
        );
        Duration::ZERO
    });
    context.queue.scan_after(&slug, again);
}

/// Confirms what is deep enough on a chain.
async fn confirm(context: Arc<Context>, _: CancellationToken, slug: String) {
    let Some(access) = context.chains.get(&slug) else {
        return leave_to_others(&context, slug, &context.queue.confirmations);
    };
    confirm_payments::run(&context, access).await;
}

/// Delivers what is due of a queue.
async fn deliver(context: Arc<Context>, stop: CancellationToken, key: DeliveryKey) {
    webhooks::run(&context, &key, &stop).await;
}

/// Gives a chain back that this process cannot read: while settings change from one process to the next, another can.
fn leave_to_others(context: &Context, slug: String, queue: &KeyedQueue<String>) {
    if context.queue.redis().is_some() && context.registry.chain(&slug).is_some() {
        queue.push_after(slug, LEFT_TO_OTHERS);
    }
}

/// Does work to its end; `None` once it has not been alive for as long as `silence`.
async fn while_alive<T>(
    silence: Duration,
    alive_at: impl Fn() -> Option<Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let begun = Instant::now();
    let last = || alive_at().map_or(begun, |at| at.max(begun));
    let mut work = pin!(work);
    loop {
        let seen = last();
        match timeout_at(seen + silence, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if last() > seen => {}
            Err(_) => return None,
        }
    }
}

/// Connects the queues and the bus of this process with those of all others, until `stop`.
async fn share(context: Arc<Context>, redis: Redis, part: Part, stop: CancellationToken) {
    let queue = &context.queue;
    tokio::join!(
        keep_running("forward_scans", stop.clone(), || shared::forward(&redis, SCAN_CHAIN, &queue.scans)),
        keep_running("forward_confirmations", stop.clone(), || {
            shared::forward(&redis, CONFIRM_PAYMENTS, &queue.confirmations)
        }),
        keep_running("forward_deliveries", stop.clone(), || {
            shared::forward(&redis, DELIVER_WEBHOOKS, &queue.deliveries)
        }),
        keep_running("tidy", stop.clone(), || shared::tidy(&redis, JOB_NAMES)),
        keep_running("bus", stop, || bus::run(&context, &redis, part)),
    );
}

/// A job's closure, with the context that it works in and what tells it to begin nothing more.
fn with<K, F>(
    context: &Arc<Context>,
    stop: &CancellationToken,
    run: impl Fn(Arc<Context>, CancellationToken, K) -> F + Clone + Send + Sync + 'static,
) -> impl Fn(K) -> F + Clone + Send + Sync + 'static {
    let (context, stop) = (context.clone(), stop.clone());
    move |key| run(context.clone(), stop.clone(), key)
}

/// Each queue once: one whose breaker is open stays due.
async fn drain_deliveries(context: &Context) -> Result<(), DbErr> {
    let never = CancellationToken::new();
    let mut worked_off = BTreeSet::new();
    loop {
        let mut due = timers::due_queues(context, None).await?;
        due.retain(|key| worked_off.insert(key.clone()));
        if due.is_empty() {
            return Ok(());
        }
        tokio::select! {
            _ = join_all(due.iter().map(|key| webhooks::run(context, key, &never))) => {}
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
