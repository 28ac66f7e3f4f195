//! What came of an attempt, written to its delivery by whoever holds the claim.

use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use super::{ActiveModel, Column, Entity, Model};

/// The result of one attempt.
#[derive(Debug, Clone)]
pub struct Settled {
    /// HTTP status, if there was an answer.
    pub status: Option<i64>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// What becomes of the delivery.
    pub next: Next,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone)]
pub enum Next {
    /// Nothing: the receiver has taken it.
    Taken,
    /// Another attempt, at this time.
    Again(Timestamp),
    /// The same attempt, at this time: it was not made.
    Postponed(Timestamp),
    /// Nothing: given up, for this reason.
    GivenUp(String),
}

impl Entity {
    /// Writes a result and ends the claim under which the delivery was `claimed`; `false` where that claim was lost and
    /// nothing was written. Where somebody has asked for the delivery once more since it was claimed, the result says nothing
    /// about that: the claim ends, and the delivery stays due as it was asked for.
    pub async fn settle(
        connection: &impl ConnectionTrait,
        claimed: &Model,
        settled: Settled,
        now: Timestamp,
    ) -> Result<bool, DbErr> {
        let ended = ActiveModel {
            lease_token: Set(None),
            lease_until: Set(None),
            last_status: Set(settled.status),
            last_error: Set(settled.error),
            updated_at: Set(now),
            ..Default::default()
        };
        let mut row = ended.clone();
        match settled.next {
            Next::Taken => {
                row.state = Set(DeliveryState::Delivered);
                row.delivered_at = Set(Some(now));
            }
            Next::Again(at) => row.next_attempt_at = Set(at),
            Next::Postponed(at) => {
                row.attempts = Set(claimed.attempts.saturating_sub(1));
                row.next_attempt_at = Set(at);
            }
            Next::GivenUp(reason) => {
                row.state = Set(DeliveryState::Dead);
                row.dead_reason = Set(Some(reason));
            }
        }
        let held = || {
            let token = Column::LeaseToken.eq(claimed.lease_token.clone());
            Self::update_many().filter(Column::Id.eq(claimed.id)).filter(token)
        };
        // Only who claims counts an attempt, and only who asks once more takes the count back.
        let as_claimed = held().set(row).filter(Column::Attempts.eq(claimed.attempts)).exec(connection).await?;
        if as_claimed.rows_affected == 1 {
            return Ok(true);
        }
        Ok(held().set(ended).exec(connection).await?.rows_affected == 1)
    }
}
