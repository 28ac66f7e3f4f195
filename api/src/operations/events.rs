//! Events of a merchant, to pull: everything that a webhook would have said, in the order of its visibility.

use cryptopay_entity::event;

use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// The merchant's numbered events after `sequence`, at most `limit`, and the number to go on after.
///
/// # Errors
/// Only failures of the database.
pub async fn after(
    app: &App,
    principal: &Principal,
    sequence: i64,
    limit: u64,
) -> Result<(Vec<event::Model>, i64), ApiError> {
    let events = event::Entity::after(app.database(), principal.merchant_id(), sequence, limit).await?;
    let next = events.last().and_then(|event| event.sequence).unwrap_or(sequence);
    Ok((events, next))
}
