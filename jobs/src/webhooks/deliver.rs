//! `deliver_webhooks`: one endpoint's due deliveries, claimed together and posted side by side.

use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_entity::transact;
use cryptopay_entity::webhook_delivery::{Clocks, Queue};
use cryptopay_entity::{clock, webhook_breaker, webhook_delivery, webhook_endpoint};
use cryptopay_ledger::DeliveryKey;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sea_orm::{DbErr, EntityTrait};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::claims::{CLAIM, token};
use super::outcome::{Verdict, judge};
use super::record::{Finished, record};
use super::request;
use crate::context::Context;

/// Requests in flight to one endpoint.
const IN_FLIGHT: u64 = 8;
/// How long a claim lasts that is never renewed: twice the longest attempt.
pub(super) const LONG_CLAIM: Duration = Duration::from_secs(30);
/// Results are recorded at least this often, not when the slowest request is done.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// What an open breaker lets through.
const PROBE: u64 = 1;

/// Delivers until nothing of this queue is due; then asks to be woken when the next delivery is. After `stop` nothing more
/// is claimed: what is on its way is sent to its end.
pub(crate) async fn run(context: &Context, key: &DeliveryKey, stop: &CancellationToken) {
    match deliver(context, key, stop).await {
        Ok(Some(delay)) => context.queue.deliveries.push_after(key.clone(), delay),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(endpoint = key.endpoint.0, %error, "delivering stopped; the sweep tries again");
        }
    }
}

async fn deliver(context: &Context, key: &DeliveryKey, stop: &CancellationToken) -> Result<Option<Duration>, DbErr> {
    let queue = Queue { endpoint: key.endpoint, origin: &key.origin };
    let token = token(context);
    let mut claims = context.claims.of_job();
    let mut running = FuturesUnordered::new();
    let mut finished: Vec<Finished> = Vec::new();
    let mut flush = interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drained = false;
    // Why nothing more is claimed: the endpoint is gone, or the database. What is on its way is recorded all the same.
    let mut ended: Option<Result<(), DbErr>> = None;
    loop {
        let room = IN_FLIGHT.saturating_sub(u64::try_from(running.len()).unwrap_or(IN_FLIGHT));
        if ended.is_none() && !drained && room > 0 && !stop.is_cancelled() {
            match claim(context, queue, room, &token).await {
                Ok(Some(Claimed { endpoint, deliveries, clocks })) => {
                    drained = u64::try_from(deliveries.len()).unwrap_or(0) < room;
                    let secrets = context.secrets.open(&endpoint, clocks.business);
                    for delivery in deliveries {
                        claims.hold(delivery.id);
                        let url = endpoint.url.clone().unwrap_or_else(|| delivery.url.clone());
                        running.push(attempt(context, url, delivery, secrets.clone(), clocks));
                    }
                }
                Ok(None) => ended = Some(Ok(())),
                Err(error) => ended = Some(Err(error)),
            }
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            Some(done) = running.next() => {
                finished.push(done);
                // A single result is recorded at once: somebody may be waiting for it.
                if running.is_empty() {
                    record(context, queue, std::mem::take(&mut finished), &mut claims).await?;
                    drained = false;
                }
            }
            _ = flush.tick() => {
                if !finished.is_empty() {
                    record(context, queue, std::mem::take(&mut finished), &mut claims).await?;
                    drained = false;
                }
                // What was committed meanwhile does not wait for a slow answer while there is room.
                if context.queue.deliveries.take_back(key) {
                    drained = false;
                }
            }
        }
    }
    match ended {
        None => next_delay(context, queue).await,
        Some(ended) => ended.map(|()| None),
    }
}

/// Sends a delivery that is claimed already, and records what came of it.
pub(super) async fn send_one(
    context: &Context,
    endpoint: &webhook_endpoint::Model,
    delivery: webhook_delivery::Model,
) -> Result<(), DbErr> {
    let database = &context.database;
    let clocks =
        Clocks { business: clock::business_now(database).await?, database: clock::database_now(database).await? };
    let secrets = context.secrets.open(endpoint, clocks.business);
    let origin = delivery.origin.clone();
    let url = delivery.url.clone();
    let finished = attempt(context, url, delivery, secrets, clocks).await;
    record(context, Queue { endpoint: endpoint.id, origin: &origin }, vec![finished], &mut context.claims.of_job())
        .await
}

/// Deliveries that are ours to send, in the order in which they are sent.
struct Claimed {
    endpoint: webhook_endpoint::Model,
    deliveries: Vec<webhook_delivery::Model>,
    clocks: Clocks,
}

/// Claims what is due. `None` when the endpoint is gone.
async fn claim(context: &Context, queue: Queue<'_>, room: u64, token: &str) -> Result<Option<Claimed>, DbErr> {
    let _turn = context.claims.turn().await;
    // Whoever waits without an end keeps the turn from all others.
    context.deadlines.step(claim_once(context, queue, room, token)).await
}

async fn claim_once(context: &Context, queue: Queue<'_>, room: u64, token: &str) -> Result<Option<Claimed>, DbErr> {
    transact!(&context.database, |txn| {
        let Some(endpoint) = webhook_endpoint::Entity::find_by_id(queue.endpoint).one(txn).await? else {
            return Ok(None);
        };
        let clocks = Clocks { business: clock::business_now(txn).await?, database: clock::database_now(txn).await? };
        if !endpoint.is_active || endpoint.deleted_at.is_some() {
            let reason = endpoint.off_reason().unwrap_or_else(|| "the endpoint was deleted".to_owned());
            webhook_delivery::Entity::bury(txn, endpoint.id, &reason, clocks.business).await?;
            return Ok(None);
        }
        let mut breaker = webhook_breaker::Entity::of(txn, queue.endpoint, queue.origin).await?;
        let in_flight = webhook_delivery::Entity::in_flight(txn, queue, clocks.database).await?;
        let mut limit = IN_FLIGHT.saturating_sub(in_flight).min(room);
        if let Some(open_until) = breaker.open_until {
            limit = if open_until > clocks.business { 0 } else { limit.min(PROBE) };
        }
        if limit == 0 {
            return Ok(Some(Claimed { endpoint, deliveries: Vec::new(), clocks }));
        }
        let until = clocks.database.plus(CLAIM);
        let deliveries = webhook_delivery::Entity::claim(txn, queue, clocks, limit, token, until).await?;
        if breaker.open_until.is_some() && !deliveries.is_empty() {
            // One probe a minute, however many workers look.
            breaker.open_until = Some(clocks.business.plus(Duration::from_secs(60)));
            webhook_breaker::Entity::save(txn, breaker).await?;
        }
        Ok(Some(Claimed { endpoint, deliveries, clocks }))
    })
}

/// Sends one delivery once. A registered endpoint's deliveries go where it is now, not where it was. Nothing is waited for
/// before the request, so that requests start in the order in which they were claimed.
async fn attempt(
    context: &Context,
    url: String,
    delivery: webhook_delivery::Model,
    secrets: Result<Vec<String>, String>,
    clocks: Clocks,
) -> Finished {
    let verdict = match (secrets, Url::parse(&url)) {
        (Ok(secrets), Ok(url)) => {
            // Signatures carry real time: receivers compare it with their own clock.
            let headers = request::headers(&delivery, &secrets, clocks.database);
            let outcome = context.webhooks.post(&url, &headers, delivery.body.clone()).await;
            judge(outcome, delivery.attempts, rand::random_range(0..=1000))
        }
        (Err(problem), _) => Verdict::unsent(problem, delivery.attempts),
        (_, Err(problem)) => Verdict::unsent(format!("the url cannot be read: {problem}"), delivery.attempts),
    };
    // Whoever asks for a test looks at its answer now; what follows is another test, not a retry.
    let verdict = if delivery.event_type == EventType::WebhookTest { verdict.once() } else { verdict };
    crate::metrics::webhook_attempted(verdict.status, verdict.duration_ms, verdict.fate.word());
    Finished { delivery, started_at: clocks.business, verdict }
}

/// How long until the next delivery of this queue is due, or its breaker lets one through.
async fn next_delay(context: &Context, queue: Queue<'_>) -> Result<Option<Duration>, DbErr> {
    let _turn = context.claims.turn_to_record().await;
    context.deadlines.step(next_delay_now(context, queue)).await
}

async fn next_delay_now(context: &Context, queue: Queue<'_>) -> Result<Option<Duration>, DbErr> {
    let Some(due) = webhook_delivery::Entity::next_due(&context.database, queue).await? else { return Ok(None) };
    let breaker = webhook_breaker::Entity::of(&context.database, queue.endpoint, queue.origin).await?;
    let now = clock::business_now(&context.database).await?;
    let at = breaker.open_until.map_or(due, |open_until| due.max(open_until));
    // Never a busy loop: what is claimed by somebody else is due, but not ours.
    Ok(Some(at.since(now).max(FLUSH_EVERY)))
}
