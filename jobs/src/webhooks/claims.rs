//! What this process has claimed and not yet recorded, and whose turn it is to use the database.
//!
//! A claim is short, so that what a process that died had claimed is due again soon; what a living one has claimed stays
//! its own for as long as it takes to send **and to record** it, because one task renews everything that is held, in few
//! statements however many endpoints hang. Few jobs claim at a time: the others' results find a connection to the database,
//! so that a thousand endpoints that are due at once are not sent faster than can be recorded. And few record at a time: a
//! thousand receivers that hang or fail together leave requests and scans most of the process's connections.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cryptopay_domain::ids::DeliveryId;
use cryptopay_entity::{clock, webhook_delivery};
use sea_orm::DbErr;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{MissedTickBehavior, interval};

use crate::context::Context;

/// How long a claim lasts that nobody renews: what a process that died had claimed is due again after this time.
pub(super) const CLAIM: Duration = Duration::from_secs(5);
/// How often claims are renewed. Most attempts are recorded before.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Jobs that claim at once, and that record or look what is due next: a few of the database's 24 connections.
const CLAIMING: usize = 3;
const RECORDING: usize = 3;

/// The claims of a process.
#[derive(Debug)]
pub struct Claims {
    held: Mutex<BTreeSet<DeliveryId>>,
    turns: Semaphore,
    recording: Semaphore,
}

impl Default for Claims {
    fn default() -> Self {
        Self { held: Mutex::default(), turns: Semaphore::new(CLAIMING), recording: Semaphore::new(RECORDING) }
    }
}

impl Claims {
    /// Waits until it is one's turn to claim.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed; without a turn a claim is no less right.
        self.turns.acquire().await.ok()
    }

    /// Waits until it is one's turn to record, or to look.
    pub(super) async fn turn_to_record(&self) -> Option<SemaphorePermit<'_>> {
        self.recording.acquire().await.ok()
    }

    /// Claims of one job, which are given up with it.
    pub(super) fn of_job(&self) -> JobClaims<'_> {
        JobClaims { claims: self, ids: BTreeSet::new() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<DeliveryId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one job holds: renewed until it is let go, or the job ends in whatever way.
#[derive(Debug)]
pub(super) struct JobClaims<'a> {
    claims: &'a Claims,
    ids: BTreeSet<DeliveryId>,
}

impl JobClaims<'_> {
    pub(super) fn hold(&mut self, id: DeliveryId) {
        self.ids.insert(id);
        self.claims.held().insert(id);
    }

    pub(super) fn let_go(&mut self, id: DeliveryId) {
        self.ids.remove(&id);
        self.claims.held().remove(&id);
    }
}

impl Drop for JobClaims<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.held();
        for id in &self.ids {
            held.remove(id);
        }
    }
}

/// Renews what is held, for ever. Should that fail for long, somebody else may send the same again; whichever result comes
/// first is recorded, and the other is not, by the claim's token.
pub(crate) async fn keep(context: &Context) {
    let mut tick = interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let held = context.claims.held().clone();
        if held.is_empty() {
            continue;
        }
        // One that hangs is better asked again: a claim that is not renewed is over soon.
        if let Err(error) = context.deadlines.record(renew(context, held)).await {
            tracing::warn!(%error, "the claims of deliveries on their way could not be renewed");
        }
    }
}

async fn renew(context: &Context, held: BTreeSet<DeliveryId>) -> Result<(), DbErr> {
    let now = clock::database_now(&context.database).await?;
    webhook_delivery::Entity::renew(&context.database, held, &owned(context), now.plus(CLAIM)).await
}

/// What the tokens of this process's claims begin with.
fn owned(context: &Context) -> String {
    format!("{}-", context.owner)
}

/// A token that no other job has.
pub(super) fn token(context: &Context) -> String {
    format!("{}{:016x}", owned(context), rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_held_is_given_up_when_it_ends_whatever_it_ended_by() {
        let claims = Claims::default();
        let mut first = claims.of_job();
        let mut second = claims.of_job();
        first.hold(DeliveryId(1));
        first.hold(DeliveryId(2));
        second.hold(DeliveryId(3));
        first.let_go(DeliveryId(1));
        assert_eq!(*claims.held(), BTreeSet::from([DeliveryId(2), DeliveryId(3)]));
        drop(first);
        assert_eq!(*claims.held(), BTreeSet::from([DeliveryId(3)]));
    }

    #[tokio::test]
    async fn a_turn_comes_when_another_ends() {
        let claims = Claims::default();
        let mut turns = Vec::new();
        for _ in 0..CLAIMING {
            turns.push(claims.turn().await);
        }
        assert!(claims.turns.try_acquire().is_err());
        turns.pop();
        assert!(claims.turn().await.is_some());
    }
}
