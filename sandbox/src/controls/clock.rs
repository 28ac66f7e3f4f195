//! Moves the test clock.

use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use cryptopay_entity::txn::Restart;
use cryptopay_entity::{clock, sandbox_clock, transact};
use sea_orm::{DatabaseConnection, DbErr};

/// Furthest that one call moves the clock: a leap year.
pub const MAX_ADVANCE: Duration = Duration::from_secs(366 * 24 * 3600);
/// Furthest that all calls together move it: a hundred of those. Dates stay such that everything can write them.
const MAX_OFFSET: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Why the clock was not moved.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// Not forward, or too far.
    #[error("Enter a number of seconds from 1 to {} (366 days); the clock only goes forward.", MAX_ADVANCE.as_secs())]
    SecondsOutOfRange,
    /// Too far with what came before.
    #[error("The test clock is {ahead_seconds} seconds ahead already and goes no further than {}. Start with an empty database.", MAX_OFFSET.as_secs())]
    TooFarAhead {
        /// How far.
        ahead_seconds: u64,
    },
    /// The database.
    #[error("the database of the test clock: {0}")]
    Database(#[from] DbErr),
}

impl Restart for ClockError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

/// Moves business time forward for the whole instance: order windows, webhook retries and simulated blocks follow it;
/// tokens, leases and rate windows do not. Returns business time afterwards. Every chain's next block is stamped then.
///
/// # Errors
/// [`ClockError::SecondsOutOfRange`] for 0 or more than [`MAX_ADVANCE`]; [`ClockError::TooFarAhead`].
pub async fn advance_clock(database: &DatabaseConnection, seconds: u64) -> Result<Timestamp, ClockError> {
    let by = Duration::from_secs(seconds);
    if by.is_zero() || by > MAX_ADVANCE {
        return Err(ClockError::SecondsOutOfRange);
    }
    transact!(database, |txn| {
        sandbox_clock::Entity::advance(txn, by).await?;
        // Read after the write, which holds the row: two calls at once cannot both find room.
        let offset = sandbox_clock::Entity::offset(txn).await?;
        if offset > MAX_OFFSET {
            return Err(ClockError::TooFarAhead { ahead_seconds: offset.saturating_sub(by).as_secs() });
        }
        Ok(clock::business_now(txn).await?)
    })
}
