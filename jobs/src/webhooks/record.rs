//! What was sent, written down: attempts, what becomes of their deliveries, the endpoint's breaker.

use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::transact;
use cryptopay_entity::webhook_attempt::NewAttempt;
use cryptopay_entity::webhook_delivery::{Next, Queue, Settled};
use cryptopay_entity::{clock, webhook_attempt, webhook_breaker, webhook_delivery, webhook_endpoint};
use sea_orm::{DatabaseTransaction, DbErr};
use tokio::time::{Instant, sleep};

use super::claims::JobClaims;
use super::outcome::{Fate, Verdict, note};
use crate::context::Context;

/// How long results are kept that the database does not take.
const RECORD_WITHIN: Duration = Duration::from_secs(30);
/// Pause before it is asked again.
const RECORD_AGAIN: Duration = Duration::from_millis(250);

/// A finished attempt, waiting to be recorded.
pub(super) struct Finished {
    /// As it was claimed.
    pub(super) delivery: webhook_delivery::Model,
    pub(super) started_at: Timestamp,
    pub(super) verdict: Verdict,
}

impl Finished {
    fn attempt(&self) -> NewAttempt {
        NewAttempt {
            delivery: self.delivery.id,
            attempt: self.delivery.attempts,
            started_at: self.started_at,
            duration_ms: self.verdict.duration_ms,
            status: self.verdict.status,
            response: self.verdict.response.clone(),
            error: self.verdict.error.clone(),
        }
    }

    fn settled(&self, now: Timestamp) -> Settled {
        let next = match &self.verdict.fate {
            Fate::Delivered => Next::Taken,
            Fate::Retry(delay) => Next::Again(now.plus(*delay)),
            Fate::Postponed(delay) => Next::Postponed(now.plus(*delay)),
            Fate::Dead(reason) => Next::GivenUp(reason.clone()),
        };
        Settled { status: self.verdict.status, error: self.verdict.error.clone(), next }
    }
}

/// Records attempts, and lets their claims go. A database that is away is waited for: what was sent and is not recorded
/// would be sent again.
pub(super) async fn record(
    context: &Context,
    queue: Queue<'_>,
    finished: Vec<Finished>,
    claims: &mut JobClaims<'_>,
) -> Result<(), DbErr> {
    let begun = Instant::now();
    loop {
        let turn = context.claims.turn_to_record().await;
        let recorded = context.deadlines.record(record_once(context, queue, &finished)).await;
        drop(turn);
        match recorded {
            Err(error) if begun.elapsed() < RECORD_WITHIN => {
                tracing::warn!(endpoint = queue.endpoint.0, %error, "what was sent is recorded as soon as the database allows");
                sleep(RECORD_AGAIN).await;
            }
            outcome => {
                for done in &finished {
                    claims.let_go(done.delivery.id);
                }
                return outcome;
            }
        }
    }
}

/// Records attempts, the endpoint's breaker and what follows from both, in one transaction.
async fn record_once(context: &Context, queue: Queue<'_>, finished: &[Finished]) -> Result<(), DbErr> {
    transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let mut breaker = webhook_breaker::Entity::of(txn, queue.endpoint, queue.origin).await?;
        let mut disable = None;
        let mut succeeded = false;
        let mut failed = false;
        let mut attempts = Vec::with_capacity(finished.len());
        for done in finished {
            if !webhook_delivery::Entity::settle(txn, &done.delivery, done.settled(now), now).await? {
                // The claim was lost: somebody else has sent it again and records that.
                continue;
            }
            // A test says nothing about how real deliveries fare: neither its failures nor its success count.
            if done.delivery.event_type != EventType::WebhookTest {
                succeeded |= done.verdict.fate == Fate::Delivered;
                failed |= matches!(done.verdict.fate, Fate::Retry(_) | Fate::Dead(_));
                disable = note(&mut breaker, &done.verdict, now).or(disable);
            }
            attempts.push(done.attempt());
        }
        if attempts.is_empty() {
            return Ok(());
        }
        webhook_attempt::Entity::add(txn, attempts).await?;
        webhook_breaker::Entity::save(txn, breaker).await?;
        webhook_endpoint::Entity::note_attempts(txn, queue.endpoint, succeeded, failed, now).await?;
        if let Some(reason) = disable {
            switch_off(txn, queue, &reason, now).await?;
        }
        Ok(())
    })
}

/// Disables a registered endpoint, visibly. The implicit one serves many receivers and is never disabled for one.
async fn switch_off(txn: &DatabaseTransaction, queue: Queue<'_>, reason: &str, now: Timestamp) -> Result<(), DbErr> {
    if webhook_endpoint::Entity::disable(txn, queue.endpoint, reason, now).await? {
        tracing::warn!(endpoint = queue.endpoint.0, reason, "webhook endpoint disabled");
        crate::metrics::endpoint_disabled();
        webhook_delivery::Entity::bury(txn, queue.endpoint, reason, now).await?;
    }
    Ok(())
}
